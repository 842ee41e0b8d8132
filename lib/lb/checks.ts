/**
 * What must hold before anything is changed.
 *
 * @module
 */
import { Address } from "../net/address.ts";
import { type NextHop, NextHopError } from "../net/next_hop.ts";
import { completeConfig } from "./config.ts";
import { InvalidValueError, UnreachableError } from "./errors.ts";
import { type Destination, type Options } from "./types.ts";
import { integer } from "./values.ts";

/** The longest that a neighbour may be waited for. */
const MAX_TIMEOUT_MS = 60_000;
const MAX_WATCHDOG_S = 3600;

/**
 * Refuses options that cannot be, but for what only the instance knows.
 *
 * @throws {InvalidValueError} when one is
 */
export function checkOptions(options: Options): void {
  const { mode = "auto", trackMask = 0, neighbourTimeout = 0, watchdog = 0 } = options;
  if (mode !== "auto" && mode !== "native" && mode !== "generic") {
    throw new InvalidValueError("mode", mode, `Mode "${mode}" is none of native, generic, auto`);
  }
  integer(trackMask, 0, 0xffffffff, "trackMask", "trackMask");
  if (trackMask & (trackMask + 1)) {
    throw new InvalidValueError(
      "trackMask",
      trackMask,
      `trackMask ${trackMask} is not one less than a power of two`,
    );
  }
  integer(neighbourTimeout, 0, MAX_TIMEOUT_MS, "neighbourTimeout", "neighbourTimeout");
  integer(watchdog, 0, MAX_WATCHDOG_S, "watchdog", "Seconds of the watchdog");
  integer(options.interfaceInitDelay ?? 0, 0, 255, "interfaceInitDelay", "interfaceInitDelay");
  if (watchdog > 0 && options.instance !== undefined) {
    const message = "watchdog cannot be had together with an instance's name: that is to live on";
    throw new InvalidValueError("watchdog", watchdog, message);
  }
  completeConfig(options);
}

/**
 * Refuses a list in which a name stands twice.
 *
 * @throws {InvalidValueError} when one does
 */
export function refuseTwice(names: readonly string[], what: string, where = ""): void {
  const seen = new Set<string>();
  for (const name of names) {
    if (seen.has(name)) {
      throw new InvalidValueError(
        "address",
        name,
        `Cannot set ${what} "${name}"${where}: it is given twice`,
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
  if (tunnelType === "none") return way;
  const { family } = Address.parse(address);
  if (!(family === 4 ? way.source4 : way.source6)) {
    const why =
      `interface "${way.interface}" has no IPv${family} address for the tunnel to start from`;
    throw new UnreachableError(address, why);
  }
  return way;
}
