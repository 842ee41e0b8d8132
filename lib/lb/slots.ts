/** Numbers from a range, each given to one owner at a time. */
export class Slots {
  readonly size: number;
  readonly #first: number;
  readonly #free: number[] = [];
  #next: number;

  /** `size` numbers from `first` on. */
  constructor(first: number, size: number) {
    this.#first = this.#next = first;
    this.size = size;
  }

  /** A number that nobody has; throws what `full` makes if there is none. */
  take(full: () => Error): number {
    const freed = this.#free.pop();
    if (freed !== undefined) return freed;
    if (this.#next === this.#first + this.size) throw full();
    return this.#next++;
  }

  /** Gives a number back. */
  give(number: number): void {
    this.#free.push(number);
  }
}
