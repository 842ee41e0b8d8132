/**
 * Values that may be anything, since whoever writes JavaScript or reads JSON may give it.
 *
 * @module
 */
import { Address, type AddressError } from "../net/address.ts";
import type { Policy } from "./abi.gen.ts";
import { InvalidValueError } from "./errors.ts";

/**
 * The address of a host, read.
 *
 * @param field what the address is for, as in the API
 * @param what the same for people
 * @throws {InvalidValueError} when it is no address, or none that a single host can have
 */
export function unicast(text: string, field: string, what: string): Address {
  let address: Address;
  try {
    address = Address.parse(text);
  } catch (error) {
    throw new InvalidValueError(
      field,
      text,
      `${what} "${text}" is no address: ${(error as AddressError).why}`,
    );
  }
  const bad = address.isUnspecified
    ? "unspecified"
    : address.isMulticast
    ? "a multicast address"
    : address.isLoopback
    ? "a loopback address"
    : address.toString() === "255.255.255.255"
    ? "the broadcast address"
    : undefined;
  if (bad) {
    throw new InvalidValueError(
      field,
      text,
      `${what} "${text}" is ${bad}: it must be a unicast address of a host`,
    );
  }
  return address;
}

/**
 * The value, if it is a whole number within bounds.
 *
 * @param field what the number is for, as in the API
 * @param what the same for people
 * @throws {InvalidValueError} when it is not
 */
export function integer(
  value: number,
  min: number,
  max: number,
  field: string,
  what: string,
): number {
  if (!Number.isInteger(value) || value < min || value > max) {
    throw new InvalidValueError(
      field,
      value,
      `${what} ${shown(value)} is not a whole number from ${min} to ${max}`,
    );
  }
  return value;
}

/**
 * The value, if it is true or false.
 *
 * @throws {InvalidValueError} when it is not
 */
export function truth(value: boolean, field: string): boolean {
  if (typeof value === "boolean") return value;
  throw new InvalidValueError(field, value, `${field} ${shown(value)} is neither true nor false`);
}

/**
 * The value, if it is an object with fields.
 *
 * @param what what it stands for, for people
 * @throws {InvalidValueError} when it is not
 */
export function fieldsOf<T>(value: T, field: string, what: string): T {
  if (typeof value === "object" && value !== null && !Array.isArray(value)) return value;
  throw new InvalidValueError(field, value, `${what} ${shown(value)} is no object with fields`);
}

/**
 * The value, if it is a list.
 *
 * @throws {InvalidValueError} when it is not
 */
export function listOf<T>(value: readonly T[], field: string): readonly T[] {
  if (Array.isArray(value)) return value;
  throw new InvalidValueError(field, value, `${field} ${shown(value)} is no list`);
}

/** Whoever writes JavaScript, or reads JSON, may give anything. */
function shown(value: unknown): string {
  const text = typeof value === "string" || Array.isArray(value)
    ? JSON.stringify(value, (_, each) => typeof each === "bigint" ? `${each}` : each)
    : String(value);
  return text.length > 80 ? `${text.slice(0, 80)}...` : text;
}

/**
 * The policy, if it is one of those that can be.
 *
 * @param field what the policy is for, as in the API
 * @throws {InvalidValueError} when it is not
 */
export function policy<Name extends Policy>(
  value: Name,
  known: readonly Name[],
  field: string,
): Name {
  if (known.includes(value)) return value;
  const list = known.join(", ");
  throw new InvalidValueError(field, value, `${field} ${shown(value)} is none of ${list}`);
}
