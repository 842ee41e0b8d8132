#!/usr/bin/env -S deno run -A
/**
 * Keeps balancers in step, so that connections go on when another one takes over.
 *
 * @module
 */
import { SyncNode } from "../mod.ts";
import { Address } from "../lib/net/address.ts";
import { script } from "./arguments.ts";
import {
  parseSeconds,
  print,
  sleep,
  toJson,
  untilInterrupted,
  UsageError,
  whole,
} from "./common.ts";
import { INSTANCE, INSTANCE_HELP, withInstance } from "./words.ts";

const HELP = `sync.ts [OPTIONS] --key FILE PEER...

Tells other balancers of those connections that they would send elsewhere, and hears of
theirs, for as long as it runs. When another one takes over in the middle of a change,
connections go on. All need the same services, the same hash key (attach.ts --hash-key) and
the same key here. PEER is the address of another one, or a multicast group.

  -k, --key FILE         a file of 16 bytes or more that only its owner may read
  -l, --listen ADDRESS   where to listen (default: all addresses of the peers' family)
  -p, --port PORT        UDP, and TCP for who joins (default 7946)
      --clock-skew S     seconds by which clocks may differ (default 30)
  -r, --run SECONDS      how long; 0 is until interrupted (default 0)
${INSTANCE_HELP}

For example, on two balancers:

  head -c 32 /dev/urandom > sync.key; chmod 600 sync.key
  deno run -A scripts/sync.ts -i web --key sync.key 10.1.2.2
`;

const SPEC = {
  values: [...INSTANCE.values, "key", "listen", "port", "clock-skew", "run"],
  letters: { ...INSTANCE.letters, key: "k", listen: "l", port: "p", run: "r" },
} as const;

function readKey(path: string | undefined): Uint8Array {
  if (path === undefined) throw new UsageError("sync.ts needs --key FILE: see --help");
  let mode: number | null, key: Uint8Array;
  try {
    ({ mode } = Deno.statSync(path));
    key = Deno.readFileSync(path);
  } catch (error) {
    throw new UsageError(`Cannot read "${path}": ${(error as Error).message.split(":")[0]}`);
  }
  if (mode !== null && (mode & 0o077) !== 0) {
    throw new UsageError(`Others may read "${path}": say "chmod 600 ${path}"`);
  }
  if (key.length < 16) {
    throw new UsageError(`"${path}" has ${key.length} bytes: a key has at least 16`);
  }
  return key;
}

await script(HELP, SPEC, (args) => {
  const { key: path, listen, port = "7946", run = "0" } = args.values;
  const skew = args.values["clock-skew"] ?? "30";
  const key = readKey(path);
  const peers = args.words.map((word) => Address.parse(word));
  const [first] = peers;
  if (!first) throw new UsageError("sync.ts takes at least one PEER: see --help");
  if (peers.some(({ family }) => family !== first.family)) {
    throw new UsageError("Peers must be of one family: run one sync.ts for each");
  }
  const options = {
    address: Address.parse(listen ?? (first.family === 4 ? "0.0.0.0" : "::")).toString(),
    port: whole(port, 65535, "Port"),
    peers: peers.map(String),
    key,
    clockSkew: whole(skew, 86400, "Clock skew"),
    say: (sentence: string) => console.error(sentence),
  };
  const ended = untilInterrupted(parseSeconds(run));
  return withInstance(args, async (client) => {
    await using node = await SyncNode.start(client, options);
    while (!ended.aborted) {
      await sleep(1000, ended);
      const { sent, received, refused, outcomes, peers } = node.counters;
      const bad = Object.values(refused).reduce((sum, each) => sum + each, 0) - refused.own;
      print(
        args.switches.json
          ? toJson({ time: new Date().toISOString(), ...node.counters })
          : `${peers} peers; told of ${sent.records} flows, heard of ${received.records}, ` +
            `remember ${outcomes.stored}; refused ${bad} messages`,
      );
    }
  });
});
