/**
 * Writes services, destinations and VIPs into the maps. What is to be written has been decided and checked; the
 * order of writing is such that packets find everything in its place, and that whoever is killed half way leaves
 * nothing that another process cannot complete.
 *
 * @module
 */
import { type BpfMap, u32 } from "../bpf/mod.ts";
import {
  type Destination as DestinationEntry,
  type DestinationRecord,
  POLICY,
  POLICYS,
  type Service as ServiceEntry,
  type Vip as VipEntry,
} from "./abi.gen.ts";
import { change, encodeRing, type RingState } from "./change.ts";
import { destinationEntry, NOBODY, serviceKey } from "./entries.ts";
import type { Instance } from "./instance.ts";
import { type Entry, type Member, type Plan, same, type Vip } from "./model.ts";
import { destinationRecord, freeDestination, serviceRecord } from "./records.ts";
import { addTo, type Table } from "./table.ts";
import type { UnknownPort } from "./types.ts";
import { vipFilter } from "./vip_filter.ts";

/** One service of a commit. */
export interface Step {
  entry: Entry;
  isNew: boolean;
  plan: Plan;
  added: Member[];
  removed: Member[];
  /** The next ring, and the map that holds it; undefined if the present one stays. */
  ring: RingState | undefined;
  map: BpfMap | undefined;
}

/** The tables of an instance, to be written. */
export class TableWriter {
  readonly #instance: Instance;
  #emptyRing: BpfMap | undefined;

  constructor(instance: Instance) {
    this.#instance = instance;
  }

  /** New destinations, and what changed of old ones. */
  destinations(steps: readonly Step[], all: boolean): void {
    const entries: [number, DestinationEntry][] = [];
    const records: [number, DestinationRecord][] = [];
    for (const { entry, plan, added } of steps) {
      const fresh = new Map(added.map((member) => [member.spec.address, member]));
      for (const { spec, nextHop } of plan.destinations!) {
        const member = fresh.get(spec.address) ?? entry.members.get(spec.address)!;
        const stays = same(member.nextHop, nextHop) && same(member.spec, spec);
        if (stays && !fresh.has(spec.address) && !all) continue;
        const { slot, generation } = member;
        const { family } = entry.vip.address;
        const { outerSources } = this.#instance;
        entries.push([slot, destinationEntry(spec, nextHop, generation, family, outerSources)]);
        records.push([slot, destinationRecord({ ...member, spec, nextHop }, entry.id)]);
      }
    }
    this.#instance.destinationCounters.clear(steps.flatMap((s) => s.added.map((m) => m.slot)));
    this.#instance.destinations.setAll(entries);
    // Afterwards, so that whoever finds an old record writes both again.
    this.#instance.destinationRecords.setAll(records);
  }

  /** When it is done, no packet is under way that saw an old ring. */
  async rings(ids: readonly number[], rings: readonly BpfMap[]): Promise<void> {
    if (ids.length === 0) return;
    const keys = new Uint8Array(Uint32Array.from(ids).buffer);
    await this.#instance.rings.updateInnerBatch(keys, rings);
  }

  /** Takes the rings away from services. */
  async noRings(ids: readonly number[]): Promise<void> {
    if (ids.length === 0) return;
    const empty = this.#emptyRing ??= this.#instance.createRing(encodeRing(NO_RING));
    await this.rings(ids, ids.map(() => empty));
  }

  /** Without a record a service is none; with an old one it is written again by whoever finds it. */
  services(steps: readonly Step[]): void {
    const write = (which: readonly Step[]) =>
      this.#instance.serviceRecords.setAll(
        which.map(({ entry }) => [entry.id, serviceRecord(entry)]),
      );
    write(steps.filter(({ isNew }) => isNew));
    this.keys(steps.map(({ entry }) => entry));
    write(steps.filter(({ isNew }) => !isNew));
  }

  /** What the program finds of services. */
  keys(entries: readonly Entry[]): void {
    const services: Record<4 | 6, [Uint8Array, ServiceEntry][]> = { 4: [], 6: [] };
    for (const { id, vip, spec, ring } of entries) {
      services[vip.address.family].push([serviceKey(vip.address, spec), {
        id,
        ringSize: ring.size,
        vip: vip.id,
        sticky: Number(spec.sticky),
        expired: POLICYS.indexOf(spec.expired),
        fragmentable: POLICYS.indexOf(spec.fragmentable),
      }]);
    }
    this.#instance.services4.setAll(services[4]);
    this.#instance.services6.setAll(services[6]);
  }

  /** VIPs by their numbers of services. Their policies stay. */
  vips(vips: readonly Vip[]): void {
    for (const { address, id, services } of vips) {
      const table = this.#vipTable(address);
      const unknownPort = table.get(address.bytes)?.unknownPort ?? POLICY.DEFAULT;
      const entry: VipEntry = { id, services, unknownPort };
      if (services > 0) table.set(address.bytes, entry);
      else table.delete(address.bytes);
    }
    if (vips.length > 0) this.#filter();
  }

  /** The VIP's policy for ports without a service. */
  vipPolicy({ address }: Vip): UnknownPort {
    return POLICYS[this.#vipTable(address).get(address.bytes)?.unknownPort ?? 0] ?? "default";
  }

  /** Changes that policy. */
  setVipPolicy({ address, id, services }: Vip, unknownPort: UnknownPort): void {
    const entry: VipEntry = { id, services, unknownPort: POLICYS.indexOf(unknownPort) };
    this.#vipTable(address).set(address.bytes, entry);
  }

  #vipTable({ family }: Vip["address"]): Table<VipEntry> {
    return family === 4 ? this.#instance.vips4 : this.#instance.vips6;
  }

  /** Lets through what is for VIPs, and nothing that can be told from it. */
  #filter(): void {
    const { vips4, vips6 } = this.#instance;
    const map = this.#instance.map("vip_filter");
    const addresses = [vips4, vips6].flatMap((table) => [...table.entries()].map(([key]) => key));
    const words = vipFilter(addresses);
    const indexes = Uint32Array.from(words, (_, i) => i);
    map.updateBatch(new Uint8Array(indexes.buffer), new Uint8Array(words.buffer), words.length);
  }

  /** Slots that nobody has. */
  free(members: readonly Pick<Member, "slot" | "generation">[]): void {
    const { destinations, destinationRecords } = this.#instance;
    destinations.setAll(members.map(({ slot }) => [slot, NOBODY]));
    destinationRecords.setAll(
      members.map(({ slot, generation }) => [slot, freeDestination(generation)]),
    );
  }

  /** What removed services of a VIP (its id plus 1), or removed VIPs (0), had counted. */
  retired(index: number): BigUint64Array {
    return new BigUint64Array(this.#instance.retiredCounters.lookup(u32(index))!.slice().buffer);
  }

  /** Keeps what a service or VIP has counted beyond its end. */
  retire(index: number, counters: BigUint64Array): void {
    const total = this.retired(index);
    addTo(total, counters);
    this.#instance.retiredCounters.update(u32(index), new Uint8Array(total.buffer));
  }

  close(): void {
    this.#emptyRing?.close();
  }
}

const NO_RING: RingState = change(undefined, {
  slots: new Uint32Array(1),
  sticky: false,
  alive: () => false,
  nowNs: 0n,
  windowNs: 0n,
});
