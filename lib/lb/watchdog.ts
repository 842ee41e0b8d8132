/**
 * The sign of life that the program may wait for.
 *
 * @module
 */
import type { Instance } from "./instance.ts";

const NS_PER_S = 1_000_000_000n;
/** How many signs there are in the time that the program waits. */
const SIGNS = 3;

/** Puts off the time at which the program passes everything to the host, as long as this process lives. */
export class Watchdog {
  readonly #timer: ReturnType<typeof setInterval> | undefined;

  /** @param seconds how long the program waits; 0: it does not */
  constructor(instance: Instance, seconds: number) {
    if (seconds === 0) return;
    const putOff = () => {
      instance.adjust({ watchdogNs: instance.clock() + BigInt(seconds) * NS_PER_S });
    };
    putOff();
    const timer = setInterval(putOff, seconds * 1000 / SIGNS);
    Deno.unrefTimer(Number(timer));
    this.#timer = timer;
  }

  /** No more signs of life. */
  stop(): void {
    clearInterval(this.#timer);
  }
}
