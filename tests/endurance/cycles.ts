/**
 * Makes things and removes them, again and again, and tells what is left:
 * `deno run -A --v8-flags=--expose-gc tests/endurance/cycles.ts --services N --clients N --opens N --instances N`.
 *
 * @module
 */
import { parseArgs } from "@std/cli/parse-args";
import { queryXdp } from "../../lib/bpf/mod.ts";
import { RUN_DIRECTORY } from "../../lib/lb/lock.ts";
import type { Address } from "../../lib/net/address.ts";
import { Client, type Options, type Service } from "../../mod.ts";
import { Network } from "../bpf/support.ts";
import { destinations, FakeNextHops } from "../client/support.ts";
import { type Holdings, holdings, survivors } from "./holdings.ts";

/** A thing to do often. */
type Cycle = (round: number) => Promise<void>;

/** What a thing left behind, done so often. */
export interface Outcome {
  kind: string;
  cycles: number;
  /** Descriptors more than before. */
  descriptors: number;
  /** Kernel objects that were held in between, and are still there. */
  objects: string[];
  /** Bytes that a cycle has added, over the later half. */
  heapPerCycle: number;
  rssPerCycle: number;
  seconds: number;
}

const SMALL: Options = { maxServices: 8, maxDestinations: 64, maxFlows: 256, maxBlocked: 4 };
const SAMPLES = 20;
/** What compiled code, and memory that is free but not given back, may come to. */
const NOISE_BYTES = { heap: 6_000_000, memory: 40_000_000 } as const;
const INSTANCE = `endurance${Deno.pid}`;
const ROOT = "/sys/fs/bpf/xvs";

/** What is used at first and kept, such as code that is compiled. */
const WARM_UP = 10;

/** Needs `--v8-flags=--expose-gc`. */
function collect(): void {
  (globalThis as unknown as { gc(): void }).gc();
}

/** Bytes a cycle by the later half of samples: the slope of the line through them. */
function slope(samples: readonly (readonly [cycle: number, bytes: number])[]): number {
  const later = samples.slice(samples.length >> 1);
  const mean = (at: 0 | 1) => later.reduce((sum, sample) => sum + sample[at], 0) / later.length;
  const [x, y] = [mean(0), mean(1)];
  const above = later.reduce((sum, sample) => sum + (sample[0] - x) * (sample[1] - y), 0);
  const below = later.reduce((sum, sample) => sum + (sample[0] - x) ** 2, 0);
  return below === 0 ? 0 : above / below;
}

/**
 * Does something often.
 *
 * @param seen what is held in the middle of a cycle is added to it
 */
async function repeat(
  kind: string,
  cycles: number,
  cycle: Cycle,
  seen: Holdings,
): Promise<Outcome> {
  const started = performance.now();
  for (let i = 0; i < WARM_UP; i++) await cycle(i);
  const before = holdings().descriptors;
  const heap: [number, number][] = [], rss: [number, number][] = [];
  const step = Math.max(1, Math.floor(cycles / SAMPLES));
  for (let i = 1; i <= cycles; i++) {
    await cycle(i);
    if (i % step !== 0) continue;
    collect();
    const memory = Deno.memoryUsage();
    heap.push([i, memory.heapUsed + memory.external]);
    rss.push([i, memory.rss]);
    if (Deno.stderr.isTerminal()) console.error(`${kind}: ${i} of ${cycles}`);
  }
  return {
    kind,
    cycles,
    descriptors: holdings().descriptors - before,
    objects: await survivors(seen),
    heapPerCycle: Math.round(slope(heap)),
    rssPerCycle: Math.round(slope(rss)),
    seconds: Math.round((performance.now() - started) / 100) / 10,
  };
}

/** Does not write down what it was asked for. */
class QuietNextHops extends FakeNextHops {
  override resolve(addresses: readonly Address[]): ReturnType<FakeNextHops["resolve"]> {
    this.asked.length = 0;
    return super.resolve(addresses);
  }
}

function nothing(): Holdings {
  return { descriptors: 0, maps: new Set(), programs: new Set(), links: new Set() };
}

/** Keeps in mind what is held now. */
function remember(seen: Holdings): void {
  const now = holdings();
  for (const kind of ["maps", "programs", "links"] as const) {
    for (const id of now[kind]) seen[kind].add(id);
  }
}

function serviceOf(round: number): Service {
  return { address: round % 2 ? "192.0.2.1" : "2001:db8::1", port: 1 + round % 5 };
}

/** A service comes, changes and goes. */
async function useService(client: Client, round: number): Promise<void> {
  const service = serviceOf(round);
  await client.setService(service, ...destinations(2 + round % 6));
  await client.setService({ ...service, sticky: true }, ...destinations(1 + round % 4));
  await client.removeService(service);
}

/** Each kind, so often as is said; the last ones in a network namespace of this thread's own. */
async function run(kind: string, cycles: number): Promise<Outcome> {
  const seen = nothing();
  const seams = () => ({ nextHops: new QuietNextHops() });
  const now = (round: number) => {
    if (round % Math.ceil(cycles / SAMPLES) === 0) remember(seen);
  };
  switch (kind) {
    case "services": {
      const client = await Client.create([], SMALL, seams());
      const result = await repeat(kind, cycles, (round) => useService(client, round), nothing());
      remember(seen);
      await client.close();
      return { ...result, objects: await survivors(seen) };
    }
    case "clients": {
      using network = new Network();
      const cycle = async (round: number) => {
        await using client = await Client.create(["left"], SMALL, seams());
        await useService(client, round);
        now(round);
      };
      const result = await repeat(kind, cycles, cycle, seen);
      return { ...result, objects: [...result.objects, ...attachedTo(network.ifindex)] };
    }
    case "opens": {
      await (await Client.create([], { ...SMALL, instance: INSTANCE }, seams())).close();
      const cycle = async (round: number) => {
        await using client = await Client.open(INSTANCE, {}, seams());
        await useService(client, round);
      };
      try {
        return await repeat(kind, cycles, cycle, seen);
      } finally {
        await Client.remove(INSTANCE);
      }
    }
    case "instances": {
      using network = new Network();
      const cycle = async (round: number) => {
        const client = await Client.create(["left"], { ...SMALL, instance: INSTANCE }, seams());
        await useService(client, round);
        now(round);
        await client.close();
        await Client.remove(INSTANCE);
      };
      const result = await repeat(kind, cycles, cycle, seen);
      const left = [...pathsLeft(), ...attachedTo(network.ifindex)];
      return { ...result, objects: [...result.objects, ...left] };
    }
    default:
      throw new RangeError(`Cannot repeat "${kind}": it is not one of ${KINDS.join(", ")}`);
  }
}

export const KINDS = ["services", "clients", "opens", "instances"] as const;

/** What is still attached to an interface. */
function attachedTo(ifindex: number): string[] {
  const { native, generic } = queryXdp(ifindex);
  return native || generic ? [`a program on interface ${ifindex}`] : [];
}

/** Pins and locks of the instance. */
function pathsLeft(): string[] {
  return [ROOT, RUN_DIRECTORY].flatMap((directory) => {
    try {
      const names = [...Deno.readDirSync(directory)].map(({ name }) => name);
      return names.filter((name) => name.includes(INSTANCE)).map((name) => `${directory}/${name}`);
    } catch (error) {
      if (error instanceof Deno.errors.NotFound) return []; // the last instance has gone
      throw error;
    }
  });
}

/** What is wrong with an outcome; empty: nothing. */
export function complaints(outcome: Outcome): string[] {
  const { kind, cycles, descriptors, objects, heapPerCycle, rssPerCycle } = outcome;
  const found: string[] = [];
  if (descriptors > 0) found.push(`${descriptors} descriptors are still open`);
  found.push(...objects.map((object) => `${object} is still there`));
  for (const [what, bytes] of [["heap", heapPerCycle], ["memory", rssPerCycle]] as const) {
    if (bytes * cycles / 2 < NOISE_BYTES[what]) continue;
    found.push(`the ${what} grows by ${bytes} bytes a cycle`);
  }
  return found.map((each) => `after ${cycles} cycles of ${kind} ${each}`);
}

if (import.meta.main) {
  const args = parseArgs(Deno.args, { string: [...KINDS] });
  let failed = false;
  for (const kind of KINDS) {
    const cycles = Number(args[kind] ?? 0);
    if (cycles === 0) continue;
    const outcome = await run(kind, cycles);
    console.log(JSON.stringify(outcome));
    for (const complaint of complaints(outcome)) {
      console.error(complaint);
      failed = true;
    }
  }
  Deno.exit(failed ? 1 : 0);
}
