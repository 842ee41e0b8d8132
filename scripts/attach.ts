#!/usr/bin/env -S deno run -A
/**
 * Attaches an instance to interfaces, and makes it if it is not there.
 *
 * @module
 */
import { Prefix } from "../lib/net/address.ts";
import { type AttachedInterface, Client, InstanceNotFoundError, type Options } from "../mod.ts";
import { type Arguments, script } from "./arguments.ts";
import { parseMode, UsageError, whole } from "./common.ts";
import { INSTANCE, INSTANCE_HELP, instanceOf, show } from "./words.ts";

const HELP = `attach.ts [OPTIONS] [IFACE...]

Attaches an instance to interfaces, and makes it first if there is none of that name. It
lives on when this has ended: detach.ts and instances.ts take it away.

      --mode MODE        native, generic or auto: native if the driver has it (default auto)
      --replace          even where somebody else's XDP program is attached

Of a new instance:
  -V, --vlan [ID=]ROUTER/PREFIX
                         a network that destinations are on, by its router's address in
                         it; may be repeated. Without any the kernel's routes decide
      --route PREFIX=ID  by the router of which network a prefix is reached
      --unknown-port DO  drop, pass or reject what comes to a port without service
      --expired DO       drop, or reject as routers do, what has used up its TTL
      --bonding          packets leave by the interface that they came in by
      --hash-key HEX     16 bytes, the same on all nodes that are to choose alike
      --max-services N   and --max-destinations, --max-flows, --max-blocked: sizes

${INSTANCE_HELP}

For example:

  deno run -A scripts/attach.ts -i web --vlan 10.1.2.254/24 eth0 eth1
`;

const SIZES = ["max-services", "max-destinations", "max-flows", "max-blocked"] as const;

const SPEC = {
  values: [...INSTANCE.values, "mode", "unknown-port", "expired", "hash-key", ...SIZES],
  lists: ["vlan", "route"],
  switches: ["replace", "bonding"],
  letters: { ...INSTANCE.letters, vlan: "V" },
} as const;

type Line = Arguments<
  (typeof SPEC.values)[number],
  (typeof SPEC.lists)[number],
  (typeof SPEC.switches)[number]
>;

function networksOf({ lists }: Line): Pick<Options, "ipv4VLANs" | "ipv6VLANs" | "routes"> {
  const vlans: Record<4 | 6, Record<number, string>> = { 4: {}, 6: {} };
  for (const text of lists.vlan) {
    const match = /^(?:(\d+)=)?(.+)$/.exec(text)!;
    const known = vlans[Prefix.parse(match[2]!).address.family];
    const id = match[1] === undefined
      ? Object.keys(known).length + 1
      : whole(match[1], 4094, "VLAN ID");
    if (known[id] !== undefined) throw new UsageError(`VLAN ${id} is given twice`);
    known[id] = match[2]!;
  }
  const routes = Object.fromEntries(lists.route.map((text) => {
    const [prefix = "", id = ""] = text.split("=");
    return [prefix, whole(id, 4094, "VLAN ID")];
  }));
  return { ipv4VLANs: vlans[4], ipv6VLANs: vlans[6], routes };
}

function keyOf(text: string | undefined): Pick<Options, "hashKey"> {
  if (text === undefined) return {};
  if (/^[\da-fA-F]{32}$/.test(text)) return { hashKey: Uint8Array.fromHex(text) };
  throw new UsageError("The hash key must be 16 bytes in hexadecimal: 32 digits");
}

function optionsOf(line: Line): Options {
  const { values, switches: { replace, bonding } } = line;
  const sizes = SIZES.filter((name) => values[name] !== undefined).map((name) => [
    name.replace(/-(\w)/, (_, letter) => letter.toUpperCase()),
    whole(values[name]!, 1 << 24, `--${name}`),
  ]);
  return {
    instance: instanceOf(line),
    mode: parseMode(values.mode ?? "auto"),
    replace,
    bonding,
    ...networksOf(line),
    ...keyOf(values["hash-key"]),
    ...(values["unknown-port"] && { unknownPort: values["unknown-port"] as "drop" }),
    ...(values.expired && { expired: values.expired as "drop" }),
    ...Object.fromEntries(sizes),
    follow: false,
  };
}

/** What only a new instance takes. */
function onlyNew({ values, lists, switches }: Line): string | undefined {
  const given = { ...values, ...lists, ...switches };
  const old = ["instance", "mode", "replace", "json", "help"];
  return Object.entries(given)
    .find(([name, value]) => !old.includes(name) && value && (value as string).length !== 0)?.[0];
}

async function opened(line: Line): Promise<Client> {
  const name = instanceOf(line), options = optionsOf(line);
  try {
    const client = await Client.open(name, { replace: line.switches.replace });
    const extra = onlyNew(line);
    if (extra === undefined) return client;
    await client.close();
    throw new UsageError(`Instance "${name}" exists already: --${extra} is of a new one`);
  } catch (error) {
    if (!(error instanceof InstanceNotFoundError)) throw error;
    return await Client.create(line.words, options);
  }
}

await script(HELP, SPEC, async (line) => {
  await using client = await opened(line);
  await client.attach(...line.words);
  const columns = ({ name, index, mode }: AttachedInterface): Record<string, string | number> => ({
    interface: name,
    index,
    mode: mode ?? "gone",
  });
  show(client.info().interfaces, line.switches.json, columns, "attached to no interface");
});
