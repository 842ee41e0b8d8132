/**
 * A balancer whose packets, next hops and time are all the test's. It needs root, and no network.
 *
 * @module
 */
import { assertEquals } from "@std/assert";
import { kernelRelease, possibleCpus, u32 } from "../../lib/bpf/mod.ts";
import { type Reason, REASON_COUNTER, REASONS, type Settings } from "../../lib/lb/abi.gen.ts";
import { Instance } from "../../lib/lb/instance.ts";
import type { NextHopSource, ProbeLinks } from "../../lib/lb/seams.ts";
import { Address } from "../../lib/net/address.ts";
import { type NextHop, NextHopError } from "../../lib/net/next_hop.ts";
import { Client, type Options } from "../../mod.ts";
import { BALANCER_MAC } from "./build.ts";

/** What the program does with a packet: enum xdp_action. */
export const ACTIONS = ["aborted", "drop", "pass", "tx", "redirect"] as const;

export type Action = (typeof ACTIONS)[number];

/** The interface that a test run's packets come from: the loopback. */
export const IFINDEX = 1;

/** The balancer's own addresses, from which tunnels start. */
export const OUTER_SOURCE = { 4: "10.0.0.254", 6: "fd00::fe" } as const;

/** The MAC of the interface that this host sends probes by. */
export const PROBE_MAC = "02:00:00:00:00:0f";

/** Each CPU has its share of the flows, and one of them may meet all packets of a test. */
const SIZES = { maxServices: 64, maxDestinations: 256, maxFlows: 2048 * possibleCpus() };
/** More than any header that the program puts before a frame; Linux before 6.6 takes 32. */
const POISON = kernelAtLeast(6, 6) ? 64 : 32;
const NS_PER_S = 1_000_000_000;
/** Two ticks of every budget of the program. */
const TICKS_NS = 2n << 26n;

/** Whether the kernel is of that release, or a later one. */
export function kernelAtLeast(major: number, minor: number): boolean {
  const [ours = 0, less = 0] = kernelRelease().split(".").map(Number);
  return ours > major || (ours === major && less >= minor);
}

/** The MAC of a destination: that which ends like its address. */
export function macOf(address: string): string {
  const tail = Address.parse(address).bytes.slice(-2).toHex();
  return `02:aa:00:00:${tail.slice(0, 2)}:${tail.slice(2)}`;
}

/** The next hop to an address on the loopback's network. */
export function hopTo(address: string, rest: Partial<NextHop> = {}): NextHop {
  return {
    ifindex: IFINDEX,
    interface: "lo",
    sourceMac: BALANCER_MAC,
    destinationMac: macOf(address),
    vlan: 0,
    mtu: 1500,
    source4: Address.parse(OUTER_SOURCE[4]),
    source6: Address.parse(OUTER_SOURCE[6]),
    onLink: true,
    ...rest,
  };
}

/** Everybody is on a common network, but for what a test says of some. */
export class FakeNextHops implements NextHopSource {
  readonly #answers = new Map<string, Partial<NextHop> | undefined>();
  #wake = Promise.withResolvers<void>();
  #done = Promise.withResolvers<void>();

  /** Makes a next hop differ from the usual in some fields; undefined: it does not answer. */
  set(address: string, answer: Partial<NextHop> | undefined): void {
    this.#answers.set(address, answer);
  }

  /** As nothing had been set. */
  clear(): void {
    this.#answers.clear();
  }

  /** Tells the client to look again, and waits until it has done so. */
  async tell(): Promise<void> {
    this.#wake.resolve();
    await this.#done.promise;
  }

  resolve(addresses: readonly Address[]): Promise<Map<string, NextHop | NextHopError>> {
    return Promise.resolve(
      new Map(addresses.map(String).map((address) => [address, this.#answer(address)])),
    );
  }

  retain(): Promise<void> {
    return Promise.resolve();
  }

  async *follow(signal: AbortSignal): AsyncIterable<void> {
    signal.addEventListener("abort", () => this.#wake.resolve());
    while (true) {
      await this.#wake.promise;
      if (signal.aborted) return;
      const done = this.#done;
      this.#wake = Promise.withResolvers();
      this.#done = Promise.withResolvers();
      yield;
      done.resolve();
    }
  }

  close(): Promise<void> {
    return Promise.resolve();
  }

  #answer(address: string): NextHop | NextHopError {
    const answer = this.#answers.has(address) ? this.#answers.get(address) : {};
    return answer
      ? hopTo(address, answer)
      : new NextHopError(address, "unresolved", "it does not answer", true);
  }
}

/** How a frame comes in. */
export interface Arrival {
  /** The interface; default the loopback. */
  ifindex?: number;
  /** How many bytes of no meaning stand before it. */
  poison?: number;
  /** Whether it comes in where this host's own probes do. */
  probe?: boolean;
}

/** What became of a packet. */
export interface Sent {
  action: Action;
  /** The frame as it left, or as it stands if it did not. */
  frame: Uint8Array;
  reason: Reason;
  /** What was counted of it. */
  octets: number;
  /** How many flows more are remembered. */
  flows: number;
}

/** The fixture. */
export class Balancer implements AsyncDisposable {
  readonly client: Client;
  readonly instance: Instance;
  readonly nextHops: FakeNextHops;
  readonly #manual: BigUint64Array;
  readonly #settings: Settings;
  #salt = 0;

  private constructor(client: Client, instance: Instance, nextHops: FakeNextHops) {
    this.client = client;
    this.instance = instance;
    this.nextHops = nextHops;
    this.#settings = instance.settings;
    const clock = instance.variable("manual_clock_ns");
    this.#manual = new BigUint64Array(clock.buffer, clock.byteOffset, 1);
  }

  /** Nothing is tracked unless `trackMask` says so. */
  static async create(options: Options = {}): Promise<Balancer> {
    const complete = { ...SIZES, trackMask: 0xffffffff, ...options };
    const instance = await Instance.load(complete, { manual_clock: 1 });
    const nextHops = new FakeNextHops();
    // Probes come by the loopback too.
    const probeLinks: ProbeLinks = {
      open: (given) => {
        instance.map("interfaces").update(u32(IFINDEX), u32(IFINDEX));
        const networks = { 4: given[4], 6: given[6] };
        return Promise.resolve({ name: "lo", ifindex: IFINDEX, mac: PROBE_MAC, networks });
      },
      close: () => Promise.resolve(),
    };
    const client = await Client.create([], complete, { instance, nextHops, probeLinks });
    const balancer = new Balancer(client, instance, nextHops);
    instance.clock = () => balancer.nowNs;
    balancer.advance(1000);
    return balancer;
  }

  /** What the program and the client take for the time. */
  get nowNs(): bigint {
    return this.#manual[0]!;
  }

  /** Lets so many seconds go by. */
  advance(seconds: number): void {
    this.#manual[0]! += BigInt(Math.round(seconds * NS_PER_S));
  }

  /** How many flows are remembered. */
  get flows(): number {
    const { flows4, flows6 } = this.instance;
    return flows4.lookupBatch().count + flows6.lookupBatch().count;
  }

  /** Sends a packet; it must have exactly one reason. */
  send(frame: Uint8Array, arrival: Arrival = {}): Sent {
    const flows = this.flows;
    const before = this.#reasons();
    const sent = this.run(frame, arrival);
    const grown = this.#reasons().map(({ packets, octets }, i) => ({
      reason: REASONS[i]!,
      packets: packets - before[i]!.packets,
      octets: Number(octets - before[i]!.octets),
    })).filter(({ packets, octets }) => packets !== 0n || octets !== 0);
    assertEquals(
      grown.map(({ packets }) => packets),
      [1n],
      JSON.stringify(grown, (_, v) => `${v}`),
    );
    const { reason, octets } = grown[0]!;
    return { ...sent, reason, octets, flows: this.flows - flows };
  }

  /**
   * Sends a packet without asking what was counted: for many of them. The bytes before it are such that
   * what the program forgets to write in an outer header shows.
   */
  run(frame: Uint8Array, arrival: Arrival = {}): { action: Action; frame: Uint8Array } {
    const { ifindex = IFINDEX, poison = POISON } = arrival;
    // Never the same bytes twice in the same place, and none that is zero.
    this.#salt = (this.#salt + 1) % 251;
    const metadata = Uint8Array.from({ length: poison }, (_, i) => 1 + (i * 31 + this.#salt) % 255);
    const program = this.instance.programs.get(arrival.probe ? "probe" : "xvs");
    const ran = program.testRun({ data: frame, ingressIfindex: ifindex, metadata });
    const action = ACTIONS[ran.retval];
    if (!action) throw new Error(`The program returned ${ran.retval}`);
    return { action, frame: ran.data.slice() };
  }

  /** As it was at first, but for the time, for counters, and for which numbers come next. */
  async clear(): Promise<void> {
    await this.client.closeProbes();
    for (const { service } of this.client.services()) await this.client.removeService(service);
    const { flows4, flows6 } = this.instance;
    for (const table of [flows4, flows6, this.instance.map("probe_flows")]) {
      const { keys, count } = table.lookupBatch();
      if (count > 0) table.deleteBatch(keys, count);
    }
    this.nextHops.clear();
    this.instance.settings = this.#settings;
    this.#manual[0]! += TICKS_NS;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.client.close();
  }

  /** By number. */
  #reasons(): { packets: bigint; octets: bigint }[] {
    const { map } = this.instance.reasonCounters;
    const { valueStride } = map;
    const { values } = map.lookupBatch();
    return REASONS.map((_, reason) => {
      const total = { packets: 0n, octets: 0n };
      const end = (reason + 1) * valueStride;
      for (let at = reason * valueStride; at < end; at += REASON_COUNTER.size) {
        const { packets, octets } = REASON_COUNTER.decode(values, at);
        total.packets += packets;
        total.octets += octets;
      }
      return total;
    });
  }
}

/** Tests that share one balancer, since it takes a while to load; each begins with nothing set. */
export function packetTests(
  options: Options = {},
): (name: string, test: (balancer: Balancer) => void | Promise<void>) => void {
  let balancer: Balancer;
  Deno.test.beforeAll(async () => {
    balancer = await Balancer.create(options);
  });
  Deno.test.afterAll(() => balancer[Symbol.asyncDispose]());
  return (name, test) =>
    Deno.test(name, async () => {
      try {
        await test(balancer);
      } finally {
        await balancer.clear();
      }
    });
}
