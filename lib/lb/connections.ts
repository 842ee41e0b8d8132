/**
 * The flows that an instance remembers: counting them, and settling rings that no longer need them.
 *
 * @module
 */
import type { BpfMap } from "../bpf/mod.ts";
import { FLOW, FLOW_KEY4, FLOW_KEY6, FLOW_SEEN_SHIFT, FLOW_STATE } from "./abi.gen.ts";
import { type RingState, settle, slotOf } from "./change.ts";
import { addressWords, FlowHash, type HashValue } from "./flow_hash.ts";
import type { Instance } from "./instance.ts";
import { isSampleFixed, sampleSize } from "./load.ts";
import type { Entry, Member } from "./model.ts";
import type { Registry } from "./registry.ts";

/** A sweep of the tables is good for that long, or ten times as long as it took. */
const FRESH_NS = 200_000_000n;
const NS_PER_S = 1_000_000_000n;
const PROTOCOL = { tcp: 6, udp: 17 };

/** Where the fields of a flow's key are. */
const LAYOUT = {
  4: { ...FLOW_KEY4.offsets, size: FLOW_KEY4.size, addressSize: 4 },
  6: { ...FLOW_KEY6.offsets, size: FLOW_KEY6.size, addressSize: 16 },
};

/** One flow of a sweep. */
interface Seen {
  key: Uint8Array;
  /** The service that it belongs to, if there still is one. */
  entry: Entry | undefined;
  /** The destination that it was given to, if that is still there: a slot may have another owner since. */
  owner: Member | undefined;
  idleNs: bigint;
  open: boolean;
}

/** Looks at the flow tables for its instance. */
export class Connections {
  readonly #instance: Instance;
  readonly #registry: Registry;
  readonly #flowHash: FlowHash;
  #counted: { untilNs: bigint; open: Map<Member, number> } | undefined;

  constructor(instance: Instance, registry: Registry) {
    this.#instance = instance;
    this.#registry = registry;
    const { hashKey, hashFinal } = instance.settings;
    this.#flowHash = new FlowHash({ words: Uint32Array.from(hashKey), final: hashFinal });
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
      for (const flow of this.#sweep(family)) {
        const { entry, owner } = flow;
        if (!entry || !owner || !flow.open) continue;
        if (flow.idleNs > BigInt(entry.spec.idleTimeout) * NS_PER_S) continue;
        if (mask !== 0 && (this.#hash(family, flow.key, entry.spec.sticky).low & mask) !== 0) {
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
   * says. Flows that were silent for longer than the window are forgotten.
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
    for (const family of [4, 6] as const) {
      const forgotten: Uint8Array[] = [];
      for (const flow of this.#sweep(family)) {
        const { entry, owner } = flow;
        if (!entry) {
          forgotten.push(flow.key);
          continue;
        }
        if (!due.has(entry)) continue;
        const windowNs = BigInt(entry.spec.idleTimeout) * NS_PER_S;
        const stays = owner && entry.members.get(owner.spec.address) === owner;
        if (!stays || flow.idleNs > windowNs) {
          forgotten.push(flow.key);
          continue;
        }
        const index = this.#hash(family, flow.key, entry.spec.sticky).index(entry.ring.size);
        if (slotOf(entry.ring.current[index]!) !== owner.slot) {
          exceptions.get(entry)!.add(index);
        }
      }
      for (const key of forgotten) this.#table(family).delete(key);
    }
    const rings = new Map<Entry, RingState>();
    for (const [entry, indexes] of exceptions) {
      const ring = settle(entry.ring, { nowNs: now, exceptions: indexes });
      if (ring) rings.set(entry, ring);
      if (indexes.size > 0) {
        const later = now + BigInt(entry.spec.idleTimeout) * NS_PER_S;
        if (next === undefined || later < next) next = later;
      }
    }
    await this.#registry.replaceRings(rings);
    const left = [...due].filter((entry) => !rings.has(entry) && exceptions.get(entry)!.size === 0);
    if (left.length > 0) this.#registry.confirmSettled(left);
    return next;
  }

  #table(family: 4 | 6): BpfMap {
    return family === 4 ? this.#instance.flows4 : this.#instance.flows6;
  }

  #hash(family: 4 | 6, key: Uint8Array, sticky: boolean): HashValue {
    const { source, destination, sourcePort, protocol } = LAYOUT[family];
    const word = (at: number) => new DataView(key.buffer, key.byteOffset + at).getUint32(0, true);
    const ports = sticky ? 0 : word(sourcePort);
    const number = sticky ? 0 : key[protocol]!;
    if (family === 4) return this.#flowHash.hash4(word(source), word(destination), ports, number);
    const words = (at: number) => addressWords(key.subarray(at, at + 16));
    return this.#flowHash.hash6(words(source), words(destination), ports, number);
  }

  /** Services by the part of a flow's key that names them. */
  #services(family: 4 | 6): Map<string, Entry> {
    const services = new Map<string, Entry>();
    for (const entry of this.#registry.services.values()) {
      const { address } = entry.vip;
      if (address.family !== family) continue;
      const { port, protocol } = entry.spec;
      services.set(nameOf(address.bytes, port, PROTOCOL[protocol]), entry);
    }
    return services;
  }

  #owners(): Map<number, Member> {
    const owners = new Map<number, Member>();
    for (const { members } of this.#registry.services.values()) {
      for (const member of members.values()) owners.set(member.slot, member);
    }
    return owners;
  }

  *#sweep(family: 4 | 6): Generator<Seen> {
    const layout = LAYOUT[family];
    const { keys, values, count } = this.#table(family).lookupBatch();
    const view = new DataView(keys.buffer, keys.byteOffset, keys.byteLength);
    const services = this.#services(family);
    const owners = this.#owners();
    const now = this.#instance.clock();
    for (let i = 0; i < count; i++) {
      const at = i * layout.size;
      const destination = at + layout.destination;
      const vip = keys.subarray(destination, destination + layout.addressSize);
      const port = view.getUint16(at + layout.destinationPort);
      const protocol = keys[at + layout.protocol]!;
      const flow = FLOW.decode(values, i * FLOW.size);
      const owner = owners.get(flow.slot);
      yield {
        key: keys.subarray(at, at + layout.size),
        entry: services.get(nameOf(vip, port, protocol)) ?? services.get(nameOf(vip, 0, protocol)),
        owner: owner?.generation === flow.generation ? owner : undefined,
        idleNs: now - (BigInt(flow.seen) << BigInt(FLOW_SEEN_SHIFT)),
        open: flow.state === FLOW_STATE.OPEN,
      };
    }
  }
}

function nameOf(address: Uint8Array, port: number, protocol: number): string {
  return `${address.join(".")}:${port}/${protocol}`;
}
