/**
 * A program that is run on one packet after another, with what it counted. Its counters are memory of this
 * process, so that looking at all of them after every packet costs no system call.
 *
 * @module
 */
import {
  BpfMap,
  BpfObject,
  type BpfProgram,
  elfOf,
  type EmbeddedObject,
} from "../../lib/bpf/mod.ts";
import { kernelAtLeast } from "../packets/harness.ts";

/** More than any header that the program puts before a frame; Linux before 6.6 takes 32. */
const POISON = kernelAtLeast(6, 6) ? 64 : 32;
const COUNTERS = "reason_counters";

/** What became of a packet. */
export interface Run {
  /** enum xdp_action. */
  action: number;
  /** The number of the only reason that was counted; -1 if it was not exactly one, once. */
  reason: number;
  /** Counted with it. */
  octets: number;
  /** The frame as it left; overwritten by the next run. */
  frame: Uint8Array;
}

/** The runner. */
export class Runner implements Disposable {
  readonly #programs: ReadonlyMap<string, BpfProgram>;
  readonly #owned: DisposableStack;
  /** Packets and octets of each reason, the lower halves of 64 bits at even places. */
  readonly #counters: Uint32Array;
  readonly #before: Uint32Array;
  readonly #poison = Uint8Array.from({ length: 251 + POISON }, (_, i) => 1 + (i * 31) % 255);
  #salt = 0;

  private constructor(
    programs: ReadonlyMap<string, BpfProgram>,
    counters: Uint8Array,
    owned: DisposableStack,
  ) {
    this.#programs = programs;
    this.#counters = new Uint32Array(counters.buffer, counters.byteOffset, counters.length / 4);
    this.#before = this.#counters.slice();
    this.#owned = owned;
  }

  /**
   * Loads an object.
   *
   * @param map gives the maps to share with another one that is loaded, by name; undefined: not that one
   */
  static async load(
    embedded: EmbeddedObject,
    reasons: number,
    variables: Record<string, number>,
    map: (name: string) => BpfMap | undefined,
  ): Promise<Runner> {
    using owned = new DisposableStack();
    const counters = owned.use(BpfMap.create({
      type: "array",
      keySize: 4,
      valueSize: 16,
      maxEntries: reasons,
      flags: ["mmapable"],
    }));
    const object = owned.use(BpfObject.open(await elfOf(embedded), { name: "fuzz" }));
    for (const name of object.mapNames) {
      const shared = name === COUNTERS ? counters : map(name);
      if (shared) object.reuseMap(name, shared);
    }
    for (const [name, value] of Object.entries(variables)) object.setVariable(name, value);
    object.load();
    return new Runner(object.programs, counters.view(), owned.move());
  }

  /** Runs a program on a packet. Bytes of no meaning stand before it, never the same twice in a row. */
  run(program: string, frame: Uint8Array, ifindex: number): Run {
    this.#salt = (this.#salt + 1) % 251;
    const metadata = this.#poison.subarray(this.#salt, this.#salt + POISON);
    const { retval, data } = this.#programs.get(program)!.testRun({
      data: frame,
      ingressIfindex: ifindex,
      metadata,
    });
    const counters = this.#counters, before = this.#before;
    let reason = -1, octets = 0, grown = 0;
    for (let at = 0; at < counters.length; at += 4) {
      const packets = counters[at]! - before[at]!;
      if (packets === 0 && counters[at + 2] === before[at + 2]) continue;
      grown += packets === 1 ? 1 : 2;
      reason = at / 4;
      octets = (counters[at + 2]! - before[at + 2]!) >>> 0;
      before[at] = counters[at]!;
      before[at + 2] = counters[at + 2]!;
    }
    return { action: retval, reason: grown === 1 ? reason : -1, octets, frame: data };
  }

  [Symbol.dispose](): void {
    this.#owned.dispose();
  }
}
