/**
 * The filter by which the program tells, without looking into any table, most addresses that are no VIP: see
 * `may_be_vip()` in `bpf/service.h`, which computes the same.
 *
 * @module
 */
import { VIP_FILTER_BITS } from "./abi.gen.ts";
import { addressWords } from "./flow_hash.ts";

/** 2^32 by the golden ratio. */
const SPREAD = 0x9e3779b1;

/** The bit that stands for an address of 4 or 16 bytes. */
export function filterBit(address: Uint8Array): number {
  const folded = addressWords(address).reduce((sum, word) => sum ^ word, 0);
  return Math.imul(folded, SPREAD) >>> (32 - VIP_FILTER_BITS);
}

/** The values of the program's map for these VIPs. */
export function vipFilter(addresses: Iterable<Uint8Array>): BigUint64Array<ArrayBuffer> {
  const words = new BigUint64Array(2 ** VIP_FILTER_BITS / 64);
  for (const address of addresses) {
    const bit = filterBit(address);
    words[bit >>> 6]! |= 1n << BigInt(bit & 63);
  }
  return words;
}
