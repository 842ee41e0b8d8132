/**
 * Random choices that a seed decides.
 *
 * @module
 */
import { random } from "../unit/random.ts";

/** A stream of choices. */
export class Choices {
  readonly #next: () => number;

  constructor(seed: number) {
    this.#next = random(seed);
  }

  /** A whole number from 0 to `limit` - 1. */
  below(limit: number): number {
    return this.#next() % limit;
  }

  /** A whole number from `low` to `high`. */
  between(low: number, high: number): number {
    return low + this.#next() % (high - low + 1);
  }

  /** True once in `n`. */
  oneIn(n: number): boolean {
    return this.#next() % n === 0;
  }

  /** One of them. */
  of<T>(values: readonly T[]): T {
    return values[this.#next() % values.length]!;
  }
}
