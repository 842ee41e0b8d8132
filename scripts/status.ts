#!/usr/bin/env -S deno run -A
/**
 * How an instance is: interfaces, services with their destinations, and what became of packets.
 *
 * @module
 */
import {
  type Client,
  type Destination,
  type DestinationExtended,
  type Info,
  type Metrics,
  REASON_TEXT,
  type Service,
  type ServiceExtended,
} from "../mod.ts";
import { script } from "./arguments.ts";
import { print, siRate, table, toJson } from "./common.ts";
import { INSTANCE, INSTANCE_HELP, instanceOf, nameOf, noWords, withInstance } from "./words.ts";

const HELP = `status.ts [OPTIONS]

How an instance is: its interfaces, its services with their destinations, and what became
of the packets, by reason. Counters count from the beginning.

${INSTANCE_HELP}

For example:

  deno run -A scripts/status.ts -i web
  deno run -A scripts/status.ts --json | jq '.services[].destinations[].activeConnections'
`;

/** A service with all that is known of it. */
type ServiceStatus = Required<Service> & Omit<ServiceExtended, "service"> & {
  destinations: (Required<Destination> & Omit<DestinationExtended, "destination">)[];
};

/** All of it. */
interface Status extends Info {
  services: ServiceStatus[];
}

function statusOf(client: Client): Status {
  return {
    ...client.info(),
    services: client.services().map(({ service, ...counted }) => ({
      ...service,
      ...counted,
      destinations: client.destinations(service).map(({ destination, ...rest }) => ({
        ...destination,
        ...rest,
      })),
    })),
  };
}

/** What becomes of new flows to a destination. */
function stateOf(
  { disable, weight, mac }: Status["services"][number]["destinations"][number],
): string {
  if (disable) return "draining";
  if (weight === 0) return "weight 0";
  return mac === undefined ? "no answer" : "up";
}

function rowsOf({ services }: Status): Record<string, string | number>[] {
  return services.flatMap((service) => {
    const { destinations } = service;
    const name = nameOf(service);
    if (destinations.length === 0) return [rowOf(name, "none")];
    return destinations.map((each, i) =>
      rowOf(i === 0 ? name : "", each.address, {
        via: each.tunnelType === "none" ? each.mac ?? "" : each.tunnelType,
        weight: each.weight,
        state: stateOf(each),
        open: each.activeConnections,
        flows: siRate(Number(each.stats.connections)),
        packets: siRate(Number(each.stats.incomingPackets)),
        octets: siRate(Number(each.stats.incomingBytes)),
      })
    );
  });
}

function rowOf(
  service: string,
  destination: string,
  rest: Record<string, string | number> = {},
): Record<string, string | number> {
  const empty = { via: "", weight: "", state: "", open: "", flows: "", packets: "", octets: "" };
  return { service, destination, ...empty, ...rest };
}

/** Reasons that any packet had. */
function reasonsOf(metrics: Metrics): Record<string, string | number>[] {
  return Object.entries(REASON_TEXT)
    .filter(([reason]) => metrics[reason]! > 0n)
    .map(([reason, meaning]) => ({ packets: String(metrics[reason]), reason, meaning }));
}

function forPeople(name: string, status: Status): void {
  const attached = status.interfaces.map(({ name, mode }) => `${name} (${mode ?? "gone"})`);
  print(`instance ${name}: attached to ${attached.join(", ") || "no interface"}`);
  if (status.sampling > 1) print(`one flow in ${status.sampling} is counted`);
  print("");
  print(status.services.length > 0 ? table(rowsOf(status)) : "there is no service");
  const reasons = reasonsOf(status.metrics);
  if (reasons.length > 0) print(`\n${table(reasons)}`);
}

await script(HELP, INSTANCE, (args) => {
  noWords(args.words, "status.ts");
  const name = instanceOf(args);
  return withInstance(args, (client) => {
    const status = statusOf(client);
    if (args.switches.json) print(toJson({ instance: name, ...status }));
    else forPeople(name, status);
  }, { readOnly: true });
});
