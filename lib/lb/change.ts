/**
 * Changes of a ring that leave every flow with its destination: "just enough state".
 *
 * A flow needs no memory as long as the ring alone gives the right answer. A change makes
 * exceptions: flows whose entry now says something else. So an entry has, besides its current
 * destination, a previous one and a tracked bit. Flows of a tracked entry are looked up in the flow
 * table; one that is not there belongs to the previous destination while the window after the
 * change lasts, and to the current one later. What the program does with a packet is told in
 * `bpf/flow.h`.
 *
 * Everything here is pure: a state and a wish give the next state. What it maintains, for every
 * flow that speaks at least once per window and whose destination is alive, is that one of these
 * holds:
 *
 * 1. the flow table holds the flow, and its entry is tracked if the table says something else than
 *    the entry;
 * 2. the table does not hold it, and the entry that its previous index gives names its destination,
 *    while its current entry is tracked and the window lasts: it was silent since the change;
 * 3. the table does not hold it, and its current entry names its destination, while that entry is
 *    untracked or the window is over.
 *
 * "Previous index" as there are two index functions: a change of the ring's size, or of whether
 * ports count (sticky), gives every flow another index. The previous ring keeps its own.
 *
 * @module
 */

import {
  RING_CHANGE,
  RING_ENTRY,
  RING_HEADER,
  RING_PAST,
  RING_PRESENT,
  RING_TRACKED,
  RING_WINDOW,
} from "./abi.gen.ts";

/** A ring as the program sees it. */
export interface RingState {
  /** Number of entries in `current`. */
  readonly size: number;
  /** Whether flows are indexed in `current` by their addresses alone. */
  readonly sticky: boolean;
  /** Destination slot of each entry, 0 for none, with the bit `RING_TRACKED`. */
  readonly current: Uint32Array;
  /** Destination slot of each entry before the change, 0 for none or one that is gone. */
  readonly previous: Uint32Array;
  /** Number of entries in `previous`. */
  readonly previousSize: number;
  /** Whether flows are indexed in `previous` by their addresses alone. */
  readonly previousSticky: boolean;
  /** Until when an unknown flow belongs to `previous`; nanoseconds of CLOCK_MONOTONIC. */
  readonly windowEndNs: bigint;
  /** When it became so; nanoseconds of CLOCK_MONOTONIC. */
  readonly changedNs: bigint;
}

/** What {@linkcode change} is to make of a ring. */
export interface RingChange {
  /** The new ring, from `buildRing()`; its length is the new size. */
  readonly slots: Uint32Array;
  /** Whether flows are indexed by their addresses alone. */
  readonly sticky: boolean;
  /**
   * Whether a slot of the rings before still belongs to the same destination, enabled or not. A
   * slot that the change sets free must not be given out again by the same change.
   */
  readonly alive: (slot: number) => boolean;
  /** Nanoseconds of CLOCK_MONOTONIC. */
  readonly nowNs: bigint;
  /** How long a flow may be silent and keep its destination through the change. */
  readonly windowNs: bigint;
}

/**
 * The ring after a change of its destinations, their weights, its size or its stickiness.
 *
 * The first ring of a service has no past: nothing is tracked.
 *
 * @param state The ring before; undefined for a new service
 *
 * @example
 * ```ts
 * const wish = { sticky: false, alive: () => true, windowNs: 900_000_000_000n };
 * const first = change(undefined, { ...wish, slots: Uint32Array.of(1, 2, 1), nowNs: 0n });
 * const next = change(first, { ...wish, slots: Uint32Array.of(1, 2, 2), nowNs: 5n });
 * next.current; // entry 2 is tracked
 * ```
 */
export function change(state: RingState | undefined, wanted: RingChange): RingState {
  const { slots, sticky, alive, nowNs, windowNs } = wanted;
  const old = state ?? stateOf(slots, sticky);
  const past = pastOf(old, nowNs);
  const previous = past.slots.map((slot) => slot !== 0 && alive(slot) ? slot : 0);

  // An entry needs tracking if flows of it may be in the table, or if some may be answered by
  // `previous` with something else than the new slot. Where nobody alive is previous, no flow has
  // a destination to keep. With another index function both kinds may be anywhere.
  const reindexed = old.size !== slots.length || old.sticky !== sticky;
  const current = slots.map((slot, i) => {
    const tracked = reindexed || isTracked(old.current[i]!) ||
      (previous[i] !== 0 && previous[i] !== slot);
    return tracked ? slot | RING_TRACKED : slot;
  });
  return {
    size: slots.length,
    sticky,
    current,
    previous,
    previousSize: previous.length,
    previousSticky: past.sticky,
    windowEndNs: nowNs + windowNs,
    changedNs: nowNs,
  };
}

/**
 * Where flows that the table does not hold go until the change: what the new `previous` must say.
 *
 * By (2) above it is the old `previous` for the tracked entries within the window, by (3) the old
 * `current` for all others. With one index function that is a choice entry by entry. With two it
 * can be made for the whole: the change that brought the second tracked all entries, and none is
 * untracked within its window, so that (2) holds for all entries within and (3) for all after.
 */
export function pastOf(old: RingState, nowNs: bigint): { slots: Uint32Array; sticky: boolean } {
  const inWindow = nowNs < old.windowEndNs;
  const oneIndex = old.size === old.previousSize && old.sticky === old.previousSticky;
  if (inWindow && !oneIndex) return { slots: old.previous, sticky: old.previousSticky };
  return {
    slots: old.current.map((entry, i) =>
      inWindow && isTracked(entry) ? old.previous[i]! : slotOf(entry)
    ),
    sticky: old.sticky,
  };
}

/** What a node that joins has to know of another's ring. */
export interface RingPast {
  /** What `pastOf()` gives there, in slots of here; 0 for destinations that this node does not have. */
  readonly slots: Uint32Array;
  /** Whether flows are indexed in it by their addresses alone. */
  readonly sticky: boolean;
  /** How long the window lasts there, in nanoseconds; 0 if it is over. */
  readonly windowNs: bigint;
}

/**
 * The ring of a node that has served nobody yet, once it knows what another one's would have become by a
 * change to this set: from then on flows may come from there.
 *
 * Where the window lasts there, it ends here at the same time: a flow that begins there afterwards follows
 * the ring, and nobody is told of it.
 *
 * @param slots The ring of this node, of the size that the other one's has
 * @param past The other one's
 */
export function takeOver(past: RingPast, wanted: RingChange): RingState {
  const { windowNs } = past.windowNs > 0n ? past : wanted;
  return change(stateOf(past.slots, past.sticky), { ...wanted, windowNs });
}

/** What {@linkcode settle} has to know. */
export interface Settling {
  /** Nanoseconds of CLOCK_MONOTONIC. */
  readonly nowNs: bigint;
  /**
   * Current ring indexes of the flows in the table whose destination is not the current one. A flow
   * that is left out because it is idle must have been deleted from the table before, or it would
   * return to its old destination after a later change.
   */
  readonly exceptions: ReadonlySet<number>;
}

/**
 * The ring without the tracked bits that no exception needs any more.
 *
 * After the window, entries and flow table differ only in exceptions that the table holds already,
 * as new ones arise only within a window. So the result may be put in place at any later time
 * before the next change.
 *
 * @returns Undefined if the window lasts, or nothing is to be cleared
 */
export function settle(state: RingState, { nowNs, exceptions }: Settling): RingState | undefined {
  if (nowNs < state.windowEndNs) return undefined;
  const current = state.current.map((entry, i) => exceptions.has(i) ? entry : slotOf(entry));
  if (current.every((entry, i) => entry === state.current[i])) return undefined;
  return {
    ...stateOf(current.map(slotOf), state.sticky),
    current,
    windowEndNs: state.windowEndNs,
    changedNs: state.changedNs,
  };
}

/** Whether a ring sends new flows where `slots` would, so that no change is due. */
export function sameRing(state: RingState, slots: Uint32Array, sticky: boolean): boolean {
  return state.size === slots.length && state.sticky === sticky &&
    state.current.every((entry, i) => slotOf(entry) === slots[i]);
}

/** The ring with more entries tracked. */
export function track(state: RingState, indexes: Iterable<number>): RingState {
  const current = state.current.slice();
  for (const i of indexes) current[i] = (current[i]! | RING_TRACKED) >>> 0;
  return { ...state, current };
}

/** Indexes of a flow in a ring: two, as the previous ring may have another size or stickiness. */
export interface RingIndexes {
  readonly current: number;
  readonly previous: number;
}

/**
 * Whether the ring alone gives a flow this destination, now and after any change: then nobody need remember it.
 * What `exceptional()` in `bpf/flow.h` denies.
 */
export function answers(
  state: RingState,
  { current, previous }: RingIndexes,
  slot: number,
  nowNs: bigint,
): boolean {
  const entry = state.current[current]!;
  if (slotOf(entry) !== slot) return false;
  return !isTracked(entry) || nowNs >= state.windowEndNs || state.previous[previous] === slot;
}

/** A ring that has always been so. */
function stateOf(slots: Uint32Array, sticky: boolean): RingState {
  return {
    size: slots.length,
    sticky,
    current: slots,
    previous: slots,
    previousSize: slots.length,
    previousSticky: sticky,
    windowEndNs: 0n,
    changedNs: 0n,
  };
}

/** The destination slot in an entry of {@linkcode RingState.current}; 0 is none. */
export function slotOf(entry: number): number {
  return entry & ~RING_TRACKED;
}

/** Whether flows of an entry of {@linkcode RingState.current} are looked up. */
export function isTracked(entry: number): boolean {
  return (entry & RING_TRACKED) !== 0;
}

/**
 * The values of the inner map that holds a ring: a header, then the pairs.
 *
 * Where the previous ring is longer, `current` begins again: a packet that meets the new ring with
 * the old size still finds a tracked entry with a destination.
 *
 * @returns `RING_ENTRY.size` bytes for each entry of the map
 */
export function encodeRing(state: RingState): Uint8Array<ArrayBuffer> {
  const { size, previousSize } = state;
  const entries = Math.max(size, previousSize);
  const bytes = new Uint8Array(RING_ENTRY.size * (RING_HEADER + entries));
  RING_WINDOW.encode({ endNs: state.windowEndNs }, bytes);
  RING_PAST.encode(
    { size: previousSize, sticky: Number(state.previousSticky) },
    bytes,
    RING_ENTRY.size,
  );
  RING_PRESENT.encode({ size, sticky: Number(state.sticky) }, bytes, 2 * RING_ENTRY.size);
  RING_CHANGE.encode({ atNs: state.changedNs }, bytes, 3 * RING_ENTRY.size);
  const { words, current, previous, step } = columns(bytes);
  for (let i = 0; i < entries; i++) words[current + i * step] = state.current[i % size]!;
  for (let i = 0; i < previousSize; i++) words[previous + i * step] = state.previous[i]!;
  return bytes;
}

/**
 * Reads what {@linkcode encodeRing} wrote.
 *
 * @param bytes The values of the inner map
 * @throws {RangeError} when the bytes are not those of a ring
 */
export function decodeRing(bytes: Uint8Array): RingState {
  const { endNs } = RING_WINDOW.decode(bytes);
  const past = RING_PAST.decode(bytes, RING_ENTRY.size);
  const present = RING_PRESENT.decode(bytes, 2 * RING_ENTRY.size);
  const { atNs } = RING_CHANGE.decode(bytes, 3 * RING_ENTRY.size);
  const { size } = present;
  const expected = RING_ENTRY.size * (RING_HEADER + Math.max(size, past.size));
  if (bytes.length !== expected) {
    throw new RangeError(
      `Cannot read a ring of "${size}" entries, "${past.size}" before, from "${bytes.length}" ` +
        `bytes: must be ${expected}`,
    );
  }
  const { words, current, previous, step } = columns(bytes.slice());
  return {
    size,
    sticky: present.sticky !== 0,
    current: Uint32Array.from({ length: size }, (_, i) => words[current + i * step]!),
    previous: Uint32Array.from({ length: past.size }, (_, i) => words[previous + i * step]!),
    previousSize: past.size,
    previousSticky: past.sticky !== 0,
    windowEndNs: endNs,
    changedNs: atNs,
  };
}

/** Where `ring_entry` has its fields, in words; hosts that Deno runs on are little-endian. */
function columns(bytes: Uint8Array<ArrayBuffer>): {
  words: Uint32Array;
  current: number;
  previous: number;
  step: number;
} {
  const step = RING_ENTRY.size / 4;
  return {
    words: new Uint32Array(bytes.buffer),
    current: RING_HEADER * step + RING_ENTRY.offsets.current / 4,
    previous: RING_HEADER * step + RING_ENTRY.offsets.previous / 4,
    step,
  };
}
