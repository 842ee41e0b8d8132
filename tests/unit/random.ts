/**
 * A small seeded generator (mulberry32), so that a failing case can be run again by its seed.
 *
 * @returns A function that gives the next number from 0 to 2^32 - 1
 */
export function random(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let x = Math.imul(state ^ (state >>> 15), state | 1);
    x ^= x + Math.imul(x ^ (x >>> 7), x | 61);
    return (x ^ (x >>> 14)) >>> 0;
  };
}
