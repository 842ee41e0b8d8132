/**
 * The services and destinations of an instance, and how a change of them is carried into its maps:
 * first everything that can fail, then everything that no packet can see yet, then the rings, whole.
 *
 * @module
 */
import { type BpfMap, u32 } from "../bpf/mod.ts";
import { Address } from "../net/address.ts";
import type {
  Destination as DestinationEntry,
  DestinationRecord,
  Service as ServiceEntry,
  ServiceRecord,
  Vip as VipEntry,
} from "./abi.gen.ts";
import { change, encodeRing, isTracked, type RingState, sameRing } from "./change.ts";
import {
  destinationEntry,
  destinationRecord,
  FREE_DESTINATION,
  FREE_SERVICE,
  NOBODY,
  serviceKey,
  serviceRecord,
} from "./entries.ts";
import { TableFullError } from "./errors.ts";
import type { Instance } from "./instance.ts";
import { type Entry, type Member, type Plan, same, type Vip } from "./model.ts";
import { buildRing, ringSizeFor } from "./ring.ts";
import { Slots } from "./slots.ts";
import { addTo } from "./table.ts";
import { type Service, serviceName } from "./types.ts";

/** One service of a commit. */
interface Step {
  entry: Entry;
  isNew: boolean;
  plan: Plan;
  added: Member[];
  removed: Member[];
  ring: RingState | undefined;
}

/** With fewer entries for each destination a ring grows; until then it stays as it is. */
const CROWDED = 25;

const NS_PER_S = 1_000_000_000n;

/** All services, by name, and the only writer of the maps that hold them. */
export class Registry {
  readonly #instance: Instance;
  readonly #services = new Map<string, Entry>();
  readonly #vips = new Map<string, Vip>();
  readonly #serviceIds: Slots;
  readonly #vipIds: Slots;
  readonly #slots: Slots;
  /** The generation that a slot had last: a flow that remembers an older one remembers somebody gone. */
  readonly #generations: Uint32Array;
  readonly #emptyRing: BpfMap;

  constructor(instance: Instance) {
    const { maxServices, maxDestinations } = instance.sizes;
    this.#instance = instance;
    this.#serviceIds = new Slots(0, maxServices);
    this.#vipIds = new Slots(0, maxServices);
    this.#slots = new Slots(1, maxDestinations);
    this.#generations = new Uint32Array(maxDestinations + 1);
    this.#emptyRing = instance.createRing(new Uint8Array(3 * 8));
  }

  get services(): ReadonlyMap<string, Entry> {
    return this.#services;
  }

  get vips(): ReadonlyMap<string, Vip> {
    return this.#vips;
  }

  /**
   * Makes the services what the plans say, all or none.
   *
   * @throws {TableFullError} when there is no room; nothing was changed
   */
  async commit(plans: readonly Plan[]): Promise<void> {
    const present = plans.filter((plan) => plan.destinations !== undefined);
    const steps = this.#prepare(present);
    const rings: BpfMap[] = [];
    try {
      for (const step of steps) step.ring = this.#nextRing(step);
      for (const { ring } of steps) {
        if (ring) rings.push(this.#instance.createRing(encodeRing(ring)));
      }
      this.#writeDestinations(steps);
      await this.#swapRings(steps.filter((step) => step.ring).map((step) => step.entry), rings);
    } catch (error) {
      this.#abandon(steps);
      throw error;
    } finally {
      for (const ring of rings) ring.close();
    }
    this.#publish(steps);
    this.#free(steps.flatMap((step) => step.removed));
    const names = new Set(
      plans.filter((plan) => !plan.destinations).map((p) => serviceName(p.spec)),
    );
    await this.#remove([...names].flatMap((name) => this.#services.get(name) ?? []));
  }

  /** Replaces rings by settled ones. */
  async replaceRings(rings: ReadonlyMap<Entry, RingState>): Promise<void> {
    const maps: BpfMap[] = [];
    try {
      for (const ring of rings.values()) maps.push(this.#instance.createRing(encodeRing(ring)));
      await this.#swapRings([...rings.keys()], maps);
    } finally {
      for (const map of maps) map.close();
    }
    for (const [entry, ring] of rings) setRing(entry, ring);
  }

  close(): void {
    this.#emptyRing.close();
  }

  /** Takes ids and slots for what is new. */
  #prepare(plans: readonly Plan[]): Step[] {
    const steps: Step[] = [];
    const newVips = new Map<string, Vip>();
    try {
      for (const plan of plans) {
        const known = this.#services.get(serviceName(plan.spec));
        const entry = known ?? this.#newEntry(plan.spec, newVips);
        const step: Step = { entry, isNew: !known, plan, added: [], removed: [], ring: undefined };
        steps.push(step);
        const wanted = new Set(plan.destinations!.map(({ spec }) => spec.address));
        for (const member of entry.members.values()) {
          if (!wanted.has(member.spec.address)) step.removed.push(member);
        }
        for (const { spec, nextHop } of plan.destinations!) {
          if (entry.members.has(spec.address)) continue;
          const slot = this.#slots.take(() =>
            new TableFullError(
              `destination "${spec.address}" of service "${serviceName(plan.spec)}"`,
              "maxDestinations",
              this.#slots.size,
            )
          );
          const generation = (this.#generations[slot]! + 1) >>> 0 || 1;
          this.#generations[slot] = generation;
          step.added.push({ spec, nextHop, slot, generation });
        }
      }
    } catch (error) {
      this.#abandon(steps);
      throw error;
    }
    return steps;
  }

  #newEntry(spec: Required<Service>, newVips: Map<string, Vip>): Entry {
    const full = () =>
      new TableFullError(`service "${serviceName(spec)}"`, "maxServices", this.#serviceIds.size);
    const id = this.#serviceIds.take(full);
    let vip = this.#vips.get(spec.address) ?? newVips.get(spec.address);
    if (!vip) {
      // Never more VIPs than services: there is room.
      vip = { id: this.#vipIds.take(full), address: Address.parse(spec.address), services: 0 };
      newVips.set(spec.address, vip);
    }
    return { id, vip, spec, ring: NO_RING, tracked: false, members: new Map() };
  }

  /** Gives back what #prepare() took: nothing of it can be seen by a packet. */
  #abandon(steps: readonly Step[]): void {
    this.#free(steps.flatMap((step) => step.added));
    const vips = new Set<Vip>();
    for (const { entry, isNew } of steps) {
      if (!isNew) continue;
      this.#serviceIds.give(entry.id);
      if (entry.vip.services === 0) vips.add(entry.vip);
    }
    for (const vip of vips) this.#vipIds.give(vip.id);
  }

  /** The ring as the plan wants it; undefined if it stays as it is. */
  #nextRing({ entry, plan, added, removed, isNew }: Step): RingState | undefined {
    const slotOf = new Map(
      [...entry.members.values(), ...added].map((m) => [m.spec.address, m.slot]),
    );
    const alive = new Set(slotOf.values());
    for (const member of removed) alive.delete(member.slot);
    const count = plan.destinations!.length;
    const crowded = isNew || entry.ring.size < count * CROWDED;
    const size = crowded ? ringSizeFor(count, entry.ring.size) : entry.ring.size;
    const slots = buildRing(
      plan.destinations!
        .filter(({ spec, nextHop }) => !spec.disable && nextHop)
        .map(({ spec }) => ({
          id: spec.address,
          weight: spec.weight,
          slot: slotOf.get(spec.address)!,
        })),
      size,
    );
    const { sticky, idleTimeout } = plan.spec;
    if (!isNew && removed.length === 0 && sameRing(entry.ring, slots, sticky)) return undefined;
    return change(isNew ? undefined : entry.ring, {
      slots,
      sticky,
      alive: (slot: number) => alive.has(slot),
      nowNs: this.#instance.clock(),
      windowNs: BigInt(idleTimeout) * NS_PER_S,
    });
  }

  /** New destinations, and what changed of old ones. */
  #writeDestinations(steps: readonly Step[]): void {
    const entries: [number, DestinationEntry][] = [];
    const records: [number, DestinationRecord][] = [];
    for (const { entry, plan, added } of steps) {
      const fresh = new Map(added.map((member) => [member.spec.address, member]));
      for (const { spec, nextHop } of plan.destinations!) {
        const member = fresh.get(spec.address) ?? entry.members.get(spec.address)!;
        if (!fresh.has(spec.address) && same(member.nextHop, nextHop) && same(member.spec, spec)) {
          continue;
        }
        const { slot, generation } = member;
        const { family } = entry.vip.address;
        const { outerSources } = this.#instance;
        entries.push([slot, destinationEntry(spec, nextHop, generation, family, outerSources)]);
        records.push([slot, destinationRecord(spec, generation, entry.id)]);
      }
    }
    this.#instance.destinationCounters.clear(steps.flatMap((s) => s.added.map((m) => m.slot)));
    this.#instance.destinations.setAll(entries);
    this.#instance.destinationRecords.setAll(records);
  }

  /** When it is done, no packet is under way that saw an old ring. */
  async #swapRings(entries: readonly Entry[], rings: readonly BpfMap[]): Promise<void> {
    const keys = new Uint8Array(Uint32Array.from(entries, ({ id }) => id).buffer);
    await this.#instance.rings.updateInnerBatch(keys, rings);
  }

  /** Makes services known to packets. Their rings are in place, and all tracked if indexing changed. */
  #publish(steps: readonly Step[]): void {
    const vips = new Set<Vip>();
    const services: Record<4 | 6, [Uint8Array, ServiceEntry][]> = { 4: [], 6: [] };
    const records: [number, ServiceRecord][] = [];
    for (const { entry, isNew, plan, added, removed, ring } of steps) {
      const changed = isNew || !same(plan.spec, entry.spec) ||
        (ring && ring.size !== entry.ring.size);
      if (isNew) {
        this.#instance.serviceCounters.clear([entry.id]);
        entry.vip.services++;
        if (entry.vip.services === 1) this.#instance.vipCounters.clear([entry.vip.id]);
        this.#vips.set(plan.spec.address, entry.vip);
        vips.add(entry.vip);
        this.#services.set(serviceName(plan.spec), entry);
      }
      if (ring) setRing(entry, ring);
      entry.spec = plan.spec;
      for (const member of removed) entry.members.delete(member.spec.address);
      for (const member of added) entry.members.set(member.spec.address, member);
      for (const { spec, nextHop } of plan.destinations!) {
        Object.assign(entry.members.get(spec.address)!, { spec, nextHop });
      }
      if (!changed) continue;
      const { family } = entry.vip.address;
      services[family].push([serviceKey(entry.vip.address, entry.spec), {
        id: entry.id,
        ringSize: entry.ring.size,
        vip: entry.vip.id,
        sticky: Number(entry.spec.sticky),
      }]);
      records.push([entry.id, serviceRecord(entry.vip.address, entry.spec)]);
    }
    this.#instance.serviceRecords.setAll(records);
    this.#writeVips([...vips]);
    this.#instance.services4.setAll(services[4]);
    this.#instance.services6.setAll(services[6]);
  }

  #writeVips(vips: readonly Vip[]): void {
    for (const { address, id, services } of vips) {
      const table = address.family === 4 ? this.#instance.vips4 : this.#instance.vips6;
      const entry: VipEntry = { id, services };
      if (services > 0) table.set(address.bytes, entry);
      else table.delete(address.bytes);
    }
  }

  async #remove(entries: readonly Entry[]): Promise<void> {
    if (entries.length === 0) return;
    const { services4, services6, serviceRecords, serviceCounters, vipCounters } = this.#instance;
    const vips = new Set<Vip>();
    for (const { vip, spec, id } of entries) {
      (vip.address.family === 4 ? services4 : services6).delete(serviceKey(vip.address, spec));
      vip.services--;
      vips.add(vip);
      this.#services.delete(serviceName(spec));
      serviceRecords.set(id, FREE_SERVICE);
    }
    this.#writeVips([...vips]);
    await this.#swapRings(entries, entries.map(() => this.#emptyRing));
    this.#free(entries.flatMap(({ members }) => [...members.values()]));
    for (const { id, vip } of entries) {
      this.#retire(vip.id + 1, serviceCounters.sum(id));
      this.#serviceIds.give(id);
    }
    for (const vip of vips) {
      if (vip.services > 0) continue;
      this.#vips.delete(vip.address.toString());
      this.#retire(0, vipCounters.sum(vip.id));
      this.#retire(0, this.retired(vip.id + 1));
      this.#instance.retiredCounters.update(
        u32(vip.id + 1),
        new Uint8Array(this.#instance.retiredCounters.valueSize),
      );
      this.#vipIds.give(vip.id);
    }
  }

  /** What removed services of a VIP (its id plus 1), or removed VIPs (0), had counted. */
  retired(index: number): BigUint64Array {
    return new BigUint64Array(this.#instance.retiredCounters.lookup(u32(index))!.slice().buffer);
  }

  #retire(index: number, counters: BigUint64Array): void {
    const total = this.retired(index);
    addTo(total, counters);
    this.#instance.retiredCounters.update(u32(index), new Uint8Array(total.buffer));
  }

  /** Slots of destinations that no ring mentions any more. */
  #free(members: readonly Member[]): void {
    const { destinations, destinationRecords } = this.#instance;
    destinations.setAll(members.map(({ slot }) => [slot, NOBODY]));
    destinationRecords.setAll(
      members.map(({ slot, generation }) => [slot, { ...FREE_DESTINATION, generation }]),
    );
    for (const { slot } of members) this.#slots.give(slot);
  }
}

function setRing(entry: Entry, ring: RingState): void {
  entry.ring = ring;
  entry.tracked = ring.current.some(isTracked);
}

const NO_RING: RingState = change(undefined, {
  slots: new Uint32Array(1),
  sticky: false,
  alive: () => false,
  nowNs: 0n,
  windowNs: 0n,
});
