/**
 * What a change is going to do, written before its first step: should the process be killed, the next one that
 * changes the instance carries the change through. All of it may be done twice.
 *
 * @module
 */
import { Address } from "../net/address.ts";
import type { NextHop } from "../net/next_hop.ts";
import type { CompleteConfig } from "./config.ts";
import type { Plan } from "./model.ts";

/** A next hop, with its addresses as texts. */
type StoredNextHop = Omit<NextHop, "source4" | "source6"> & { source4?: string; source6?: string };

/** A plan, as JSON. */
export interface StoredPlan {
  spec: Plan["spec"];
  destinations?: {
    spec: NonNullable<Plan["destinations"]>[number]["spec"];
    nextHop?: StoredNextHop;
  }[];
}

/** One change. */
export interface Journal {
  /** What services shall be. */
  plans?: StoredPlan[];
  /** The new configuration. */
  config?: CompleteConfig;
  /** Prefixes to block, and no longer to block. */
  block?: string[];
  unblock?: string[];
  /** Pins of links to be removed: being attached, and not yet all; or being detached. */
  links?: string[];
  /** The hash, in hexadecimal, of the object whose program is about to replace the present one. */
  upgrade?: string;
}

/** Plans as they are written down. */
export function storePlans(plans: readonly Plan[]): StoredPlan[] {
  // Addresses become texts by themselves.
  return JSON.parse(JSON.stringify(plans));
}

/** Plans as they were written down. */
export function restorePlans(plans: readonly StoredPlan[]): Plan[] {
  return plans.map(({ spec, destinations }) => ({
    spec,
    destinations: destinations?.map(({ spec, nextHop }) => ({
      spec,
      nextHop: nextHop && restoreNextHop(nextHop),
    })),
  }));
}

function restoreNextHop({ source4, source6, ...rest }: StoredNextHop): NextHop {
  const read = (text: string | undefined) => text === undefined ? undefined : Address.parse(text);
  return { ...rest, source4: read(source4), source6: read(source6) };
}
