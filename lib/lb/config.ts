/**
 * What of an instance's options may change while it runs.
 *
 * @module
 */
import { Prefix } from "../net/address.ts";
import { VlanTable } from "../net/way.ts";
import { POLICY, type Policy, type Settings } from "./abi.gen.ts";
import { type OuterSources, sourceMask } from "./entries.ts";
import { InvalidValueError } from "./errors.ts";
import { fieldsOf, policy, truth } from "./values.ts";

/** Networks and policies. xvs calls the first three `IPv4VLANs`, `IPv6VLANs` and `Routes`. */
export interface Config {
  /**
   * VLAN ID to IPv4 prefix; host bits set are the address of the router: `{1: "10.1.2.254/24"}`. An
   * untagged network takes a made-up ID. With neither of the two the kernel's routes decide.
   */
  ipv4VLANs?: Record<number, string>;
  /** As `ipv4VLANs`, for IPv6. */
  ipv6VLANs?: Record<number, string>;
  /** Prefix to the ID of the VLAN whose router leads to it; the longest prefix counts. */
  routes?: Record<string, number>;
  /** What becomes of packets to a port that has no service, unless its VIP says otherwise. Default "drop". */
  unknownPort?: "drop" | "pass" | "reject";
  /**
   * What becomes of packets whose TTL is used up, unless their service says otherwise: "reject" answers, as
   * routers do. Default "reject".
   */
  expired?: "drop" | "reject";
  /**
   * What becomes of IPv4 packets that are too long for the way to their destination, though their sender lets
   * routers fragment them (no DF), unless their service says otherwise. This program fragments none: "reject"
   * answers as it does to those with DF. Default "reject".
   */
  fragmentable?: "drop" | "reject";
  /**
   * A prefix from which tunnels without ports (ipip, gre) take their outer IPv4 source, by the flow's hash,
   * so that receivers spread flows over their queues. Default: the interface's own address for all.
   */
  outerSource4?: string;
  /** As `outerSource4`, for IPv6; the hash fills the last 32 bits at most. */
  outerSource6?: string;
  /**
   * Packets leave by the interface that they came in by, whichever that is: the program is attached to a bond, or
   * to its members, and destinations are behind the bond. Default false.
   */
  bonding?: boolean;
}

/** A configuration with its defaults. */
export type CompleteConfig =
  & Required<Omit<Config, "outerSource4" | "outerSource6">>
  & Pick<Config, "outerSource4" | "outerSource6">;

/**
 * A configuration with every field set that has a default; other fields are left behind.
 *
 * @throws {InvalidValueError} when a field cannot be
 */
export function completeConfig(given: Config): CompleteConfig {
  const { outerSource4, outerSource6 } = fieldsOf(given, "config", "Configuration");
  const config: CompleteConfig = {
    ipv4VLANs: { ...given.ipv4VLANs },
    ipv6VLANs: { ...given.ipv6VLANs },
    routes: { ...given.routes },
    unknownPort: policy(given.unknownPort ?? "drop", ["drop", "pass", "reject"], "unknownPort"),
    expired: policy(given.expired ?? "reject", ["drop", "reject"], "expired"),
    fragmentable: policy(given.fragmentable ?? "reject", ["drop", "reject"], "fragmentable"),
    bonding: truth(given.bonding ?? false, "bonding"),
    ...(outerSource4 !== undefined && { outerSource4 }),
    ...(outerSource6 !== undefined && { outerSource6 }),
  };
  for (const field of ["ipv4VLANs", "ipv6VLANs"] as const) check(config, field, [field]);
  check(config, "routes", ["ipv4VLANs", "ipv6VLANs", "routes"]);
  outerSourcesOf(config);
  return config;
}

type Networks = "ipv4VLANs" | "ipv6VLANs" | "routes";

function check(config: CompleteConfig, field: Networks, together: readonly Networks[]): void {
  try {
    new VlanTable(Object.fromEntries(together.map((name) => [name, config[name]])));
  } catch (error) {
    throw new InvalidValueError(field, config[field], (error as Error).message);
  }
}

/** Where the outer sources of tunnels without ports come from. */
export function outerSourcesOf(config: Config): OuterSources {
  return { 4: outerSource(config, 4), 6: outerSource(config, 6) };
}

function outerSource(config: Config, family: 4 | 6): Prefix | undefined {
  const field = family === 4 ? "outerSource4" : "outerSource6";
  const text = config[field];
  if (text === undefined) return undefined;
  try {
    const prefix = Prefix.parse(text);
    if (prefix.family === family) return prefix;
  } catch {
    // As below.
  }
  throw new InvalidValueError(field, text, `${field} "${text}" is not an IPv${family} prefix`);
}

/** What the program has to know of a configuration. */
export function settingsOf(config: CompleteConfig): Partial<Settings> {
  const { 4: source4, 6: source6 } = outerSourcesOf(config);
  const number = (policy: Policy) => POLICY[policy.toUpperCase() as Uppercase<Policy>];
  return {
    unknownPort: number(config.unknownPort),
    expired: number(config.expired),
    fragmentable: number(config.fragmentable),
    bonding: Number(config.bonding),
    sourceMask4: sourceMask(source4),
    sourceMask6: sourceMask(source6),
  };
}
