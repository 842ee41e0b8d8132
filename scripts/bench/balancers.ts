/**
 * The balancers that packets are measured on: real clients on real maps, with next hops made up and nothing
 * attached.
 *
 * @module
 */
import { Instance } from "../../lib/lb/instance.ts";
import type { NextHopSource } from "../../lib/lb/seams.ts";
import { Address } from "../../lib/net/address.ts";
import type { NextHop } from "../../lib/net/next_hop.ts";
import { Client, type Destination, type Options, type TunnelType, UDP_TUNNELS } from "../../mod.ts";

/** A setting that is never reached; as a track mask: no flow is counted. */
export const NEVER = 0xffffffff;

/** The VIPs of the one service of most balancers, and addresses of servers. */
export const VIP = { 4: "198.18.0.0", 6: "2001:db8::1" } as const;
const SERVER = { 4: "10.0.0.2", 6: "fd00::2" } as const;
const TUNNELS: readonly TunnelType[] = ["none", "ipip", "gre", "fou", "gue"];
const TUNNEL_PORT = 6080;

type Family = 4 | 6;

/** Everybody is one hop away, on the loopback, which test runs come from. */
export class NextHops implements NextHopSource {
  /** The last byte of everybody's MAC. */
  mac = 3;
  #told = Promise.withResolvers<void>();

  resolve(addresses: readonly Address[]): Promise<Map<string, NextHop>> {
    const hop: NextHop = {
      ifindex: 1,
      interface: "lo",
      sourceMac: "02:00:00:00:00:01",
      destinationMac: `02:00:00:00:00:${this.mac.toString(16).padStart(2, "0")}`,
      vlan: 0,
      mtu: 9000,
      source4: Address.parse("10.0.0.1"),
      source6: Address.parse("fd00::1"),
      onLink: true,
    };
    return Promise.resolve(new Map(addresses.map((address) => [address.toString(), hop])));
  }

  retain(): Promise<void> {
    return Promise.resolve();
  }

  /** As if the kernel had said that a neighbour has another MAC. */
  tell(): void {
    this.#told.resolve();
  }

  async *follow(signal: AbortSignal): AsyncGenerator<void> {
    signal.addEventListener("abort", () => this.#told.resolve());
    while (!signal.aborted) {
      await this.#told.promise;
      this.#told = Promise.withResolvers();
      if (!signal.aborted) yield;
    }
  }

  close(): Promise<void> {
    return Promise.resolve();
  }
}

/** A client, and the maps beneath it. */
export interface Balancer extends AsyncDisposable {
  readonly client: Client;
  readonly instance: Instance;
  readonly nextHops: NextHops;
}

/** A balancer without services. */
export async function balancer(options: Options): Promise<Balancer> {
  const instance = await Instance.load(options);
  const nextHops = new NextHops();
  const client = await Client.create([], options, { instance, nextHops });
  return { client, instance, nextHops, [Symbol.asyncDispose]: () => client.close() };
}

/** The port of the service whose destination has this tunnel, and an outer header of this family. */
export function portOf(tunnel: TunnelType, outer: Family): number {
  return 80 + 2 * TUNNELS.indexOf(tunnel) + (outer === 4 ? 0 : 1);
}

/** An address of a server; there are 65,000. */
export function server(index: number): string {
  return `10.${1 + (index >> 14)}.${(index >> 7) & 0x7f}.${1 + (index & 0x7f)}`;
}

function destination(address: string, tunnelType: TunnelType = "ipip"): Destination {
  const tunnelPort = UDP_TUNNELS.includes(tunnelType) ? TUNNEL_PORT : 0;
  return { address, tunnelType, tunnelPort };
}

function servers(count: number): Destination[] {
  return Array.from({ length: count }, (_, i) => destination(server(i)));
}

/** Lifts every limit of what is remembered and answered in a while. */
function unlimited({ instance }: Balancer): void {
  const settings = { flowBudget: NEVER, sampleBudget: NEVER, icmpBudget: NEVER };
  instance.adjust(settings);
}

/** For each tunnel, each family within and without, a service with one destination. */
export async function everyTunnel(options: Options): Promise<Balancer> {
  const made = await balancer(options);
  await made.client.setServices(
    ([4, 6] as const).flatMap((inner) =>
      ([4, 6] as const).flatMap((outer) =>
        TUNNELS.map((tunnel) => ({
          service: { address: VIP[inner], port: portOf(tunnel, outer) },
          destinations: [destination(SERVER[outer], tunnel)],
        }))
      )
    ),
  );
  unlimited(made);
  return made;
}

/** One service, as an instance has it whose options nobody touched. */
export async function untouched(): Promise<Balancer> {
  const made = await balancer({});
  await made.client.setService({ address: VIP[4], port: 80 }, ...servers(10));
  return made;
}

/** One service of many destinations. */
export async function manyDestinations(count: number, options: Options): Promise<Balancer> {
  const made = await balancer({ maxDestinations: count, ...options });
  await made.client.setService({ address: VIP[4], port: 80 }, ...servers(count));
  unlimited(made);
  return made;
}

/** One service of ten destinations, to which an eleventh has just been added. */
export async function changed(options: Options): Promise<Balancer> {
  const made = await manyDestinations(10, { ...options, maxDestinations: 11 });
  await made.client.setService({ address: VIP[4], port: 80 }, ...servers(11));
  return made;
}

/** Services, each with a VIP of its own and one destination. */
export async function manyServices(count: number, options: Options): Promise<Balancer> {
  const made = await balancer({ maxServices: count, ...options });
  await made.client.setServices(
    Array.from({ length: count }, (_, i) => ({
      service: { address: `198.18.${i >> 8}.${i & 0xff}`, port: 80 },
      destinations: servers(1),
    })),
  );
  unlimited(made);
  return made;
}
