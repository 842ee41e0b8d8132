/** Memory that C and JavaScript both see: addresses, C strings and copies. */

import { libc } from "./ffi.ts";

/** A pointer that C gave and will take back; nothing else can be done with it. */
export type Handle = Deno.PointerObject;

/** Bytes over memory that is no `SharedArrayBuffer`, which is what the FFI takes. */
export type Bytes = Uint8Array<ArrayBuffer>;

/** The text as UTF-8 with a closing NUL byte, as C wants it. */
export function cString(text: string): Bytes {
  if (text.includes("\0")) {
    throw new TypeError(`Cannot pass ${JSON.stringify(text)} to C: it holds a NUL byte`);
  }
  return new TextEncoder().encode(text + "\0");
}

/** Copies the C string at an address. */
export function readCString(address: Deno.PointerValue): string {
  return address === null ? "" : Deno.UnsafePointerView.getCString(address);
}

/** Text from a fixed-size field of a C struct: up to its first NUL byte. */
export function textOf(field: Uint8Array): string {
  const end = field.indexOf(0);
  return new TextDecoder().decode(end < 0 ? field : field.subarray(0, end));
}

/**
 * The address of a buffer's first byte, to be written into a C struct. The caller keeps the buffer
 * alive for as long as C may use the address.
 */
export function addressOf(bytes: Bytes): bigint {
  return BigInt(Deno.UnsafePointer.value(Deno.UnsafePointer.of(bytes)));
}

/**
 * errno of the C library call made just before, for functions that do not return it. Only to be
 * read in the statement after the call: nothing may come between.
 */
export function lastErrno(): number {
  const address = libc().__errno_location();
  return address === null ? 0 : new Deno.UnsafePointerView(address).getInt32();
}
