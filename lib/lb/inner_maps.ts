/**
 * Maps within maps: rings, and documents. They are replaced whole, so that whoever reads one sees the old one or
 * the new one.
 *
 * @module
 */
import { BpfError, BpfMap, u32 } from "../bpf/mod.ts";
import { RING_ENTRY } from "./abi.gen.ts";

/** A new inner map, filled with values of 8 bytes each. */
export function createInner(values: Uint8Array): BpfMap {
  const count = values.length / RING_ENTRY.size;
  using stack = new DisposableStack();
  const inner = stack.use(BpfMap.create({
    type: "array",
    name: "ring",
    keySize: 4,
    valueSize: RING_ENTRY.size,
    maxEntries: count,
    flags: ["inner_map"],
  }));
  const keys = new Uint8Array(Uint32Array.from({ length: count }, (_, i) => i).buffer);
  inner.updateBatch(keys, values, count);
  stack.move();
  return inner;
}

/** Opens the map that is at a place of a map of maps; who has just been replaced is passed over. */
export function openInner(outer: BpfMap, key: number): BpfMap {
  for (;;) {
    const id = innerId(outer, key);
    try {
      return BpfMap.fromId(id);
    } catch (error) {
      if (!(error instanceof BpfError && error.code === "ENOENT") || id === innerId(outer, key)) {
        throw error;
      }
    }
  }
}

/** The number of the map at a place of a map of maps; 0: there is none. */
export function innerId(outer: BpfMap, key: number): number {
  const value = outer.lookup(u32(key));
  return value ? new DataView(value.buffer, value.byteOffset).getUint32(0, true) : 0;
}
