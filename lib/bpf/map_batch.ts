/** Many entries of a map at once, and one by one where the kernel cannot. */

import { ERRNO } from "../sys/errno.ts";
import { libbpf } from "../sys/ffi.ts";
import type { Bytes } from "../sys/memory.ts";
import { joinBytes } from "./bytes.ts";
import { BpfError } from "./errors.ts";

/** Entries of a map, packed one after the other. */
export interface MapEntries {
  /** `count` keys of `keySize` bytes. */
  readonly keys: Bytes;
  /** `count` values of `valueStride` bytes. */
  readonly values: Bytes;
  readonly count: number;
}

/** What these functions need to know of a map. */
interface Target {
  readonly fd: number;
  readonly keySize: number;
  readonly valueStride: number;
  readonly maxEntries: number;
  readonly label: string;
}

/** Bytes to read with one system call: enough to make its cost small, little enough to allocate. */
const CHUNK_BYTES = 1 << 20;
/** Calls under way at a time, each on a thread. */
const PARALLEL_CALLS = 64;

/**
 * Reads a whole map in pieces. Each piece is memory of its own.
 *
 * @param withValues Without, the values may be missing from the pieces
 */
export function* readChunks(map: Target, withValues: boolean): Generator<MapEntries> {
  let capacity = chunkCapacity(map, CHUNK_BYTES);
  const count = new Uint32Array(1);
  const position = new Uint8Array(Math.max(map.keySize, 8));
  let start: Bytes | null = null;
  while (true) {
    const keys = new Uint8Array(capacity * map.keySize);
    const values = new Uint8Array(capacity * map.valueStride);
    count[0] = capacity;
    const result = libbpf().bpf_map_lookup_batch(
      map.fd,
      start,
      position,
      keys,
      values,
      count,
      null,
    );
    if (start === null && isUnsupported(result)) return yield* readSlowly(map, withValues);
    // A bucket of a hash map comes whole or not at all: here it needs more room.
    const full = -result === ERRNO.ENOSPC;
    if (result < 0 && !full && -result !== ERRNO.ENOENT) {
      throw new BpfError(`read ${map.label}`, result);
    }
    const found = count[0];
    if (found > 0) {
      yield {
        keys: keys.subarray(0, found * map.keySize),
        values: values.subarray(0, found * map.valueStride),
        count: found,
      };
    }
    if (-result === ERRNO.ENOENT) return;
    if (full) capacity *= 2;
    start = position;
  }
}

/** Puts pieces together. */
export function concat(chunks: readonly MapEntries[]): MapEntries {
  const [only] = chunks;
  if (only !== undefined && chunks.length === 1) return only;
  return {
    keys: joinBytes(chunks.map((chunk) => chunk.keys)),
    values: joinBytes(chunks.map((chunk) => chunk.values)),
    count: chunks.reduce((sum, chunk) => sum + chunk.count, 0),
  };
}

/** Sets many entries. */
export function updateBatch(
  map: Target,
  keys: Uint8Array,
  values: Uint8Array,
  total: number,
): void {
  if (total === 0) return;
  const count = new Uint32Array([total]);
  const result = libbpf().bpf_map_update_batch(map.fd, keys, values, count, null);
  if (result === 0) return;
  if (!isUnsupported(result)) throw updateError(map, result, [count[0] ?? 0, total]);
  for (let i = 0; i < total; i++) {
    const value = values.subarray(i * map.valueStride, (i + 1) * map.valueStride);
    const one = libbpf().bpf_map_update_elem(map.fd, keyAt(map, keys, i), value, 0n);
    if (one < 0) throw updateError(map, one, [i, total]);
  }
}

/**
 * Sets many entries by several calls at a time. Before Linux 6.8 ("bpf: Call
 * maybe_wait_bpf_programs() only once for generic_map_update_batch()") an update of a map of maps waits for
 * running programs once an entry; those that wait together wait no longer than one.
 */
export async function updateBatchParallel(
  map: Target,
  keys: Uint8Array,
  values: Uint8Array,
  total: number,
): Promise<void> {
  const each = Math.ceil(total / PARALLEL_CALLS);
  const calls: Promise<void>[] = [];
  for (let from = 0; from < total; from += each) {
    const to = Math.min(from + each, total);
    const part = (bytes: Uint8Array, size: number) => bytes.slice(from * size, to * size);
    calls.push(updateBatchAside(map, part(keys, map.keySize), part(values, map.valueStride)));
  }
  const failed = (await Promise.allSettled(calls)).find((call) => call.status === "rejected");
  if (failed) throw failed.reason;
}

async function updateBatchAside(map: Target, keys: Uint8Array, values: Uint8Array): Promise<void> {
  const total = keys.length / map.keySize;
  const count = new Uint32Array([total]);
  const result = await libbpf().bpf_map_update_batch_async(map.fd, keys, values, count, null);
  if (isUnsupported(result)) updateBatch(map, keys, values, total);
  else if (result !== 0) throw updateError(map, result, [count[0] ?? 0, total]);
}

/** Removes many keys; returns how many were there. */
export function deleteBatch(map: Target, keys: Uint8Array, total: number): number {
  const count = new Uint32Array(1);
  let deleted = 0;
  for (let next = 0; next < total;) {
    count[0] = total - next;
    const rest = keys.subarray(next * map.keySize);
    const result = libbpf().bpf_map_delete_batch(map.fd, rest, count, null);
    if (isUnsupported(result)) return deleted + deleteSlowly(map, rest, total - next);
    if (result < 0 && -result !== ERRNO.ENOENT) throw deleteError(map, result);
    // The kernel stops at a key that is missing; go on after it.
    deleted += count[0];
    next += count[0] + 1;
  }
  return deleted;
}

/**
 * The error for an update that the kernel refused.
 *
 * @param progress How many of how many entries were set before
 */
export function updateError(map: Target, errno: number, progress?: [number, number]): BpfError {
  const full = -errno === ERRNO.E2BIG ? `it holds at most ${map.maxEntries} entries` : undefined;
  const after = progress === undefined ? "" : ` after ${progress[0]} of ${progress[1]} entries`;
  return new BpfError(`update ${map.label}${after}`, errno, full);
}

function deleteError(map: Target, errno: number): BpfError {
  return new BpfError(`delete from ${map.label}`, errno);
}

/** 524 where the type has no batches; "invalid" on a kernel before 5.6, or for a real mistake. */
function isUnsupported(result: number): boolean {
  return -result === ERRNO.ENOTSUPP || -result === ERRNO.EINVAL;
}

function chunkCapacity(map: Target, bytes: number): number {
  const perEntry = Math.max(map.keySize + map.valueStride, 1);
  return Math.min(map.maxEntries, Math.max(Math.floor(bytes / perEntry), 64));
}

function deleteSlowly(map: Target, keys: Uint8Array, total: number): number {
  let deleted = 0;
  for (let i = 0; i < total; i++) {
    const result = libbpf().bpf_map_delete_elem(map.fd, keyAt(map, keys, i));
    if (result < 0 && -result !== ERRNO.ENOENT) throw deleteError(map, result);
    if (result === 0) deleted++;
  }
  return deleted;
}

/** One entry a piece. The next key is fetched first, so that the one just given may be deleted. */
function* readSlowly(map: Target, withValues: boolean): Generator<MapEntries> {
  let key = nextKey(map, null);
  // A key that disappears makes the kernel start over: without a bound this might never end.
  for (let steps = 0; key !== undefined; steps++) {
    if (steps > map.maxEntries) {
      throw new BpfError(`read ${map.label}`, ERRNO.EAGAIN, "it changes faster than it is read");
    }
    const next = nextKey(map, key);
    const values = new Uint8Array(withValues ? map.valueStride : 0);
    if (!withValues || lookup(map, key, values)) yield { keys: key, values, count: 1 };
    key = next;
  }
}

function nextKey(map: Target, key: Bytes | null): Bytes | undefined {
  const next = new Uint8Array(map.keySize);
  const result = libbpf().bpf_map_get_next_key(map.fd, key, next);
  if (-result === ERRNO.ENOENT) return undefined;
  if (result < 0) throw new BpfError(`read keys of ${map.label}`, result);
  return next;
}

function lookup(map: Target, key: Bytes, value: Bytes): boolean {
  const result = libbpf().bpf_map_lookup_elem(map.fd, key, value);
  if (-result === ERRNO.ENOENT) return false;
  if (result < 0) throw new BpfError(`read ${map.label}`, result);
  return true;
}

function keyAt(map: Target, keys: Uint8Array, index: number): Uint8Array {
  return keys.subarray(index * map.keySize, (index + 1) * map.keySize);
}
