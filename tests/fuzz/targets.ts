/**
 * What can be fuzzed, by name.
 *
 * @module
 */
import { BalancerTarget } from "./balancer_target.ts";
import { DecapTarget } from "./decap_target.ts";
import { ProbeTarget } from "./probe_target.ts";
import type { Target } from "./session.ts";

export const TARGETS: Readonly<Record<string, () => Promise<Target>>> = {
  xvs: () => BalancerTarget.create(),
  probe: () => ProbeTarget.create(),
  decap: () => DecapTarget.create(),
};
