/**
 * The services and destinations of an instance, and how a change of them is carried into its maps:
 * first everything that can fail, then everything that no packet can see yet, then the rings, whole.
 *
 * @module
 */
import { u32 } from "../bpf/mod.ts";
import { Address } from "../net/address.ts";
import { encodeRing, type RingState } from "./change.ts";
import type { CompleteConfig } from "./config.ts";
import { NOBODY, serviceKey } from "./entries.ts";
import { TableFullError } from "./errors.ts";
import type { Instance } from "./instance.ts";
import { storePlans } from "./journal.ts";
import { type Entry, type Member, type Plan, planOf, same, type Vip } from "./model.ts";
import { newEntry, type Picture, readPicture, readRing } from "./picture.ts";
import { FREE_SERVICE, serviceRecord } from "./records.ts";
import { nextRing } from "./next_ring.ts";
import { Slots } from "./slots.ts";
import { type Step, TableWriter } from "./table_writer.ts";
import { type Service, serviceName, type UnknownPort } from "./types.ts";

/** What else belongs to a commit. */
export interface Along {
  /** The new configuration. */
  config?: CompleteConfig;
  /** Whether some of it may have been done already, by a process that was killed. */
  again?: boolean;
}

/** All services, by name, as the maps have them, and the only writer of the maps that hold them. */
export class Registry {
  readonly #instance: Instance;
  #picture: Picture;
  /** Of the instance, when the picture was taken. */
  #revision = -1n;
  #serviceIds!: Slots;
  #vipIds!: Slots;
  #slots!: Slots;
  readonly #writer: TableWriter;
  readonly #follow: () => void;

  /**
   * Reads what the maps hold; a change of another process that is under way may be seen half done.
   *
   * @param follow does, as a part of each change, what follows from it
   */
  constructor(instance: Instance, follow: () => void = () => {}) {
    this.#instance = instance;
    this.#follow = follow;
    this.#writer = new TableWriter(instance);
    const { revision } = instance;
    this.#picture = this.#adopt(readPicture(instance)!);
    // Unless it is of one instant, it is read again before anything is changed.
    const whole = !(revision & 1n) && instance.revision === revision;
    this.#revision = whole ? revision : -1n;
  }

  get services(): ReadonlyMap<string, Entry> {
    return this.#picture.services;
  }

  get vips(): ReadonlyMap<string, Vip> {
    return this.#picture.vips;
  }

  /** The addresses of all destinations. */
  addresses(): Set<string> {
    return new Set([...this.services.values()].flatMap(({ members }) => [...members.keys()]));
  }

  /** Whether what is known is how things were at some instant, and not half of a change. */
  get consistent(): boolean {
    return this.#revision >= 0n;
  }

  /**
   * Reads again what another process has changed. While one changes something, what was known before stays.
   *
   * @returns whether anything may be different now
   */
  refresh(): boolean {
    const { revision } = this.#instance;
    if (revision === this.#revision || revision & 1n) return false;
    const isCurrent = () => this.#instance.revision === revision;
    const picture = readPicture(this.#instance, this.#picture, isCurrent);
    if (!picture) return false;
    this.#picture = this.#adopt(picture);
    this.#revision = revision;
    return true;
  }

  /**
   * Reads what a killed process has left, and frees what belongs to nothing. The caller holds the lock, and
   * then carries out what the journal says.
   */
  async repair(): Promise<void> {
    const instance = this.#instance;
    const picture = readPicture(instance, this.#picture)!;
    const { services, slots } = picture.orphans;
    for (const id of services) instance.serviceRecords.set(id, FREE_SERVICE);
    this.#writer.free(slots.map((slot) => ({ slot, generation: picture.generations[slot]! })));
    const used = new Set(
      [...picture.services.values()].flatMap(({ members }) =>
        [...members.values()].map(({ slot }) => slot)
      ),
    );
    for (const [slot, { generation }] of instance.destinations.written()) {
      if (generation !== 0 && !used.has(slot)) instance.destinations.set(slot, NOBODY);
    }
    for (const table of [instance.vips4, instance.vips6]) {
      for (const [key] of table.entries()) {
        if (!picture.vips.has(Address.fromBytes(key).toString())) table.delete(key);
      }
    }
    await this.#writer.noRings(services.filter((id) => instance.ringId(id) !== 0));
    this.#picture = this.#adopt(picture);
    this.#writer.vips([...picture.vips.values()]);
  }

  /**
   * Makes the services what the plans say, all or none.
   *
   * @throws {TableFullError} when there is no room; nothing was changed
   */
  async commit(plans: readonly Plan[], along: Along = {}): Promise<void> {
    const { config } = along;
    if (plans.length === 0 && !config) return;
    const steps = this.#prepare(plans.filter((plan) => plan.destinations !== undefined));
    using rings = new DisposableStack();
    try {
      for (const step of steps) {
        step.ring = nextRing(step, this.#instance.clock());
        if (step.ring) step.map = rings.use(this.#instance.createRing(encodeRing(step.ring)));
      }
    } catch (error) {
      this.#abandon(steps);
      throw error;
    }
    const journal = () => ({ plans: storePlans(plans), ...(config && { config }) });
    await this.#instance.transact(journal, async () => {
      if (config) this.#instance.configure(config);
      await this.#carryOut(steps, along);
      const names = new Set(
        plans.filter((plan) => !plan.destinations).map((p) => serviceName(p.spec)),
      );
      await this.#remove([...names].flatMap((name) => this.services.get(name) ?? []));
      this.#follow();
    });
    this.#revision = this.#instance.revision;
  }

  /** Replaces rings by settled ones. */
  async replaceRings(rings: ReadonlyMap<Entry, RingState>): Promise<void> {
    if (rings.size === 0) return;
    using maps = new DisposableStack();
    const places = [...rings].map(([entry, state]) => ({
      entry,
      state,
      map: maps.use(this.#instance.createRing(encodeRing(state))),
    }));
    await this.#writer.rings(places.map(({ entry }) => entry.id), places.map(({ map }) => map));
    for (const { entry, state, map } of places) entry.setRing({ state, mapId: map.id });
    this.#instance.serviceRecords.setAll(
      places.map(({ entry }) => [entry.id, serviceRecord(entry)]),
    );
  }

  /** Sees that rings of which nothing is tracked are known as such, though whoever settled them was killed. */
  confirmSettled(entries: readonly Entry[]): void {
    for (const entry of entries) entry.setRing(readRing(this.#instance, entry.id));
    this.#instance.serviceRecords.setAll(
      entries.map((entry) => [entry.id, serviceRecord(entry)]),
    );
  }

  /** What is known is up to date: this process itself has changed rings. */
  keepUp(): void {
    this.#revision = this.#instance.revision;
  }

  /** The VIP's policy for ports without a service: the map of VIPs is its only record. */
  vipPolicy(vip: Vip): UnknownPort {
    return this.#writer.vipPolicy(vip);
  }

  /** Changes that policy. */
  setVipPolicy(vip: Vip, unknownPort: UnknownPort): void {
    this.#writer.setVipPolicy(vip, unknownPort);
  }

  close(): void {
    this.#writer.close();
  }

  #adopt(picture: Picture): Picture {
    const { maxServices, maxDestinations } = this.#instance.sizes;
    const entries = [...picture.services.values()];
    const slots = entries.flatMap(({ members }) => [...members.values()].map(({ slot }) => slot));
    this.#serviceIds = new Slots(0, maxServices, new Set(entries.map(({ id }) => id)));
    this.#vipIds = new Slots(0, maxServices, new Set(entries.map(({ vip }) => vip.id)));
    this.#slots = new Slots(1, maxDestinations, new Set(slots));
    return picture;
  }

  async #carryOut(steps: readonly Step[], along: Along): Promise<void> {
    try {
      // A configuration says where tunnels start from.
      this.#writer.destinations(steps, along.config !== undefined);
      const swaps = steps.filter((step) => step.map);
      await this.#writer.rings(swaps.map(({ entry }) => entry.id), swaps.map(({ map }) => map!));
    } catch (error) {
      // What cannot be put back either, the next change of the service mends.
      await this.#restore(steps).catch(() => {});
      this.#abandon(steps);
      throw error;
    }
    this.#publish(steps, along);
    this.#free(steps.flatMap((step) => step.removed));
  }

  /** Takes ids and slots for what is new. */
  #prepare(plans: readonly Plan[]): Step[] {
    const steps: Step[] = [];
    const newVips = new Map<string, Vip>();
    try {
      for (const plan of plans) {
        const known = this.services.get(serviceName(plan.spec));
        const entry = known ?? this.#newEntry(plan.spec, newVips);
        const step: Step = {
          entry,
          isNew: !known,
          plan,
          added: [],
          removed: [],
          ring: undefined,
          map: undefined,
        };
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
          const { generations } = this.#picture;
          const generation = generations[slot] = (generations[slot]! + 1) >>> 0 || 1;
          step.added.push({ spec, nextHop, slot, generation, serial: this.#nextSerial() });
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
    let vip = this.vips.get(spec.address) ?? newVips.get(spec.address);
    if (!vip) {
      // Never more VIPs than services: there is room.
      vip = { id: this.#vipIds.take(full), address: Address.parse(spec.address), services: 0 };
      newVips.set(spec.address, vip);
    }
    return newEntry(this.#instance, { id, vip, spec, serial: this.#nextSerial() });
  }

  /** After four thousand million it begins anew, and the order is another one until the next time. */
  #nextSerial(): number {
    const { serial } = this.#picture;
    this.#picture.serial = (serial + 1) >>> 0;
    return serial;
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

  /** Puts back what packets have found so far, after some of it may have been replaced. */
  async #restore(steps: readonly Step[]): Promise<void> {
    const before = steps.filter(({ isNew }) => !isNew).map((step): Step => ({
      ...step,
      plan: planOf(step.entry),
      added: [],
    }));
    this.#writer.destinations(before, true);
    const rings = before.filter(({ ring }) => ring).map(({ entry }) =>
      [entry, entry.ring] as const
    );
    await this.replaceRings(new Map(rings));
  }

  /** Makes services known to packets. Their rings are in place, and all tracked if indexing changed. */
  #publish(steps: readonly Step[], { again = false }: Along): void {
    const vips = new Set<Vip>();
    const changed: Step[] = [];
    for (const step of steps) {
      const { entry, isNew, plan, ring, map } = step;
      if (isNew) {
        this.#instance.serviceCounters.clear([entry.id]);
        entry.vip.services++;
        if (entry.vip.services === 1) this.#instance.vipCounters.clear([entry.vip.id]);
        this.#picture.vips.set(plan.spec.address, entry.vip);
        vips.add(entry.vip);
        this.#picture.services.set(serviceName(plan.spec), entry);
      }
      if (isNew || ring || again || !same(plan.spec, entry.spec)) changed.push(step);
      if (ring && map) entry.setRing({ state: ring, mapId: map.id });
      else if (again) entry.setRing(readRing(this.#instance, entry.id));
      this.#remember(step);
    }
    this.#writer.vips([...vips]);
    this.#writer.services(changed);
  }

  /** What the client itself knows of a service from now on. */
  #remember({ entry, plan, added, removed }: Step): void {
    entry.spec = plan.spec;
    for (const member of removed) entry.members.delete(member.spec.address);
    for (const member of added) entry.members.set(member.spec.address, member);
    for (const { spec, nextHop } of plan.destinations!) {
      Object.assign(entry.members.get(spec.address)!, { spec, nextHop });
    }
  }

  async #remove(entries: readonly Entry[]): Promise<void> {
    if (entries.length === 0) return;
    const { services4, services6, serviceRecords, serviceCounters, vipCounters } = this.#instance;
    const vips = new Set<Vip>();
    for (const { vip, spec } of entries) {
      (vip.address.family === 4 ? services4 : services6).delete(serviceKey(vip.address, spec));
      vip.services--;
      vips.add(vip);
      this.#picture.services.delete(serviceName(spec));
    }
    this.#writer.vips([...vips]);
    await this.#writer.noRings(entries.map(({ id }) => id));
    this.#free(entries.flatMap(({ members }) => [...members.values()]));
    for (const { id, vip } of entries) {
      this.#writer.retire(vip.id + 1, serviceCounters.sum(id));
      serviceRecords.set(id, FREE_SERVICE);
      this.#serviceIds.give(id);
    }
    for (const vip of vips) {
      if (vip.services > 0) continue;
      this.#picture.vips.delete(vip.address.toString());
      this.#writer.retire(0, vipCounters.sum(vip.id));
      this.#writer.retire(0, this.#writer.retired(vip.id + 1));
      this.#instance.retiredCounters.update(
        u32(vip.id + 1),
        new Uint8Array(this.#instance.retiredCounters.valueSize),
      );
      this.#vipIds.give(vip.id);
    }
  }

  /** What removed services of a VIP (its id plus 1), or removed VIPs (0), had counted. */
  retired(index: number): BigUint64Array {
    return this.#writer.retired(index);
  }

  /** Slots of destinations that no ring mentions any more. */
  #free(members: readonly Member[]): void {
    this.#writer.free(members);
    for (const { slot } of members) this.#slots.give(slot);
  }
}
