/**
 * Next hops: where frames towards an address go. Found by the kernel's tables, and kept true.
 *
 * @module
 */
import type { Address } from "./address.ts";
import { type LinkInfo, links, routes } from "./ip.ts";
import { changes, delay } from "./monitor.ts";
import type { Namespace } from "./namespace.ts";
import {
  type NeighbourId,
  NeighbourKeeper,
  neighbourKey,
  type NeighbourTable,
  neighbourTable,
  parseNeighbourLine,
  usableMac,
} from "./neighbour_keeper.ts";
import { egress, NextHopError, type VlanOptions, VlanTable, type Way, wayByRoute } from "./way.ts";

export { NextHopError, type NextHopReason, type VlanOptions } from "./way.ts";

/** Where frames towards an address go. */
export interface NextHop {
  /** The interface that frames leave by: never a VLAN device, but what it stands on. */
  ifindex: number;
  /** Its name. */
  interface: string;
  /** Canonical; the interface's, or its VLAN device's. */
  sourceMac: string;
  /** Canonical; that of the address's owner, or of the router. */
  destinationMac: string;
  /** The VLAN ID that frames carry; 0: untagged. */
  vlan: number;
  /** The longest IP packet that fits, in bytes. */
  mtu: number;
  /** This host's own address there, to be the source of outer IPv4 headers; undefined if it has none. */
  source4: Address | undefined;
  /** This host's own address there, to be the source of outer IPv6 headers; undefined if it has none. */
  source6: Address | undefined;
  /** Whether the address is on the interface's own network, and not behind a router. */
  onLink: boolean;
}

/** How next hops are found. */
export interface NextHopsOptions extends VlanOptions {
  /** Whose tables are read. Default: this process's own. */
  namespace?: Namespace;
}

/** How long an answer may take. */
export interface ResolveOptions {
  /**
   * How long neighbours may take to answer, in milliseconds. Default 1000. With 0 they are asked, but not
   * waited for.
   */
  timeoutMs?: number;
}

/** How often {@linkcode NextHops.follow} yields even if nothing changes, in milliseconds. */
const INTERVAL_MS = 15_000;
const FIRST_LOOK_MS = 2;
const LONGEST_LOOK_MS = 100;

/**
 * Finds next hops. The neighbours that it asks about are kept resolved by the kernel until it is closed.
 *
 * @example
 * ```ts
 * import { Address } from "./address.ts";
 *
 * await using nextHops = new NextHops();
 * const destination = Address.parse("192.0.2.1");
 * for await (const _ of nextHops.follow(AbortSignal.timeout(60_000))) {
 *   const answer = (await nextHops.resolve([destination])).get(destination.toString());
 *   if (answer instanceof NextHopError) console.error(answer.message);
 *   else if (answer) console.log(answer.interface, answer.destinationMac);
 * }
 * ```
 */
export class NextHops implements AsyncDisposable {
  readonly #vlans: VlanTable;
  readonly #namespace: Namespace | undefined;
  readonly #keeper: NeighbourKeeper;
  /** The key of the neighbour of each address resolved. */
  readonly #neighbours = new Map<string, string>();
  /** What was found of each neighbour, by its key. */
  readonly #macs = new Map<string, string | undefined>();
  readonly #closing = new AbortController();
  readonly #busy = new Set<Promise<unknown>>();

  /**
   * @throws {RangeError} when a VLAN ID, a prefix's family or a route cannot be
   * @throws {AddressError} when a prefix is none
   */
  constructor(options: NextHopsOptions = {}) {
    this.#vlans = new VlanTable(options);
    this.#namespace = options.namespace;
    this.#keeper = new NeighbourKeeper(options.namespace);
  }

  /**
   * The next hop of each address, or why it has none, by the addresses' texts. Neighbours that are not
   * known are asked for, all at once, and waited for.
   *
   * @throws {CommandError} when `ip` fails altogether
   * @throws {MissingProgramError} when there is no `ip`
   */
  resolve(
    addresses: readonly Address[],
    { timeoutMs = 1000 }: ResolveOptions = {},
  ): Promise<Map<string, NextHop | NextHopError>> {
    return this.#whileOpen("resolve next hops", () => this.#resolve(addresses, timeoutMs));
  }

  /** Neighbours of all addresses but these need not be kept resolved any longer. */
  retain(addresses: readonly Address[]): Promise<void> {
    return this.#whileOpen("retain next hops", async () => {
      const texts = new Set(addresses.map(String));
      for (const text of this.#neighbours.keys()) {
        if (!texts.has(text)) this.#neighbours.delete(text);
      }
      const keys = new Set(this.#neighbours.values());
      for (const key of this.#macs.keys()) if (!keys.has(key)) this.#macs.delete(key);
      await this.#keeper.release(keys);
    });
  }

  /**
   * Yields at once, and then whenever an answer may have become another: soon after a change of an
   * interface, an address, a route, or the neighbour of an address that was resolved, and from time
   * to time. It ends with the signal.
   */
  follow(signal: AbortSignal): AsyncIterable<void> {
    return changes(AbortSignal.any([signal, this.#closing.signal]), {
      intervalMs: INTERVAL_MS,
      namespace: this.#namespace,
      matters: (line) => this.#matters(line),
    });
  }

  /**
   * Undoes what was asked of the kernel. Twice is no error.
   *
   * @param options.keep the kernel goes on keeping neighbours resolved, for whoever sends to them
   */
  async close({ keep = false }: { keep?: boolean } = {}): Promise<void> {
    this.#closing.abort();
    await Promise.allSettled(this.#busy);
    if (!keep) await this.#keeper.release();
  }

  /** As `close()`. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  async #whileOpen<T>(action: string, act: () => Promise<T>): Promise<T> {
    if (this.#closing.signal.aborted) throw new Error(`Cannot ${action}: closed`);
    const work = act();
    this.#busy.add(work);
    try {
      return await work;
    } finally {
      this.#busy.delete(work);
    }
  }

  async #resolve(
    addresses: readonly Address[],
    timeoutMs: number,
  ): Promise<Map<string, NextHop | NextHopError>> {
    const unique = new Map(addresses.map((address) => [address.toString(), address]));
    if (unique.size === 0) return new Map();
    const allLinks = await links(this.#namespace);
    const byName = new Map(allLinks.map((link) => [link.name, link]));
    const ways = await this.#ways([...unique.values()], allLinks, byName);

    const wanted = new Map<string, NeighbourId>();
    for (const way of ways.values()) {
      if (way instanceof NextHopError) continue;
      wanted.set(neighbourKey(neighbourOf(way)), neighbourOf(way));
    }
    const { table, refused } = await this.#find(wanted, timeoutMs);
    for (const key of wanted.keys()) this.#macs.set(key, usableMac(table.get(key)));

    return new Map(Array.from(ways, ([text, way]) => {
      if (way instanceof NextHopError) {
        this.#neighbours.delete(text);
        return [text, way];
      }
      const key = neighbourKey(neighbourOf(way));
      this.#neighbours.set(text, key);
      return [text, nextHop(text, way, this.#macs.get(key), byName, refused.get(key))];
    }));
  }

  async #ways(
    addresses: readonly Address[],
    allLinks: readonly LinkInfo[],
    byName: ReadonlyMap<string, LinkInfo>,
  ): Promise<Map<string, Way | NextHopError>> {
    const decided = addresses.filter(({ family }) => this.#vlans.decidesFor(family));
    const routed = addresses.filter(({ family }) => !this.#vlans.decidesFor(family));
    const answers = await routes(routed, this.#namespace);
    const ways = decided.map((address) => [address, this.#vlans.wayTo(address, allLinks)] as const);
    for (const address of routed) {
      const route = answers.get(address.toString());
      if (route) ways.push([address, wayByRoute(address, route, byName)]);
    }
    return new Map(ways.map(([address, way]) => [
      address.toString(),
      way instanceof NextHopError ? way : checkInterface(address, way),
    ]));
  }

  /** Has neighbours found, and waits until each has answered, or failed to, or the time is over. */
  async #find(
    wanted: ReadonlyMap<string, NeighbourId>,
    timeoutMs: number,
  ): Promise<{ table: NeighbourTable; refused: Map<string, string> }> {
    const deadline = performance.now() + timeoutMs;
    let table = await neighbourTable(this.#namespace);
    const refused = await this.#keeper.ask([...wanted.values()], table);
    const pending = (): boolean =>
      wanted.keys().some((key) =>
        !refused.has(key) && !usableMac(table.get(key)) && table.get(key)?.state !== "FAILED"
      );
    // What was FAILED before it was asked for is not so any more.
    for (let wait = FIRST_LOOK_MS;; wait = Math.min(2 * wait, LONGEST_LOOK_MS)) {
      table = await neighbourTable(this.#namespace);
      const left = deadline - performance.now();
      if (left <= 0 || this.#closing.signal.aborted || !pending()) return { table, refused };
      await delay(Math.min(wait, left), this.#closing.signal);
    }
  }

  /**
   * Whether a line of `ip monitor` may change an answer. The kernel confirms neighbours all the time: that one
   * is what it was, or is of no concern here, changes none.
   */
  #matters(line: string): boolean {
    const { neighbour, gone, mac } = parseNeighbourLine(line) ?? {};
    if (neighbour === undefined) return true;
    if (!this.#macs.has(neighbour)) return false;
    return gone || mac !== this.#macs.get(neighbour);
  }
}

function neighbourOf({ neighbour, link }: Way): NeighbourId {
  return { address: neighbour, interface: link.name };
}

function checkInterface(address: Address, way: Way): Way | NextHopError {
  const { name, mac, up } = way.link;
  if (!up) {
    const why = `interface "${name}" is down`;
    return new NextHopError(address.toString(), "no-interface", why);
  }
  if (mac === undefined) {
    const why = `interface "${name}" is not Ethernet`;
    return new NextHopError(address.toString(), "no-interface", why);
  }
  return way;
}

function nextHop(
  address: string,
  way: Way,
  destinationMac: string | undefined,
  links: ReadonlyMap<string, LinkInfo>,
  refusal: string | undefined,
): NextHop | NextHopError {
  const { link, neighbour, mtu, source4, source6, onLink } = way;
  if (destinationMac === undefined || link.mac === undefined) {
    const why = refusal ?? "it has not answered";
    const who = `neighbour "${neighbour}" on interface "${link.name}"`;
    return new NextHopError(address, "unresolved", `${who}: ${why}`, way.onLink);
  }
  const base = egress(link, links);
  if (base === undefined) {
    const why = `VLAN interface "${link.name}" is not on a plain interface of this namespace`;
    return new NextHopError(address, "no-interface", why);
  }
  return {
    ...base,
    sourceMac: link.mac,
    destinationMac,
    mtu,
    source4,
    source6,
    onLink,
  };
}
