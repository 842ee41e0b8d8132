#!/usr/bin/env -S deno run -A
/**
 * Takes outer headers off on a destination, for as long as it runs.
 *
 * @module
 */
import { parseArgs } from "@std/cli/parse-args";
import { type DecapCounter, type DecapOptions, type DecapReason, Decapsulator } from "../mod.ts";
import {
  main,
  parseMode,
  parseSeconds,
  print,
  siRate,
  sleep,
  table,
  toJson,
  untilInterrupted,
  UsageError,
  whole,
} from "./common.ts";

const HELP = `decap.ts [OPTIONS] --peer PREFIX --vip ADDRESS IFACE[,IFACE...]

Takes the outer header off packets that a balancer at PREFIX sends through a tunnel to VIP
ADDRESS, and hands them to this host, which must have the VIP, as on its loopback. Such
packets from anybody else are dropped. All others reach the host as they are. The tunnels
are ipip and gre, and fou and gue on the ports given.

  -p, --peer PREFIX      a balancer's address, or a network of them; may be repeated
  -v, --vip ADDRESS      an inner destination address; may be repeated
  -a, --address ADDRESS  only tunnels to this outer address (default: to any); may be repeated
      --fou PORT         a UDP port of fou; may be repeated
      --gue PORT         a UDP port of gue; may be repeated
      --mode MODE        native, generic or auto (default auto)
  -r, --run SECONDS      how long; 0 is until interrupted (default 0)
      --json             a line of JSON a second
  -h, --help             this

For example, until interrupted:

  ip address add 192.168.101.1/32 dev lo
  deno run -A scripts/decap.ts --peer 10.1.0.1 --vip 192.168.101.1 eth0
`;

/** What the command line asks for. */
interface Request {
  interfaces: string[];
  options: DecapOptions;
  seconds: number;
  json: boolean;
}

function parse(argv: string[]): Request | undefined {
  const { _: words, help, json, ...args } = parseArgs(argv, {
    string: ["peer", "vip", "address", "fou", "gue", "mode", "run", "_"],
    boolean: ["json", "help"],
    collect: ["peer", "vip", "address", "fou", "gue"],
    alias: { peer: "p", vip: "v", address: "a", run: "r", help: "h" },
    default: { mode: "auto", run: "0" },
    unknown: (name) => {
      if (/^-./.test(name)) throw new UsageError(`Option "${name}" is unknown: see --help`);
    },
  });
  if (help) return undefined;
  if (words.length !== 1 || args.peer.length === 0 || args.vip.length === 0) {
    throw new UsageError(
      "decap.ts takes one list of interfaces, and at least one --peer and one --vip: see --help",
    );
  }
  return {
    interfaces: String(words[0]).split(","),
    options: {
      peers: args.peer,
      vips: args.vip,
      ...(args.address.length > 0 ? { addresses: args.address } : {}),
      fouPorts: args.fou.map((port) => whole(port, 65535, "FOU port")),
      guePorts: args.gue.map((port) => whole(port, 65535, "GUE port")),
      mode: parseMode(args.mode),
    },
    seconds: parseSeconds(args.run),
    json,
  };
}

/** Counters at a time. */
interface Sample {
  atMs: number;
  counters: Record<DecapReason, DecapCounter>;
}

/** A line for each reason that any packet had. */
function rows(now: Sample, before: Sample): Record<string, string | number>[] {
  const seconds = (now.atMs - before.atMs) / 1000;
  return Object.entries(now.counters)
    .filter(([reason, { packets }]) => reason === "decapsulated" || packets > 0n)
    .map(([reason, { packets, octets }]) => {
      const past = before.counters[reason as DecapReason];
      return {
        reason,
        packets: Number(packets),
        "packets/s": siRate(Number(packets - past.packets) / seconds),
        "bits/s": siRate(Number(octets - past.octets) * 8 / seconds),
      };
    });
}

await main(async () => {
  const request = parse(Deno.args);
  if (!request) return print(HELP);
  const { interfaces, options, seconds, json } = request;
  const ended = untilInterrupted(seconds);
  using decapsulator = await Decapsulator.create(interfaces, options);
  const sample = (): Sample => ({ atMs: performance.now(), counters: decapsulator.counters() });
  if (!json) {
    for (const { name, mode } of decapsulator.interfaces) {
      print(`${name}: attached in ${mode} mode`);
    }
  }
  for (let before = sample(); !ended.aborted;) {
    await sleep(1000, ended);
    const now = sample();
    const time = new Date();
    if (json) {
      const { interfaces } = decapsulator;
      print(toJson({ time: time.toISOString(), interfaces, counters: now.counters }));
    } else {
      const clear = Deno.stdout.isTerminal() ? "\x1b[H\x1b[J" : "";
      const clock = time.toISOString().slice(11, 19);
      print(`${clear}${clock}\n${table(rows(now, before))}\n`);
    }
    before = now;
  }
});
