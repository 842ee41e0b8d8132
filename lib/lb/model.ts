/**
 * Services, destinations and VIPs as the registry holds them.
 *
 * @module
 */
import type { Address } from "../net/address.ts";
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

/** Equal field by field. */
export function same(a: object | undefined, b: object | undefined): boolean {
  return a === b || JSON.stringify(a) === JSON.stringify(b);
}
