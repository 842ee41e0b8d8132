/**
 * The programs of an instance.
 *
 * @module
 */
import type { BpfObject, BpfProgram } from "../bpf/mod.ts";

/** Their names in `bpf/xvs.bpf.c`. */
export const PROGRAM_NAMES = ["xvs", "probe"] as const;

/** One of them. */
export type ProgramName = (typeof PROGRAM_NAMES)[number];

/** What packets meet: those that come from the network, and those that come from this host. */
export class Programs implements Disposable {
  readonly #byName: Readonly<Record<ProgramName, BpfProgram>>;

  /** @param open gives a program, which is then this object's */
  constructor(open: (name: ProgramName) => BpfProgram) {
    using stack = new DisposableStack();
    const [xvs, probe] = PROGRAM_NAMES.map((name) => stack.use(open(name)));
    this.#byName = { xvs: xvs!, probe: probe! };
    stack.move();
  }

  /** Those of an object that is loaded; they outlive it. */
  static of(object: BpfObject): Programs {
    return new Programs((name) => object.program(name).duplicate());
  }

  get(name: ProgramName): BpfProgram {
    return this.#byName[name];
  }

  close(): void {
    for (const program of Object.values(this.#byName)) program.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}
