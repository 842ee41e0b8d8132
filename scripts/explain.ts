#!/usr/bin/env -S deno run -A
/**
 * Which destination a packet would get, and why.
 *
 * @module
 */
import type { MadeUpPacket, TcpFlag } from "../mod.ts";
import { type Arguments, script } from "./arguments.ts";
import { print, toJson, UsageError, whole } from "./common.ts";
import { INSTANCE, INSTANCE_HELP, parseEnd, parseService, withInstance } from "./words.ts";

const HELP = `explain.ts [OPTIONS] CLIENT[:PORT] SERVICE

Which destination a packet of a client would get, and why, by asking the program itself with
the tables as they are. Nothing is sent, counted or remembered.

  -f, --flags FLAG,...   of TCP: syn, ack, fin, rst, psh (default ack: an established flow)
      --length BYTES     of the whole IP packet
      --ttl N            default 64
${INSTANCE_HELP}

For example:

  deno run -A scripts/explain.ts 198.51.100.7:40000 192.168.101.1:80
  deno run -A scripts/explain.ts --flags syn --json '[2001:db8::7]:40000' '[2001:db8::1]:443'
`;

/** Of a client of which none is said. */
const ANY_PORT = 49152;

const SPEC = {
  values: [...INSTANCE.values, "flags", "length", "ttl"],
  letters: { ...INSTANCE.letters, flags: "f" },
} as const;

function packetOf(
  { words, values }: Arguments<(typeof SPEC.values)[number], never, never>,
): MadeUpPacket {
  const [client, service, ...more] = words;
  if (client === undefined || service === undefined || more.length > 0) {
    throw new UsageError("explain.ts takes CLIENT[:PORT] and SERVICE: see --help");
  }
  const from = parseEnd(client), to = parseService(service);
  const { flags, length, ttl } = values;
  return {
    client: from.address,
    clientPort: from.port ?? ANY_PORT,
    vip: to.address,
    port: to.port,
    protocol: to.protocol,
    ...(flags !== undefined && { flags: flags.split(",") as TcpFlag[] }),
    ...(length !== undefined && { length: whole(length, 65535, "Length") }),
    ...(ttl !== undefined && { ttl: whole(ttl, 255, "TTL") }),
  };
}

await script(HELP, SPEC, (args) => {
  const packet = packetOf(args);
  return withInstance(args, async (client) => {
    const { frame, ...explanation } = await client.explain(packet);
    if (args.switches.json) return print(toJson({ ...explanation, frame: frame.toHex() }));
    const { action, reason, text, service, destination, why } = explanation;
    print(`${action}, reason ${reason}: ${text}`);
    if (service !== undefined) print(`service ${service}`);
    if (destination !== undefined) print(`destination ${destination}`);
    if (why !== undefined) print(`because ${why}`);
  }, { readOnly: true });
});
