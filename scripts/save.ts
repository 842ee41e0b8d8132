#!/usr/bin/env -S deno run -A
/**
 * Writes what an instance is, for apply.ts.
 *
 * @module
 */
import { script } from "./arguments.ts";
import { print, toJson } from "./common.ts";
import { flatState, stringifyState } from "./state_file.ts";
import { INSTANCE, INSTANCE_HELP, noWords, withInstance } from "./words.ts";

const HELP = `save.ts [OPTIONS]

Writes the configuration of an instance, its services and its blocked prefixes, as YAML or
JSON. apply.ts makes an instance be the same: this one, a new one, or one on another host.

${INSTANCE_HELP}

For example:

  deno run -A scripts/save.ts -i web > web.yaml
  deno run -A scripts/save.ts -i web | deno run -A scripts/apply.ts -i web --dry-run -
`;

await script(HELP, INSTANCE, (args) => {
  noWords(args.words, "save.ts");
  return withInstance(args, (client) => {
    const state = client.state();
    print(args.switches.json ? toJson(flatState(state)) : stringifyState(state).trimEnd());
  }, { readOnly: true });
});
