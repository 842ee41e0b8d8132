/**
 * What must hold before anything is changed.
 *
 * @module
 */
import { Address } from "../net/address.ts";
import { type NextHop, NextHopError } from "../net/next_hop.ts";
import { InvalidValueError, UnreachableError } from "./errors.ts";
import type { Destination } from "./types.ts";

/**
 * Refuses a list in which a name stands twice.
 *
 * @throws {InvalidValueError} when one does
 */
export function refuseTwice(names: readonly string[], what: string): void {
  const seen = new Set<string>();
  for (const name of names) {
    if (seen.has(name)) {
      throw new InvalidValueError(
        "address",
        name,
        `Cannot set ${what} "${name}": it is given twice`,
      );
    }
    seen.add(name);
  }
}

/**
 * The way to a destination, if it is one that its tunnel can take; undefined while the neighbour has not
 * answered.
 */
export function passable(
  { address, tunnelType }: Required<Destination>,
  way: NextHop | NextHopError,
): NextHop | undefined {
  const unresolved = way instanceof NextHopError;
  if (unresolved && way.reason !== "unresolved") {
    throw new UnreachableError(address, way.why, { cause: way });
  }
  if (tunnelType === "none" && way.onLink === false) {
    throw new InvalidValueError(
      "tunnelType",
      tunnelType,
      `Destination "${address}" is behind a router and has no tunnel: give it one, such as "ipip"`,
    );
  }
  if (unresolved) return undefined;
  const family = Address.parse(address).family;
  if (tunnelType !== "none" && !(family === 4 ? way.source4 : way.source6)) {
    const why =
      `interface "${way.interface}" has no IPv${family} address for the tunnel to start from`;
    throw new UnreachableError(address, why);
  }
  return way;
}
