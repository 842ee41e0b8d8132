#!/usr/bin/env -S deno run -A
/**
 * The sample application: balances VIPs over servers, with the command line of xvs' own.
 *
 * @module
 */
import { parseArgs } from "@std/cli/parse-args";
import { Address, Prefix } from "../lib/net/address.ts";
import {
  Client,
  type Destination,
  type Mode,
  type Options,
  type Protocol,
  type Service,
  type TunnelType,
  UDP_TUNNELS,
} from "../mod.ts";
import { Display } from "./balance_display.ts";
import { main, print, sleep, untilInterrupted, UsageError } from "./common.ts";

const HELP = `balance.ts [OPTIONS] IFACE[,IFACE...] ROUTER/PREFIX VIP RIP...

Balances connections to VIP over the real servers RIP, by direct server return.
ROUTER/PREFIX is the router's address in the network of the interface, or "auto":
what the kernel's routes say.

  -r, --run SECONDS      how long; 0 is until interrupted (default 60)
  -s, --sticky           a client's address alone decides its server
  -t, --tunnel TYPE      none, ipip, gre, fou or gue
                         (default none: servers on the same network)
  -4, --fou4-port PORT   port of FOU for IPv4 VIPs (default 9999)
  -6, --fou6-port PORT   port of FOU for IPv6 VIPs (default 6666)
  -G, --gue-port PORT    port of GUE (default 8888)
  -v, --vip VIP          one more VIP; may be repeated
  -p, --port PORT[/tcp|/udp]
                         port of the service (default 80/tcp); may be repeated
  -V, --vlan ROUTER/PREFIX
                         one more network; may be repeated
  -f, --flows FLOWS      flows remembered for each CPU and family
      --weight RIP=N     share of new connections (default 1); may be repeated
      --mode MODE        native, generic or auto (default auto)
      --json             a line of JSON a second
  -h, --help             this

For example, until interrupted, with twice the share for the second server:

  deno run -A scripts/balance.ts -r 0 --weight 10.1.10.101=2 \\
      eth0 10.1.2.254/24 192.168.101.1 10.1.10.100 10.1.10.101
`;

/** What the command line asks for. */
interface Request {
  interfaces: string[];
  options: Options;
  services: { service: Service; destinations: Destination[] }[];
  seconds: number;
  json: boolean;
}

function whole(text: string, max: number, what: string): number {
  const value = /^\d+$/.test(text) ? Number(text) : NaN;
  if (value <= max) return value;
  throw new UsageError(`${what} "${text}" is not a whole number from 0 to ${max}`);
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

function parse(argv: string[]): Request | undefined {
  const args = parseArgs(argv, {
    string: ["run", "tunnel", "fou4-port", "fou6-port", "gue-port", "flows", "mode", "_"],
    boolean: ["sticky", "json", "help"],
    collect: ["vip", "port", "vlan", "weight"],
    alias: {
      ...{
        run: "r",
        sticky: "s",
        tunnel: "t",
        "fou4-port": "4",
        "fou6-port": "6",
        "gue-port": "G",
      },
      ...{ vip: "v", port: "p", vlan: "V", flows: "f", help: "h" },
    },
    default: {
      ...{
        run: "60",
        tunnel: "none",
        "fou4-port": "9999",
        "fou6-port": "6666",
        "gue-port": "8888",
      },
      ...{ mode: "auto" },
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
  const mode = ["native", "generic", "auto"].find((known) => known === args.mode);
  if (!mode) throw new UsageError(`Mode "${args.mode}" is none of native, generic, auto`);

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
      mode: mode as Mode,
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
    seconds: whole(args.run, 2 ** 31, "Number of seconds"),
    json: args.json,
  };
}

await main(async () => {
  const request = parse(Deno.args);
  if (!request) return print(HELP);
  const { interfaces, options, services, seconds, json } = request;
  const ended = untilInterrupted(seconds);
  await using client = await Client.create([], options);
  // Nothing is attached before all is known to be right, so that a mistake changes nothing.
  await client.setServices(services);
  await client.attach(...interfaces);
  const display = new Display(client, json);
  display.announce();
  while (!ended.aborted) {
    await sleep(1000, ended);
    display.show();
  }
});
