/**
 * A model of the program (`bpf/flow.h`) and of what user space does around it: slots, flow table,
 * settling. Rings are changed by the code under test. Any one rule can be left out, to see that it
 * is needed.
 *
 * @module
 */

import { change, isTracked, type RingState, settle, slotOf } from "../../lib/lb/change.ts";
import {
  addressWords,
  expandKey,
  FlowHash,
  type HashValue,
  portsWord,
} from "../../lib/lb/flow_hash.ts";
import { buildRing } from "../../lib/lb/ring.ts";
import {
  type Executor,
  type Flow,
  type History,
  type Kind,
  type Target,
  VIP,
  WINDOW_NS,
  type Wish,
} from "./state_history.ts";

/** The rules on which the invariant rests. */
export const RULES = [
  // Of a change
  "an entry that differs from its previous one is tracked",
  "a tracked entry stays tracked",
  "a new index function tracks every entry",
  "a tracked entry keeps its previous one within the window",
  "a tracked entry does not keep its previous one after the window",
  "nobody dead is previous",
  "a slot set free by a change is not given out by it",
  // Of settling
  "settling waits for the end of the window",
  "an entry with an exception stays tracked",
  "an idle flow is forgotten before it is left out",
  // Of a packet
  "a SYN follows the ring",
  "a SYN that the previous ring sends elsewhere is remembered",
  "a remembered flow keeps its destination",
  "a remembered destination is known by its generation",
  "an unknown flow belongs to the previous destination within the window",
  "an unknown flow belongs to the current destination after the window",
  "the previous ring has its own index function",
  "a flow of the previous destination is remembered",
  "a flow is remembered that the previous ring sends nowhere any more",
] as const;

export type Rule = typeof RULES[number];

interface Remembered {
  readonly flow: Flow;
  readonly slot: number;
  readonly generation: number;
  seenNs: bigint;
}

const HASH = new FlowHash(expandKey(new Uint8Array(16).fill(7)));
const words = new Map<string, number>();

/** The word of an IPv4 address, remembered: parsing would take most of the time. */
function wordOf(address: string): number {
  let word = words.get(address);
  if (word === undefined) {
    word = addressWords(Uint8Array.from(address.split("."), Number))[0]!;
    words.set(address, word);
  }
  return word;
}

export class Model implements Executor {
  /** Packets that asked the flow table. */
  lookups = 0;
  /** Flows that were written to it. */
  insertions = 0;

  readonly #history: History;
  readonly #leftOut: Rule | undefined;
  readonly #table = new Map<string, Remembered>();
  readonly #slotOf = new Map<string, number>();
  /** By slot: who has it, and how many have had it. */
  readonly #owners: (string | undefined)[] = [undefined];
  readonly #generations = [0];
  readonly #free: number[] = [];
  #ring: RingState | undefined;
  #nowNs = 1_000_000_000_000n;

  /** @param leftOut A rule that this model does not follow */
  constructor(history: History, leftOut?: Rule) {
    this.#history = history;
    this.#leftOut = leftOut;
  }

  advanceClock(ns: bigint): void {
    this.#nowNs += ns;
  }

  change({ targets, sticky, size }: Wish): void {
    const wanted = new Set(targets.map(({ id }) => id));
    const removed = [...this.#slotOf.keys()].filter((id) => !wanted.has(id));
    if (this.#follows("a slot set free by a change is not given out by it")) {
      this.#give(targets);
      this.#free.push(...this.#take(removed));
    } else {
      this.#free.push(...this.#take(removed));
      this.#give(targets);
    }
    const members = targets.filter(({ enabled }) => enabled)
      .map(({ id, weight }) => ({ id, weight, slot: this.#slotOf.get(id)! }));
    const wish = {
      slots: buildRing(members, size),
      sticky,
      alive: this.#follows("nobody dead is previous")
        ? (slot: number) => this.#owners[slot] !== undefined
        : () => true,
      nowNs: this.#nowNs,
      windowNs: WINDOW_NS,
    };
    this.#ring = this.#mistaken(this.#ring, change(this.#remembering(this.#ring), wish));
  }

  /** A ring as a change takes it that has a wrong idea of the window. */
  #remembering(ring: RingState | undefined): RingState | undefined {
    if (!ring) return undefined;
    if (!this.#follows("a tracked entry keeps its previous one within the window")) {
      return { ...ring, windowEndNs: 0n };
    }
    if (!this.#follows("a tracked entry does not keep its previous one after the window")) {
      return { ...ring, windowEndNs: this.#nowNs + 1n };
    }
    return ring;
  }

  /** A ring as a change makes it that forgets to track. */
  #mistaken(old: RingState | undefined, ring: RingState): RingState {
    if (!old) return ring;
    const reindexed = old.size !== ring.size || old.sticky !== ring.sticky;
    const untrack = (where: (i: number, slot: number) => boolean): RingState => ({
      ...ring,
      current: ring.current.map((entry, i) => where(i, slotOf(entry)) ? slotOf(entry) : entry),
    });
    const same = (i: number, slot: number): boolean => slot === ring.previous[i];
    if (!this.#follows("an entry that differs from its previous one is tracked")) {
      return untrack((i, slot) => !reindexed && !same(i, slot) && !isTracked(old.current[i]!));
    }
    if (!this.#follows("a tracked entry stays tracked")) {
      return untrack((i, slot) => !reindexed && same(i, slot));
    }
    if (!this.#follows("a new index function tracks every entry")) {
      return untrack((i, slot) => reindexed && same(i, slot));
    }
    return ring;
  }

  #give(targets: readonly Target[]): void {
    for (const { id } of targets) {
      if (this.#slotOf.has(id)) continue;
      // The slot that was set free last comes first: the worst that could be done.
      const slot = this.#free.pop() ?? this.#owners.length;
      this.#owners[slot] = id;
      this.#generations[slot] = (this.#generations[slot] ?? 0) + 1;
      this.#slotOf.set(id, slot);
    }
  }

  #take(ids: readonly string[]): number[] {
    return ids.map((id) => {
      const slot = this.#slotOf.get(id)!;
      this.#slotOf.delete(id);
      this.#owners[slot] = undefined;
      return slot;
    });
  }

  settle(): void {
    const ring = this.#ring!;
    const early = !this.#follows("settling waits for the end of the window");
    if (!early && this.#nowNs < ring.windowEndNs) return;
    const exceptions = new Set<number>();
    for (const [name, flow] of this.#table) {
      if (!this.#alive(flow) || this.#nowNs - flow.seenNs >= WINDOW_NS) {
        if (this.#follows("an idle flow is forgotten before it is left out")) {
          this.#table.delete(name);
        }
        continue;
      }
      const index = this.#hash(flow.flow, ring.sticky).index(ring.size);
      if (slotOf(ring.current[index]!) !== flow.slot) exceptions.add(index);
    }
    this.#ring = settle(ring, {
      nowNs: early ? ring.windowEndNs : this.#nowNs,
      exceptions: this.#follows("an entry with an exception stays tracked")
        ? exceptions
        : new Set(),
    }) ?? ring;
  }

  packet(flow: Flow, kind: Kind): string | undefined {
    const ring = this.#ring!;
    const hash = this.#hash(flow, ring.sticky);
    const entry = ring.current[hash.index(ring.size)]!;
    const sampled = (hash.low & this.#history.sampleMask) === 0;
    if (!isTracked(entry) && !sampled) return this.#owners[slotOf(entry)];

    this.lookups++;
    const name = `${flow.address}:${flow.port}`;
    const known = this.#table.get(name);
    const isSyn = kind === "syn" && this.#follows("a SYN follows the ring");
    if (
      !isSyn && known && this.#alive(known) &&
      this.#follows("a remembered flow keeps its destination")
    ) {
      known.seenNs = this.#nowNs;
      return this.#owners[known.slot];
    }
    let slot = slotOf(entry);
    const previous = isTracked(entry) && this.#windowLasts(ring)
      ? this.#previousSlot(ring, flow, hash)
      : slot;
    const gone = this.#owners[previous] === undefined;
    let remember = previous !== slot && this.#follows(
      isSyn
        ? "a SYN that the previous ring sends elsewhere is remembered"
        : gone
        ? "a flow is remembered that the previous ring sends nowhere any more"
        : "a flow of the previous destination is remembered",
    );
    remember ||= known !== undefined || (sampled && !isSyn);
    if (
      !isSyn && !gone &&
      this.#follows("an unknown flow belongs to the previous destination within the window")
    ) slot = previous;
    if (remember && this.#owners[slot] !== undefined) {
      this.insertions++;
      this.#table.set(name, {
        flow,
        slot,
        generation: this.#generations[slot]!,
        seenNs: this.#nowNs,
      });
    }
    return this.#owners[slot];
  }

  #windowLasts(ring: RingState): boolean {
    return this.#nowNs < ring.windowEndNs ||
      !this.#follows("an unknown flow belongs to the current destination after the window");
  }

  #previousSlot(ring: RingState, flow: Flow, hash: HashValue): number {
    const index = this.#follows("the previous ring has its own index function")
      ? this.#hash(flow, ring.previousSticky).index(ring.previousSize)
      : hash.index(ring.size);
    return ring.previous[index] ?? 0;
  }

  #alive({ slot, generation }: Remembered): boolean {
    return this.#owners[slot] !== undefined &&
      (this.#generations[slot] === generation ||
        !this.#follows("a remembered destination is known by its generation"));
  }

  #hash(flow: Flow, sticky: boolean): HashValue {
    const protocol = this.#history.udp ? 17 : 6;
    return HASH.hash4(
      wordOf(flow.address),
      wordOf(VIP.address),
      sticky ? 0 : portsWord(flow.port, VIP.port),
      sticky ? 0 : protocol,
    );
  }

  #follows(rule: Rule): boolean {
    return rule !== this.#leftOut;
  }
}
