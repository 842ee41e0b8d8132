/**
 * The command line of balance.ts.
 *
 * @module
 */
import { parseArgs } from "@std/cli/parse-args";
import { Address, Prefix } from "../lib/net/address.ts";
import {
  type Destination,
  type Options,
  type Protocol,
  type Service,
  type TunnelType,
  UDP_TUNNELS,
} from "../mod.ts";
import { parseMode, parseSeconds, UsageError, whole } from "./common.ts";

/** What the command line asks for. */
export interface Request {
  interfaces: string[];
  options: Options;
  services: { service: Service; destinations: Destination[] }[];
  seconds: number;
  json: boolean;
}

function parsePort(text: string): { port: number; protocol: Protocol } {
  const [port, protocol = "tcp", ...rest] = text.split("/");
  if ((protocol !== "tcp" && protocol !== "udp") || rest.length > 0) {
    throw new UsageError(`Port "${text}" is not of the form PORT, PORT/tcp or PORT/udp`);
  }
  return { port: whole(port!, 65535, "Port"), protocol };
}

function parseWeights(texts: string[], rips: readonly string[]): Map<string, number> {
  return new Map(texts.map((text) => {
    const [rip, weight, ...rest] = text.split("=");
    if (weight === undefined || rest.length > 0) {
      throw new UsageError(`Weight "${text}" is not of the form RIP=N`);
    }
    if (!rips.includes(rip!)) {
      throw new UsageError(`Weight "${text}" is for none of the servers given`);
    }
    return [rip!, whole(weight, 65535, "Weight")];
  }));
}

/** Networks with a router, numbered from 1 as xvs does for untagged ones. */
function parseVlans(texts: readonly string[]): Pick<Options, "ipv4VLANs" | "ipv6VLANs"> {
  const vlans: Record<4 | 6, Record<number, string>> = { 4: {}, 6: {} };
  texts.forEach((text, i) => vlans[Prefix.parse(text).address.family][i + 1] = text);
  return { ipv4VLANs: vlans[4], ipv6VLANs: vlans[6] };
}

/**
 * Reads the command line; undefined if it asks for help.
 *
 * @throws {UsageError} when it cannot be
 */
export function parse(argv: string[]): Request | undefined {
  const args = parseArgs(argv, {
    string: [
      ...["run", "tunnel", "fou4-port", "fou6-port", "gue-port", "mode", "flows"] as const,
      ...["vip", "port", "vlan", "weight"] as const,
    ],
    boolean: ["sticky", "replace", "json", "help"],
    collect: ["vip", "port", "vlan", "weight"],
    alias: {
      ...{
        run: "r",
        sticky: "s",
        tunnel: "t",
        vip: "v",
        port: "p",
        vlan: "V",
        flows: "f",
        help: "h",
      },
      ...{ "fou4-port": "4", "fou6-port": "6", "gue-port": "G" },
    },
    default: {
      ...{ run: "60", tunnel: "none", mode: "auto" },
      ...{ "fou4-port": "9999", "fou6-port": "6666", "gue-port": "8888" },
    },
    unknown: (name) => {
      if (/^-./.test(name)) throw new UsageError(`Option "${name}" is unknown: see --help`);
    },
  });
  if (args.help) return undefined;
  const [interfaces, router, vip, ...rips] = args._.map(String);
  if (rips.length === 0) {
    throw new UsageError(
      "balance.ts takes IFACE ROUTER/PREFIX VIP and at least one RIP: see --help",
    );
  }
  if (typeof args.sticky !== "boolean") {
    throw new UsageError(`Option "--sticky" takes no value, but "${args.sticky}" is given`);
  }
  const weights = parseWeights(args.weight.map(String), rips);
  const tunnelType = args.tunnel as TunnelType;
  const ports = args.port.length > 0 ? args.port.map(String).map(parsePort) : [parsePort("80")];
  const udpPort = (address: string): number => {
    const fou = Address.parse(address).family === 4 ? "fou4-port" : "fou6-port";
    return whole(args[tunnelType === "gue" ? "gue-port" : fou], 65535, "Port");
  };
  return {
    interfaces: interfaces!.split(","),
    options: {
      ...parseVlans([...(router === "auto" ? [] : [router!]), ...args.vlan.map(String)]),
      ...(args.flows
        ? { maxFlows: whole(args.flows, 1e6, "Flows") * navigator.hardwareConcurrency }
        : {}),
      mode: parseMode(args.mode),
      replace: args.replace === true,
    },
    services: [vip!, ...args.vip.map(String)].flatMap((address) =>
      ports.map((port) => ({
        service: { address, ...port, sticky: args.sticky },
        destinations: rips.map((rip) => ({
          address: rip,
          tunnelType,
          weight: weights.get(rip) ?? 1,
          tunnelPort: UDP_TUNNELS.includes(tunnelType) ? udpPort(address) : 0,
        })),
      }))
    ),
    seconds: parseSeconds(args.run),
    json: args.json,
  };
}
