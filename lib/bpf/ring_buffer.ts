/** Records that programs send to user space: BPF_MAP_TYPE_RINGBUF. */

import { Mapping, pageSize } from "../sys/mapping.ts";
import type { Bytes } from "../sys/memory.ts";
import { Waiter, waitReadable } from "../sys/waiter.ts";
import { round8 } from "./bytes.ts";
import { BpfError, SystemError } from "./errors.ts";
import type { BpfMap } from "./map.ts";

/** Before each record stand its length and flags, and a number for the kernel. */
const HEADER_BYTES = 8;
/** The program is still writing the record. */
const BUSY = 0x8000_0000;
/** The program has thought better of it. */
const DISCARDED = 0x4000_0000;
const LENGTH = 0x3fff_ffff;

/** What is done with each record, which is memory of its own. */
export type RecordCallback = (record: Bytes) => void;

/**
 * The reading end of a ring buffer. There must be one only: each record is read once.
 *
 * The ring is read right where the kernel writes it, without a call into native code per record.
 *
 * @example Records as they come, until a signal
 * ```ts
 * import { BpfMap, RingBuffer } from "./mod.ts";
 *
 * using map = BpfMap.openPinned("/sys/fs/bpf/events");
 * using events = RingBuffer.create(map);
 * const stop = new AbortController();
 * Deno.addSignalListener("SIGINT", () => stop.abort());
 * for await (const record of events.records({ signal: stop.signal })) console.log(record);
 * ```
 *
 * @example Records that are there already
 * ```ts
 * import { BpfMap, RingBuffer } from "./mod.ts";
 *
 * using map = BpfMap.openPinned("/sys/fs/bpf/events");
 * using events = RingBuffer.create(map, (record) => console.log(record));
 * const count = events.consume();
 * ```
 */
export class RingBuffer implements Disposable, AsyncIterable<Bytes> {
  readonly #map: BpfMap;
  readonly #callback: RecordCallback | undefined;
  readonly #owned = new DisposableStack();
  /** How far this side has read, in bytes from the beginning of time. */
  readonly #consumer: BigUint64Array;
  /** How far programs have reserved. */
  readonly #producer: BigUint64Array;
  /** The ring, mapped twice in a row, so that no record is broken at its end. */
  readonly #ring: Bytes;
  readonly #headers: Uint32Array;
  readonly #waiters = new Set<Waiter>();

  private constructor(map: BpfMap, callback: RecordCallback | undefined) {
    if (map.type !== "ringbuf") {
      throw new TypeError(`Cannot read ${map.label} as a ring buffer: it is a ${map.type}`);
    }
    using owned = new DisposableStack();
    const page = pageSize();
    const position = owned.use(mapRing(map, 0, page, true)).bytes;
    const { buffer } = owned.use(mapRing(map, page, page + 2 * map.maxEntries, false)).bytes;
    this.#map = map;
    this.#callback = callback;
    this.#consumer = new BigUint64Array(position.buffer, 0, 1);
    this.#producer = new BigUint64Array(buffer, 0, 1);
    this.#ring = new Uint8Array(buffer, page);
    this.#headers = new Uint32Array(buffer, page);
    this.#owned.use(owned.move());
  }

  /**
   * Starts reading a ring buffer.
   *
   * @param map Must stay open as long as this is used
   * @param callback What `poll()` and `consume()` do with each record
   * @throws {TypeError} when the map is none
   */
  static create(map: BpfMap, callback?: RecordCallback): RingBuffer {
    return new RingBuffer(map, callback);
  }

  /**
   * Gives the records that are there to the callback. If that throws, its record counts as read.
   *
   * @returns how many records there were
   */
  consume(): number {
    const callback = this.#callback;
    if (callback === undefined) {
      throw new TypeError("Cannot consume records: the ring buffer was made without a callback");
    }
    let count = 0;
    for (const record of this.#available()) {
      count++;
      callback(record);
    }
    return count;
  }

  /**
   * Waits for records and gives them to the callback. Nothing else runs meanwhile: where that
   * matters, iterate over `records()` instead.
   *
   * @param timeoutMs How long to wait at most, in milliseconds
   * @returns how many records there were
   */
  poll(timeoutMs: number): number {
    if (!(timeoutMs >= 0 && timeoutMs <= 0x7fff_ffff)) {
      throw new RangeError(`Cannot wait ${timeoutMs} ms: it takes 0 to 2147483647`);
    }
    const count = this.consume();
    if (count > 0) return count;
    waitReadable(this.#map.fd, Math.ceil(timeoutMs));
    return this.consume();
  }

  /**
   * Records as they come. The iteration ends when `signal` is aborted or the ring buffer closed.
   *
   * @param options.signal Ends the iteration
   */
  async *records({ signal }: { signal?: AbortSignal } = {}): AsyncGenerator<Bytes> {
    using waiter = new Waiter(this.#map.fd);
    const stop = (): void => waiter.stop();
    signal?.addEventListener("abort", stop);
    this.#waiters.add(waiter);
    try {
      while (!signal?.aborted && !this.#owned.disposed) {
        for (const record of this.#available()) {
          yield record;
          if (signal?.aborted) return;
        }
        await waiter.wait();
      }
    } finally {
      signal?.removeEventListener("abort", stop);
      this.#waiters.delete(waiter);
    }
  }

  /** Records as they come, until the ring buffer is closed. */
  [Symbol.asyncIterator](): AsyncGenerator<Bytes> {
    return this.records();
  }

  /** Stops reading and ends all iterations; a second call does nothing. The map stays open. */
  close(): void {
    for (const waiter of this.#waiters) waiter.stop();
    this.#owned.dispose();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  *#available(): Generator<Bytes> {
    const size = this.#map.maxEntries;
    while (!this.#owned.disposed) {
      const position = Number(Atomics.load(this.#consumer, 0));
      if (position >= Number(Atomics.load(this.#producer, 0))) return;
      const offset = position % size;
      const header = Atomics.load(this.#headers, offset / 4);
      if ((header & BUSY) !== 0) return;
      const start = offset + HEADER_BYTES;
      const length = header & LENGTH;
      const record = (header & DISCARDED) === 0
        ? this.#ring.slice(start, start + length)
        : undefined;
      // From here on the kernel may write over the record, of which there is a copy now.
      Atomics.store(this.#consumer, 0, BigInt(position + HEADER_BYTES + round8(length)));
      if (record !== undefined) yield record;
    }
  }
}

function mapRing(map: BpfMap, offset: number, size: number, writable: boolean): Mapping {
  try {
    return new Mapping(map.fd, offset, size, { writable });
  } catch (error) {
    if (!(error instanceof SystemError)) throw error;
    throw new BpfError(`map the memory of ${map.label}`, error.errno);
  }
}
