/**
 * Where a test may put something of its own in the place of the kernel's tables, or of the program.
 *
 * @module
 */
import type { Address } from "../net/address.ts";
import type { NextHop, NextHopError } from "../net/next_hop.ts";
import type { Instance } from "./instance.ts";
import type { Pair } from "./probe_ends.ts";
import type { ProbeLink, ProbeNetworks } from "./probe_link.ts";

/** Where next hops come from: the kernel's tables, or a test. */
export interface NextHopSource {
  resolve(
    addresses: readonly Address[],
    options: { timeoutMs: number },
  ): Promise<Map<string, NextHop | NextHopError>>;
  retain(addresses: readonly Address[]): Promise<void>;
  follow(signal: AbortSignal): AsyncIterable<void>;
  /** `keep`: the kernel goes on keeping what was asked for. */
  close(options?: { keep?: boolean }): Promise<void>;
}

/** What brings probes to the program: interfaces, or a test. */
export interface ProbeLinks {
  open(given: ProbeNetworks, attach: (pair: Pair) => void): Promise<ProbeLink>;
  close(name: string): Promise<void>;
}

/** What tests put in the place of the real thing. */
export interface Seams {
  nextHops?: NextHopSource;
  instance?: Instance;
  probeLinks?: ProbeLinks;
}
