/**
 * What has to come of a packet, worked out from the packet and its destination and from nothing else.
 *
 * @module
 */
import { assertEquals } from "@std/assert";
import {
  addressWords,
  expandKey,
  FlowHash,
  type HashValue,
  portsWord,
} from "../../lib/lb/flow_hash.ts";
import { Address } from "../../lib/net/address.ts";
import type { TunnelType } from "../../mod.ts";
import { BALANCER_MAC } from "./build.ts";
import { macOf, OUTER_SOURCE, type Sent } from "./harness.ts";
import { type Header, type Packet, parse, type UdpTunnels, type Vlan } from "./parse.ts";

/** The key of every balancer whose choices a test works out. */
export const HASH_KEY = Uint8Array.from({ length: 16 }, (_, i) => i * 17);
/** What the program hashes by, if it has that key. */
export const FLOW_HASH = new FlowHash(expandKey(HASH_KEY));

/** What UDP ports stand for in these tests. */
export const TUNNEL_PORTS = { fou: 5555, gue: 6080 } as const;
const UDP_TUNNELS: UdpTunnels = { 5555: "fou", 6080: "gue" };

/** How a packet gets to its destination. */
export interface Way {
  address: string;
  tunnel: TunnelType;
  /** Of the destination's network; default none. */
  vlan?: number;
  /** Default true: a UDP tunnel has a checksum. */
  checksum?: boolean;
}

/** The flow of a packet, as the program sees it. */
export interface Tuple {
  source: string;
  destination: string;
  sourcePort: number;
  destinationPort: number;
  protocol: number;
}

/** The hash of a flow; `sticky`: of the addresses alone. */
export function hashOf(tuple: Tuple, sticky = false): HashValue {
  const source = addressWords(Address.parse(tuple.source).bytes);
  const destination = addressWords(Address.parse(tuple.destination).bytes);
  const ports = sticky ? 0 : portsWord(tuple.sourcePort, tuple.destinationPort);
  const protocol = sticky ? 0 : tuple.protocol;
  return source.length === 1
    ? FLOW_HASH.hash4(source[0]!, destination[0]!, ports, protocol)
    : FLOW_HASH.hash6(source, destination, ports, protocol);
}

/** The flow of a frame that is TCP or UDP. */
export function tupleOf({ headers }: Packet): Tuple {
  const ip = headers.find((header) => header.kind === "ipv4" || header.kind === "ipv6")!;
  const ports = headers.find((header) => header.kind === "tcp" || header.kind === "udp")!;
  if (ip.kind !== "ipv4" && ip.kind !== "ipv6") throw new TypeError("no IP packet");
  if (ports.kind !== "tcp" && ports.kind !== "udp") throw new TypeError("neither TCP nor UDP");
  const { source, destination } = ip;
  const { sourcePort, destinationPort } = ports;
  const protocol = ports.kind === "tcp" ? 6 : 17;
  return { source, destination, sourcePort, destinationPort, protocol };
}

const OVERHEAD = { none: 0, ipip: 0, gre: 4, fou: 8, gue: 12 };

/** How many bytes a tunnel puts before a packet. */
export function overheadOf(tunnel: TunnelType, address: string): number {
  if (tunnel === "none") return 0;
  return (Address.parse(address).family === 4 ? 20 : 40) + OVERHEAD[tunnel];
}

/** How many bytes an IP packet has. */
export function lengthOf({ headers: [ip] }: Packet): number {
  return ip?.kind === "ipv4" ? ip.totalLength : ip?.kind === "ipv6" ? ip.payloadLength + 40 : NaN;
}

/** The packet with another TTL or hop limit. */
function withTtl([ip, ...rest]: Header[], change: (ttl: number) => number): Header[] {
  if (ip?.kind === "ipv4") return [{ ...ip, ttl: change(ip.ttl) }, ...rest];
  if (ip?.kind === "ipv6") return [{ ...ip, hopLimit: change(ip.hopLimit) }, ...rest];
  throw new TypeError("no IP packet");
}

/** The headers that a tunnel puts before a packet. `entropy` is the flow's. */
function outerHeaders(packet: Packet, way: Way, entropy: number): Header[] {
  const { address, tunnel, checksum = true } = way;
  const inner = packet.headers[0]!;
  const tos = inner.kind === "ipv4" ? inner.tos : inner.kind === "ipv6" ? inner.trafficClass : NaN;
  const payload = inner.kind === "ipv4" ? 4 : 41;
  const protocol = { none: NaN, ipip: payload, gre: 47, fou: 17, gue: 17 }[tunnel];
  const total = lengthOf(packet) + overheadOf(tunnel, address);
  const isIpv4 = Address.parse(address).family === 4;
  const ip: Header = isIpv4
    ? {
      kind: "ipv4",
      tos,
      totalLength: total,
      id: 0,
      dontFragment: true,
      moreFragments: false,
      fragmentOffset: 0,
      ttl: 64,
      protocol,
      source: OUTER_SOURCE[4],
      destination: address,
      options: new Uint8Array(0),
    }
    : {
      kind: "ipv6",
      trafficClass: tos,
      flowLabel: 0,
      payloadLength: total - 40,
      nextHeader: protocol,
      hopLimit: 64,
      source: OUTER_SOURCE[6],
      destination: address,
    };
  if (tunnel === "ipip") return [ip];
  if (tunnel === "gre") return [ip, { kind: "gre", protocol: payload === 4 ? 0x0800 : 0x86dd }];
  const udp: Header = {
    kind: "udp",
    sourcePort: 0xc000 + entropy % 0x4000,
    destinationPort: tunnel === "fou" ? TUNNEL_PORTS.fou : TUNNEL_PORTS.gue,
    length: total - (isIpv4 ? 20 : 40),
    checksum,
  };
  return tunnel === "fou" ? [ip, udp] : [ip, udp, { kind: "gue", protocol: payload }];
}

/** A tag is rewritten, pushed or popped as the destination's network wants it; an outer one stays. */
function tagsFor(tags: readonly Vlan[], vlan: number): Vlan[] {
  if (vlan === 0) return [];
  const inner = tags.at(-1);
  return [
    ...tags.slice(0, -1),
    { type: inner?.type ?? 0x8100, priority: inner?.priority ?? 0, id: vlan },
  ];
}

/** What a packet must look like once it is on its way. `entropy` is the flow's, for UDP tunnels. */
export function forwarded(packet: Packet, way: Way, entropy: number): Packet {
  const { address, tunnel, vlan = 0 } = way;
  const viaIpv4 = tunnel === "none"
    ? packet.headers[0]?.kind === "ipv4"
    : Address.parse(address).family === 4;
  return {
    ethernet: {
      destination: macOf(address),
      source: BALANCER_MAC,
      tags: tagsFor(packet.ethernet.tags, vlan),
      type: viaIpv4 ? 0x0800 : 0x86dd,
    },
    headers: tunnel === "none"
      ? withTtl(packet.headers, () => 1)
      : [...outerHeaders(packet, way, entropy), ...withTtl(packet.headers, (ttl) => ttl - 1)],
    payload: packet.payload,
    // A frame with an outer header is long enough without.
    padding: tunnel === "none" ? packet.padding : new Uint8Array(0),
  };
}

/** Reads a frame that may be in a tunnel. */
export function parseAny(frame: Uint8Array): Packet {
  return parse(frame, UDP_TUNNELS);
}

/** Checks that a frame was sent to where it should be, and nothing else was done to it. */
export function assertForwarded(frame: Uint8Array, sent: Sent, way: Way, entropy?: number): void {
  const packet = parse(frame);
  assertEquals([sent.action, sent.reason], ["tx", "forwarded"]);
  assertEquals(sent.octets, lengthOf(packet));
  assertEquals(
    parseAny(sent.frame),
    forwarded(packet, way, entropy ?? hashOf(tupleOf(packet)).low),
  );
}
