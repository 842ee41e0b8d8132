/**
 * The part of `@std/assert` that this project uses, with its signatures and behaviour, for hosts
 * that cannot reach JSR. `deno.jsr.json` maps the name to the real package instead.
 *
 * @module
 */

import { deepStrictEqual } from "node:assert";

/** Any class, abstract or not. */
// deno-lint-ignore no-explicit-any
type AnyClass<T> = abstract new (...args: any[]) => T;

/** What a failed assertion throws. */
export class AssertionError extends Error {
  override name = "AssertionError";
}

function show(value: unknown): string {
  return Deno.inspect(value, { depth: Infinity, iterableLimit: Infinity, sorted: true });
}

/** Throws what went wrong, and behind a colon what the caller says of it. */
function failWith(what: string, msg?: string): never {
  throw new AssertionError(msg === undefined ? `${what}.` : `${what}: ${msg}`);
}

/** The difference between two values in words, or `undefined` if they are equal. */
function difference(actual: unknown, expected: unknown): string | undefined {
  try {
    deepStrictEqual(actual, expected);
    return undefined;
  } catch (error) {
    return (error as Error).message;
  }
}

/** Fails unless `expr` is truthy. */
export function assert(expr: unknown, msg = ""): asserts expr {
  if (!expr) throw new AssertionError(msg);
}

/** Fails unless `expr` is falsy. */
export function assertFalse(expr: unknown, msg?: string): asserts expr is false {
  if (expr) failWith(`Expected ${show(expr)} to be falsy`, msg);
}

/** Fails always. */
export function fail(msg?: string): never {
  failWith("Failed assertion", msg);
}

/** Fails unless both are deeply equal, prototypes and undefined properties included. */
export function assertEquals<T>(actual: T, expected: T, msg?: string): void {
  const text = difference(actual, expected);
  if (text !== undefined) failWith("Values are not equal", `${msg ?? ""}\n${text}`);
}

/** Fails if both are deeply equal. */
export function assertNotEquals<T>(actual: T, expected: T, msg?: string): void {
  if (difference(actual, expected) !== undefined) return;
  failWith(`Expected actual: ${show(actual)} not to be: ${show(expected)}`, msg);
}

/** Fails unless both are the same value (`Object.is`). */
export function assertStrictEquals<T>(
  actual: unknown,
  expected: T,
  msg?: string,
): asserts actual is T {
  if (Object.is(actual, expected)) return;
  failWith(`Values are not strictly equal: ${show(actual)} and ${show(expected)}`, msg);
}

/** Fails if both are the same value (`Object.is`). */
export function assertNotStrictEquals<T>(actual: T, expected: T, msg?: string): void {
  if (!Object.is(actual, expected)) return;
  failWith(`Expected "actual" to not be strictly equal to: ${show(actual)}`, msg);
}

/** Fails if `actual` is null or undefined. */
export function assertExists<T>(actual: T, msg?: string): asserts actual is NonNullable<T> {
  if (actual !== undefined && actual !== null) return;
  failWith(`Expected actual: "${actual}" to not be null or undefined`, msg);
}

/** Fails unless `actual` is an instance of the class. */
export function assertInstanceOf<T>(
  actual: unknown,
  expectedType: AnyClass<T>,
  msg?: string,
): asserts actual is T {
  if (actual instanceof expectedType) return;
  failWith(`Expected ${show(actual)} to be an instance of "${expectedType.name}"`, msg);
}

/** Fails unless the string matches. */
export function assertMatch(actual: string, expected: RegExp, msg?: string): void {
  if (expected.test(actual)) return;
  failWith(`Expected actual: "${actual}" to match: "${expected}"`, msg);
}

/** Fails if the string matches. */
export function assertNotMatch(actual: string, expected: RegExp, msg?: string): void {
  if (!expected.test(actual)) return;
  failWith(`Expected actual: "${actual}" to not match: "${expected}"`, msg);
}

/** Fails unless `actual` contains `expected`. */
export function assertStringIncludes(actual: string, expected: string, msg?: string): void {
  if (actual.includes(expected)) return;
  failWith(`Expected actual: "${actual}" to contain: "${expected}"`, msg);
}

/** Fails unless every element of `expected` deeply equals one of `actual`. */
export function assertArrayIncludes<T>(
  actual: ArrayLike<T>,
  expected: ArrayLike<T>,
  msg?: string,
): void {
  const missing = Array.from(expected).filter((wanted) =>
    !Array.from(actual).some((value) => difference(value, wanted) === undefined)
  );
  if (missing.length === 0) return;
  failWith(`Expected actual: ${show(actual)} to include: ${show(missing)}`, msg);
}

/** Fails unless the two differ by at most the tolerance, 1e-7 of `expected` by default. */
export function assertAlmostEquals(
  actual: number,
  expected: number,
  tolerance?: number,
  msg?: string,
): void {
  if (Object.is(actual, expected)) return;
  const allowed = tolerance ?? (Number.isFinite(expected) ? Math.abs(expected * 1e-7) : 1e-7);
  if (Math.abs(expected - actual) <= allowed) return;
  failWith(`Expected actual: ${actual} to be close to ${expected}, within ${allowed}`, msg);
}

/** Fails unless `actual` is greater than `expected`. */
export function assertGreater<T>(actual: T, expected: T, msg?: string): void {
  if (actual > expected) return;
  failWith(`Expect ${show(actual)} > ${show(expected)}`, msg);
}

/** Fails unless `actual` is greater than `expected` or the same. */
export function assertGreaterOrEqual<T>(actual: T, expected: T, msg?: string): void {
  if (actual >= expected) return;
  failWith(`Expect ${show(actual)} >= ${show(expected)}`, msg);
}

/** Fails unless `actual` is less than `expected`. */
export function assertLess<T>(actual: T, expected: T, msg?: string): void {
  if (actual < expected) return;
  failWith(`Expect ${show(actual)} < ${show(expected)}`, msg);
}

/** Fails unless `actual` is less than `expected` or the same. */
export function assertLessOrEqual<T>(actual: T, expected: T, msg?: string): void {
  if (actual <= expected) return;
  failWith(`Expect ${show(actual)} <= ${show(expected)}`, msg);
}

/** Fails unless `error` is one of the class, with the text in its message. */
function checkError(
  error: unknown,
  errorClass: AnyClass<Error>,
  msgIncludes: string | undefined,
  msg: string | undefined,
): void {
  if (!(error instanceof Error)) failWith(`A non-Error object was thrown: ${show(error)}`, msg);
  const { name } = error.constructor;
  if (!(error instanceof errorClass)) {
    failWith(`Expected error to be instance of "${errorClass.name}", but was "${name}"`, msg);
  }
  if (msgIncludes !== undefined && !error.message.includes(msgIncludes)) {
    failWith(
      `Expected error message to include ${show(msgIncludes)}, but got ${show(error.message)}`,
      msg,
    );
  }
}

/**
 * Fails unless `fn` throws; with a class, unless it throws one of that class whose message holds the text.
 *
 * @returns what was thrown
 */
export function assertThrows(fn: () => unknown, msg?: string): unknown;
export function assertThrows<E extends Error = Error>(
  fn: () => unknown,
  errorClass: AnyClass<E>,
  msgIncludes?: string,
  msg?: string,
): E;
export function assertThrows(
  fn: () => unknown,
  errorClassOrMsg?: AnyClass<Error> | string,
  msgIncludes?: string,
  msg?: string,
): unknown {
  const errorClass = typeof errorClassOrMsg === "function" ? errorClassOrMsg : undefined;
  const note = typeof errorClassOrMsg === "string" ? errorClassOrMsg : msg;
  try {
    fn();
  } catch (error) {
    if (errorClass !== undefined) checkError(error, errorClass, msgIncludes, note);
    return error;
  }
  failWith("Expected function to throw", note);
}

/**
 * Fails unless the promise that `fn` returns is rejected; with a class, unless with one of that class whose
 * message holds the text. A function that throws at once fails too.
 *
 * @returns what it was rejected with
 */
export function assertRejects(fn: () => PromiseLike<unknown>, msg?: string): Promise<unknown>;
export function assertRejects<E extends Error = Error>(
  fn: () => PromiseLike<unknown>,
  errorClass: AnyClass<E>,
  msgIncludes?: string,
  msg?: string,
): Promise<E>;
export async function assertRejects(
  fn: () => PromiseLike<unknown>,
  errorClassOrMsg?: AnyClass<Error> | string,
  msgIncludes?: string,
  msg?: string,
): Promise<unknown> {
  const errorClass = typeof errorClassOrMsg === "function" ? errorClassOrMsg : undefined;
  const note = typeof errorClassOrMsg === "string" ? errorClassOrMsg : msg;
  let promise: PromiseLike<unknown>;
  try {
    promise = fn();
  } catch {
    failWith("Function throws when expected to reject", note);
  }
  try {
    await promise;
  } catch (error) {
    if (errorClass !== undefined) checkError(error, errorClass, msgIncludes, note);
    return error;
  }
  failWith("Expected function to reject", note);
}
