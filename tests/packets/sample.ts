/**
 * The addresses that tests of packets share, and packets between them.
 *
 * @module
 */
import type { Destination, TunnelType } from "../../mod.ts";
import { icmp4, icmp6, type IcmpFields, ipv4, type Ipv4Fields } from "./build.ts";
import { ipv6, type Ipv6Fields, type Layer, type VlanTag } from "./build.ts";
import { TUNNEL_PORTS } from "./expect.ts";

export type Family = 4 | 6;
export const FAMILIES = [4, 6] as const;

export const VIP = { 4: "192.0.2.1", 6: "2001:db8::1" } as const;
/** Another one, which is no VIP unless a test makes it one. */
export const OTHER = { 4: "192.0.2.9", 6: "2001:db8::9" } as const;
export const CLIENT = { 4: "198.51.100.7", 6: "2001:db8:1::7" } as const;
export const ROUTER = { 4: "203.0.113.5", 6: "2001:db8:2::5" } as const;
export const PORTS = { sourcePort: 40000, destinationPort: 80 };

/** The tags that a frame may come with. */
export const TAGS: readonly VlanTag[][] = [
  [],
  [{ id: 100, priority: 0xb }],
  [{ type: 0x88a8, id: 100, priority: 0xb }],
  [{ type: 0x88a8, id: 7, priority: 0x3 }, { id: 100, priority: 0xb }],
  [{ id: 7, priority: 0x3 }, { id: 100, priority: 0xb }],
];

/** The destination of that number, from 1 on. */
export function address(family: Family, number: number): string {
  return family === 4 ? `10.0.${number >> 8}.${number & 0xff}` : `fd00::${number.toString(16)}`;
}

/** A destination behind a tunnel, with the port that goes with it. */
export function through(tunnelType: TunnelType, to: string): Destination {
  const tunnelPort = tunnelType === "fou" || tunnelType === "gue" ? TUNNEL_PORTS[tunnelType] : 0;
  return { address: to, tunnelType, tunnelPort };
}

/** Fields of a header that both families have, by the names of IPv4. */
export interface IpFields {
  source?: string;
  destination?: string;
  ttl?: number;
  tos?: number;
  /** Only of IPv4. */
  v4?: Partial<Ipv4Fields>;
  /** Only of IPv6. */
  v6?: Partial<Ipv6Fields>;
}

/** A packet from the client to the VIP, unless the fields say otherwise. */
export function ip(family: Family, fields: IpFields, payload: Layer): Layer {
  const { source = CLIENT[family], destination = VIP[family], ttl = 61, tos = 0 } = fields;
  return family === 4
    ? ipv4({ source, destination, ttl, tos, ...fields.v4 }, payload)
    : ipv6({ source, destination, hopLimit: ttl, trafficClass: tos, ...fields.v6 }, payload);
}

/** ICMP of the family. */
export function icmp(family: Family, fields: IcmpFields, body?: Uint8Array): Layer {
  return family === 4 ? icmp4(fields, body) : icmp6(fields, body);
}
