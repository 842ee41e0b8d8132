/**
 * The loaded program, between the client's own registry and sweeper, carrying out histories beside the
 * model: what comes of them can be compared packet by packet.
 *
 * @module
 */
import { possibleCpus } from "../../lib/bpf/mod.ts";
import { isTracked } from "../../lib/lb/change.ts";
import { Connections } from "../../lib/lb/connections.ts";
import { Instance } from "../../lib/lb/instance.ts";
import type { Entry } from "../../lib/lb/model.ts";
import { Registry } from "../../lib/lb/registry.ts";
import { completeDestination, completeService, serviceName } from "../../lib/lb/types.ts";
import {
  type Executor,
  type Flow,
  type History,
  type Kind,
  type Step,
  VIP,
  WINDOW_NS,
  type Wish,
} from "../unit/state_history.ts";
import { Model } from "../unit/state_model.ts";
import { ethernet, ipv4, tcp, udp } from "./build.ts";
import { ACTIONS, hopTo } from "./harness.ts";

/** The program remembers when it saw a flow in units of so many nanoseconds: FLOW_SEEN_SHIFT. */
const UNIT_NS = 1n << 24n;
/** The key that the model hashes by. */
const HASH_KEY = new Uint8Array(16).fill(7);
/** So many destinations make a ring grow, and the size of the histories that asks for it. */
const CROWD = 80;
const LARGE = 211;

/** The history with a clock that ticks in the program's own units, so that it and the model agree on ages. */
export function inUnits(history: History): History {
  const { steps } = history;
  return {
    ...history,
    steps: {
      *[Symbol.iterator](): Generator<Step> {
        for (const step of steps) {
          yield step.op === "advance" ? { op: "advance", ns: step.ns / UNIT_NS * UNIT_NS } : step;
        }
      },
    },
  };
}

/** Breaks something after each change of the service, so that a test can see whether it is noticed. */
export type AfterChange = (program: Program, entry: Entry) => void | Promise<void>;

/** Executes histories one after the other. */
export class Program implements Executor, Disposable {
  readonly instance: Instance;
  readonly registry: Registry;
  readonly #connections: Connections;
  readonly #clock: BigUint64Array;
  readonly #afterChange: AfterChange | undefined;
  readonly #frames = new Map<string, Uint8Array>();
  #history: History | undefined;
  #model: Model | undefined;
  /** Whether rings may grow in this history, which takes time. */
  #grows = false;
  /** The first packet that the model would have sent elsewhere. */
  difference: string | undefined;

  private constructor(instance: Instance, afterChange?: AfterChange) {
    this.instance = instance;
    this.registry = new Registry(instance);
    this.#connections = new Connections(instance, this.registry);
    this.#afterChange = afterChange;
    const clock = instance.variable("manual_clock_ns");
    this.#clock = new BigUint64Array(clock.buffer, clock.byteOffset, 1);
    this.#clock[0] = 1_000_000n * UNIT_NS;
    instance.clock = () => this.#clock[0]!;
  }

  static async create(afterChange?: AfterChange): Promise<Program> {
    const sizes = { maxServices: 1, maxDestinations: 256, maxFlows: 1024 * possibleCpus() };
    const instance = await Instance.load({ ...sizes, hashKey: HASH_KEY }, { manual_clock: 1 });
    // The histories have samples of their own; a CPU that halved them would be right, but not alike.
    instance.settings = { ...instance.settings, sampleBudget: 0xffffffff };
    return new Program(instance, afterChange);
  }

  /** Forgets the history before, and begins another. */
  async begin(history: History): Promise<void> {
    await this.#forget();
    this.#history = history;
    this.#grows = history.seed % 16 === 0;
    this.difference = undefined;
    this.instance.settings = { ...this.instance.settings, sampleMask: history.sampleMask };
    this.#model = new Model(history);
  }

  async change(wish: Wish): Promise<void> {
    const spec = completeService({
      ...VIP,
      protocol: this.#history!.udp ? "udp" : "tcp",
      sticky: wish.sticky,
      idleTimeout: Number(WINDOW_NS / 1_000_000_000n),
    });
    const wanted = wish.targets.map(({ id, weight, enabled }) => ({
      address: id,
      weight,
      disable: !enabled,
    }));
    const idle = Array.from(
      { length: this.#grows && wish.size === LARGE ? CROWD : 0 },
      (_, i) => ({ address: `10.1.0.${i + 1}`, weight: 1, disable: true }),
    );
    const destinations = [...wanted, ...idle].map((destination) => ({
      spec: completeDestination(destination),
      nextHop: hopTo(destination.address),
    }));
    const before = this.registry.services.get(serviceName(spec))?.ring;
    await this.registry.commit([{ spec, destinations }]);
    const entry = this.registry.services.get(serviceName(spec))!;
    // What leaves the ring as it is does not begin a window; the model would.
    if (entry.ring !== before) this.#model!.change({ ...wish, size: entry.ring.size });
    await this.#afterChange?.(this, entry);
  }

  async settle(): Promise<void> {
    const [entry] = this.registry.services.values();
    // The tables are not swept for a ring of which nothing is tracked; the model always sweeps.
    const sweeps = entry!.ring.current.some(isTracked);
    await this.#connections.settle();
    if (sweeps) this.#model!.settle();
  }

  packet(flow: Flow, kind: Kind): string | undefined {
    const { retval, data } = this.instance.program.testRun({ data: this.#frame(flow, kind) });
    const action = ACTIONS[retval];
    if (action !== "tx" && action !== "drop") throw new Error(`The program says "${action}"`);
    const id = action === "tx" ? `10.0.0.${data[5]}` : undefined;
    const expected = this.#model!.packet(flow, kind);
    if (id !== expected) {
      this.difference ??=
        `Seed ${this.#history!.seed}: ${kind} of "${flow.address}:${flow.port}" ` +
        `went to "${id}", and with the model to "${expected}"`;
    }
    return id;
  }

  advanceClock(ns: bigint): void {
    this.#clock[0]! += ns;
    this.#model!.advanceClock(ns);
  }

  [Symbol.dispose](): void {
    this.registry.close();
    this.instance.close();
  }

  async #forget(): Promise<void> {
    const plans = [...this.registry.services.values()]
      .map(({ spec }) => ({ spec, destinations: undefined }));
    await this.registry.commit(plans);
    const { keys, count } = this.instance.flows4.lookupBatch();
    if (count > 0) this.instance.flows4.deleteBatch(keys, count);
  }

  #frame(flow: Flow, kind: Kind): Uint8Array {
    const { udp: isUdp } = this.#history!;
    const name = `${flow.address}:${flow.port} ${isUdp} ${kind}`;
    let frame = this.#frames.get(name);
    if (!frame) {
      const ports = { sourcePort: flow.port, destinationPort: VIP.port };
      const flags = kind === "syn" ? ["syn"] as const : ["ack"] as const;
      const segment = isUdp ? udp(ports) : tcp({ ...ports, flags });
      frame = ethernet({}, ipv4({ source: flow.address, destination: VIP.address }, segment));
      this.#frames.set(name, frame);
    }
    return frame;
  }
}
