/**
 * What the generated codecs of `abi.gen.ts` share: bounds, and refusals of values that do not fit.
 *
 * @module
 */

/**
 * A view of one struct within bytes.
 *
 * @param bytes what holds the struct
 * @param offset where it begins
 * @param size how many bytes it has
 * @throws {RangeError} when the bytes end before the struct does
 */
export function viewOf(bytes: Uint8Array, offset: number, size: number): DataView {
  if (offset + size > bytes.length) {
    throw new RangeError(`Cannot access ${size} bytes at offset ${offset} of ${bytes.length}`);
  }
  return new DataView(bytes.buffer, bytes.byteOffset + offset, size);
}

/**
 * The value, if an unsigned field of so many bits holds it.
 *
 * @param field its name in C, for the message
 * @throws {RangeError} when it does not fit
 */
export function unsigned(value: number, bits: 8 | 16 | 32, field: string): number {
  if (Number.isInteger(value) && value >= 0 && value < 2 ** bits) return value;
  throw new RangeError(`Cannot store ${value} in ${field}: it holds integers of ${bits} bits`);
}

/**
 * The value, if an unsigned field of 64 bits holds it.
 *
 * @param field its name in C, for the message
 * @throws {RangeError} when it does not fit
 */
export function unsigned64(value: bigint, field: string): bigint {
  if (BigInt.asUintN(64, value) === value) return value;
  throw new RangeError(`Cannot store ${value} in ${field}: it holds integers of 64 bits`);
}

/**
 * The list, if it has exactly so many elements.
 *
 * @param field its name in C, for the message
 * @throws {RangeError} when it has more or fewer
 */
export function exactly<List extends { readonly length: number }>(
  list: List,
  length: number,
  field: string,
): List {
  if (list.length === length) return list;
  throw new RangeError(`Cannot store ${list.length} elements in ${field}: it holds ${length}`);
}
