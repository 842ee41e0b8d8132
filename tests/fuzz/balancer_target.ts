/**
 * The balancer as a target of fuzzing.
 *
 * @module
 */
import { interfaceIndex } from "../../lib/bpf/mod.ts";
import { REASONS } from "../../lib/lb/abi.gen.ts";
import { OBJECT } from "../../lib/lb/xvs.gen.ts";
import { Network } from "../bpf/support.ts";
import { Generator } from "./generate.ts";
import { Oracle } from "./oracle.ts";
import type { Choices } from "./random.ts";
import { type Run, Runner } from "./runner.ts";
import { Scene } from "./scene.ts";
import type { Target } from "./session.ts";

const NAMES = ["left", "right"] as const;

/** The balancer, within a network namespace of this thread's own. */
export class BalancerTarget implements Target {
  readonly counts: Uint32Array = new Uint32Array(REASONS.length);
  readonly reasons: readonly string[] = REASONS;
  readonly #owned: AsyncDisposableStack;
  readonly #scene: Scene;
  readonly #runner: Runner;
  readonly #oracle: Oracle;
  readonly #generator = new Generator();

  private constructor(scene: Scene, runner: Runner, owned: AsyncDisposableStack) {
    this.#scene = scene;
    this.#runner = runner;
    this.#oracle = new Oracle(scene);
    this.#owned = owned;
  }

  static async create(): Promise<BalancerTarget> {
    await using owned = new AsyncDisposableStack();
    owned.use(new Network());
    const indexes = NAMES.map(interfaceIndex) as [number, number];
    const scene = owned.use(await Scene.create(NAMES, indexes));
    const { instance } = scene.balancer;
    const share = (name: string) => name === ".rodata" ? undefined : instance.map(name);
    const runner = owned.use(
      await Runner.load(OBJECT, REASONS.length, { manual_clock: 1 }, share),
    );
    return new BalancerTarget(scene, runner, owned.move());
  }

  get age(): number {
    return this.#scene.age;
  }

  send(frame: Uint8Array, spoil: (run: Run) => void = () => {}): string | undefined {
    const ifindex = this.#scene.interfaces[0];
    const run = this.#runner.run("xvs", frame, ifindex);
    if (run.reason >= 0) this.counts[run.reason]!++;
    spoil(run);
    const complaint = this.#oracle.judge(frame, run);
    if (complaint || run.action < 3) return complaint;
    // What it sent once it sends again, and nothing of what stood before the frame shows.
    const first = run.frame.slice(), { reason } = run;
    const again = this.#runner.run("xvs", frame, ifindex);
    if (again.reason >= 0) this.counts[again.reason]!++;
    if (again.reason !== reason) {
      return this.#scene.frugal ? undefined : `then ${REASONS[again.reason]}: the same frame again`;
    }
    const differs = first.length !== again.frame.length ||
      first.findIndex((byte, i) => byte !== again.frame[i]) >= 0;
    return differs ? `${REASONS[reason]}: the same frame again came out another` : undefined;
  }

  next(choices: Choices): Uint8Array {
    return this.#generator.next(choices);
  }

  change(choices: Choices): Promise<void> {
    return this.#scene.change(choices);
  }

  advance(seconds: number): void {
    this.#scene.advance(seconds);
  }

  close(): Promise<void> {
    return this.#owned.disposeAsync();
  }
}
