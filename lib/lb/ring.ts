/**
 * Rings: which destination a new flow is given, by weighted Maglev hashing.
 *
 * A ring is a table of M entries, each naming one destination; a flow's hash picks the entry. The
 * table follows Eisenbud et al., "Maglev: A Fast and Reliable Software Network Load Balancer", NSDI
 * 2016, section 3.4: every destination has its own permutation of the entries, and the destinations
 * take turns, each claiming the first entry of its permutation that is still free, until the ring
 * is full. Here a destination takes turns in proportion to its weight.
 *
 * The result depends on the (address, weight) pairs of the members alone, so nodes with the same
 * set and the same size build the same ring.
 *
 * @module
 */

/** A destination as {@linkcode buildRing} needs it. */
export interface RingMember {
  /** The address in its canonical form, which decides the permutation; no two members share one. */
  readonly id: string;
  /** Share of new flows relative to the other members, 0 to 65535; 0 takes none. */
  readonly weight: number;
  /** What the entries of this member will hold, 1 to 2^31 - 1. */
  readonly slot: number;
}

/** The greatest weight that a member may have. */
export const MAX_WEIGHT = 65535;

/** The greatest slot that a ring entry can hold: the bit above marks tracked entries. */
export const MAX_SLOT = 0x7fffffff;

/**
 * The sizes that a ring may have in normal use, smallest first.
 *
 * They are primes, because every step width must visit every entry, and few, because a change of
 * size moves nearly every new flow. In the kernel an entry takes 8 bytes and the array a header of
 * some 300; the two small sizes keep the whole within the 16 and 32 KiB that kmalloc() hands out,
 * where the primes next to the powers of two, 2039 and 4093, would just miss them.
 */
export const RING_SIZES: readonly number[] = [1979, 4027, 16381, 65521];

/** With this many entries for each destination, equal weights differ by at most one percent. */
const ENTRIES_PER_DESTINATION = 100;

/**
 * Chooses the size of a ring: the smallest with 100 entries for each destination, or the largest
 * there is.
 *
 * A ring does not shrink, since a change of size costs a window of flow lookups and gains only
 * memory. So two nodes that came to the same set by different ways can differ in size; where they
 * must agree, give the size as an option.
 *
 * @param count Number of destinations, disabled ones included
 * @param current The present size, one of {@linkcode RING_SIZES}, or 0 for a new service
 * @returns One of {@linkcode RING_SIZES}
 *
 * @example
 * ```ts
 * ringSizeFor(10); // 1979
 * ringSizeFor(3, 16381); // 16381
 * ```
 */
export function ringSizeFor(count: number, current = 0): number {
  const least = Math.max(count * ENTRIES_PER_DESTINATION, current);
  return RING_SIZES.find((size) => size >= least) ?? RING_SIZES.at(-1)!;
}

/**
 * Builds the ring of a service.
 *
 * Each member gets its share of the entries to within about one entry, and at least one where there
 * are as many entries as members. When one of five members leaves, its fifth of 16381 entries moves
 * and 0.3 percent besides; when one of 163 does, 1.2 percent besides. One set in fifty is worse, up
 * to 7 percent: two members' steps happen to be in a simple proportion.
 *
 * @param members Enabled destinations in any order; those of weight 0 are left out
 * @param size Number of entries, a prime
 * @returns The slot of each entry; 0 everywhere if no member has a weight
 * @throws {RangeError} when the size is no prime, a weight or slot is out of range, or an id
 * appears twice
 *
 * @example
 * ```ts
 * const ring = buildRing([
 *   { id: "192.0.2.1", weight: 1, slot: 7 },
 *   { id: "192.0.2.2", weight: 3, slot: 4 },
 * ], 1979);
 * ring.filter((slot) => slot === 7).length; // 495
 * ```
 */
export function buildRing(members: readonly RingMember[], size: number): Uint32Array<ArrayBuffer> {
  if (!isPrime(size)) throw new RangeError(`Cannot build a ring of "${size}" entries: not a prime`);
  const takers = canonical(members);
  const ring = new Uint32Array(size);
  if (takers.length === 0) return ring;

  // Columns rather than objects: the loop below runs a few hundred thousand times.
  const slots = new Uint32Array(takers.length);
  const next = new Uint32Array(takers.length);
  const skips = new Uint32Array(takers.length);
  takers.forEach(({ id, slot }, j) => {
    const hash = hashText(id);
    slots[j] = slot;
    next[j] = mix(hash) % size;
    skips[j] = 1 + mix(hash ^ 0x9e3779b9) % (size - 1);
  });

  for (const j of turns(takers, size)) {
    const skip = skips[j]!;
    let entry = next[j]!;
    while (ring[entry] !== 0) {
      entry += skip;
      if (entry >= size) entry -= size;
    }
    ring[entry] = slots[j]!;
    next[j] = entry;
  }
  return ring;
}

/** Validates the members and returns those with a weight, ordered by id. */
function canonical(members: readonly RingMember[]): RingMember[] {
  for (const { id, weight, slot } of members) {
    if (!Number.isInteger(weight) || weight < 0 || weight > MAX_WEIGHT) {
      throw new RangeError(
        `Cannot put "${id}" into a ring with weight "${weight}": must be 0 to ${MAX_WEIGHT}`,
      );
    }
    if (!Number.isInteger(slot) || slot < 1 || slot > MAX_SLOT) {
      throw new RangeError(
        `Cannot put "${id}" into a ring as slot "${slot}": must be 1 to ${MAX_SLOT}`,
      );
    }
  }
  // Not localeCompare(): the order must be the same on every node.
  const sorted = members.toSorted((a, b) => a.id < b.id ? -1 : a.id > b.id ? 1 : 0);
  sorted.forEach(({ id }, j) => {
    if (id === sorted[j - 1]?.id) throw new RangeError(`Cannot put "${id}" into a ring twice`);
  });
  return sorted.filter(({ weight }) => weight > 0);
}

/**
 * Says who takes which turn: `size` indexes into `takers`.
 *
 * Turn k of a destination (from 0) comes at time k / weight, so that everybody has a first turn and
 * shares follow weights (Adams' method of apportionment). Time runs in rounds in which the heaviest
 * takes one turn; within a round the order is that of `takers`. The turns are put in order by
 * counting, as a heavy and thousands of light destinations would make it slow to ask each of them
 * in every round.
 */
function turns(takers: readonly RingMember[], size: number): Uint32Array {
  const heaviest = takers.reduce((max, { weight }) => Math.max(max, weight), 0);
  const turnsUpTo = (round: number): number =>
    takers.reduce((sum, { weight }) => sum + Math.floor(round * weight / heaviest) + 1, 0);

  // The last round needed: the first by whose end there are enough turns. The heaviest alone needs
  // `size` rounds.
  let last = size - 1;
  for (let tooEarly = -1; last - tooEarly > 1;) {
    const middle = (tooEarly + last) >> 1;
    if (turnsUpTo(middle) < size) tooEarly = middle;
    else last = middle;
  }

  const roundOf = (turn: number, weight: number): number => Math.ceil(turn * heaviest / weight);
  const starts = new Uint32Array(last + 2);
  for (const { weight } of takers) {
    for (let turn = 0, round; (round = roundOf(turn, weight)) <= last; turn++) starts[round + 1]!++;
  }
  for (let round = 1; round < starts.length; round++) starts[round]! += starts[round - 1]!;
  const order = new Uint32Array(starts[last + 1]!);
  takers.forEach(({ weight }, j) => {
    for (let turn = 0, round; (round = roundOf(turn, weight)) <= last; turn++) {
      order[starts[round]!++] = j;
    }
  });
  return order.subarray(0, size);
}

function isPrime(n: number): boolean {
  if (!Number.isInteger(n) || n < 2) return false;
  for (let divisor = 2; divisor * divisor <= n; divisor++) if (n % divisor === 0) return false;
  return true;
}

/** FNV-1a over the UTF-16 units of a text: 32 bits, and for an address at most 45 cheap steps. */
function hashText(text: string): number {
  let hash = 0x811c9dc5;
  for (let i = 0; i < text.length; i++) hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193);
  return hash >>> 0;
}

/** MurmurHash3's 32-bit finaliser: addresses that differ by one digit get unrelated permutations. */
function mix(hash: number): number {
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
  return (hash ^ (hash >>> 16)) >>> 0;
}
