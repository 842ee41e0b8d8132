/**
 * Probes and replies, and what must come of them.
 *
 * @module
 */
import { assert, assertEquals } from "@std/assert";
import { PROBE_PORTS, PROBE_PORTS_FROM } from "../../lib/lb/abi.gen.ts";
import type { Destination } from "../../mod.ts";
import { ethernet, type Layer, tcp, udp, type VlanTag } from "./build.ts";
import { forwarded, parseAny, type Way } from "./expect.ts";
import { type Balancer, macOf, OUTER_SOURCE, PROBE_MAC, type Sent } from "./harness.ts";
import { type Header, type Packet, parse } from "./parse.ts";
import { address, type Family, ip, VIP } from "./sample.ts";

/** Where probes come from: the first address of the network of probe addresses. */
export const HOST = { 4: "240.0.0.0", 6: "fd78:7673:7072:6f62::" } as const;
export const NETWORKS = { ipv4: `${HOST[4]}/12`, ipv6: `${HOST[6]}/80` };
export const PROTOCOLS = ["tcp", "udp"] as const;

export const TRANSPORT = {
  tcp: (ports: Ports, payload?: Uint8Array) => tcp({ ...ports, flags: ["syn"] }, payload),
  udp: (ports: Ports, payload?: Uint8Array) => udp(ports, payload),
};

export interface Ports {
  sourcePort: number;
  destinationPort: number;
}

/** What the host sends to a probe address. */
export function question(family: Family, to: string, transport: Layer, fields = {}): Uint8Array {
  const packet = ip(
    family,
    { source: HOST[family], destination: to, ttl: 64, ...fields },
    transport,
  );
  return ethernet({ destination: PROBE_MAC, source: PROBE_MAC }, packet);
}

/** What a server answers. */
export function reply(
  family: Family,
  transport: Layer,
  tags: VlanTag[] = [],
  from: string = VIP[family],
): Uint8Array {
  const packet = ip(
    family,
    { source: from, destination: OUTER_SOURCE[family], ttl: 63 },
    transport,
  );
  return ethernet({ tags, source: macOf(address(4, 2)) }, packet);
}

export function sendProbe(balancer: Balancer, frame: Uint8Array): Sent {
  return balancer.send(frame, { probe: true });
}

/** One service on each VIP, with these destinations, and their probe addresses. */
export async function probing(
  { client }: Balancer,
  family: Family,
  ...destinations: Destination[]
): Promise<string[]> {
  await client.setService({ address: VIP[family], port: 80 }, ...destinations);
  await client.openProbes(NETWORKS);
  return destinations.map((destination) => client.nat(VIP[family], destination.address)!);
}

/** The same packet with other ends, and another TTL. */
function changed({ headers, ...rest }: Packet, ends: Partial<EndsOf>): Packet {
  const { source, destination, sourcePort, destinationPort, ttl } = ends;
  const defined = (fields: object) =>
    Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined));
  return {
    ...rest,
    headers: headers.map((header): Header => {
      const { kind } = header;
      if (kind === "ipv4") return { ...header, ...defined({ source, destination, ttl }) };
      if (kind === "ipv6") return { ...header, ...defined({ source, destination, hopLimit: ttl }) };
      if (kind !== "tcp" && kind !== "udp") return header;
      return { ...header, ...defined({ sourcePort, destinationPort }) };
    }),
  };
}

interface EndsOf extends Ports {
  source: string;
  destination: string;
  ttl: number;
}

/** The innermost ports. */
export function portsOf(frame: Uint8Array): Ports {
  const header = parseAny(frame).headers.findLast(({ kind }) => kind === "tcp" || kind === "udp");
  if (header?.kind !== "tcp" && header?.kind !== "udp") throw new TypeError("no ports");
  return header;
}

/** Checks a probe on its way, and returns the port by which its reply is told. */
export function assertProbe(family: Family, frame: Uint8Array, sent: Sent, way: Way): number {
  assertEquals([sent.action, sent.reason], ["redirect", "probe"]);
  const { sourcePort } = portsOf(sent.frame);
  assert(sourcePort >= PROBE_PORTS_FROM && sourcePort < PROBE_PORTS_FROM + PROBE_PORTS);
  const ends = { source: OUTER_SOURCE[family], destination: VIP[family], sourcePort, ttl: 2 };
  assertEquals(parseAny(sent.frame), forwarded(changed(parse(frame), ends), way, sourcePort));
  return sourcePort;
}

/** Checks that a reply gets to the host as the answer of the probe address. */
export function assertReply(
  frame: Uint8Array,
  sent: Sent,
  from: string,
  to: string,
  port: number,
): void {
  assertEquals([sent.action, sent.reason], ["redirect", "probe_reply"]);
  const { ethernet, ...wanted } = changed(parse(frame), {
    source: from,
    destination: to,
    destinationPort: port,
  });
  const got = parse(sent.frame);
  assertEquals({ headers: got.headers, payload: got.payload, padding: got.padding }, wanted);
  assertEquals(got.ethernet.destination, PROBE_MAC);
  assertEquals([got.ethernet.tags, got.ethernet.type], [[], ethernet.type]);
}

export function swapped({ sourcePort, destinationPort }: Ports): Ports {
  return { sourcePort: destinationPort, destinationPort: sourcePort };
}

/** An ICMP error from the probe address to the host about what it sent. */
export function assertError(
  family: Family,
  frame: Uint8Array,
  sent: Sent,
  error: { to: string; type: Record<Family, number>; code: Record<Family, number>; mtu?: number },
): void {
  const { ethernet, headers: [outer, message], payload } = parse(sent.frame);
  assertEquals(ethernet.destination, PROBE_MAC);
  if (outer?.kind !== "ipv4" && outer?.kind !== "ipv6") throw new TypeError("no IP packet");
  assertEquals([outer.source, outer.destination], [error.to, HOST[family]]);
  if (message?.kind !== "icmp4" && message?.kind !== "icmp6") throw new TypeError("no ICMP");
  const { type, code, rest } = message;
  assertEquals([type, code, rest], [error.type[family], error.code[family], error.mtu ?? 0]);
  assertEquals(payload, frame.subarray(14).subarray(0, payload.length));
}
