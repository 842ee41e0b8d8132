/**
 * What `bench.ts` measures of packets: a list, and how each entry comes to the balancer that it needs.
 *
 * @module
 */
import type { Reason } from "../../lib/lb/abi.gen.ts";
import type { Options, TunnelType } from "../../mod.ts";
import {
  type Balancer,
  changed,
  everyTunnel,
  manyDestinations,
  manyServices,
  NEVER,
  portOf,
  untouched,
  VIP,
} from "./balancers.ts";
import { ACK, SYN, type Traffic } from "./traffic.ts";

const XDP_DROP = 1, XDP_PASS = 2, XDP_TX = 3;
const OUTER = { 4: 20, 6: 40 } as const;
const TUNNEL: Record<TunnelType, number> = { none: 0, ipip: 0, gre: 4, fou: 8, gue: 12 };
const SMALLEST = { 4: 60, 6: 80 } as const;
/** So many flows that each packet is the first of one. */
const ENDLESS = 1 << 30;
/** What a table must hold for the most flows, with as much to spare: it is cut in pieces, one a CPU. */
const FLOWS = 1 << 20;
const LARGE = 4 * FLOWS;
const FLOW_COUNTS = [1, 4096, 65536, FLOWS];

type Family = 4 | 6;

/** One line of the table. */
export interface Case {
  readonly group: string;
  readonly name: string;
  readonly traffic: Traffic;
  readonly growth: number;
  readonly action: number;
  /** Why the program does what it does with every packet; a floor counts nothing, or "forwarded". */
  readonly reason: Reason | undefined;
  /** A program that is no balancer. */
  readonly floor?: string;
  /** Its place in `BALANCERS`. */
  readonly balancer: string;
  /** Whether flows are made known first. */
  readonly introduced?: boolean;
  readonly points?: readonly Point[];
}

/** A place in a plot. */
export interface Point {
  readonly plot: "flows" | "services" | "destinations";
  readonly curve: string;
  /** How many there are. */
  readonly x: number;
}

const STATELESS: Options = { trackMask: NEVER, maxFlows: 1024 };

/** How to make each balancer. One serves many cases. */
export const BALANCERS: Readonly<Record<string, () => Promise<Balancer>>> = {
  stateless: () => everyTunnel({ ...STATELESS, maxServices: 64 }),
  changed: () => changed({ trackMask: NEVER, maxFlows: LARGE / 4 }),
  tracked: () => everyTunnel({ trackMask: 0, maxFlows: LARGE, maxServices: 64 }),
  full: () => everyTunnel({ trackMask: 0, maxFlows: 65536, maxServices: 64 }),
  ...Object.fromEntries(FLOW_COUNTS.map((count) => [`default, ${count}`, untouched])),
  ...Object.fromEntries([1, 100, 4096].map((count) => [
    `${count} services`,
    () => manyServices(count, STATELESS),
  ])),
  ...Object.fromEntries([2, 255, 10_000].map((count) => [
    `${count} destinations`,
    () => manyDestinations(count, STATELESS),
  ])),
};

function traffic(family: Family, more: Partial<Traffic> = {}): Traffic {
  return {
    vip: VIP[family],
    port: portOf("ipip", family),
    protocol: "tcp",
    length: SMALLEST[family],
    flows: 1,
    vips: 1,
    flags: ACK,
    ...more,
  };
}

/** IPv4 in IPv4, to the one service of a balancer, unless said otherwise. */
function ipip(group: string, name: string, balancer: string, more: Partial<Traffic> = {}): Case {
  return {
    group,
    name,
    balancer,
    traffic: traffic(4, { port: 80, ...more }),
    growth: OUTER[4],
    action: XDP_TX,
    reason: "forwarded",
  };
}

function floors(): Case[] {
  const floor = (name: string, family: Family, growth: number, more: Partial<Traffic> = {}) => ({
    group: "floors",
    name: `${name}, IPv${family}` + (more.flows ? `, ${flowsText(more.flows)}` : ""),
    traffic: traffic(family, more),
    growth,
    action: XDP_TX,
    reason: name === "floor_ring" ? "forwarded" as const : undefined,
    floor: name,
    balancer: "stateless",
  });
  const many = floor("floor_ring", 4, OUTER[4], { flows: FLOWS });
  return [
    floor("floor_tx", 4, 0),
    floor("floor_tx", 6, 0),
    // To an address without a service.
    floor("floor_lookup", 4, 0, { vip: "198.19.0.1" }),
    floor("floor_encap", 4, OUTER[4]),
    { ...floor("floor_ring", 4, OUTER[4]), points: [{ plot: "flows", curve: "floor_ring", x: 1 }] },
    { ...many, points: [{ plot: "flows", curve: "floor_ring", x: FLOWS }] },
  ];
}

function through(tunnel: TunnelType, inner: Family, outer: Family, length: number): Case {
  const header = tunnel === "none" ? 0 : OUTER[outer];
  const mixed = inner === outer ? "" : ` in IPv${outer}`;
  return {
    group: "tunnels",
    name: `${tunnel}, IPv${inner}${mixed}, ${length} bytes`,
    traffic: traffic(inner, { port: portOf(tunnel, outer), length }),
    growth: header + TUNNEL[tunnel],
    action: XDP_TX,
    reason: "forwarded",
    balancer: "stateless",
  };
}

function tunnels(): Case[] {
  const cases: Case[] = [];
  for (const tunnel of ["none", "ipip", "gre", "fou", "gue"] as const) {
    for (const family of [4, 6] as const) {
      for (const length of [SMALLEST[family], 1400]) {
        cases.push(through(tunnel, family, family, length));
      }
    }
  }
  return [...cases, through("ipip", 4, 6, SMALLEST[4]), through("ipip", 6, 4, SMALLEST[6])];
}

function flowsText(flows: number): string {
  return flows === 1 ? "1 flow" : `${flows.toLocaleString("en")} flows`;
}

/** What it costs that a flow is looked up, and that flows are many. */
function flows(): Case[] {
  const curves = [
    ["untracked", "stateless", portOf("ipip", 4), false],
    ["after a change", "changed", 80, true],
    ["all tracked", "tracked", portOf("ipip", 4), true],
    // Its sample adapts to the flows that it sees: to each number a balancer of its own.
    ["default options", "default", 80, false],
  ] as const;
  return curves.flatMap(([curve, balancer, port, introduced]) =>
    FLOW_COUNTS.map((flows) => ({
      ...ipip(
        "flows",
        `${curve}, ${flowsText(flows)}`,
        balancer === "default" ? `default, ${flows}` : balancer,
        { port, flows },
      ),
      introduced: introduced && flows === FLOWS,
      points: [{ plot: "flows" as const, curve, x: flows }],
    }))
  );
}

function newFlows(): Case[] {
  const port = portOf("ipip", 4);
  return (["stateless", "full"] as const).flatMap((balancer) => {
    const kind = balancer === "full" ? "all tracked, table full" : "untracked";
    return [
      ipip("new flows", `SYN, ${kind}`, balancer, { port, flows: ENDLESS, flags: SYN }),
      ipip("new flows", `first ACK, ${kind}`, balancer, { port, flows: ENDLESS }),
    ];
  });
}

/** What is not forwarded. */
function others(): Case[] {
  const common = { group: "others", growth: 0, balancer: "stateless" };
  const elsewhere = { action: XDP_PASS, reason: "not_a_vip" } as const;
  return [
    {
      ...common,
      ...elsewhere,
      name: "not a VIP, IPv4",
      traffic: traffic(4, { vip: "198.19.0.1" }),
    },
    {
      ...common,
      ...elsewhere,
      name: "not a VIP, IPv6",
      traffic: traffic(6, { vip: "2001:db8::2" }),
    },
    {
      ...common,
      name: "no service at that port",
      traffic: traffic(4, { port: 9 }),
      action: XDP_DROP,
      reason: "err_service_not_found",
    },
    {
      ...common,
      name: "ping of a VIP, answered",
      traffic: traffic(4, { protocol: "icmp" }),
      action: XDP_TX,
      reason: "icmp_echo_request",
    },
  ];
}

function scale(): Case[] {
  const services = [1, 100, 4096].flatMap((count): Case[] => {
    const name = `${count.toLocaleString("en")} service${count === 1 ? "" : "s"}`;
    const one = ipip("services", `${name}, packets to one`, `${count} services`);
    const all = ipip("services", `${name}, packets to all`, `${count} services`, { vips: count });
    const [toOne, toAll, least] = ["packets to one", "packets to all", "floor_ring, to all"]
      .map((curve): Point => ({ plot: "services", curve, x: count }));
    return [
      count === 1 ? { ...one, name, points: [toOne!, toAll!] } : { ...one, points: [toOne!] },
      ...count === 1 ? [] : [{ ...all, points: [toAll!] }],
      { ...asFloor(all), points: [least!] },
    ];
  });
  const destinations = [2, 255, 10_000].flatMap((count): Case[] => {
    const name = `${count.toLocaleString("en")} destinations`;
    const all = ipip("destinations", name, `${count} destinations`, { flows: 65536 });
    const [ours, least] = ["65,536 flows", "floor_ring"]
      .map((curve): Point => ({ plot: "destinations", curve, x: count }));
    return [{ ...all, points: [ours!] }, { ...asFloor(all), points: [least!] }];
  });
  return [...services, ...destinations];
}

/** The same by floor_ring, which meets the same tables: what they cost anybody. */
function asFloor(each: Case): Case {
  return { ...each, name: `floor_ring, ${each.name}`, floor: "floor_ring" };
}

/** All of them. */
export function allCases(): Case[] {
  return [...floors(), ...tunnels(), ...flows(), ...newFlows(), ...others(), ...scale()];
}
