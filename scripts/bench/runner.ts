/**
 * Runs programs on packets of many flows, in the kernel: see `bpf/bench.bpf.c`.
 *
 * @module
 */
import {
  BpfObject,
  type BpfProgram,
  Btf,
  elfOf,
  type TestRunResult,
  u32,
} from "../../lib/bpf/mod.ts";
import type { Instance } from "../../lib/lb/instance.ts";
import { OBJECT } from "./object.gen.ts";
import { familyOf, type Template, template, type Traffic } from "./traffic.ts";

/** What is to be run, and on what. */
export interface Run {
  readonly program: BpfProgram;
  readonly traffic: Traffic;
  /** How many bytes longer the program makes each frame. */
  readonly growth: number;
  /** The XDP action that it must come to. */
  readonly action: number;
}

/** A run that goes on where it stopped. */
export interface Course extends Run {
  readonly template: Template;
  /** The number of the packet that comes next. */
  next: number;
}

/** Maps that the floors share with a balancer. */
const SHARED = [
  "services4",
  "rings",
  "destinations",
  "destination_counters",
  "reason_counters",
  "service_counters",
];
/** Odd numbers: see `flow_of()`. Flows are made known in another order than they speak in later. */
const ORDER = { first: 0x85ebca6b, later: 0xc2b2ae35 };

/** The wrapper, and the floors. */
export class Runner implements Disposable {
  readonly #object: BpfObject;
  readonly #offsets: Map<string, number>;

  private constructor(object: BpfObject, offsets: Map<string, number>) {
    this.#object = object;
    this.#offsets = offsets;
  }

  /** `instance` is what floor_ring and floor_lookup read their tables from. */
  static async create(instance: Instance): Promise<Runner> {
    const elf = await elfOf(OBJECT);
    using stack = new DisposableStack();
    const object = stack.use(BpfObject.open(elf, { name: "bench" }));
    for (const name of SHARED) object.reuseMap(name, instance.map(name));
    object.load();
    const { members } = Btf.fromElf(elf).struct("bench");
    const offsets = new Map(members.map(({ name, offsetBits }) => [name, offsetBits / 8]));
    stack.move();
    return new Runner(object, offsets);
  }

  /** A program by its name in `bpf/bench.bpf.c`. */
  program(name: string): BpfProgram {
    return this.#object.program(name);
  }

  /** Gets ready to run something again and again. */
  course(run: Run): Course {
    return { ...run, template: template(run.traffic), next: 0 };
  }

  /** Every flow speaks once, in another order than {@linkcode Runner.run} has them. */
  introduce(course: Course): void {
    this.#run({ ...course }, course.traffic.flows, ORDER.first);
  }

  /**
   * The next packets.
   *
   * @returns nanoseconds a packet, the wrapper's own included
   * @throws {Error} when the program did something else than it was to
   */
  run(course: Course, packets: number): number {
    return this.#run(course, packets, ORDER.later).durationNs;
  }

  /** The next packet alone, as the program leaves it. */
  send(course: Course): Uint8Array {
    return this.#run(course, 1, ORDER.later).data.slice();
  }

  /** Gets send4 ready to make live frames of IPv4 traffic, and to send them out of an interface. */
  aim(traffic: Traffic, egress: number): { program: BpfProgram; frame: Uint8Array } {
    const made = template(traffic);
    this.#load({ traffic, template: made, growth: 0, next: 0 }, ORDER.later, egress);
    return { program: this.program("send4"), frame: made.frame };
  }

  /** How many packets the program sink has met. */
  get arrived(): bigint {
    const values = this.#object.map("arrived").lookupPerCpu(u32(0))!;
    return values.reduce(
      (sum, { buffer, byteOffset }) => sum + new DataView(buffer, byteOffset).getBigUint64(0, true),
      0n,
    );
  }

  #load(
    { traffic, growth, next, template }: Pick<Course, "traffic" | "growth" | "next" | "template">,
    order: number,
    egress = 0,
  ): DataView {
    const { frame, words, ipSum, transportSum } = template;
    const bench = this.#object.variable("bench");
    const view = new DataView(bench.buffer, bench.byteOffset, bench.byteLength);
    const at = (name: string) => this.#offsets.get(name)!;
    const set = (name: string, value: number) => view.setUint32(at(name), value >>> 0, true);
    bench.fill(0);
    words.forEach((word, i) => view.setBigUint64(at("words") + 8 * i, word, true));
    set("length", frame.length);
    set("growth", growth);
    set("ip_sum", ipSum);
    set("transport_sum", transportSum);
    set("flows", traffic.flows);
    set("half", Math.ceil(Math.log2(traffic.flows) / 2));
    set("order", order);
    set("next", next);
    set("vips", traffic.vips);
    set("egress", egress);
    bench.set(frame.subarray(0, 34), at("outer"));
    return view;
  }

  #run(course: Course, packets: number, order: number): TestRunResult {
    const { program, traffic, growth, action, template: { frame } } = course;
    const at = (name: string) => this.#offsets.get(name)!;
    this.#object.map("target").update(u32(0), u32(program.fd));
    const view = this.#load(course, order);
    const result = this.program(`wrap${familyOf(traffic)}`)
      .testRun({ data: frame, repeat: packets, sizeOut: frame.length + 256 });
    const { retval } = result;
    course.next = view.getUint32(at("next"), true);
    const [runs, wrong, failed] = ["runs", "wrong", "failed"]
      .map((name) => Number(view.getBigUint64(at(name), true)));
    // The first run finds a frame that has not grown.
    if (retval !== action || failed !== 0 || runs !== packets || wrong! > Number(growth !== 0)) {
      throw new Error(
        `"${program.name}" did otherwise than it was to: verdict ${retval} rather than ${action}, ` +
          `${wrong} frames of another length, ${failed} of ${runs} not run at all`,
      );
    }
    return result;
  }

  [Symbol.dispose](): void {
    this.#object.close();
  }
}
