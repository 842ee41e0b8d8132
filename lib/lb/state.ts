/**
 * All that an instance is to be, as one value: what is written to a file and read from one.
 *
 * @module
 */
import { refuseTwice } from "./checks.ts";
import { type CompleteConfig, completeConfig, type Config } from "./config.ts";
import { prefixName } from "./deny_list.ts";
import type { Wish } from "./planner.ts";
import {
  completeDestination,
  completeService,
  type Destination,
  type Service,
  serviceName,
} from "./types.ts";
import { fieldsOf, listOf } from "./values.ts";

/** A service with its destinations. */
export interface ServiceSet {
  service: Service;
  destinations: Destination[];
}

/** The same with every field set. */
export interface CompleteServiceSet extends ServiceSet {
  service: Required<Service>;
  destinations: Required<Destination>[];
}

/** What an instance is to be. What is left out stays as it is. */
export interface State {
  config?: Config;
  /** All services: others are removed. */
  services?: readonly ServiceSet[];
  /** All prefixes to block: others are blocked no longer. */
  block?: readonly string[];
}

/** What an instance is. */
export interface CompleteState extends State {
  config: CompleteConfig;
  services: CompleteServiceSet[];
  block: string[];
}

/** One thing that is to become another. */
export interface Difference {
  op: "add" | "change" | "remove";
  what: "config" | "service" | "destination" | "block";
  /** A field of the configuration, a service, an address or a prefix. */
  name: string;
  /** Of a destination: whose it is. */
  service?: string;
  /** Fields that are to be otherwise, or all. */
  before?: Readonly<Record<string, unknown>>;
  after?: Readonly<Record<string, unknown>>;
}

/**
 * Services with every field set.
 *
 * @throws {InvalidValueError} when a field cannot be, or something is there twice
 */
export function completeSets(sets: readonly ServiceSet[]): CompleteServiceSet[] {
  const complete = listOf(sets, "services").map((set) => {
    const { service, destinations } = fieldsOf(set, "services", "Service with its destinations");
    return {
      service: completeService(service),
      destinations: listOf(destinations, "destinations").map(completeDestination),
    };
  });
  refuseTwice(complete.map(({ service }) => serviceName(service)), "service");
  for (const { service, destinations } of complete) {
    const ofService = ` of service "${serviceName(service)}"`;
    refuseTwice(destinations.map(({ address }) => address), "destination", ofService);
  }
  return complete;
}

/**
 * A state with everything in it.
 *
 * @param present what is there, and stays where nothing else is said
 * @throws {InvalidValueError} when something cannot be
 */
export function completeState(state: State, present: CompleteState): CompleteState {
  const { config, services, block } = fieldsOf(state, "state", "State");
  return {
    config: config ? completeConfig(config) : present.config,
    services: services ? completeSets(services) : present.services,
    block: block ? [...new Set(listOf(block, "block").map(prefixName))] : present.block,
  };
}

/** A service as it shall be. */
export function wishOf({ service, destinations }: CompleteServiceSet): Wish {
  return { spec: service, destinations };
}

/** What is to be done that services become others. */
export function wishesFor(before: CompleteServiceSet[], after: CompleteServiceSet[]): Wish[] {
  const known = new Map(before.map((set) => [serviceName(set.service), set]));
  const wanted = new Set(after.map(({ service }) => serviceName(service)));
  const gone = before.filter(({ service }) => !wanted.has(serviceName(service)));
  const changed = after.filter((set) => !equal(known.get(serviceName(set.service)), set));
  return [
    ...gone.map(({ service }) => ({ spec: service, destinations: undefined })),
    ...changed.map(wishOf),
  ];
}

/** What tells one state from another, in the order in which people read it. */
export function differences(before: CompleteState, after: CompleteState): Difference[] {
  return [
    ...Object.keys({ ...before.config, ...after.config }).flatMap((name) =>
      compared("config", name, fieldOf(before.config, name), fieldOf(after.config, name))
    ),
    ...pairs(before.services, after.services, ({ service }) => serviceName(service))
      .flatMap(([name, old, now]) => [
        ...compared("service", name, old?.service, now?.service),
        ...pairs(old?.destinations ?? [], now?.destinations ?? [], ({ address }) => address)
          .flatMap(([address, old, now]) =>
            compared("destination", address, old, now).map((each) => ({ ...each, service: name }))
          ),
      ]),
    ...pairs(before.block, after.block, (prefix) => prefix)
      .flatMap(([name, old, now]) =>
        compared("block", name, old ? {} : undefined, now ? {} : undefined)
      ),
  ];
}

/** A field by itself, or nothing if it is not set. */
function fieldOf(config: CompleteConfig, name: string): Record<string, unknown> | undefined {
  const value = config[name as keyof CompleteConfig];
  return value === undefined ? undefined : { [name]: value };
}

/** Things of two lists by their names: first those that were there, then those that are new. */
function pairs<T>(
  before: readonly T[],
  after: readonly T[],
  nameOf: (thing: T) => string,
): [name: string, before: T | undefined, after: T | undefined][] {
  const old = new Map(before.map((thing) => [nameOf(thing), thing]));
  const now = new Map(after.map((thing) => [nameOf(thing), thing]));
  return [...new Set([...old.keys(), ...now.keys()])]
    .map((name) => [name, old.get(name), now.get(name)]);
}

function compared(
  what: Difference["what"],
  name: string,
  before: object | undefined,
  after: object | undefined,
): Difference[] {
  if (equal(before, after)) return [];
  if (!before) return [{ op: "add", what, name, after: { ...after } }];
  if (!after) return [{ op: "remove", what, name, before: { ...before } }];
  const old = before as Record<string, unknown>, now = after as Record<string, unknown>;
  const other = Object.keys({ ...old, ...now }).filter((key) => !equal(old[key], now[key]));
  const only = (from: Record<string, unknown>) =>
    Object.fromEntries(other.map((key) => [key, from[key]]));
  return [{ op: "change", what, name, before: only(old), after: only(now) }];
}

/** Equal as JSON, whatever the order of fields. */
function equal(a: unknown, b: unknown): boolean {
  if (typeof a !== "object" || typeof b !== "object" || !a || !b) return a === b;
  const one = a as Record<string, unknown>, other = b as Record<string, unknown>;
  const keys = Object.keys(one);
  return keys.length === Object.keys(other).length &&
    keys.every((key) => Object.hasOwn(other, key) && equal(one[key], other[key]));
}
