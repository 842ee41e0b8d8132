/**
 * What the scripts share: how they begin and end, and how they print.
 *
 * @module
 */
import { LibraryError, XdpBusyError } from "../lib/bpf/mod.ts";
import { AddressError } from "../lib/net/address.ts";
import { InvalidValueError, type Mode, UnreachableError } from "../mod.ts";

/** A command line that cannot be: exit code 2. */
export class UsageError extends Error {
  override name = "UsageError";
}

/** Errors that are the user's to mend: said in one sentence, and nothing was changed. */
const WRONG_INPUT = [UsageError, InvalidValueError, UnreachableError, AddressError];
/** Errors that are the system's: said in one sentence too. */
const SENTENCES = [XdpBusyError, LibraryError];
/** The longest that a timer runs. */
const MAX_SECONDS = 2_147_483;

/**
 * Runs a script. Wrong input is one sentence and exit code 2, any other failure exit code 1; a reader that
 * closes the pipe ends the script in silence.
 */
export async function main(run: () => Promise<void>): Promise<void> {
  try {
    await run();
  } catch (error) {
    if (error instanceof Deno.errors.BrokenPipe) Deno.exit(0);
    const wrong = WRONG_INPUT.some((type) => error instanceof type);
    const plain = wrong || SENTENCES.some((type) => error instanceof type);
    const text = error instanceof Error
      ? (plain || !Deno.env.get("XVS_DEBUG") ? error.message : error.stack)
      : error;
    console.error(`${text}`);
    Deno.exit(wrong ? 2 : 1);
  }
}

/**
 * A whole number on the command line.
 *
 * @throws {UsageError} when it is none, or more than `max`
 */
export function whole(text: string, max: number, what: string): number {
  const value = /^\d+$/.test(text) ? Number(text) : NaN;
  if (value <= max) return value;
  throw new UsageError(`${what} "${text}" is not a whole number from 0 to ${max}`);
}

/** How long to run: what {@linkcode untilInterrupted} takes. */
export function parseSeconds(text: string): number {
  return whole(text, MAX_SECONDS, "Number of seconds");
}

/** How to attach. */
export function parseMode(text: string): Mode | "auto" {
  if (text === "native" || text === "generic" || text === "auto") return text;
  throw new UsageError(`Mode "${text}" is none of native, generic, auto`);
}

/** Aborted by SIGINT, by SIGTERM, and after so many seconds; 0 is never. */
export function untilInterrupted(seconds: number): AbortSignal {
  const controller = new AbortController();
  for (const signal of ["SIGINT", "SIGTERM"] as const) {
    Deno.addSignalListener(signal, () => controller.abort());
  }
  if (seconds > 0) {
    Deno.unrefTimer(Number(setTimeout(() => controller.abort(), seconds * 1000)));
  }
  return controller.signal;
}

/** Waits, but no longer than until the signal. */
export function sleep(ms: number, signal: AbortSignal): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  const end = () => {
    clearTimeout(timer);
    signal.removeEventListener("abort", end);
    resolve();
  };
  const timer = setTimeout(end, ms);
  signal.addEventListener("abort", end);
  if (signal.aborted) end();
  return promise;
}

/** Writes a line to standard output, at once. */
export function print(line: string): void {
  const bytes = new TextEncoder().encode(`${line}\n`);
  for (let at = 0; at < bytes.length;) at += Deno.stdout.writeSync(bytes.subarray(at));
}

/** One line of JSON; counters are numbers in it. */
export function toJson(value: unknown): string {
  return JSON.stringify(value, (_, field) => typeof field === "bigint" ? Number(field) : field);
}

/** Rows as aligned text with a line of headings; numbers to the right. */
export function table(rows: readonly Record<string, string | number>[]): string {
  const columns = Object.keys(rows[0] ?? {});
  const lines = [columns, ...rows.map((row) => columns.map((column) => String(row[column])))];
  const widths = columns.map((_, i) => Math.max(...lines.map((line) => line[i]!.length)));
  const right = columns.map((column) =>
    rows.every((row) => /^\d+(\.\d+)?[kMGT]?( %)?$/.test(String(row[column])))
  );
  return lines.map((line) =>
    line.map((cell, i) => right[i] ? cell.padStart(widths[i]!) : cell.padEnd(widths[i]!))
      .join("  ").trimEnd()
  ).join("\n");
}

/** A number for a person: 1234567 is 1.23M. */
export function siRate(value: number): string {
  const units = ["", "k", "M", "G", "T"];
  let scaled = value, unit = 0;
  while (scaled >= 999.5 && unit < units.length - 1) {
    scaled /= 1000;
    unit++;
  }
  const text = unit === 0 && Number.isInteger(scaled) ? String(scaled) : scaled.toPrecision(3);
  return `${text}${units[unit]}`;
}
