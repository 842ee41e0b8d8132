/**
 * From what is wished to what can be done: the next hops of destinations, found and checked.
 *
 * @module
 */
import { Address } from "../net/address.ts";
import type { NextHop, NextHopError } from "../net/next_hop.ts";
import { passable } from "./checks.ts";
import { type Entry, type Member, type Plan, same } from "./model.ts";
import type { NextHopSource } from "./seams.ts";
import { type Destination, type Service, serviceName } from "./types.ts";

/** What a service shall be; no destinations given: gone. */
export interface Wish {
  spec: Required<Service>;
  destinations: readonly Required<Destination>[] | undefined;
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
  readonly #services: ReadonlyMap<string, Entry>;
  readonly #timeoutMs: number;

  /** `timeoutMs`: how long neighbours may take to answer. */
  constructor(
    nextHops: NextHopSource,
    services: ReadonlyMap<string, Entry>,
    timeoutMs: number,
  ) {
    this.#nextHops = nextHops;
    this.#services = services;
    this.#timeoutMs = timeoutMs;
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
      const members = this.#services.get(serviceName(spec))?.members;
      return destinations?.map((each): Draft => ({
        spec: each,
        before: members?.get(each.address),
      }));
    });
    const unknown = drafts.flatMap((each) => each ?? []).filter(needsWay).map(({ spec }) => spec);
    const ways = await this.#ways(unknown, this.#timeoutMs);
    return wishes.map(({ spec }, i) => ({
      spec,
      destinations: drafts[i]?.map((draft) => ({
        spec: draft.spec,
        nextHop: needsWay(draft) ? wayTo(draft, ways) : draft.before?.nextHop,
      })),
    }));
  }

  /** Plans for the services of which a next hop has become another. Neighbours of nobody are let go. */
  async renew(): Promise<Plan[]> {
    const services = [...this.#services.values()];
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
