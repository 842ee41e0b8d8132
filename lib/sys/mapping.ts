/** Memory shared with the kernel through mmap(). */

import { SystemError } from "./errno.ts";
import { libc } from "./ffi.ts";
import { type Bytes, type Handle, lastErrno } from "./memory.ts";

const PROT_READ = 1;
const PROT_WRITE = 2;
const MAP_SHARED = 0x01;
const MAP_PRIVATE = 0x02;
const MAP_FIXED = 0x10;
const MAP_ANONYMOUS = 0x20;
const MAP_NORESERVE = 0x4000;
const MAP_FAILED = 2n ** 64n - 1n;

/** Bytes in a page of memory. */
export function pageSize(): number {
  return libc().getpagesize();
}

/**
 * A stretch of a file, such as a BPF map, as bytes. Reads and writes go to the memory itself.
 *
 * A mapping that was opened without `writable` must not be written to: the processor refuses, and
 * the process ends.
 */
export class Mapping implements Disposable {
  /** The memory. After {@linkcode Mapping.close} it is zeros that nobody shares. */
  readonly bytes: Bytes;
  readonly #address: Handle;
  #closed = false;

  /**
   * @param fd What to map
   * @param offset In bytes, a multiple of the page size
   * @param size In bytes
   * @throws {SystemError} when the kernel refuses
   */
  constructor(fd: number, offset: number, size: number, { writable }: { writable: boolean }) {
    const protection = writable ? PROT_READ | PROT_WRITE : PROT_READ;
    const address = libc().mmap(null, BigInt(size), protection, MAP_SHARED, fd, BigInt(offset));
    if (address === null || Deno.UnsafePointer.value(address) === MAP_FAILED) {
      throw new SystemError("map memory", lastErrno());
    }
    this.#address = address;
    this.bytes = new Uint8Array(Deno.UnsafePointerView.getArrayBuffer(address, size));
  }

  /**
   * Lets go of the file. JavaScript may still hold views of the memory, and touching unmapped
   * memory would end the process; therefore empty private pages take its place. They cost
   * address space alone until somebody writes to them.
   */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    const protection = PROT_READ | PROT_WRITE;
    const flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED;
    libc().mmap(this.#address, BigInt(this.bytes.length), protection, flags, -1, 0n);
  }

  [Symbol.dispose](): void {
    this.close();
  }
}
