/**
 * What `bench.ts` shows people, and how it compares with what the balancer is to reach. Nothing here fails:
 * the hosts of others are noisy.
 *
 * @module
 */
import { siRate, table } from "../common.ts";
import type { Timing } from "./control_plane.ts";
import type { Memory } from "./memory.ts";
import type { Measurement } from "./packets.ts";
import type { Throughput } from "./throughput.ts";

/** The processor, the kernel and the date. */
export function host(): string {
  const cpus = Deno.readTextFileSync("/proc/cpuinfo");
  const model = /^model name\s*:\s*(.*)$/m.exec(cpus)?.[1] ?? Deno.build.arch;
  const count = navigator.hardwareConcurrency;
  const date = new Date().toISOString().slice(0, 10);
  return `${count} x ${model}, Linux ${Deno.osRelease()}, ${date}`;
}

/** Nanoseconds a packet. */
export function packetTable(measurements: readonly Measurement[]): string {
  return table(measurements.map((each) => ({
    "ns a packet": each.name,
    least: each.leastNs,
    median: each.medianNs,
    net: String(each.netNs),
    "of floor_ring": each.ofRing.toFixed(2),
  })));
}

/** Milliseconds. */
export function timingTable(timings: readonly Timing[]): string {
  const text = (ms: number) => ms >= 100 ? ms.toFixed(0) : ms.toPrecision(3);
  return table(timings.map(({ name, leastMs, medianMs, times }) => ({
    milliseconds: name,
    least: text(leastMs),
    median: text(medianMs),
    times,
  })));
}

/** Bytes. */
export function memoryTable(memory: readonly Memory[]): string {
  return table(memory.map(({ name, bytes }) => ({
    "bytes of kernel memory": name,
    each: bytes ?? "unknown",
  })));
}

/** Packets per second. */
export function throughputTable(list: readonly Throughput[]): string {
  const kernel = new Map(
    list.filter(({ way }) => way === "kernel forwarding").map((
      each,
    ) => [each.queues, each.mostPps]),
  );
  return table(list.map(({ way, queues, mostPps, medianPps, arrivedShare, busyCpus }) => ({
    "packets per second": way,
    queues,
    most: siRate(mostPps),
    median: siRate(medianPps),
    "of the kernel's": (mostPps / kernel.get(queues)!).toFixed(2),
    arrived: `${(100 * arrivedShare).toFixed(1)} %`,
    "CPUs busy": busyCpus.toFixed(1),
  })));
}

/** A figure to reach: what was measured, as a share of what it is compared with. */
export interface Target {
  readonly name: string;
  readonly measured: number;
  readonly limit: number;
}

/** The figures that the design promises, as far as they were measured. */
export function targets(measurements: readonly Measurement[], memory: readonly Memory[]): Target[] {
  const net = new Map(measurements.map(({ name, netNs }) => [name, netNs]));
  const found: Target[] = [];
  const compare = (name: string, some: readonly string[], base: string, limit: number) => {
    const values = some.flatMap((each) => net.get(each) ?? []);
    const other = net.get(base);
    if (values.length === 0 || other === undefined) return;
    found.push({ name, measured: Math.max(...values) / other, limit });
  };
  const all = [...net.keys()];
  const ipip = "ipip, IPv4, 60 bytes", one = "untracked, 1 flow";
  const small = /^(none|gre|fou|gue|ipip), IPv[46].*\b(60|80) bytes$/;
  compare("IP-in-IP over floor_ring", [ipip], "floor_ring, IPv4", 1.5);
  compare(
    "any number of flows over one",
    all.filter((name) => /^untracked, .* flows$/.test(name)),
    one,
    1.15,
  );
  compare("any tunnel and family over IP-in-IP", all.filter((name) => small.test(name)), ipip, 1.3);
  for (const name of all.filter((each) => /, 1400 bytes$/.test(each))) {
    const other = name.replace("1400", name.includes("IPv4") ? "60" : "80");
    compare(`${name} over ${other.split(", ").at(-1)}`, [name], other, 1.1);
  }
  compare(
    "a new flow over an established one",
    all.filter((name) => /^(SYN|first ACK), untracked$/.test(name)),
    one,
    1.1,
  );
  compare("not a VIP over floor_lookup", ["not a VIP, IPv4"], "floor_lookup, IPv4", 1);
  compare(
    "packets to one of many services",
    all.filter((name) => /^[\d,]+ services, packets to one$/.test(name)),
    "1 service",
    1.1,
  );
  compare(
    "packets to all of many services",
    all.filter((name) => /^[\d,]+ services, packets to all$/.test(name)),
    "1 service",
    1.1,
  );
  compare(
    "many destinations over two",
    all.filter((name) => /^[\d,]+ destinations$/.test(name)),
    "2 destinations",
    1.1,
  );
  const flow = memory.find(({ name }) => name === "tracked IPv4 flow")?.bytes;
  if (flow !== undefined) {
    found.push({ name: "bytes of a tracked IPv4 flow", measured: flow, limit: 100 });
  }
  return found;
}

export function targetTable(list: readonly Target[]): string {
  return table(list.map(({ name, measured, limit }) => ({
    target: name,
    measured: String(Math.round(measured * 100) / 100),
    "at most": limit,
    "": measured <= limit ? "" : "missed",
  })));
}
