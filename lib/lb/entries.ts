/**
 * What packets find of a service and of a destination.
 *
 * @module
 */
import { Address, Mac, type Prefix } from "../net/address.ts";
import type { NextHop } from "../net/next_hop.ts";
import type { Destination as DestinationEntry } from "./abi.gen.ts";
import {
  DESTINATION_IPV6,
  DESTINATION_NO_CHECKSUM,
  DESTINATION_SPREAD,
  SERVICE_KEY4,
  SERVICE_KEY6,
  TUNNELS,
} from "./abi.gen.ts";
import type { Destination, Protocol, Service, TunnelType } from "./types.ts";

/** Protocols by their IP numbers. */
export const IPPROTO: Record<Protocol, number> = { tcp: 6, udp: 17 };
const IPPROTO_IPIP = 4;
const IPPROTO_IPV6 = 41;
const IPPROTO_GRE = 47;
const OUTER_TTL = 64;
const DONT_FRAGMENT = 0x40;
const NO_MAC = "00:00:00:00:00:00";

/** An address in a field of 16 bytes. */
export function field(address: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(16);
  bytes.set(address);
  return bytes;
}

/** The key of a service in `services4` or `services6`. */
export function serviceKey(address: Address, { port, protocol }: Required<Service>): Uint8Array {
  const common = { port, protocol: IPPROTO[protocol] };
  return address.family === 4
    ? SERVICE_KEY4.encode({
      address: new DataView(address.bytes.buffer, address.bytes.byteOffset).getUint32(0),
      ...common,
    })
    : SERVICE_KEY6.encode({ address: address.bytes, ...common });
}

/**
 * One's complement sum of 16-bit words, which may stand in any order (RFC 1071, section 2 (B)): in the
 * host's, in which the program adds to it.
 */
function onesSum(...parts: Uint8Array[]): number {
  let sum = 0;
  for (const part of parts) {
    const view = new DataView(part.buffer, part.byteOffset, part.byteLength);
    for (let i = 0; i < part.length; i += 2) sum += view.getUint16(i, true);
  }
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  return sum;
}

/** The IP protocol of the inner packet, and that of the outer header. */
function protocols(tunnel: TunnelType, vipFamily: 4 | 6): { inner: number; outer: number } {
  const inner = vipFamily === 4 ? IPPROTO_IPIP : IPPROTO_IPV6;
  const outer = { none: inner, ipip: inner, gre: IPPROTO_GRE, fou: IPPROTO.udp, gue: IPPROTO.udp };
  return { inner, outer: outer[tunnel] };
}

/** The outer IPv4 header but for addresses, TOS and length. */
function outerHeader(protocol: number): Uint8Array {
  return Uint8Array.of(0x45, 0, 0, 0, 0, 0, DONT_FRAGMENT, 0, OUTER_TTL, protocol);
}

/** The constant parts of a UDP pseudo-header, of the UDP header, and of GUE's. */
function udpConstants(port: number, tunnel: TunnelType, inner: number): Uint8Array {
  return Uint8Array.of(0, IPPROTO.udp, port >>> 8, port & 0xff, 0, tunnel === "gue" ? inner : 0);
}

/** `DESTINATION_...`; `spread`: the flow's hash fills some of the outer source. */
export function flagsOf(spec: Required<Destination>, family: 4 | 6, spread = false): number {
  return (family === 6 ? DESTINATION_IPV6 : 0) |
    (spec.tunnelEncapNoChecksum ? DESTINATION_NO_CHECKSUM : 0) |
    (spread ? DESTINATION_SPREAD : 0);
}

/** Prefixes from which outer sources are taken, where they are not the interface's address. */
export type OuterSources = Readonly<Record<4 | 6, Prefix | undefined>>;

/** The bits of an outer source that the flow's hash fills: of an IPv6 one, of its last 32. */
export function sourceMask(prefix: Prefix | undefined): number {
  if (!prefix) return 0;
  const bits = Math.min(32, (prefix.family === 4 ? 32 : 128) - prefix.length);
  return 2 ** bits - 1;
}

/** What the program needs to send to a destination; without a next hop it can not. */
export function destinationEntry(
  spec: Required<Destination>,
  nextHop: NextHop | undefined,
  generation: number,
  vipFamily: 4 | 6,
  outerSources: OuterSources = { 4: undefined, 6: undefined },
): DestinationEntry {
  const address = Address.parse(spec.address);
  const spread = spec.tunnelType === "ipip" || spec.tunnelType === "gre"
    ? outerSources[address.family]
    : undefined;
  const own = address.family === 4 ? nextHop?.source4 : nextHop?.source6;
  const source = (spread?.network ?? own)?.bytes ?? new Uint8Array(address.bytes.length);
  const mtu = Math.min(nextHop?.mtu ?? 0, 0xffff);
  const { inner, outer } = protocols(spec.tunnelType, vipFamily);
  return {
    generation,
    ifindex: nextHop?.ifindex ?? 0,
    destinationMac: Mac.parse(nextHop?.destinationMac ?? NO_MAC).bytes,
    sourceMac: Mac.parse(nextHop?.sourceMac ?? NO_MAC).bytes,
    vlan: nextHop?.vlan ?? 0,
    mtu: spec.mtu ? Math.min(spec.mtu, mtu) : mtu,
    tunnelPort: spec.tunnelPort,
    tunnel: TUNNELS.indexOf(spec.tunnelType),
    flags: flagsOf(spec, address.family, spread !== undefined),
    outerSum: address.family === 4 ? onesSum(outerHeader(outer), source, address.bytes) : 0,
    udpSum: onesSum(udpConstants(spec.tunnelPort, spec.tunnelType, inner), source, address.bytes),
    outerSource: field(source),
    outerDestination: field(address.bytes),
  };
}

const NO_ADDRESS = new Uint8Array(16);
/** The entry of a slot that nobody has. */
export const NOBODY: DestinationEntry = {
  generation: 0,
  ifindex: 0,
  destinationMac: new Uint8Array(6),
  sourceMac: new Uint8Array(6),
  vlan: 0,
  mtu: 0,
  tunnelPort: 0,
  tunnel: 0,
  flags: 0,
  outerSum: 0,
  udpSum: 0,
  outerSource: NO_ADDRESS,
  outerDestination: NO_ADDRESS,
};
