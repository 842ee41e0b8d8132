#!/usr/bin/env -S deno run -A
/**
 * The flows that an instance remembers: listed, counted, forgotten.
 *
 * @module
 */
import type { Flow, FlowFilter } from "../mod.ts";
import { type Arguments, script } from "./arguments.ts";
import { print, toJson, UsageError, whole } from "./common.ts";
import { INSTANCE, INSTANCE_HELP, noWords, parseEnd, parseService, withInstance } from "./words.ts";

const HELP = `flows.ts [OPTIONS] [list|count|purge]
flows.ts [OPTIONS] find CLIENT[:PORT]

The flows that an instance remembers: those that a change of destinations made exceptions,
and those of the sample by which connections are counted. All others need no memory.

  list     them, as they are read from the kernel
  count    how many there are for each destination
  purge    forgets them: each goes where its ring sends it from now on
  find     those of one client: an address, a prefix, or address and port

Only those flows that all of these are true of:
  -s, --service SERVICE  VIP:PORT/tcp or VIP:PORT/udp
  -v, --vip VIP
  -d, --destination RIP
  -c, --client ADDRESS   or a prefix
      --state STATE      syn, open or closing
      --idle SECONDS     silent for so long, or longer
${INSTANCE_HELP}

For example:

  deno run -A scripts/flows.ts find 198.51.100.7
  deno run -A scripts/flows.ts purge --destination 10.1.2.10 --idle 60
`;

const SPEC = {
  values: [...INSTANCE.values, "service", "vip", "destination", "client", "state", "idle"],
  letters: { ...INSTANCE.letters, service: "s", vip: "v", destination: "d", client: "c" },
} as const;

type Line = Arguments<(typeof SPEC.values)[number], never, never>;

function filterOf({ values }: Line): FlowFilter {
  const { service, vip, destination, client, state, idle } = values;
  const meant = service === undefined ? undefined : parseService(service);
  if (meant && vip !== undefined) {
    throw new UsageError("--service tells the VIP: --vip is too much");
  }
  return {
    ...(meant && { vip: meant.address, protocol: meant.protocol }),
    // Port 0 is any.
    ...(meant && meant.port !== 0 && { port: meant.port }),
    ...(vip !== undefined && { vip }),
    ...(destination !== undefined && { destination }),
    ...(client !== undefined && { client }),
    ...(state !== undefined && { state: state as Flow["state"] }),
    ...(idle !== undefined && { idle: whole(idle, 2 ** 31, "Idle time") }),
  };
}

function ends(address: string, port: number): string {
  return address.includes(":") ? `[${address}]:${port}` : `${address}:${port}`;
}

/** A flow on a line of its own: there may be millions, so that no table can be made of them. */
function lineOf(flow: Flow): string {
  const { client, clientPort, vip, port, protocol, destination, idle, state } = flow;
  const way = `${ends(client, clientPort)} -> ${ends(vip, port)}/${protocol}`;
  return `${way} -> ${destination ?? "gone"}  ${state}, idle ${idle.toFixed(1)} s`;
}

function count(flows: Iterable<Flow>): Map<string, number> {
  const counts = new Map<string, number>();
  for (const { destination = "gone" } of flows) {
    counts.set(destination, (counts.get(destination) ?? 0) + 1);
  }
  return counts;
}

await script(HELP, SPEC, (line) => {
  const [action = "list", ...rest] = line.words;
  const { json } = line.switches, filter = filterOf(line);
  const write = (flow: Flow) => print(json ? toJson(flow) : lineOf(flow));
  const readOnly = { readOnly: true };
  if (action === "find") {
    const [text, ...more] = rest;
    noWords(more, "flows.ts find");
    if (text === undefined) throw new UsageError("flows.ts find takes a client: see --help");
    const { address: client, port: clientPort } = text.includes("/")
      ? { address: text, port: undefined }
      : parseEnd(text);
    return withInstance(line, (balancer) => {
      for (const flow of balancer.flows({ ...filter, client })) {
        if (clientPort === undefined || flow.clientPort === clientPort) write(flow);
      }
    }, readOnly);
  }
  noWords(rest, `flows.ts ${action}`);
  switch (action) {
    case "list":
      return withInstance(line, (client) => {
        for (const flow of client.flows(filter)) write(flow);
      }, readOnly);
    case "count":
      return withInstance(line, (client) => {
        for (const [destination, flows] of count(client.flows(filter))) {
          print(json ? toJson({ destination, flows }) : `${destination}  ${flows}`);
        }
      }, readOnly);
    case "purge":
      return withInstance(line, async (client) => {
        const purged = await client.purgeFlows(filter);
        print(json ? toJson({ purged }) : `forgot ${purged} flow${purged === 1 ? "" : "s"}`);
      });
    default:
      throw new UsageError(`flows.ts does not know "${action}": see --help`);
  }
});
