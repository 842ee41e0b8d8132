/**
 * Bytes of a frame that is being written.
 *
 * @module
 */
import { sum } from "./read.ts";

/** The writer. Numbers are big-endian. */
export class Writer {
  readonly #bytes: Uint8Array;
  length = 0;
  /** Where headers begin. */
  marks: number[] = [];

  constructor(capacity: number) {
    this.#bytes = new Uint8Array(capacity);
  }

  reset(): void {
    this.length = 0;
    this.marks = [];
  }

  /** All so far: a view. */
  bytes(): Uint8Array {
    return this.#bytes.subarray(0, this.length);
  }

  at(offset: number): number {
    return this.#bytes[offset]!;
  }

  /** A header begins here. */
  mark(): number {
    this.marks.push(this.length);
    return this.length;
  }

  u8(value: number): void {
    this.#bytes[this.length++] = value;
  }

  u16(value: number): void {
    this.put16(this.length, value);
    this.length += 2;
  }

  put16(at: number, value: number): void {
    this.#bytes[at] = value >> 8;
    this.#bytes[at + 1] = value & 0xff;
  }

  put(bytes: Uint8Array): void {
    this.#bytes.set(bytes, this.length);
    this.length += bytes.length;
  }

  zeros(count: number): void {
    this.#bytes.fill(0, this.length, this.length + count);
    this.length += count;
  }

  /** Bytes that differ from their neighbours. */
  filler(count: number, seed: number): void {
    for (let i = 0; i < count; i++) this.#bytes[this.length++] = seed + i * 7;
  }

  /** Takes away what stands beyond. */
  cut(length: number): void {
    this.length = length;
  }

  /**
   * Writes a checksum over the bytes from `start` on, the field itself being zero.
   *
   * @param addresses of the pseudo-header, if there is one
   */
  checksum(
    field: number,
    start: number,
    addresses: readonly Uint8Array[] | undefined,
    protocol: number,
    end: number = this.length,
  ): void {
    this.put16(field, 0);
    let total = sum(this.#bytes, start, end);
    if (addresses) {
      for (const address of addresses) total += sum(address, 0, address.length);
      total += protocol + end - start;
    }
    this.put16(field, 0xffff - total % 0xffff);
  }
}
