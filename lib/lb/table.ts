/**
 * A BPF map whose values are structs of the ABI.
 *
 * @module
 */
import { type BpfMap, joinBytes, u32 } from "../bpf/mod.ts";

/** How a struct of the ABI is laid out; generated in `abi.gen.ts`. */
export interface Codec<Value> {
  readonly size: number;
  encode(value: Value, into?: Uint8Array, offset?: number): Uint8Array;
  decode(bytes: Uint8Array, offset?: number): Value;
}

/** A map by the type of its values. Keys are bytes; arrays are addressed by index. */
export class Table<Value> {
  readonly map: BpfMap;
  readonly #codec: Codec<Value>;

  constructor(map: BpfMap, codec: Codec<Value>) {
    this.map = map;
    this.#codec = codec;
  }

  get(key: Uint8Array | number): Value | undefined {
    const bytes = this.map.lookup(keyBytes(key));
    return bytes && this.#codec.decode(bytes);
  }

  set(key: Uint8Array | number, value: Value): void {
    this.map.update(keyBytes(key), this.#codec.encode(value));
  }

  /** Sets many in one call. */
  setAll(entries: readonly (readonly [Uint8Array | number, Value])[]): void {
    if (entries.length === 0) return;
    const keys = joinBytes(entries.map(([key]) => keyBytes(key)));
    const values = new Uint8Array(entries.length * this.#codec.size);
    entries.forEach(([, value], i) => this.#codec.encode(value, values, i * this.#codec.size));
    this.map.updateBatch(keys, values, entries.length);
  }

  delete(key: Uint8Array | number): boolean {
    return this.map.delete(keyBytes(key));
  }

  /** Every entry, in one sweep. */
  entries(): Generator<[Uint8Array, Value]> {
    return this.#entries(() => true);
  }

  /** The entries of an array that are not all zeros: those that were ever set. */
  *written(): Generator<[number, Value]> {
    const entries = this.#entries((value) => value.some((byte) => byte !== 0));
    for (const [key, value] of entries) {
      yield [new DataView(key.slice().buffer).getUint32(0, true), value];
    }
  }

  *#entries(where: (value: Uint8Array) => boolean): Generator<[Uint8Array, Value]> {
    const { keys, values, count } = this.map.lookupBatch();
    const { keySize } = this.map;
    const { size } = this.#codec;
    for (let i = 0; i < count; i++) {
      if (!where(values.subarray(i * size, (i + 1) * size))) continue;
      yield [
        keys.subarray(i * keySize, (i + 1) * keySize),
        this.#codec.decode(values, i * this.#codec.size),
      ];
    }
  }
}

/** Counters kept per CPU: a struct of nothing but unsigned 64-bit numbers. */
export class CounterTable {
  readonly map: BpfMap;

  constructor(map: BpfMap) {
    this.map = map;
  }

  /** The numbers of one entry, added up over the CPUs. */
  sum(index: number): BigUint64Array {
    const total = new BigUint64Array(this.map.valueSize / 8);
    for (const value of this.map.lookupPerCpu(u32(index)) ?? []) {
      addTo(total, new BigUint64Array(value.slice().buffer));
    }
    return total;
  }

  /** Zeroes entries, so that whoever gets them next starts from nothing. */
  clear(indexes: readonly number[]): void {
    for (const index of indexes) {
      const cpus = this.map.lookupPerCpu(u32(index))?.length ?? 0;
      const zero = new Uint8Array(this.map.valueSize);
      this.map.updatePerCpu(u32(index), Array.from({ length: cpus }, () => zero));
    }
  }
}

/** Adds numbers to others of the same layout. */
export function addTo(total: BigUint64Array, other: BigUint64Array): void {
  for (let i = 0; i < total.length; i++) total[i]! += other[i]!;
}

function keyBytes(key: Uint8Array | number): Uint8Array {
  return typeof key === "number" ? u32(key) : key;
}
