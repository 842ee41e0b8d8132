/**
 * Frames that a seed decides, sent through a program and judged.
 *
 * @module
 */
import { Choices } from "./random.ts";
import { shrink } from "./shrink.ts";

/** Something that is not as it must be. */
export interface Finding {
  complaint: string;
  /** Which packet of the seed's. */
  packet: number;
  /** How often the scene had changed. */
  age: number;
  /** The frame, made smaller as far as it still shows it. */
  frame: Uint8Array;
}

/** What a target of fuzzing is. */
export interface Target {
  /** Sends a frame; says what is wrong with what became of it, if anything. */
  send(frame: Uint8Array): string | undefined;
  /** The next frame; a view that the one after it overwrites. */
  next(choices: Choices): Uint8Array;
  /** Something else than packets happens, as the choices say. */
  change(choices: Choices): Promise<void>;
  /** Time goes by. */
  advance(seconds: number): void;
  readonly age: number;
  /** Packets by the number of their reason. */
  readonly counts: Uint32Array;
  readonly reasons: readonly string[];
  close(): Promise<void>;
}

/** Packets between changes of the scene. */
const CALM = 2000;
/** Packets between two looks at the clock. */
const STRIDE = 250;
/** Seconds that go by with each packet. */
const PACE = 0.0001;

/** Sends packets of a seed until there are enough of them. */
export class Session {
  readonly findings: Finding[] = [];
  packets = 0;
  readonly #target: Target;
  readonly #packets: Choices;
  readonly #changes: Choices;

  constructor(target: Target, seed: number) {
    this.#target = target;
    this.#packets = new Choices(seed);
    this.#changes = new Choices(seed ^ 0x5eed);
  }

  /** So many more packets, and what changes meanwhile. */
  async run(packets: number): Promise<void> {
    for (const end = this.packets + packets; this.packets < end; this.packets++) {
      if (this.packets % STRIDE === 0) this.#target.advance(PACE * STRIDE);
      if (this.packets % CALM === CALM - 1) await this.#target.change(this.#changes);
      this.#try(this.#target.next(this.#packets));
    }
  }

  /** Makes the target as old as it was when something was found. */
  async grow(age: number): Promise<void> {
    while (this.#target.age < age) {
      for (let i = 0; i < CALM / STRIDE; i++) this.#target.advance(PACE * STRIDE);
      await this.#target.change(this.#changes);
    }
  }

  /** The first frames of the seed, cut at every length up to `longest`. */
  cuts(frames: number, longest: number): void {
    for (let i = 0; i < frames; i++) {
      const frame = this.#target.next(this.#packets).slice();
      for (let length = 14; length <= Math.min(frame.length, longest); length++) {
        this.#try(frame.slice(0, length));
      }
    }
  }

  #try(frame: Uint8Array): void {
    const complaint = this.#target.send(frame);
    if (complaint === undefined) return;
    const kind = kindOf(complaint);
    if (this.findings.some((finding) => kindOf(finding.complaint) === kind)) return;
    const small = shrink(frame.slice(), (candidate) => {
      const found = this.#target.send(candidate);
      return found !== undefined && kindOf(found) === kind;
    });
    const { age } = this.#target;
    this.findings.push({ complaint, packet: this.packets, age, frame: small });
  }
}

/** Complaints that differ in numbers and addresses alone are one. */
function kindOf(complaint: string): string {
  return complaint.replace(/[0-9a-f.:]*\d[0-9a-f.:]*/g, "N");
}
