/** Bytes as maps hold them. */

import type { Bytes } from "../sys/memory.ts";

export type { Bytes };

/**
 * A 32-bit number in host byte order, as array maps want their keys.
 *
 * @example
 * ```ts
 * import { BpfMap, u32 } from "./mod.ts";
 *
 * using map = BpfMap.create({ type: "array", keySize: 4, valueSize: 4, maxEntries: 8 });
 * map.update(u32(7), u32(42));
 * ```
 */
export function u32(value: number): Bytes {
  return new Uint8Array(new Uint32Array([value]).buffer);
}

/** The next multiple of 8: what a value takes for each processor in a per-CPU map. */
export function round8(size: number): number {
  return Math.ceil(size / 8) * 8;
}

/** Pieces one after the other, such as the packed keys that a map is filled with. */
export function joinBytes(parts: readonly Uint8Array[]): Bytes {
  const whole = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let offset = 0;
  for (const part of parts) {
    whole.set(part, offset);
    offset += part.length;
  }
  return whole;
}
