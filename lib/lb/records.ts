/**
 * What clients keep in the maps for each other: services, destinations and next hops as they were asked for
 * and found out.
 *
 * @module
 */
import { Address, Mac } from "../net/address.ts";
import type { NextHop } from "../net/next_hop.ts";
import {
  DESTINATION_IPV6,
  DESTINATION_NO_CHECKSUM,
  type DestinationRecord,
  POLICYS,
  type ServiceRecord,
  SOURCE_IPV4,
  SOURCE_IPV6,
  TUNNELS,
} from "./abi.gen.ts";
import { field, flagsOf, IPPROTO } from "./entries.ts";
import type { Entry, Member } from "./model.ts";
import type { Destination, Protocol, Service } from "./types.ts";

const NS_PER_S = 1_000_000_000n;
const NO_MAC = new Uint8Array(6);
const NO_ADDRESS = new Uint8Array(16);

/** The record of a service. */
export function serviceRecord(entry: Entry): ServiceRecord {
  const { spec, vip: { address }, serial, settleNs, marks } = entry;
  return {
    address: field(address.bytes),
    port: spec.port,
    protocol: IPPROTO[spec.protocol],
    ipv6: Number(address.family === 6),
    sticky: Number(spec.sticky),
    expired: POLICYS.indexOf(spec.expired),
    fragmentable: POLICYS.indexOf(spec.fragmentable),
    idleTimeoutNs: BigInt(spec.idleTimeout) * NS_PER_S,
    settleNs,
    serial,
    marks,
  };
}

/** The service that a record tells of; undefined if the record is free. */
export function serviceOf(record: ServiceRecord): Required<Service> | undefined {
  const protocol = (Object.keys(IPPROTO) as Protocol[])
    .find((name) => IPPROTO[name] === record.protocol);
  if (!protocol) return undefined;
  return {
    address: addressOf(record.address, record.ipv6 !== 0).toString(),
    port: record.port,
    protocol,
    sticky: record.sticky !== 0,
    idleTimeout: Number(record.idleTimeoutNs / NS_PER_S),
    expired: endOf(record.expired),
    fragmentable: endOf(record.fragmentable),
  };
}

/** A policy for what ends here, by number. */
function endOf(number: number): "default" | "drop" | "reject" {
  const name = POLICYS[number];
  return name === "drop" || name === "reject" ? name : "default";
}

/** The record of a destination, of the service with that id. */
export function destinationRecord(member: Member, service: number): DestinationRecord {
  const { spec, nextHop, generation, serial } = member;
  const address = Address.parse(spec.address);
  return {
    address: field(address.bytes),
    service,
    generation,
    weight: spec.weight,
    tunnelPort: spec.tunnelPort,
    tunnel: TUNNELS.indexOf(spec.tunnelType),
    flags: flagsOf(spec, address.family),
    disabled: Number(spec.disable),
    used: 1,
    mtu: spec.mtu,
    serial,
    ...nextHopFields(nextHop),
  };
}

/** The destination that a record tells of. */
export function destinationOf(record: DestinationRecord): Required<Destination> {
  return {
    address: addressOf(record.address, (record.flags & DESTINATION_IPV6) !== 0).toString(),
    tunnelType: TUNNELS[record.tunnel]!,
    tunnelPort: record.tunnelPort,
    tunnelEncapNoChecksum: (record.flags & DESTINATION_NO_CHECKSUM) !== 0,
    mtu: record.mtu,
    weight: record.weight,
    disable: record.disabled !== 0,
  };
}

type NextHopFields = Pick<
  DestinationRecord,
  | "ifindex"
  | "pathMtu"
  | "interface"
  | "destinationMac"
  | "sourceMac"
  | "vlan"
  | "onLink"
  | "sources"
  | "source4"
  | "source6"
>;

function nextHopFields(nextHop: NextHop | undefined): NextHopFields {
  const name = new Uint8Array(16);
  // At most 15 bytes: IFNAMSIZ.
  new TextEncoder().encodeInto(nextHop?.interface ?? "", name);
  return {
    ifindex: nextHop?.ifindex ?? 0,
    pathMtu: nextHop?.mtu ?? 0,
    interface: name,
    destinationMac: nextHop ? Mac.parse(nextHop.destinationMac).bytes : NO_MAC,
    sourceMac: nextHop ? Mac.parse(nextHop.sourceMac).bytes : NO_MAC,
    vlan: nextHop?.vlan ?? 0,
    onLink: Number(nextHop?.onLink ?? false),
    sources: (nextHop?.source4 ? SOURCE_IPV4 : 0) | (nextHop?.source6 ? SOURCE_IPV6 : 0),
    source4: nextHop?.source4?.bytes ?? NO_ADDRESS.subarray(0, 4),
    source6: nextHop?.source6?.bytes ?? NO_ADDRESS,
  };
}

/** The next hop that a destination's record tells of. */
export function nextHopOf(record: DestinationRecord): NextHop | undefined {
  if (record.ifindex === 0) return undefined;
  const { interface: name, sources } = record;
  return {
    ifindex: record.ifindex,
    interface: new TextDecoder().decode(name.subarray(0, name.indexOf(0))),
    sourceMac: Mac.fromBytes(record.sourceMac).toString(),
    destinationMac: Mac.fromBytes(record.destinationMac).toString(),
    vlan: record.vlan,
    mtu: record.pathMtu,
    source4: sources & SOURCE_IPV4 ? Address.fromBytes(record.source4) : undefined,
    source6: sources & SOURCE_IPV6 ? Address.fromBytes(record.source6) : undefined,
    onLink: record.onLink !== 0,
  };
}

function addressOf(bytes: Uint8Array, ipv6: boolean): Address {
  return Address.fromBytes(bytes.subarray(0, ipv6 ? 16 : 4));
}

/** The record of a slot that nobody has; its generation stays. */
export function freeDestination(generation: number): DestinationRecord {
  return {
    address: NO_ADDRESS,
    service: 0,
    generation,
    weight: 0,
    tunnelPort: 0,
    tunnel: 0,
    flags: 0,
    disabled: 0,
    used: 0,
    mtu: 0,
    serial: 0,
    ...nextHopFields(undefined),
  };
}

/** The record of an id that no service has. */
export const FREE_SERVICE: ServiceRecord = {
  address: NO_ADDRESS,
  port: 0,
  protocol: 0,
  ipv6: 0,
  sticky: 0,
  expired: 0,
  fragmentable: 0,
  idleTimeoutNs: 0n,
  settleNs: 0n,
  serial: 0,
  marks: 0,
};
