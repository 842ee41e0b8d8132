/**
 * Services, destinations and VIPs as the registry holds them.
 *
 * @module
 */
import { Address } from "../net/address.ts";
import type { NextHop } from "../net/next_hop.ts";
import { isTracked, type RingState } from "./change.ts";
import type { Destination, Service } from "./types.ts";

/** A destination as it stands. */
export interface Member {
  spec: Required<Destination>;
  nextHop: NextHop | undefined;
  readonly slot: number;
  readonly generation: number;
  /** Destinations are listed in the order of these. */
  readonly serial: number;
}

/** A ring, and the number of the map that holds it. */
export interface StoredRing {
  readonly state: RingState;
  readonly mapId: number;
}

/** A service as it stands. */
export class Entry {
  readonly id: number;
  readonly vip: Vip;
  readonly serial: number;
  readonly members = new Map<string, Member>();
  spec: Required<Service>;
  /** CLOCK_MONOTONIC: when the ring may be settled; 0: nothing of it is tracked. */
  settleNs = 0n;
  /** How often entries of the ring were made tracked where it stands. */
  marks = 0;
  readonly #load: () => StoredRing;
  #ring: StoredRing | undefined;

  /** @param load reads the ring, which is large, once somebody asks for it */
  constructor(
    fields: Pick<Entry, "id" | "vip" | "serial" | "spec">,
    load: () => StoredRing,
  ) {
    this.id = fields.id;
    this.vip = fields.vip;
    this.serial = fields.serial;
    this.spec = fields.spec;
    this.#load = load;
  }

  /** Which destination a flow gets. */
  get ring(): RingState {
    return (this.#ring ??= this.#load()).state;
  }

  /** Takes note of the ring that is in place now. */
  setRing(ring: StoredRing): void {
    this.#ring = ring;
    this.settleNs = ring.state.current.some(isTracked) ? ring.state.windowEndNs : 0n;
  }

  /** Another process has written: a ring that is in another map, or marked, is read again when asked for. */
  expectRing(mapId: number, marks: number): void {
    if (this.#ring?.mapId !== mapId || this.marks !== marks) this.#ring = undefined;
    this.marks = marks;
  }

  /** Takes note of marks: the ring is the same, but for entries that are tracked now. */
  markRing(state: RingState): void {
    this.setRing({ state, mapId: this.#ring!.mapId });
  }
}

/** A VIP as it stands. */
export interface Vip {
  readonly id: number;
  readonly address: Address;
  services: number;
}

/** What a service shall be; no destinations given: gone. */
export interface Plan {
  spec: Required<Service>;
  destinations: { spec: Required<Destination>; nextHop: NextHop | undefined }[] | undefined;
}

/** A plan that leaves a service as it is. */
export function planOf({ spec, members }: Entry): Plan {
  const destinations = [...members.values()].map(({ spec, nextHop }) => ({ spec, nextHop }));
  return { spec, destinations };
}

/** Equal field by field; both have the same fields. */
export function same<T extends object>(a: T | undefined, b: T | undefined): boolean {
  if (a === b) return true;
  if (!a || !b) return false;
  return (Object.keys(a) as (keyof T)[]).every((key) => {
    const one = a[key], other = b[key];
    if (one instanceof Address && other instanceof Address) return one.equals(other);
    return one === other;
  });
}
