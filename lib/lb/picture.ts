/**
 * Services, destinations and VIPs as the maps hold them. Nothing but the maps is needed, and a process that was
 * killed in the middle of a change does no harm: what belongs to nothing is told apart.
 *
 * @module
 */
import { Address } from "../net/address.ts";
import type { DestinationRecord, ServiceRecord } from "./abi.gen.ts";
import { decodeRing } from "./change.ts";
import { serviceKey } from "./entries.ts";
import type { Instance } from "./instance.ts";
import { Entry, type Member, type StoredRing, type Vip } from "./model.ts";
import { destinationOf, nextHopOf, serviceOf } from "./records.ts";
import { type Service, serviceName } from "./types.ts";

/** What has been read. */
export interface Picture {
  /** By name, in the order in which they were added. */
  readonly services: Map<string, Entry>;
  /** By address. */
  readonly vips: Map<string, Vip>;
  /** The generation that each slot had last. */
  readonly generations: Uint32Array;
  /** The serial of the next service or destination. */
  serial: number;
  readonly orphans: Orphans;
}

/** What was begun and belongs to nothing. */
export interface Orphans {
  /** Ids of services that packets do not find. */
  readonly services: number[];
  /** Slots of destinations of such services. */
  readonly slots: number[];
}

/** Reads a ring as it stands. */
export function readRing(instance: Instance, id: number): StoredRing {
  using map = instance.openRing(id);
  return { state: decodeRing(map.lookupBatch().values), mapId: map.id };
}

/** What the maps say, before it is put together. */
interface Scan {
  services: {
    id: number;
    vip: number;
    ring: number;
    spec: Required<Service>;
    record: ServiceRecord;
  }[];
  destinations: [slot: number, record: DestinationRecord][];
  orphans: number[];
}

/**
 * Reads everything but rings, which are read when asked for.
 *
 * @param known what was read before; what is still the same stays the same object
 * @param isCurrent tells whether the maps have stayed as they were, once they are read
 * @returns undefined if they have not; then `known` is as it was
 */
export function readPicture(
  instance: Instance,
  known?: Picture,
  isCurrent: () => boolean = () => true,
): Picture | undefined {
  const scan: Scan = {
    ...scanServices(instance),
    destinations: [...instance.destinationRecords.written()],
  };
  if (!isCurrent()) return undefined;
  const picture: Picture = {
    services: new Map(),
    vips: new Map(),
    generations: new Uint32Array(instance.sizes.maxDestinations + 1),
    serial: 1,
    orphans: { services: scan.orphans, slots: [] },
  };
  const members = membersBySlot(known);
  addDestinations(picture, scan, addServices(instance, picture, scan, known), members);
  return picture;
}

function scanServices(instance: Instance): Pick<Scan, "services" | "orphans"> {
  const services: Scan["services"] = [], orphans: number[] = [];
  for (const [id, record] of instance.serviceRecords.written()) {
    const spec = serviceOf(record);
    if (!spec) continue;
    const address = Address.parse(spec.address);
    const table = address.family === 4 ? instance.services4 : instance.services6;
    const found = table.get(serviceKey(address, spec));
    if (found?.id !== id) orphans.push(id);
    else services.push({ id, vip: found.vip, ring: instance.ringId(id), spec, record });
  }
  return { services: services.sort((a, b) => a.record.serial - b.record.serial), orphans };
}

function addServices(
  instance: Instance,
  picture: Picture,
  scan: Scan,
  known: Picture | undefined,
): Map<number, Entry> {
  const byId = new Map<number, Entry>();
  for (const { id, vip: vipId, ring, spec, record } of scan.services) {
    const name = serviceName(spec);
    const { serial, settleNs, marks } = record;
    const vip = addVip(picture, spec.address, vipId, known);
    const before = known?.services.get(name);
    const same = before?.id === id && before.vip === vip && before.serial === serial;
    const service = same ? before : newEntry(instance, { id, vip, spec, serial });
    Object.assign(service, { spec, settleNs });
    service.expectRing(ring, marks);
    service.members.clear();
    byId.set(id, service);
    picture.services.set(name, service);
    picture.serial = Math.max(picture.serial, (serial + 1) >>> 0);
  }
  return byId;
}

/** A service whose ring is in its place. */
export function newEntry(
  instance: Instance,
  fields: { id: number; vip: Vip; spec: Required<Service>; serial: number },
): Entry {
  return new Entry(fields, () => readRing(instance, fields.id));
}

function addVip(picture: Picture, text: string, id: number, known: Picture | undefined): Vip {
  let vip = picture.vips.get(text);
  if (!vip) {
    const before = known?.vips.get(text);
    vip = before?.id === id ? before : { id, address: Address.parse(text), services: 0 };
    vip.services = 0;
    picture.vips.set(text, vip);
  }
  vip.services++;
  return vip;
}

function membersBySlot(picture: Picture | undefined): Map<number, Member> {
  const entries = [...picture?.services.values() ?? []];
  const members = entries.flatMap((entry) => [...entry.members.values()]);
  return new Map(members.map((member) => [member.slot, member]));
}

function addDestinations(
  picture: Picture,
  scan: Scan,
  services: ReadonlyMap<number, Entry>,
  known: ReadonlyMap<number, Member>,
): void {
  const found: { service: Entry; member: Member }[] = [];
  for (const [slot, record] of scan.destinations) {
    const { generation, serial } = record;
    picture.generations[slot] = generation;
    if (record.used === 0) continue;
    const service = services.get(record.service);
    if (!service) {
      picture.orphans.slots.push(slot);
      continue;
    }
    const fields = { spec: destinationOf(record), nextHop: nextHopOf(record) };
    const before = known.get(slot);
    const member = before?.generation === generation && before.serial === serial
      ? Object.assign(before, fields)
      : { ...fields, slot, generation, serial };
    found.push({ service, member });
  }
  found.sort((a, b) => a.member.serial - b.member.serial);
  for (const { service, member } of found) {
    service.members.set(member.spec.address, member);
    picture.serial = Math.max(picture.serial, (member.serial + 1) >>> 0);
  }
}
