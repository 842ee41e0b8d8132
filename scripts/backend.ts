#!/usr/bin/env -S deno run -A
/**
 * Makes a Linux server ready to be a destination, or tells what it lacks.
 *
 * @module
 */
import { Address } from "../lib/net/address.ts";
import {
  applyBackend,
  type Backend,
  BACKEND_TUNNELS,
  findings,
  readBackendHost,
  requirements,
  shellWords,
} from "../lib/net/backend.ts";
import { type Arguments, script } from "./arguments.ts";
import { print, toJson, UsageError, whole } from "./common.ts";

const HELP = `backend.ts print|check|apply [OPTIONS] --vip ADDRESS...

What a Linux server needs as a destination: VIPs on its loopback, silence about them on
the network, and something that takes outer headers off. To be run on the server.

  print   writes the commands, for a start script
  check   tells what is missing, each with the command that mends it; exits 1 if anything is
  apply   runs those commands of which there is need

  -v, --vip ADDRESS      a VIP; may be repeated
  -t, --tunnel TYPE      none, ipip, gre, fou or gue (default none: L2, or decap.ts runs here)
  -p, --port PORT        UDP port of fou and gue
  -a, --address ADDRESS  this server's address as the balancer has it (needed with a tunnel)
      --json             one JSON object a line
  -h, --help             this

For example, for a server behind a router, and for one on the balancer's own network:

  deno run -A scripts/backend.ts apply --vip 192.168.101.1 --tunnel ipip --address 10.2.0.10
  deno run -A scripts/backend.ts check --vip 192.168.101.1
`;

const SPEC = {
  values: ["tunnel", "port", "address"],
  lists: ["vip"],
  letters: { vip: "v", tunnel: "t", port: "p", address: "a" },
} as const;

function backendOf(
  { values, lists }: Arguments<"tunnel" | "port" | "address", "vip", never>,
): Backend {
  const { tunnel: text = "none", port, address } = values;
  const tunnel = BACKEND_TUNNELS.find((each) => each === text);
  if (tunnel === undefined) {
    throw new UsageError(`Tunnel "${text}" is none of ${BACKEND_TUNNELS.join(", ")}`);
  }
  if (lists.vip.length === 0) throw new UsageError("No VIP is given: see --help");
  if (tunnel !== "none" && address === undefined) {
    throw new UsageError(`Tunnel "${tunnel}" needs --address: its family tells the device`);
  }
  const isUdp = tunnel === "fou" || tunnel === "gue";
  if (isUdp !== (port !== undefined)) {
    throw new UsageError(
      isUdp ? `Tunnel "${tunnel}" needs --port` : `Tunnel "${tunnel}" has no port`,
    );
  }
  return {
    vips: lists.vip.map((vip) => Address.parse(vip)),
    tunnel,
    port: port === undefined ? undefined : whole(port, 65535, "Port"),
    outerFamily: Address.parse(address ?? "0.0.0.0").family,
  };
}

await script(HELP, SPEC, async (args) => {
  const [action, ...rest] = args.words;
  if (rest.length > 0 || !/^(print|check|apply)$/.test(action ?? "")) {
    throw new UsageError("backend.ts takes one of print, check and apply: see --help");
  }
  const backend = backendOf(args);
  const { json } = args.switches;
  if (action === "print") {
    for (const { what, command } of requirements(backend)) {
      const line = shellWords(command);
      print(json ? toJson({ what, command: line }) : line);
    }
  } else if (action === "apply") {
    await applyBackend(backend, (finding) => print(json ? toJson(finding) : finding.mend));
  } else {
    const found = findings(backend, await readBackendHost());
    for (const finding of found) {
      print(json ? toJson(finding) : `missing: ${finding.missing}\n    ${finding.mend}`);
    }
    if (found.length > 0) Deno.exitCode = 1;
    else if (!json) print("nothing is missing");
  }
});
