#!/usr/bin/env -S deno run -A
/**
 * Nanoseconds a packet, beside what the least of programs would take. `make bench` runs it.
 *
 * @module
 */
import { parseArgs } from "@std/cli/parse-args";
import { Instance } from "../lib/lb/instance.ts";
import type { NextHopSource } from "../lib/lb/seams.ts";
import { Address } from "../lib/net/address.ts";
import { Client, type Options, type TunnelType, UDP_TUNNELS } from "../mod.ts";
import { Runner, type Traffic } from "./bench_runner.ts";
import { main, print, table, UsageError, whole } from "./common.ts";

const HELP = `bench.ts [--rounds N] [--repeat N] [--json]

Runs the balancer and floor programs on packets in the kernel, without any network, in turns, and shows
the least and the median of the rounds. "net" is less floor_tx: what the program itself costs. The hosts
of others are noisy: compare within one run.

  --rounds N   how often each case runs (default 9)
  --repeat N   packets of a run (default 200000)
  --json       a line of JSON for each case
`;

const VIP = { 4: "192.0.2.1", 6: "2001:db8::1" } as const;
const OWN = { 4: Address.parse("10.0.0.1"), 6: Address.parse("fd00::1") } as const;
const SERVER = { 4: "10.0.0.2", 6: "fd00::2" } as const;
const OVERHEAD: Record<TunnelType, number> = { none: 0, ipip: 0, gre: 4, fou: 8, gue: 12 };
const ACK = 0x10, SYN = 0x02;
const NEVER = 0xffffffff;

type Family = 4 | 6;

/** Everybody is one hop away, on the loopback, which test runs come from. */
const NEXT_HOPS: NextHopSource = {
  resolve: (addresses) =>
    Promise.resolve(
      new Map(addresses.map((address) => [address.toString(), {
        ifindex: 1,
        interface: "lo",
        sourceMac: "02:00:00:00:00:01",
        destinationMac: "02:00:00:00:00:03",
        vlan: 0,
        mtu: 9000,
        source4: OWN[4],
        source6: OWN[6],
        onLink: true,
      }])),
    ),
  retain: () => Promise.resolve(),
  follow: async function* (): AsyncGenerator<void> {},
  close: () => Promise.resolve(),
};

interface Case {
  name: string;
  traffic: Traffic;
  growth: number;
  /** What to run: a floor by name, or the balancer with one service. */
  floor?: string;
  service?: { tunnel: TunnelType; outer: Family; options: Options };
}

function traffic(family: Family, more: Partial<Traffic> = {}): Traffic {
  const length = family === 4 ? 60 : 80;
  return { vip: VIP[family], port: 80, length, flows: 1, flags: ACK, ...more };
}

function balancer(
  name: string,
  family: Family,
  tunnel: TunnelType,
  more: Partial<Traffic> = {},
  { outer = family, options = {} }: { outer?: Family; options?: Options } = {},
): Case {
  const header = tunnel === "none" ? 0 : outer === 4 ? 20 : 40;
  return {
    name,
    traffic: traffic(family, more),
    growth: header + OVERHEAD[tunnel],
    service: { tunnel, outer, options: { trackMask: NEVER, ...options } },
  };
}

function cases(): Case[] {
  const list: Case[] = [
    { name: "floor_tx, IPv4", traffic: traffic(4), growth: 0, floor: "floor_tx" },
    { name: "floor_tx, IPv6", traffic: traffic(6), growth: 0, floor: "floor_tx" },
    { name: "floor_encap, IPv4", traffic: traffic(4), growth: 20, floor: "floor_encap" },
    { name: "floor_ring, IPv4", traffic: traffic(4), growth: 20, floor: "floor_ring" },
  ];
  for (const tunnel of ["none", "ipip", "gre", "fou", "gue"] as const) {
    list.push(balancer(`${tunnel}, IPv4, 60 bytes`, 4, tunnel));
    list.push(balancer(`${tunnel}, IPv4, 1400 bytes`, 4, tunnel, { length: 1400 }));
    list.push(balancer(`${tunnel}, IPv6`, 6, tunnel));
  }
  list.push(balancer("ipip, IPv4 in IPv6", 4, "ipip", {}, { outer: 6 }));
  list.push(balancer("ipip, IPv6 in IPv4", 6, "ipip", {}, { outer: 4 }));
  list.push(balancer("ipip, SYN", 4, "ipip", { flags: SYN }));
  for (const flows of [4096, 65536, 1 << 20]) {
    list.push(balancer(`ipip, ${flows} flows`, 4, "ipip", { flows }));
  }
  for (const flows of [1, 4096, 65536]) {
    const options = { trackMask: 0, maxFlows: 1 << 18 };
    list.push(balancer(`ipip, ${flows} flows, all looked up`, 4, "ipip", { flows }, { options }));
  }
  return list;
}

/** A balancer with one service, or a floor beside one. */
async function prepare(each: Case): Promise<(repeat: number) => number> {
  const { tunnel, outer, options } = each.service ??
    { tunnel: "ipip" as const, outer: 4 as const, options: { trackMask: NEVER } };
  const instance = await Instance.load(options);
  const client = await Client.create([], options, { instance, nextHops: NEXT_HOPS });
  await client.setService({ address: each.traffic.vip, port: 80 }, {
    address: SERVER[outer],
    tunnelType: tunnel,
    tunnelPort: UDP_TUNNELS.includes(tunnel) ? 6080 : 0,
  });
  const runner = await Runner.create(instance);
  const program = each.floor ? runner.floor(each.floor) : instance.program;
  // So that flows of a sample that is fixed stay looked up, however many there are.
  instance.settings = { ...instance.settings, sampleBudget: NEVER, flowBudget: NEVER };
  return (repeat) => runner.run(program, each.traffic, each.growth, repeat);
}

function median(numbers: readonly number[]): number {
  return numbers.toSorted((a, b) => a - b)[numbers.length >> 1]!;
}

await main(async () => {
  const args = parseArgs(Deno.args, {
    string: ["rounds", "repeat"],
    boolean: ["json", "help"],
    default: { rounds: "9", repeat: "200000" },
    alias: { help: "h" },
    unknown: (name) => {
      throw new UsageError(`bench.ts does not know "${name}": see --help`);
    },
  });
  if (args.help) return print(HELP);
  const rounds = Math.max(1, whole(args.rounds, 1000, "Number of rounds"));
  const repeat = Math.max(1000, whole(args.repeat, 1e8, "Number of packets"));
  const list = cases();
  const runs = [];
  for (const each of list) runs.push(await prepare(each));
  const times = list.map((): number[] => []);
  for (let round = 0; round < rounds; round++) {
    runs.forEach((run, i) => times[i]!.push(run(repeat)));
  }
  const least = times.map((all) => Math.min(...all));
  const ring = least[3]! - least[0]!;
  const rows = list.map(({ name, traffic }, i) => {
    const net = least[i]! - least[traffic.vip === VIP[4] ? 0 : 1]!;
    return {
      case: name,
      "ns least": least[i]!,
      "ns median": median(times[i]!),
      "ns net": net,
      "of floor_ring": (net / ring).toFixed(2),
    };
  });
  if (args.json) { for (const row of rows) print(JSON.stringify(row)); }
  else print(table(rows));
  Deno.exit(0);
});
