/**
 * Sets of addresses or prefixes that a program looks up.
 *
 * @module
 */
import type { BpfMap } from "../bpf/mod.ts";
import type { Family } from "../net/address.ts";
import { TableFullError } from "./errors.ts";

/** A member of a set. */
export interface Key {
  /** As a person writes it. */
  readonly text: string;
  readonly family: Family;
  /** As the map has it. */
  readonly bytes: Uint8Array;
}

/** Keys that are in a map of their family, or not; this process alone writes the maps. */
export class KeySet {
  readonly #what: string;
  readonly #maps: Readonly<Record<Family, BpfMap>>;
  readonly #limit: number;
  #present = new Map<string, Key>();

  /**
   * @param what what a member is called
   * @param limit the most members of a family. A map must have room for twice as many, since the new ones
   * are there before the old ones go
   */
  constructor(what: string, maps: Readonly<Record<Family, BpfMap>>, limit: number) {
    this.#what = what;
    this.#maps = maps;
    this.#limit = limit;
  }

  /**
   * Makes the set be as given. What was in it before and still is stays there throughout.
   *
   * @throws {TableFullError} when there are too many; nothing was changed
   */
  replace(keys: readonly Key[]): void {
    const wanted = new Map(keys.map((key) => [key.bytes.toHex(), key]));
    for (const family of [4, 6]) {
      const excess = [...wanted.values()].filter((key) => key.family === family)[this.#limit];
      if (excess) {
        throw new TableFullError(`${this.#what} "${excess.text}"`, "maxEntries", this.#limit);
      }
    }
    const without = (from: Map<string, Key>, others: Map<string, Key>): Key[] =>
      [...from].filter(([hex]) => !others.has(hex)).map(([, key]) => key);
    const added: Key[] = [];
    try {
      for (const key of without(wanted, this.#present)) {
        this.#maps[key.family].update(key.bytes, Uint8Array.of(1));
        added.push(key);
      }
    } catch (error) {
      this.#remove(added);
      throw error;
    }
    this.#remove(without(this.#present, wanted));
    this.#present = wanted;
  }

  #remove(keys: readonly Key[]): void {
    for (const { family, bytes } of keys) this.#maps[family].delete(bytes);
  }
}
