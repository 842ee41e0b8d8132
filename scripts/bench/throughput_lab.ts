/**
 * What `throughput.ts` runs within a namespace: `throughput_lab.ts ROUNDS MS`. Three interfaces in a row, each a
 * veth; packets of many flows come out of the first, the middle forwards them, and they end in the last:
 *
 *     source ==> in | whoever forwards | out ==> end
 *
 * @module
 */
import { interfaceIndex, type XdpLink } from "../../lib/bpf/mod.ts";
import type { NextHopSource } from "../../lib/lb/seams.ts";
import { Address } from "../../lib/net/address.ts";
import { run } from "../../lib/net/command.ts";
import { Client } from "../../mod.ts";
import { print, toJson } from "../common.ts";
import { balancer } from "./balancers.ts";
import { Runner } from "./runner.ts";
import type { Order, Sent } from "./sender.ts";
import { type Throughput, WAYS } from "./throughput.ts";
import { ACK, type Traffic } from "./traffic.ts";

type Way = (typeof WAYS)[number];

const TRAFFIC: Traffic = {
  vip: "198.18.0.1",
  port: 80,
  protocol: "tcp",
  length: 60,
  flows: 65536,
  vips: 1,
  flags: ACK,
};
/** Until all are under way, and until the last has arrived. */
const SETTLE_MS = 100;
const MAC = {
  source: "02:00:00:00:00:02",
  in: "02:00:00:00:00:01",
  out: "02:00:00:00:01:01",
  end: "02:00:00:00:01:02",
};

async function ip(...lines: string[]): Promise<void> {
  await run(["ip", "-batch", "-"], { stdin: lines.map((line) => `${line}\n`).join("") });
}

/** The interfaces, each with as many queues. */
async function connect(queues: number): Promise<void> {
  const many = `numrxqueues ${queues} numtxqueues ${queues}`;
  await run([
    "sysctl",
    "-q",
    "-w",
    "net.ipv4.ip_forward=1",
    "net.ipv4.conf.all.rp_filter=0",
    "net.ipv4.conf.default.rp_filter=0",
    "net.ipv6.conf.default.disable_ipv6=1",
  ]);
  await ip(
    `link add source address ${MAC.source} ${many} type veth peer name in address ${MAC.in} ${many}`,
    `link add out address ${MAC.out} ${many} type veth peer name end address ${MAC.end} ${many}`,
    ...["source", "in", "out", "end"].map((name) => `link set ${name} up`),
    "address add 10.1.0.1/24 dev in",
    "address add 10.2.0.1/24 dev out",
    `neighbour add 10.2.0.2 lladdr ${MAC.end} dev out`,
    "route add 198.18.0.0/16 via 10.2.0.2",
  );
  // With GRO a veth takes frames in batches, as a card does, also where no XDP program is.
  for (const name of ["in", "out"]) await run(["ethtool", "-K", name, "gro", "on"]);
}

async function disconnect(): Promise<void> {
  await ip("link del source", "link del out");
}

/** There is one server, behind the interface "out". */
function nextHops(): NextHopSource {
  const hop = {
    ifindex: interfaceIndex("out"),
    interface: "out",
    sourceMac: MAC.out,
    destinationMac: MAC.end,
    vlan: 0,
    mtu: 1500,
    source4: Address.parse("10.2.0.1"),
    source6: undefined,
    onLink: true,
  };
  return {
    resolve: (addresses) =>
      Promise.resolve(new Map(addresses.map((each) => [each.toString(), hop]))),
    retain: () => Promise.resolve(),
    follow: async function* (): AsyncGenerator<void> {},
    close: () => Promise.resolve(),
  };
}

/** Who has the packets that come in, until it is disposed of. */
interface Middle extends AsyncDisposable {
  /** How many packets the balancer has forwarded, if it is one. */
  readonly forwarded: () => bigint | undefined;
}

async function open(way: Way, runner: Runner): Promise<Middle> {
  const stack = new AsyncDisposableStack();
  let client: Client | undefined;
  if (way === "dropped as they arrive") {
    stack.use(runner.program("sink").attachXdp(interfaceIndex("in"), { mode: "native" }));
  } else if (way !== "kernel forwarding") {
    client = stack.use(
      await Client.create(["in", "out"], { mode: way }, { nextHops: nextHops() }),
    );
    const destination = { address: "10.2.0.2", tunnelType: "ipip" } as const;
    await client.setService({ address: TRAFFIC.vip, port: 80 }, destination);
  }
  return {
    forwarded: () => client?.info().metrics.forwarded,
    [Symbol.asyncDispose]: () => stack.disposeAsync(),
  };
}

/** Jiffies that all CPUs together were busy, and that they had. */
function cpuTime(): { busy: number; all: number } {
  const fields = Deno.readTextFileSync("/proc/stat").split("\n")[0]!.trim().split(/\s+/).slice(1, 9)
    .map(Number);
  const all = fields.reduce((sum, field) => sum + field, 0);
  return { busy: all - fields[3]! - fields[4]!, all };
}

interface Sample {
  pps: number;
  arrivedShare: number;
  busyCpus: number;
}

/** One run: so many senders, for so long. */
async function sample(runner: Runner, senders: number, ms: number): Promise<Sample> {
  const stop = new Int32Array(new SharedArrayBuffer(4));
  const { program, frame } = runner.aim(TRAFFIC, interfaceIndex("source"));
  const order: Order = { programId: program.id, frame, stop };
  const workers = Array.from(
    { length: senders },
    () => new Worker(import.meta.resolve("./sender.ts"), { type: "module" }),
  );
  const heard = () =>
    Promise.all(workers.map((worker) =>
      new Promise<unknown>((resolve, reject) => {
        worker.onmessage = ({ data }) => resolve(data);
        worker.onerror = (event) => reject(new Error(event.message));
      })
    ));
  await heard();
  const before = runner.arrived;
  const all = heard();
  for (const worker of workers) worker.postMessage(order);
  await wait(SETTLE_MS);
  const idle = cpuTime();
  await wait(ms);
  const busy = cpuTime();
  Atomics.store(stop, 0, 1);
  const sent = await all as Sent[];
  for (const worker of workers) worker.terminate();
  await wait(SETTLE_MS);
  const arrivedShare = Number(runner.arrived - before) /
    sent.reduce((sum, { frames }) => sum + frames, 0);
  return {
    pps: sent.reduce((sum, { frames, ms }) => sum + frames / ms * 1000, 0) * arrivedShare,
    arrivedShare,
    busyCpus: (busy.busy - idle.busy) / (busy.all - idle.all) * navigator.hardwareConcurrency,
  };
}

function wait(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

async function measure(queues: number, rounds: number, ms: number): Promise<Throughput[]> {
  await connect(queues);
  await using stack = new AsyncDisposableStack();
  stack.defer(disconnect);
  const { instance } = stack.use(await balancer({ maxFlows: 1024 }));
  const runner = stack.use(await Runner.create(instance));
  const attach = (name: string, program: string): XdpLink =>
    stack.use(runner.program(program).attachXdp(interfaceIndex(name), { mode: "native" }));
  attach("end", "sink");
  attach("source", "pass_on");
  const samples = new Map<Way, Sample[]>(WAYS.map((way) => [way, []]));
  for (let round = 0; round < rounds; round++) {
    for (const [way, list] of samples) {
      await using middle = await open(way, runner);
      const before = runner.arrived;
      list.push(await sample(runner, queues, ms));
      const arrived = runner.arrived - before;
      const forwarded = middle.forwarded() ?? arrived;
      if (forwarded < arrived) throw new Error(`Of ${arrived} packets ${forwarded} were forwarded`);
    }
  }
  return [...samples].map(([way, list]) => {
    const sorted = list.toSorted((a, b) => b.pps - a.pps);
    const [best] = sorted;
    return {
      way,
      queues,
      mostPps: Math.round(best!.pps),
      medianPps: Math.round(sorted[sorted.length >> 1]!.pps),
      arrivedShare: best!.arrivedShare,
      busyCpus: best!.busyCpus,
    };
  });
}

const [rounds = 1, ms = 1000] = Deno.args.map(Number);
for (const queues of [1, 2]) {
  for (const each of await measure(queues, rounds, ms)) print(toJson(each));
}
Deno.exit(0);
