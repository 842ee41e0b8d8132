import { assertEquals, assertThrows } from "@std/assert";
import {
  change,
  decodeRing,
  encodeRing,
  isTracked,
  type RingChange,
  type RingState,
  sameRing,
  settle,
  slotOf,
} from "../../lib/lb/change.ts";

const MINUTE = 60_000_000_000n;

/** Rings in one line: a slot is a digit, and `!` after it says tracked. */
function show(state: RingState): { current: string; previous: string } {
  return {
    current: [...state.current].map((e) => slotOf(e) + (isTracked(e) ? "!" : "")).join(" "),
    previous: state.previous.join(" "),
  };
}

function wish(slots: string, nowNs: bigint, rest: Partial<RingChange> = {}): RingChange {
  return {
    slots: Uint32Array.from(slots.split(" "), Number),
    sticky: false,
    alive: () => true,
    nowNs,
    windowNs: MINUTE,
    ...rest,
  };
}

const FIRST = change(undefined, wish("1 2 3", 0n));

Deno.test("the first ring of a service tracks nothing", () => {
  assertEquals(show(FIRST), { current: "1 2 3", previous: "1 2 3" });
  assertEquals(FIRST.windowEndNs, MINUTE);
});

Deno.test("a change tracks the entries that it changes, and remembers what they were", () => {
  const next = change(FIRST, wish("1 4 3", 5n));
  assertEquals(show(next), { current: "1 4! 3", previous: "1 2 3" });
  assertEquals(next.windowEndNs, 5n + MINUTE);
});

Deno.test("within the window a tracked entry keeps its previous destination, others do not", () => {
  const first = change(FIRST, wish("1 4 3", 1n));
  const next = change(first, wish("5 5 5", MINUTE));
  assertEquals(show(next), { current: "5! 5! 5!", previous: "1 2 3" });
});

Deno.test("at the end of the window previous becomes what was current", () => {
  const first = change(FIRST, wish("1 4 3", 0n));
  const next = change(first, wish("5 5 5", MINUTE));
  assertEquals(show(next), { current: "5! 5! 5!", previous: "1 4 3" });
});

Deno.test("an entry that returns to its previous destination stays tracked", () => {
  const first = change(FIRST, wish("1 4 3", 0n));
  assertEquals(show(change(first, wish("1 2 3", 1n))).current, "1 2! 3");
});

Deno.test("entries of a destination that is gone need no tracking", () => {
  const next = change(FIRST, wish("1 3 3", 0n, { alive: (slot) => slot !== 2 }));
  assertEquals(show(next), { current: "1 3 3", previous: "1 0 3" });
});

Deno.test("a tracked entry stays tracked when its previous destination goes", () => {
  const first = change(FIRST, wish("1 4 3", 0n));
  const next = change(first, wish("1 4 3", 1n, { alive: (slot) => slot !== 2 }));
  assertEquals(show(next), { current: "1 4! 3", previous: "1 0 3" });
});

Deno.test("the last destination that goes leaves an empty ring, and the next needs no past", () => {
  const empty = change(FIRST, wish("0 0 0", 0n, { alive: () => false }));
  assertEquals(show(empty), { current: "0 0 0", previous: "0 0 0" });
  assertEquals(show(change(empty, wish("7 7 7", 1n))), { current: "7 7 7", previous: "0 0 0" });
});

Deno.test("disabling the last destination keeps its flows", () => {
  const next = change(FIRST, wish("0 0 0", 0n));
  assertEquals(show(next), { current: "0! 0! 0!", previous: "1 2 3" });
});

Deno.test("a change of stickiness tracks all, and previous keeps the old index function", () => {
  const next = change(FIRST, wish("1 2 3", 0n, { sticky: true }));
  assertEquals(show(next), { current: "1! 2! 3!", previous: "1 2 3" });
  assertEquals([next.sticky, next.previousSticky], [true, false]);
});

Deno.test("a change of size tracks all, and previous keeps the old size", () => {
  const next = change(FIRST, wish("1 2 3 1 2", 0n));
  assertEquals(show(next), { current: "1! 2! 3! 1! 2!", previous: "1 2 3" });
  assertEquals([next.size, next.previousSize], [5, 3]);
});

Deno.test("within the window of a new index function previous stays whole", () => {
  const larger = change(change(FIRST, wish("1 4 3", 0n)), wish("1 2 3 1 2", 1n));
  assertEquals(show(larger).previous, "1 2 3");
  const next = change(larger, wish("5 5 5 5 5", 2n, { alive: (slot) => slot !== 3 }));
  assertEquals(show(next), { current: "5! 5! 5! 5! 5!", previous: "1 2 0" });
  const again = change(next, wish("6 6", 3n, { sticky: true }));
  assertEquals(show(again), { current: "6! 6!", previous: "1 2 0" });
  assertEquals([again.previousSize, again.previousSticky], [3, false]);
});

Deno.test("after the window of a new index function previous has it too", () => {
  const larger = change(FIRST, wish("1 2 3 1 2", 0n, { sticky: true }));
  const next = change(larger, wish("1 2 3 1 4", MINUTE, { sticky: true }));
  assertEquals(show(next), { current: "1! 2! 3! 1! 4!", previous: "1 2 3 1 2" });
  assertEquals([next.previousSize, next.previousSticky], [5, true]);
});

Deno.test("an index function that changes there and back tracks all", () => {
  const there = change(FIRST, wish("1 2 3", 0n, { sticky: true }));
  const back = change(there, wish("1 2 3", 1n));
  assertEquals(show(back), { current: "1! 2! 3!", previous: "1 2 3" });
  assertEquals(back.previousSticky, false);
});

Deno.test("a change leaves the states and the rings it was given as they were", () => {
  const slots = Uint32Array.of(1, 2, 3);
  const first = change(undefined, wish("1 2 3", 0n, { slots }));
  const before = structuredClone(first);
  change(first, wish("4 4 4", 1n, { alive: () => false }));
  assertEquals(first, before);
  assertEquals(slots, Uint32Array.of(1, 2, 3));
});

Deno.test("settle() waits for the end of the window", () => {
  const next = change(FIRST, wish("1 4 3", 0n));
  assertEquals(settle(next, { nowNs: MINUTE - 1n, exceptions: new Set() }), undefined);
});

Deno.test("settle() clears the tracked bits that have no exception, and the past", () => {
  const next = change(FIRST, wish("4 4 4 4 4", 0n));
  const settled = settle(next, { nowNs: MINUTE, exceptions: new Set([1, 3]) })!;
  assertEquals(show(settled), { current: "4 4! 4 4! 4", previous: "4 4 4 4 4" });
  assertEquals([settled.previousSize, settled.windowEndNs], [5, MINUTE]);
  assertEquals(settle(settled, { nowNs: MINUTE, exceptions: new Set([1, 3]) }), undefined);
  const done = settle(settled, { nowNs: MINUTE, exceptions: new Set([3]) })!;
  assertEquals(show(done).current, "4 4 4 4! 4");
});

Deno.test("settle() has nothing to do where nothing is tracked", () => {
  assertEquals(settle(FIRST, { nowNs: 2n * MINUTE, exceptions: new Set() }), undefined);
});

Deno.test("sameRing() compares slots, size and stickiness, and not what is tracked", () => {
  const ring = change(FIRST, wish("1 4 3", 0n));
  assertEquals(sameRing(ring, Uint32Array.of(1, 4, 3), false), true);
  assertEquals(sameRing(ring, Uint32Array.of(1, 2, 3), false), false);
  assertEquals(sameRing(ring, Uint32Array.of(1, 4, 3), true), false);
  assertEquals(sameRing(ring, Uint32Array.of(1, 4, 3, 1), false), false);
});

Deno.test("encodeRing() writes what the program reads", () => {
  const state = change(FIRST, wish("1 4", 0x0102030405n, { sticky: true, windowNs: 0n }));
  const words = [...new Uint32Array(encodeRing(state).buffer)];
  assertEquals(words.slice(0, 4), [0x02030405, 0x01, 3, 0]); // window end; size and sticky of the past
  assertEquals(words.slice(4, 6), [2, 1]); // size and sticky of the present
  assertEquals(words.slice(6, 8), [0x02030405, 0x01]); // when it became so
  assertEquals(words.slice(8), [0x80000001, 1, 0x80000004, 2, 0x80000001, 3]);
});

Deno.test("decodeRing() reads what encodeRing() wrote, whichever ring is longer", () => {
  for (const slots of ["4 5", "4 5 6", "4 5 6 7 8"]) {
    for (const sticky of [false, true]) {
      const first = change(FIRST, wish("1 9 3", 0n, { sticky }));
      for (const state of [first, change(first, wish(slots, MINUTE, { sticky: !sticky }))]) {
        assertEquals(decodeRing(encodeRing(state)), state);
      }
    }
  }
});

Deno.test("decodeRing() reads from inside a larger buffer", () => {
  const bytes = encodeRing(FIRST);
  const larger = new Uint8Array(bytes.length + 8);
  larger.set(bytes, 3);
  assertEquals(decodeRing(larger.subarray(3, 3 + bytes.length)), FIRST);
});

Deno.test("decodeRing() refuses bytes of another size", () => {
  const cut = encodeRing(FIRST).slice(0, -8);
  assertThrows(() => decodeRing(cut), RangeError, 'ring of "3" entries');
  assertThrows(() => decodeRing(new Uint8Array(8)), RangeError);
});
