#!/usr/bin/env -S deno run -A
/**
 * Takes an instance off interfaces.
 *
 * @module
 */
import { script } from "./arguments.ts";
import { print, toJson, UsageError } from "./common.ts";
import { INSTANCE, INSTANCE_HELP, withInstance } from "./words.ts";

const HELP = `detach.ts [OPTIONS] IFACE...
detach.ts [OPTIONS] --all

Takes an instance off interfaces. What it knows stays: attach.ts goes on with it. To
remove it whole, there is instances.ts.

  -a, --all              off all interfaces that it is attached to
${INSTANCE_HELP}

For example:

  deno run -A scripts/detach.ts -i web eth1
`;

await script(
  HELP,
  { ...INSTANCE, switches: ["all"], letters: { ...INSTANCE.letters, all: "a" } },
  (args) => {
    const { words, switches: { all, json } } = args;
    if (all === words.length > 0) {
      throw new UsageError("detach.ts takes the names of interfaces, or --all: see --help");
    }
    return withInstance(args, async (client) => {
      const attached = client.info().interfaces.map(({ name }) => name);
      const stranger = words.find((name) => !attached.includes(name));
      if (stranger !== undefined) {
        const known = attached.join(", ") || "none";
        throw new UsageError(`Interface "${stranger}" is not attached: there are ${known}`);
      }
      const names = all ? attached : words;
      await client.detach(...names);
      if (json) { for (const detached of names) print(toJson({ detached })); }
    });
  },
);
