/**
 * Prefixes whose packets to VIPs are dropped.
 *
 * @module
 */
import { Address, AddressError, Prefix } from "../net/address.ts";
import { DENIED, type Denied, PREFIX4, PREFIX6 } from "./abi.gen.ts";
import { InvalidValueError, TableFullError } from "./errors.ts";
import type { Instance } from "./instance.ts";
import { Table } from "./table.ts";

/** A prefix that is blocked. */
export interface BlockedPrefix {
  prefix: string;
  /** Packets that it kept from VIPs. */
  packets: bigint;
}

/** A change of what is blocked, checked and not yet made. */
export interface DenyListChange {
  readonly journal: { readonly block: string[]; readonly unblock: string[] };
  carryOut(): void;
}

/** The kernel's tries are the only record. */
export class DenyList {
  readonly #instance: Instance;
  readonly #tables: Record<4 | 6, Table<Denied>>;

  constructor(instance: Instance) {
    this.#instance = instance;
    this.#tables = {
      4: new Table(instance.denied4, DENIED),
      6: new Table(instance.denied6, DENIED),
    };
  }

  /**
   * Blocks prefixes, all or none. Those that are blocked already go on counting.
   *
   * @throws {InvalidValueError} when one is neither prefix nor address
   * @throws {TableFullError} when there is no room
   */
  async block(texts: readonly string[]): Promise<void> {
    await this.#replace([...this.#names(), ...texts]);
  }

  /**
   * Lets packets from prefixes pass again; one that is not blocked is passed over.
   *
   * @throws {InvalidValueError} when one is neither prefix nor address; nothing was changed
   */
  async unblock(texts: readonly string[]): Promise<void> {
    const gone = new Set(texts.map(prefixOf).map(nameOf));
    await this.#replace(this.#names().filter((name) => !gone.has(name)));
  }

  /**
   * What is to be done so that these prefixes are blocked and no others.
   *
   * @throws {InvalidValueError} when one is neither prefix nor address
   * @throws {TableFullError} when there is no room
   */
  changeTo(texts: readonly string[]): DenyListChange {
    const known = new Set(this.#names());
    const wanted = new Map(texts.map(prefixOf).map((prefix) => [nameOf(prefix), prefix]));
    const limit = this.#instance.sizes.maxBlocked;
    for (const family of [4, 6] as const) {
      const excess = [...wanted.values()].filter((prefix) => prefix.family === family)[limit];
      if (excess) throw new TableFullError(`prefix "${nameOf(excess)}"`, "maxBlocked", limit);
    }
    const added = [...wanted.values()].filter((prefix) => !known.has(nameOf(prefix)));
    const removed = [...known].filter((name) => !wanted.has(name)).map(prefixOf);
    return {
      journal: { block: added.map(nameOf), unblock: removed.map(nameOf) },
      carryOut: () => {
        for (const prefix of removed) this.#tables[prefix.family].delete(keyOf(prefix));
        for (const prefix of added) this.#tables[prefix.family].set(keyOf(prefix), { packets: 0n });
        this.tellProgram();
      },
    };
  }

  async #replace(texts: readonly string[]): Promise<void> {
    const { journal, carryOut } = this.changeTo(texts);
    if (journal.block.length + journal.unblock.length === 0) return;
    await this.#instance.transact(() => journal, carryOut);
  }

  #names(): string[] {
    return this.list().map(({ prefix }) => prefix);
  }

  /** What is blocked. */
  list(): BlockedPrefix[] {
    return ([4, 6] as const).flatMap((family) =>
      [...this.#tables[family].entries()].map(([key, { packets }]) => {
        const codec = family === 4 ? PREFIX4 : PREFIX6;
        const length = codec.decode(key).length;
        const address = Address.fromBytes(key.slice(codec.offsets.address));
        return { prefix: `${address}/${length}`, packets };
      })
    );
  }

  /** Without a blocked prefix the program does not look for one. */
  tellProgram(): void {
    this.#instance.adjust({ deny: Number(this.list().length > 0) });
  }
}

function nameOf({ network, length }: Prefix): string {
  return `${network}/${length}`;
}

function keyOf({ family, network, length }: Prefix): Uint8Array {
  if (family === 6) return PREFIX6.encode({ length, address: network.bytes });
  const address = new DataView(network.bytes.slice().buffer).getUint32(0);
  return PREFIX4.encode({ length, address });
}

/**
 * The name that {@linkcode DenyList.list} gives a prefix or an address.
 *
 * @throws {InvalidValueError} when it is neither
 */
export function prefixName(text: string): string {
  return nameOf(prefixOf(text));
}

function prefixOf(text: string): Prefix {
  try {
    if (`${text}`.includes("/")) return Prefix.parse(text);
    const address = Address.parse(text);
    return Prefix.parse(`${address}/${address.family === 4 ? 32 : 128}`);
  } catch (error) {
    if (!(error instanceof AddressError)) throw error;
    throw new InvalidValueError(
      "prefix",
      text,
      `Source "${text}" is neither a prefix nor an address`,
    );
  }
}
