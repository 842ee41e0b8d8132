#!/usr/bin/env -S deno run -A
/**
 * Replaces the program of an instance under traffic.
 *
 * @module
 */
import { Client } from "../mod.ts";
import { script } from "./arguments.ts";
import { print, toJson } from "./common.ts";
import { INSTANCE, INSTANCE_HELP, instanceOf, noWords, withInstance } from "./words.ts";

const HELP = `upgrade.ts [OPTIONS]

Has an instance run the program of this version, or of a file. Services, flows and
counters stay, and no packet is lost: each meets the old program or the new one.

      --object FILE      an ELF file built from bpf/xvs.bpf.c (default: the one in here)
${INSTANCE_HELP}

For example:

  deno run -A scripts/upgrade.ts -i web
`;

await script(HELP, { ...INSTANCE, values: [...INSTANCE.values, "object"] }, async (args) => {
  noWords(args.words, "upgrade.ts");
  const { object } = args.values;
  const bytes = object === undefined ? undefined : await Deno.readFile(object);
  await withInstance(args, (client) => client.upgrade(bytes));
  const name = instanceOf(args);
  const { current } = (await Client.instances()).find((each) => each.name === name)!;
  const program = current ? "the program of this version" : `the program of ${object}`;
  print(args.switches.json ? toJson({ instance: name, current }) : `${name} runs ${program}`);
});
