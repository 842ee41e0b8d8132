/** Numbers from a range, each given to one owner at a time. */
export class Slots {
  readonly size: number;
  readonly #free: number[] = [];
  readonly #end: number;
  #next: number;

  /** `size` numbers from `first` on, of which some are taken. */
  constructor(first: number, size: number, taken: ReadonlySet<number> = new Set()) {
    this.#next = first;
    this.#end = first + size;
    this.size = size;
    for (const number of taken) this.#next = Math.max(this.#next, number + 1);
    for (let number = this.#next - 1; number >= first; number--) {
      if (!taken.has(number)) this.#free.push(number);
    }
  }

  /** A number that nobody has; throws what `full` makes if there is none. */
  take(full: () => Error): number {
    const freed = this.#free.pop();
    if (freed !== undefined) return freed;
    if (this.#next === this.#end) throw full();
    return this.#next++;
  }

  /** Gives a number back. */
  give(number: number): void {
    this.#free.push(number);
  }
}
