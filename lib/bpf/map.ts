/** BPF maps: tables that programs in the kernel and this process share. */

import { possibleCpus } from "../sys/cpu.ts";
import { ERRNO } from "../sys/errno.ts";
import { Fd } from "../sys/fd.ts";
import { libbpf } from "../sys/ffi.ts";
import { Mapping, pageSize } from "../sys/mapping.ts";
import { type Bytes, cString } from "../sys/memory.ts";
import { round8, u32 } from "./bytes.ts";
import {
  MAP_TYPE_SINCE,
  MAP_TYPES,
  type MapFlag,
  mapFlagMask,
  mapFlagsOf,
  type MapType,
} from "./constants.ts";
import { BpfError, check, NotSupportedError, SystemError } from "./errors.ts";
import { mapInfo } from "./info.ts";
import {
  concat,
  deleteBatch,
  readChunks,
  updateBatch,
  updateBatchParallel,
  updateError,
} from "./map_batch.ts";
import type { MapEntries } from "./map_batch.ts";
import { openPin, pin, unpin } from "./pins.ts";

/** Whether {@linkcode BpfMap.update} may make a new entry, must, or must not. */
export type UpdateMode = "any" | "noexist" | "exist";

const UPDATE_FLAGS = { any: 0n, noexist: 1n, exist: 2n } as const;

const PER_CPU: ReadonlySet<MapType> = new Set<MapType>([
  "percpu_hash",
  "percpu_array",
  "lru_percpu_hash",
  "percpu_cgroup_storage",
]);

/** What {@linkcode BpfMap.create} makes. */
export interface MapOptions {
  type: MapType;
  /** In bytes. */
  keySize: number;
  /** In bytes; of one processor's value in a per-CPU map. */
  valueSize: number;
  maxEntries: number;
  flags?: readonly MapFlag[];
  /** For people; the kernel keeps 15 bytes of it. */
  name?: string;
  /** For a map of maps: a map like those it will hold. */
  inner?: BpfMap;
}

/**
 * An open BPF map. Keys and values are bytes, as the program lays them out: host byte order, with
 * the padding of C.
 *
 * @example
 * ```ts
 * import { BpfMap, u32 } from "./mod.ts";
 *
 * using map = BpfMap.create({ type: "hash", keySize: 4, valueSize: 8, maxEntries: 100 });
 * map.update(u32(1), new Uint8Array(8).fill(7));
 * for (const [key, value] of map.entries()) console.log(key, value);
 * ```
 */
export class BpfMap implements Disposable {
  readonly #fd: Fd;
  /** The kernel's number for this map. */
  readonly id: number;
  readonly type: MapType;
  /** The name given in C; 15 bytes of it when the map was opened by id or pin. */
  readonly name: string;
  /** In bytes. */
  readonly keySize: number;
  /** In bytes; of one processor's value in a per-CPU map. */
  readonly valueSize: number;
  readonly maxEntries: number;
  readonly flags: ReadonlySet<MapFlag>;
  /** Whether there is a value for each processor. */
  readonly perCpu: boolean;
  /**
   * Bytes between packed values: `valueSize`, but in a per-CPU map that rounded up to a multiple of
   * 8 and taken as many times as there are possible processors.
   */
  readonly valueStride: number;
  #mapping: Mapping | undefined;

  /**
   * Takes ownership of a map's file descriptor.
   *
   * @param name The full name, where the kernel's 15 bytes are not enough
   * @throws {BpfError} when `fd` is no map
   */
  constructor(fd: number, name?: string) {
    using owned = new DisposableStack();
    this.#fd = owned.use(new Fd(fd));
    const info = mapInfo(this.#fd.value);
    this.id = info.id;
    this.type = MAP_TYPES[info.type] ?? "unspec";
    this.name = name ?? info.name;
    this.keySize = info.keySize;
    this.valueSize = info.valueSize;
    this.maxEntries = info.maxEntries;
    this.flags = mapFlagsOf(info.flags);
    this.perCpu = PER_CPU.has(this.type);
    this.valueStride = this.perCpu ? round8(info.valueSize) * possibleCpus() : info.valueSize;
    owned.move();
  }

  /**
   * Makes a new map, which lives as long as something holds it: this object, a program, a pin.
   *
   * @throws {NotSupportedError} when this kernel has no such type
   * @throws {BpfError} when the sizes do not suit the type, or memory or rights are lacking
   */
  static create(options: MapOptions): BpfMap {
    const { type, name = "", keySize, valueSize, maxEntries, inner, flags = [] } = options;
    const typeNumber = MAP_TYPES.indexOf(type);
    const opts = new Uint32Array(12); // struct bpf_map_create_opts
    opts[0] = opts.byteLength;
    if (inner !== undefined) opts[6] = inner.fd;
    opts[7] = mapFlagMask(flags);
    const result = libbpf().bpf_map_create(
      typeNumber,
      cString(name),
      keySize,
      valueSize,
      maxEntries,
      opts,
    );
    if (-result === ERRNO.EINVAL && libbpf().libbpf_probe_bpf_map_type(typeNumber, null) === 0) {
      throw new NotSupportedError(`map type "${type}"`, MAP_TYPE_SINCE[type] ?? "4.19");
    }
    const label = `create ${type} map "${name}" of ${maxEntries} entries`;
    return new BpfMap(check(result, () => label), options.name);
  }

  /**
   * Opens a map by its name in a bpffs.
   *
   * @throws {BpfError} with code `"ENOENT"` when there is none
   */
  static openPinned(path: string): BpfMap {
    return new BpfMap(openPin(path, "map").release());
  }

  /**
   * Opens a map by the kernel's number for it.
   *
   * @throws {BpfError} with code `"ENOENT"` when there is none
   */
  static fromId(id: number): BpfMap {
    return new BpfMap(check(libbpf().bpf_map_get_fd_by_id(id), () => `open map ${id}`));
  }

  /** The file descriptor, which stays this object's. */
  get fd(): number {
    return this.#fd.value;
  }

  /** The value of a key, or `undefined`. In a map of maps: the inner map's id. */
  lookup(key: Uint8Array): Bytes | undefined {
    if (this.perCpu) throw this.#misuse("lookup", "lookupPerCpu");
    const value = new Uint8Array(this.valueSize);
    return this.#read(key, value) ? value : undefined;
  }

  /** The values of a key, one for each possible processor, or `undefined`. */
  lookupPerCpu(key: Uint8Array): Bytes[] | undefined {
    if (!this.perCpu) throw this.#misuse("lookupPerCpu", "lookup");
    const values = new Uint8Array(this.valueStride);
    return this.#read(key, values) ? this.perCpuValues(values) : undefined;
  }

  /** Splits one packed value of a per-CPU map into the value of each processor. */
  perCpuValues(packed: Bytes): Bytes[] {
    const stride = round8(this.valueSize);
    const count = packed.length / stride;
    return Array.from(
      { length: count },
      (_, cpu) => packed.subarray(cpu * stride, cpu * stride + this.valueSize),
    );
  }

  /**
   * Sets the value of a key.
   *
   * @param mode `"noexist"` only makes new entries, `"exist"` only changes old ones
   * @throws {BpfError} `E2BIG` when the map is full, `EEXIST` or `ENOENT` by `mode`
   */
  update(key: Uint8Array, value: Uint8Array, mode: UpdateMode = "any"): void {
    if (this.perCpu) throw this.#misuse("update", "updatePerCpu");
    this.#checkSize("value", value, this.valueSize);
    this.#write(key, value, mode);
  }

  /** Sets the value of a key for every possible processor. */
  updatePerCpu(key: Uint8Array, values: readonly Uint8Array[], mode: UpdateMode = "any"): void {
    if (!this.perCpu) throw this.#misuse("updatePerCpu", "update");
    if (values.length !== possibleCpus()) {
      throw new RangeError(
        `Cannot set ${values.length} values in ${this.label}: it takes ${possibleCpus()}`,
      );
    }
    const packed = new Uint8Array(this.valueStride);
    for (const [cpu, value] of values.entries()) {
      this.#checkSize("value", value, this.valueSize);
      packed.set(value, cpu * round8(this.valueSize));
    }
    this.#write(key, packed, mode);
  }

  /** Puts a map into a map of maps. */
  updateInner(key: Uint8Array, inner: BpfMap, mode: UpdateMode = "any"): void {
    this.update(key, u32(inner.fd), mode);
  }

  /** Removes a key. Returns whether it was there. */
  delete(key: Uint8Array): boolean {
    this.#checkSize("key", key, this.keySize);
    const result = libbpf().bpf_map_delete_elem(this.fd, key);
    if (-result === ERRNO.ENOENT) return false;
    check(result, () => `delete from ${this.label}`);
    return true;
  }

  /** All keys. Entries may come and go meanwhile; the one just seen may be deleted. */
  *keys(): Generator<Bytes> {
    for (const { keys, count } of readChunks(this, false)) {
      for (let i = 0; i < count; i++) yield keys.subarray(i * this.keySize, (i + 1) * this.keySize);
    }
  }

  /**
   * All entries, the value packed if the map is per-CPU (see {@linkcode BpfMap.perCpuValues}).
   * Entries may come and go meanwhile; the one just seen may be deleted.
   */
  *entries(): Generator<[key: Bytes, value: Bytes]> {
    const { keySize, valueStride } = this;
    for (const { keys, values, count } of readChunks(this, true)) {
      for (let i = 0; i < count; i++) {
        yield [
          keys.subarray(i * keySize, (i + 1) * keySize),
          values.subarray(i * valueStride, (i + 1) * valueStride),
        ];
      }
    }
  }

  /**
   * The whole map at once, with few system calls. Where the kernel cannot read this type in
   * batches, it is read entry by entry.
   */
  lookupBatch(): MapEntries {
    return concat([...readChunks(this, true)]);
  }

  /**
   * Sets many entries with one system call; entry by entry where the kernel has no batches for this
   * type.
   *
   * @param keys `count` keys, packed
   * @param values `count` values of `valueStride` bytes, packed
   * @throws {BpfError} when an entry is refused; the message says how many were set before it
   */
  updateBatch(keys: Uint8Array, values: Uint8Array, count: number): void {
    this.#checkSize("keys", keys, count * this.keySize);
    this.#checkSize("values", values, count * this.valueStride);
    updateBatch(this, keys, values, count);
  }

  /**
   * Removes many keys.
   *
   * @param keys `count` keys, packed
   * @returns how many of them were there
   */
  deleteBatch(keys: Uint8Array, count: number): number {
    this.#checkSize("keys", keys, count * this.keySize);
    return deleteBatch(this, keys, count);
  }

  /**
   * Puts many maps into a map of maps, one for each of the packed keys. When it is done, no program is under
   * way that saw a map replaced.
   *
   * @throws {BpfError} when one is refused; others may be in place, in any order
   */
  async updateInnerBatch(keys: Uint8Array, maps: readonly BpfMap[]): Promise<void> {
    this.#checkSize("keys", keys, maps.length * this.keySize);
    const fds = new Uint32Array(maps.map((map) => map.fd));
    await updateBatchParallel(this, keys, new Uint8Array(fds.buffer), maps.length);
  }

  /**
   * How much memory the kernel counts for this map, in bytes.
   *
   * @returns `undefined` where the kernel does not tell
   */
  memory(): number | undefined {
    const text = Deno.readTextFileSync(`/proc/self/fdinfo/${this.fd}`);
    const memlock = /^memlock:\s*(\d+)$/m.exec(text)?.[1];
    return memlock === undefined ? undefined : Number(memlock);
  }

  /**
   * The values of an `array` with the flag `"mmapable"`, one every `valueSize` bytes rounded up to a multiple
   * of 8: the memory that programs use, to be read and written without a system call. It lasts until the map
   * is closed, and is zeros afterwards.
   *
   * @throws {TypeError} when the map is not of that kind
   * @throws {BpfError} when memory is lacking
   */
  view(): Bytes {
    if (!this.flags.has("mmapable")) {
      throw new TypeError(
        `Cannot see the values of ${this.label} as memory: it is not mmapable`,
      );
    }
    const size = round8(this.valueSize) * this.maxEntries;
    try {
      this.#mapping ??= new Mapping(this.fd, 0, roundUp(size, pageSize()), { writable: true });
    } catch (error) {
      if (!(error instanceof SystemError)) throw error;
      throw new BpfError(`see the values of ${this.label}`, error.errno);
    }
    return this.#mapping.bytes.subarray(0, size);
  }

  /**
   * Gives the map a name in a bpffs, which keeps it alive.
   *
   * @throws {BpfError} `EEXIST` when the name is taken, `EPERM` outside a bpffs
   */
  pin(path: string): void {
    pin(this.fd, path, this.label);
  }

  /** Removes a name that {@linkcode BpfMap.pin} gave. */
  unpin(path: string): void {
    unpin(path);
  }

  /** Closes this handle; a second call does nothing. */
  close(): void {
    this.#mapping?.close();
    this.#fd.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  /** How messages call this map. */
  get label(): string {
    return this.name === "" ? `map ${this.id}` : `map "${this.name}"`;
  }

  #read(key: Uint8Array, value: Bytes): boolean {
    this.#checkSize("key", key, this.keySize);
    const result = libbpf().bpf_map_lookup_elem(this.fd, key, value);
    if (-result === ERRNO.ENOENT) return false;
    check(result, () => `read ${this.label}`);
    return true;
  }

  #write(key: Uint8Array, value: Uint8Array, mode: UpdateMode): void {
    this.#checkSize("key", key, this.keySize);
    const result = libbpf().bpf_map_update_elem(this.fd, key, value, UPDATE_FLAGS[mode]);
    if (result < 0) throw updateError(this, result);
  }

  #checkSize(what: string, bytes: Uint8Array, expected: number): void {
    if (bytes.length !== expected) {
      throw new RangeError(
        `Cannot use a ${what} of ${bytes.length} bytes in ${this.label}: it takes ${expected}`,
      );
    }
  }

  #misuse(method: string, instead: string): TypeError {
    return new TypeError(`Cannot call ${method}() on ${this.type} ${this.label}: use ${instead}()`);
  }
}

function roundUp(size: number, unit: number): number {
  return Math.ceil(size / unit) * unit;
}
