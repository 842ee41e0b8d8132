/**
 * The flows that an instance remembers: counting them, and settling rings that no longer need them.
 *
 * @module
 */
import { FLOW_STATE } from "./abi.gen.ts";
import { type RingState, settle, slotOf } from "./change.ts";
import { FlowTable } from "./flow_table.ts";
import type { Instance } from "./instance.ts";
import { isSampleFixed, sampleSize } from "./load.ts";
import type { Entry, Member } from "./model.ts";
import type { Registry } from "./registry.ts";

/** A sweep of the tables is good for that long, or ten times as long as it took. */
const FRESH_NS = 200_000_000n;
const NS_PER_S = 1_000_000_000n;
/** As long as Linux waits for the other end of a connection that it has closed: tcp_fin_timeout. */
const CLOSED_NS = 60n * NS_PER_S;

/** Looks at the flow tables for its instance. */
export class Connections {
  readonly #instance: Instance;
  readonly #registry: Registry;
  readonly #table: FlowTable;
  #counted: { untilNs: bigint; open: Map<Member, number> } | undefined;

  constructor(instance: Instance, registry: Registry) {
    this.#instance = instance;
    this.#registry = registry;
    this.#table = new FlowTable(instance, registry);
  }

  /** One flow in how many is counted. */
  get sampling(): number {
    return this.#instance.settings.sampleMask + 1;
  }

  /** Open flows of a destination. */
  open(member: Member): number {
    const before = this.#instance.clock();
    if (!this.#counted || before > this.#counted.untilNs) {
      const open = this.#count();
      const now = this.#instance.clock();
      const took = now - before;
      this.#counted = { untilNs: now + (took * 10n > FRESH_NS ? took * 10n : FRESH_NS), open };
    }
    return this.#counted.open.get(member) ?? 0;
  }

  #count(): Map<Member, number> {
    const counts = new Map<Member, number>();
    const mask = this.#instance.settings.sampleMask;
    const sampled = { 4: 0, 6: 0 };
    for (const family of [4, 6] as const) {
      for (const flow of this.#table.sweep(family)) {
        const { entry, owner } = flow;
        if (!entry || !owner || flow.state !== FLOW_STATE.OPEN) continue;
        if (flow.idleNs > BigInt(entry.spec.idleTimeout) * NS_PER_S) continue;
        if (
          mask !== 0 && (this.#table.hash(family, flow.key, entry.spec.sticky).low & mask) !== 0
        ) {
          continue;
        }
        sampled[family]++;
        counts.set(owner, (counts.get(owner) ?? 0) + mask + 1);
      }
    }
    this.#resample(Math.max(sampled[4], sampled[6]), mask);
    return counts;
  }

  /** The program coarsens the sample when it must; here it becomes as fine as the table allows. */
  #resample(sampled: number, mask: number): void {
    if (isSampleFixed(this.#instance.settings)) return;
    const wanted = sampleSize(this.#instance.sizes);
    if (sampled > wanted) this.#instance.adjust({ sampleMask: (mask * 2 + 1) >>> 0 });
    else if (mask > 0 && sampled < wanted / 4) this.#instance.adjust({ sampleMask: mask >>> 1 });
  }

  /**
   * Rings whose window has passed need to look flows up only where one went elsewhere than the ring
   * says. Flows that were silent for longer than the window are forgotten, and those that their client
   * has closed much earlier.
   *
   * @returns when the next ring can be settled, undefined if none waits
   */
  async settle(): Promise<bigint | undefined> {
    const now = this.#instance.clock();
    let next: bigint | undefined;
    const due = new Set<Entry>();
    for (const entry of this.#registry.services.values()) {
      const { settleNs } = entry;
      if (settleNs === 0n) continue;
      if (settleNs <= now) due.add(entry);
      else if (next === undefined || settleNs < next) next = settleNs;
    }
    if (due.size === 0) return next;
    const exceptions = new Map<Entry, Set<number>>([...due].map((entry) => [entry, new Set()]));
    /** When the last exception of a service is forgotten, if none of them speaks any more. */
    const ends = new Map<Entry, bigint>();
    for (const family of [4, 6] as const) {
      const forgotten: Uint8Array[] = [];
      for (const flow of this.#table.sweep(family)) {
        const { entry, owner } = flow;
        if (!entry) {
          forgotten.push(flow.key);
          continue;
        }
        if (!due.has(entry)) continue;
        const stays = owner && entry.members.get(owner.spec.address) === owner;
        const lifeNs = lifeOf(flow.state, entry);
        if (!stays || flow.idleNs > lifeNs) {
          forgotten.push(flow.key);
          continue;
        }
        const index = this.#table.hash(family, flow.key, entry.spec.sticky).index(entry.ring.size);
        if (slotOf(entry.ring.current[index]!) !== owner.slot) {
          exceptions.get(entry)!.add(index);
          const endNs = now + lifeNs - flow.idleNs;
          if (endNs > (ends.get(entry) ?? 0n)) ends.set(entry, endNs);
        }
      }
      for (const key of forgotten) this.#table.map(family).delete(key);
    }
    const rings = new Map<Entry, RingState>();
    for (const [entry, indexes] of exceptions) {
      const ring = settle(entry.ring, { nowNs: now, exceptions: indexes });
      if (ring) rings.set(entry, ring);
      if (indexes.size > 0) {
        const later = ends.get(entry)!;
        if (next === undefined || later < next) next = later;
      }
    }
    await this.#registry.replaceRings(rings);
    const left = [...due].filter((entry) => !rings.has(entry) && exceptions.get(entry)!.size === 0);
    if (left.length > 0) this.#registry.confirmSettled(left);
    return next;
  }
}

/**
 * How long a flow may be silent and is still remembered. A client that has said FIN may go on listening, and then
 * speaks; a reset may be forged (RFC 5961). So neither ends a flow at once, but silence soon does.
 */
function lifeOf(state: number, { spec: { idleTimeout } }: Entry): bigint {
  const windowNs = BigInt(idleTimeout) * NS_PER_S;
  return state === FLOW_STATE.CLOSING && CLOSED_NS < windowNs ? CLOSED_NS : windowNs;
}
