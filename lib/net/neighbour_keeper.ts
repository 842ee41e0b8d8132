/**
 * Has the kernel find neighbours and keep them found, and leaves none of that behind.
 *
 * @module
 */
import type { Address } from "./address.ts";
import { batch, batchError, lastReason, type Neighbour, neighbours } from "./ip.ts";
import type { Namespace } from "./namespace.ts";

/** A neighbour: an address on an interface. */
export interface NeighbourId {
  address: Address;
  /** The name of the interface. */
  interface: string;
}

/** The neighbours that the kernel knows, by {@linkcode neighbourKey}. */
export type NeighbourTable = ReadonlyMap<string, Neighbour>;

/** Marks entries as ours (`NDA_PROTOCOL`); a number that nobody else is known to use. */
const PROTOCOL = "120";
/** The most lines of one batch that may fail before the rest is given up too. */
const MOST_FAILURES = 16;
const STATES_WITH_MAC = new Set(["REACHABLE", "STALE", "DELAY", "PROBE", "PERMANENT"]);
/** Somebody has set these by hand, or they need no finding. */
const FIXED_STATES = new Set(["PERMANENT", "NOARP"]);

/** What tells a neighbour from all others. */
export function neighbourKey({ address, interface: name }: NeighbourId): string {
  return `${address} ${name}`;
}

/** The MAC of an entry, if it is good to send to. */
export function usableMac(entry: Neighbour | undefined): string | undefined {
  return entry && STATES_WITH_MAC.has(entry.state) ? entry.mac : undefined;
}

/** What a line of `ip monitor neigh` says; undefined if the line is about something else. */
export function parseNeighbourLine(
  line: string,
): { neighbour: string; gone: boolean; mac: string | undefined } | undefined {
  const words = line.trim().split(/\s+/);
  const gone = words[0] === "Deleted";
  if (gone) words.shift();
  const [address, dev, name] = words;
  // A host's route looks the same but for the state.
  const state = words.find((word) => /^[A-Z]+$/.test(word));
  if (dev !== "dev" || state === undefined) return undefined;
  const mac = words[words.indexOf("lladdr") + 1];
  return {
    neighbour: `${address} ${name}`,
    gone,
    mac: STATES_WITH_MAC.has(state) ? mac?.toLowerCase() : undefined,
  };
}

/** All neighbours, by their keys. */
export async function neighbourTable(namespace?: Namespace): Promise<NeighbourTable> {
  return new Map((await neighbours(namespace)).map((each) => [neighbourKey(each), each]));
}

/** Entries of the neighbour tables that were asked for, and are to go when no longer wanted. */
export class NeighbourKeeper {
  readonly #namespace: Namespace | undefined;
  /** Those asked for; `adopted` if the kernel had learned them before. */
  readonly #kept = new Map<string, NeighbourId & { adopted: boolean }>();

  constructor(namespace?: Namespace) {
    this.#namespace = namespace;
  }

  /**
   * Asks the kernel to find neighbours and keep them found (`NTF_EXT_MANAGED`, kernel 5.16). An older
   * kernel does not know that flag and finds them this once.
   *
   * What others keep, and what was set by hand, is left alone. What another one of ours keeps, or kept before
   * it was killed, is released with the rest; it asks again if it lives.
   *
   * @returns why, for those that the kernel refused
   */
  async ask(wanted: readonly NeighbourId[], table: NeighbourTable): Promise<Map<string, string>> {
    for (const each of wanted) {
      const key = neighbourKey(each);
      const ours = table.get(key)?.protocol === PROTOCOL;
      if (ours && !this.#kept.has(key)) this.#kept.set(key, { ...each, adopted: false });
    }
    const asked = wanted.filter((each) => needsAsking(table.get(neighbourKey(each))));
    for (const each of asked) {
      const key = neighbourKey(each);
      const entry = table.get(key);
      const before = this.#kept.get(key)?.adopted ?? (entry?.mac !== undefined && !entry.managed);
      this.#kept.set(key, { ...each, adopted: entry !== undefined && before });
    }
    return await this.#send(asked);
  }

  /** Undoes what was asked: for all, or for all but some. Twice is no error. */
  async release(except: ReadonlySet<string> = new Set()): Promise<void> {
    const given = new Map([...this.#kept].filter(([key]) => !except.has(key)));
    for (const key of given.keys()) this.#kept.delete(key);
    for (let before = Infinity; given.size > 0;) {
      const table = await neighbourTable(this.#namespace);
      // The others have gone by themselves, or somebody has put another in their place.
      const ours = [...given].filter(([key]) => table.get(key)?.protocol === PROTOCOL);
      if (ours.length === 0) return;
      const result = await batch(
        ours.flatMap(([key, { adopted, ...id }]) =>
          releaseLines(id, adopted ? table.get(key)?.mac : undefined)
        ),
        this.#namespace,
      );
      // Where one went meanwhile, `ip` ended; what is left is for another turn.
      if (result.code === 0) return;
      if (ours.length >= before) throw batchError(result);
      before = ours.length;
    }
  }

  /** Sends requests; `ip` ends at the first that the kernel refuses, and is started again behind it. */
  async #send(asked: readonly NeighbourId[]): Promise<Map<string, string>> {
    const refused = new Map<string, string>();
    let left = asked;
    while (left.length > 0) {
      const result = await batch(left.map(requestLine), this.#namespace);
      if (result.code === 0) break;
      const why = lastReason(result.stderr);
      const table = await neighbourTable(this.#namespace);
      const at = left.findIndex((each) => !table.has(neighbourKey(each)));
      if (at < 0) throw batchError(result);
      const giveUp = refused.size + 1 >= MOST_FAILURES;
      for (const each of left.slice(at, giveUp ? undefined : at + 1)) {
        refused.set(neighbourKey(each), why);
      }
      left = giveUp ? [] : left.slice(at + 1);
    }
    return refused;
  }
}

function requestLine({ address, interface: name }: NeighbourId): string {
  // `extern_learn` keeps it out of the count of gc_thresh3, of which 10,000 would be too many.
  const flags = "use managed extern_learn";
  return `neighbour replace ${address} dev ${name} ${flags} protocol ${PROTOCOL}`;
}

/** Removes an entry, and where the kernel had learned it puts it back as if it had just done so. */
function releaseLines(
  { address, interface: name }: NeighbourId,
  mac: string | undefined,
): string[] {
  const removal = `neighbour delete ${address} dev ${name}`;
  if (mac === undefined) return [removal];
  return [removal, `neighbour add ${address} lladdr ${mac} dev ${name} nud stale`];
}

function needsAsking(entry: Neighbour | undefined): boolean {
  if (entry === undefined) return true;
  if (FIXED_STATES.has(entry.state)) return false;
  if (entry.managed && entry.protocol !== PROTOCOL) return false;
  return !entry.managed || usableMac(entry) === undefined;
}
