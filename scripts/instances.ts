#!/usr/bin/env -S deno run -A
/**
 * Lists the instances on this host, or removes some.
 *
 * @module
 */
import { Client, type InstanceInfo } from "../mod.ts";
import { script } from "./arguments.ts";
import { UsageError } from "./common.ts";
import { show } from "./words.ts";

const HELP = `instances.ts [OPTIONS] [list]
instances.ts [OPTIONS] remove NAME...

The balancers on this host, each with a name, and what they are attached to. One that is
removed is detached first; it is gone with its services, and its connections end.

      --json             one JSON object a line
  -h, --help             this

For example:

  deno run -A scripts/instances.ts
  deno run -A scripts/instances.ts remove web
`;

function columns(instance: InstanceInfo): Record<string, string | number> {
  const { name, abiVersion, current, interfaces, namespace, services } = instance;
  return {
    instance: name,
    services,
    interfaces: interfaces.map((each) => `${each.name} (${each.mode ?? "gone"})`).join(", ") ||
      "none",
    namespace: namespace ?? "",
    program: current ? "current" : `another, of ABI ${abiVersion}`,
  };
}

await script(HELP, {}, async ({ words, switches }) => {
  const [action = "list", ...names] = words;
  if (action === "remove" && names.length > 0) {
    for (const name of names) await Client.remove(name);
  } else if (action === "list" && names.length === 0) {
    show(await Client.instances(), switches.json, columns, "there is no instance");
  } else {
    throw new UsageError(
      "instances.ts takes list, or remove and the names of instances: see --help",
    );
  }
});
