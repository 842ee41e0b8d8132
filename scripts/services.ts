#!/usr/bin/env -S deno run -A
/**
 * The services of an instance: listed, added, set, removed, drained.
 *
 * @module
 */
import {
  type Client,
  type Destination,
  DestinationExistsError,
  DestinationNotFoundError,
  ServiceExistsError,
  type ServiceId,
  ServiceNotFoundError,
} from "../mod.ts";
import { type Arguments, script } from "./arguments.ts";
import { UsageError, whole } from "./common.ts";
import {
  destinationText,
  INSTANCE,
  INSTANCE_HELP,
  nameOf,
  parseDestination,
  parseService,
  show,
  withInstance,
} from "./words.ts";

const HELP = `services.ts [OPTIONS] [list [SERVICE...]]
services.ts [OPTIONS] add SERVICE [RIP...]
services.ts [OPTIONS] set SERVICE [RIP...]
services.ts [OPTIONS] remove|drain|undrain SERVICE [RIP...]

SERVICE is VIP:PORT/tcp or VIP:PORT/udp, an IPv6 VIP in brackets; port 0 is any port that
has no service of its own. RIP is a real server's address, and whatever is not as usual:
RIP,tunnel=ipip|gre|fou|gue,port=PORT,weight=N,mtu=BYTES,nochecksum,drain

  list     the services, with their destinations
  add      a service, or destinations of one that there is
  set      makes the service be as given, with these destinations and no others
  remove   a service, or destinations of it; to let connections end first, drain
  drain    no new connections to these destinations, or to all; those that there are stay
  undrain  new connections again

  -s, --sticky           a client's address alone decides its destination (add, set)
      --idle-timeout S   seconds that a flow may be silent through a change (add, set)
${INSTANCE_HELP}

For example:

  deno run -A scripts/services.ts add 192.168.101.1:80 10.1.2.10 10.1.2.11,weight=2
  deno run -A scripts/services.ts drain 192.168.101.1:80 10.1.2.10
`;

const SPEC = {
  values: [...INSTANCE.values, "idle-timeout"],
  switches: ["sticky"],
  letters: { ...INSTANCE.letters, sticky: "s" },
} as const;

type Line = Arguments<(typeof SPEC.values)[number], never, "sticky">;

/** The fields of a service that a command line gives. */
function fieldsOf({ values, switches }: Line): { sticky?: true; idleTimeout?: number } {
  const timeout = values["idle-timeout"];
  return {
    ...(switches.sticky && { sticky: true }),
    ...(timeout !== undefined && { idleTimeout: whole(timeout, 365 * 86400, "Idle timeout") }),
  };
}

/** What destinations a service shall have, by those that it has; undefined: the service is not there. */
type Edit = (
  before: Required<Destination>[] | undefined,
  given: Destination[],
  name: string,
) => Destination[] | undefined;

/** The addresses given, all of which a service must have; all that it has, if none are given. */
function meant(before: Required<Destination>[], given: Destination[], name: string): Set<string> {
  const has = new Set(before.map(({ address }) => address));
  const addresses = given.map(({ address }) => address);
  const stranger = addresses.find((address) => !has.has(address));
  if (stranger !== undefined) throw new DestinationNotFoundError(name, stranger);
  return given.length > 0 ? new Set(addresses) : has;
}

/** New connections to destinations, or none. */
function drain(disable: boolean): Edit {
  return (before, given, name) => {
    if (!before) throw new ServiceNotFoundError(name);
    const chosen = meant(before, given, name);
    return before.map((each) => chosen.has(each.address) ? { ...each, disable } : each);
  };
}

const EDITS: Record<string, Edit> = {
  add: (before, given, name) => {
    if (before && given.length === 0) throw new ServiceExistsError(name);
    const has = new Set(before?.map(({ address }) => address));
    const again = given.find(({ address }) => has.has(address));
    if (again) throw new DestinationExistsError(name, again.address);
    return [...before ?? [], ...given];
  },
  set: (_, given) => given,
  remove: (before, given, name) => {
    if (!before) throw new ServiceNotFoundError(name);
    if (given.length === 0) return undefined;
    const gone = meant(before, given, name);
    return before.filter(({ address }) => !gone.has(address));
  },
  drain: drain(true),
  undrain: drain(false),
};

/** Puts an edit of one service into effect, in one change. */
async function carryOut(
  client: Client,
  line: Line,
  target: ServiceId,
  given: Destination[],
): Promise<void> {
  const [action] = line.words, name = nameOf(target);
  await client.editServices((services) => {
    const before = services.find(({ service }) => nameOf(service) === name);
    const destinations = EDITS[action!]!(before?.destinations, given, name);
    const others = services.filter((each) => each !== before);
    if (!destinations) return others;
    const spec = action === "set" ? target : before?.service ?? target;
    return [...others, { service: { ...spec, ...fieldsOf(line) }, destinations }];
  });
}

function list(client: Client, names: readonly string[], json: boolean): void {
  const services = names.length > 0
    ? names.map((name) => client.service(parseService(name)))
    : client.services();
  const rows = services.map(({ service }) => ({
    ...service,
    destinations: client.destinations(service).map(({ destination }) => destination),
  }));
  const columns = (row: (typeof rows)[number]): Record<string, string | number> => ({
    service: nameOf(row),
    sticky: row.sticky ? "yes" : "no",
    "idle timeout": row.idleTimeout,
    destinations: row.destinations.map(destinationText).join(" ") || "none",
  });
  show(rows, json, columns, "there is no service");
}

await script(HELP, SPEC, (line) => {
  const [action = "list", ...rest] = line.words;
  if (action === "list") {
    const { json } = line.switches;
    return withInstance(line, (client) => list(client, rest, json), { readOnly: true });
  }
  if (!Object.hasOwn(EDITS, action)) {
    throw new UsageError(`services.ts does not know "${action}": see --help`);
  }
  const [name, ...rips] = rest;
  if (name === undefined) throw new UsageError(`services.ts ${action} takes a service: see --help`);
  const service = parseService(name), destinations = rips.map(parseDestination);
  return withInstance(line, async (client) => {
    await carryOut(client, line, service, destinations);
    if (action !== "remove" || rips.length > 0) list(client, [name], line.switches.json);
  });
});
