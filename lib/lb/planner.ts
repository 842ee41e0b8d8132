/**
 * From what is wished to what can be done: the next hops of destinations, found and checked.
 *
 * @module
 */
import { Address } from "../net/address.ts";
import type { NextHop, NextHopError } from "../net/next_hop.ts";
import { passable } from "./checks.ts";
import { type Entry, type Member, type Plan, planOf, same } from "./model.ts";
import type { NextHopSource } from "./seams.ts";
import { type Destination, type Service, serviceName } from "./types.ts";

/** What a service shall be; no destinations given: gone. */
export interface Wish {
  spec: Required<Service>;
  destinations: readonly Required<Destination>[] | undefined;
}

/** How plans are made. */
export interface PlannerOptions {
  /** How long neighbours may take to answer. */
  timeoutMs: number;
  /** Nobody calls {@linkcode Planner.renew}: the next hops of all that a plan touches are found again. */
  renew: boolean;
}

type Ways = ReadonlyMap<string, NextHop | NextHopError>;

/** A destination as it shall be, and as it is, if it is there. */
interface Draft {
  spec: Required<Destination>;
  before: Member | undefined;
}

/** Makes plans for services. */
export class Planner {
  readonly #nextHops: NextHopSource;
  readonly #registry: { readonly services: ReadonlyMap<string, Entry> };
  readonly #options: PlannerOptions;

  constructor(
    nextHops: NextHopSource,
    registry: { readonly services: ReadonlyMap<string, Entry> },
    options: PlannerOptions,
  ) {
    this.#nextHops = nextHops;
    this.#registry = registry;
    this.#options = options;
  }

  /**
   * Plans for wishes. Next hops are asked for where none is known: {@linkcode Planner.renew} keeps the
   * others true.
   *
   * @throws {InvalidValueError} when a new destination is behind a router and has no tunnel
   * @throws {UnreachableError} when there is no way to a new destination
   */
  async plan(wishes: readonly Wish[]): Promise<Plan[]> {
    const drafts = wishes.map(({ spec, destinations }) => {
      const members = this.#registry.services.get(serviceName(spec))?.members;
      return destinations?.map((each): Draft => ({
        spec: each,
        before: members?.get(each.address),
      }));
    });
    const all = drafts.flatMap((each) => each ?? []);
    const specsOf = (which: Draft[]) => which.map(({ spec }) => spec);
    const ways = new Map(await this.#ways(specsOf(all.filter(needsWay)), this.#options.timeoutMs));
    if (this.#options.renew) {
      // Those that are known are not waited for.
      const known = specsOf(all.filter((each) => !needsWay(each) && !ways.has(each.spec.address)));
      for (const [address, way] of await this.#ways(known, 0)) ways.set(address, way);
    }
    return wishes.map(({ spec }, i) => ({
      spec,
      destinations: drafts[i]?.map((draft) => ({
        spec: draft.spec,
        nextHop: ways.has(draft.spec.address) ? wayTo(draft, ways) : draft.before?.nextHop,
      })),
    }));
  }

  /** Plans that leave all services as they are. */
  keep(): Plan[] {
    return [...this.#registry.services.values()].map(planOf);
  }

  /**
   * Plans for wishes, with next hops as if none were known.
   *
   * @throws {InvalidValueError} when a destination is behind a router and has no tunnel
   * @throws {UnreachableError} when there is no way to a destination
   */
  async planAnew(wishes: readonly Wish[]): Promise<Plan[]> {
    const specs = wishes.flatMap(({ destinations }) => destinations ?? []);
    const ways = await this.#ways(specs, this.#options.timeoutMs);
    return wishes.map(({ spec, destinations }) => ({
      spec,
      destinations: destinations?.map((spec) => ({
        spec,
        nextHop: passable(spec, ways.get(spec.address)!),
      })),
    }));
  }

  /** Lets go of the neighbours of some addresses, whoever asked for them, unless others need the same. */
  async letGo(gone: readonly string[], stay: readonly string[]): Promise<void> {
    // What is not known to be ours cannot be given back.
    await this.#nextHops.resolve([...stay, ...gone].map(Address.parse), { timeoutMs: 0 });
    await this.#nextHops.retain(stay.map(Address.parse));
  }

  /** Plans for the services of which a next hop has become another. Neighbours of nobody are let go. */
  async renew(): Promise<Plan[]> {
    const services = [...this.#registry.services.values()];
    const all = services.flatMap(({ members }) => [...members.values()]).map(({ spec }) => spec);
    await this.#nextHops.retain(addressesOf(all));
    const ways = await this.#ways(all, 0);
    return services.map(({ spec, members }) => ({
      spec,
      destinations: [...members.values()].map((member) => ({
        spec: member.spec,
        nextHop: wayTo({ spec: member.spec, before: member }, ways),
      })),
    })).filter(({ destinations }, i) =>
      destinations.some(({ spec, nextHop }) =>
        !same(nextHop, services[i]!.members.get(spec.address)!.nextHop)
      )
    );
  }

  async #ways(destinations: readonly Destination[], timeoutMs: number): Promise<Ways> {
    const addresses = addressesOf(destinations);
    if (addresses.length === 0) return new Map();
    return await this.#nextHops.resolve(addresses, { timeoutMs });
  }
}

function addressesOf(destinations: readonly Destination[]): Address[] {
  return [...new Set(destinations.map(({ address }) => address))].map(Address.parse);
}

function needsWay({ spec, before }: Draft): boolean {
  return before?.nextHop === undefined || before.spec.tunnelType !== spec.tunnelType;
}

/**
 * The way to a destination. For one that is there already the last known way is better than none: a server
 * that has gone from the network must not stand in the way of other changes, nor of its own removal.
 */
function wayTo({ spec, before }: Draft, ways: Ways): NextHop | undefined {
  try {
    return passable(spec, ways.get(spec.address)!) ?? before?.nextHop;
  } catch (error) {
    if (before?.spec.tunnelType !== spec.tunnelType) throw error;
    return before.nextHop;
  }
}
