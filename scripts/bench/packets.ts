/**
 * Nanoseconds a packet: all cases in turns, so that what disturbs one disturbs its neighbours as well.
 *
 * @module
 */
import { type Reason, REASONS } from "../../lib/lb/abi.gen.ts";
import type { Instance } from "../../lib/lb/instance.ts";
import { type Balancer } from "./balancers.ts";
import { BALANCERS, type Case, type Point } from "./cases.ts";
import { type Course, Runner } from "./runner.ts";
import { familyOf } from "./traffic.ts";

/** What was measured of one case. */
export interface Measurement {
  readonly group: string;
  readonly name: string;
  /** Nanoseconds a packet, the wrapper's included: the least and the median of the rounds. */
  readonly leastNs: number;
  readonly medianNs: number;
  /** The least, less that of floor_tx: what the program itself takes. */
  readonly netNs: number;
  /** `netNs` as a multiple of that of floor_ring. */
  readonly ofRing: number;
  /** How many packets there were. */
  readonly packets: number;
  /** How many packets the program counted for each reason. */
  readonly counted: Partial<Record<Reason, number>>;
  /** IPv4 flows that the balancer remembers in the end; it may serve other cases as well. */
  readonly remembered: number;
  readonly points: readonly Point[];
}

export interface Rounds {
  readonly rounds: number;
  /** Packets of one run. */
  readonly repeat: number;
  /** Called after each round. */
  readonly progress: (done: number) => void;
}

/** Packets before those that are timed: as many as there are flows, within these bounds. */
const WARM_UP = { least: 2000, most: 65536 };

/** A case that is running. */
class Subject {
  readonly each: Case;
  readonly times: number[] = [];
  readonly counted: Partial<Record<Reason, number>> = {};
  packets = 0;
  readonly #runner: Runner;
  readonly #instance: Instance;
  readonly #course: Course;
  readonly #warmUp: number;

  constructor(each: Case, runner: Runner, instance: Instance) {
    this.each = each;
    this.#runner = runner;
    this.#instance = instance;
    const { traffic, growth, action, floor } = each;
    const program = floor ? runner.program(floor) : instance.program;
    this.#course = runner.course({ program, traffic, growth, action });
    this.#warmUp = Math.max(WARM_UP.least, Math.min(WARM_UP.most, traffic.flows));
    if (each.introduced) runner.introduce(this.#course);
  }

  measure(repeat: number): void {
    const before = reasons(this.#instance);
    this.#runner.run(this.#course, this.#warmUp);
    this.times.push(this.#runner.run(this.#course, repeat));
    const packets = this.#warmUp + repeat;
    this.packets += packets;
    const after = reasons(this.#instance);
    REASONS.forEach((reason, i) => {
      const more = Number(after[i]! - before[i]!);
      if (more > 0) this.counted[reason] = (this.counted[reason] ?? 0) + more;
    });
    const { name, reason } = this.each;
    const right = reason === undefined ? 0 : this.packets;
    const wrong = Object.entries(this.counted).filter(([each]) => each !== reason);
    if (wrong.length > 0 || (this.counted[reason!] ?? 0) !== right) {
      throw new Error(
        `Case "${name}" is not what it says: of ${this.packets} packets the program counted ` +
          JSON.stringify(this.counted),
      );
    }
  }

  get remembered(): number {
    return this.#instance.flows4.lookupBatch().count;
  }
}

function reasons(instance: Instance): bigint[] {
  return REASONS.map((_, i) => instance.reasonCounters.sum(i)[0]!);
}

function median(numbers: readonly number[]): number {
  return numbers.toSorted((a, b) => a - b)[numbers.length >> 1]!;
}

/** The cases that others are compared with. */
export const BASE = { 4: "floor_tx, IPv4", 6: "floor_tx, IPv6", ring: "floor_ring, IPv4" };

/** The balancer that they are measured on. */
const BASES = "stateless";

/**
 * Measures the cases.
 *
 * @param cases with those of {@linkcode BASE} among them
 * @throws {Error} when a case turns out to be something else than its name says
 */
export async function measurePackets(
  cases: readonly Case[],
  { rounds, repeat, progress }: Rounds,
): Promise<Measurement[]> {
  await using stack = new AsyncDisposableStack();
  const balancers = new Map<string, Balancer>();
  for (const name of new Set([BASES, ...cases.map(({ balancer }) => balancer)])) {
    balancers.set(name, stack.use(await BALANCERS[name]!()));
  }
  // A floor reads the tables of its balancer.
  const runners = new Map<string, Runner>();
  for (const name of new Set(cases.map(({ balancer, floor }) => floor ? balancer : BASES))) {
    runners.set(name, stack.use(await Runner.create(balancers.get(name)!.instance)));
  }
  const subjects = cases.map((each) => {
    const runner = runners.get(each.floor ? each.balancer : BASES)!;
    return new Subject(each, runner, balancers.get(each.balancer)!.instance);
  });
  for (let round = 0; round < rounds; round++) {
    for (const subject of subjects) subject.measure(repeat);
    progress(round + 1);
  }
  const least = new Map(subjects.map(({ each, times }) => [each.name, Math.min(...times)]));
  const net = ({ name, traffic }: Case) => least.get(name)! - least.get(BASE[familyOf(traffic)])!;
  const ring = least.get(BASE.ring)! - least.get(BASE[4])!;
  return subjects.map((subject) => ({
    group: subject.each.group,
    name: subject.each.name,
    leastNs: least.get(subject.each.name)!,
    medianNs: median(subject.times),
    netNs: net(subject.each),
    ofRing: Math.round(100 * net(subject.each) / ring) / 100,
    packets: subject.packets,
    counted: subject.counted,
    remembered: subject.remembered,
    points: subject.each.points ?? [],
  }));
}
