/**
 * Services, destinations and VIPs as the registry holds them.
 *
 * @module
 */
import { Address } from "../net/address.ts";
import type { NextHop } from "../net/next_hop.ts";
import type { RingState } from "./change.ts";
import type { Destination, Service } from "./types.ts";

/** A destination as it stands. */
export interface Member {
  spec: Required<Destination>;
  nextHop: NextHop | undefined;
  readonly slot: number;
  readonly generation: number;
}

/** A service as it stands. */
export interface Entry {
  readonly id: number;
  readonly vip: Vip;
  spec: Required<Service>;
  ring: RingState;
  /** Whether an entry of the ring is tracked. */
  tracked: boolean;
  readonly members: Map<string, Member>;
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
