#!/usr/bin/env -S deno run -A
/**
 * Makes an instance be what a file says.
 *
 * @module
 */
import { Client, type Difference } from "../mod.ts";
import { script } from "./arguments.ts";
import { print, sleep, toJson, untilInterrupted, UsageError } from "./common.ts";
import { parseState } from "./state_file.ts";
import { INSTANCE, INSTANCE_HELP, withInstance } from "./words.ts";

const HELP = `apply.ts [OPTIONS] FILE

Makes an instance be what a file says, in one change: all of it, or, if something cannot
be, nothing. FILE is YAML, JSON or, as services.ts lists them, JSON Lines of services; "-" is
standard input. What the file leaves out stays as it is; what a list lacks is removed.
xvs.schema.json describes it, for editors.

  -n, --dry-run          only tell what would change
  -w, --watch            do so again whenever the file changes, until interrupted
${INSTANCE_HELP}

For example, web.yaml:

  services:
    - address: 192.168.101.1
      port: 80
      destinations: [10.1.2.10, { address: 10.1.2.11, weight: 2 }]

  deno run -A scripts/apply.ts -i web --dry-run web.yaml
`;

const SPEC = {
  ...INSTANCE,
  switches: ["dry-run", "watch"],
  letters: { ...INSTANCE.letters, "dry-run": "n", watch: "w" },
} as const;

/** How long a file must be left alone before it is read. */
const QUIET_MS = 100;

const SIGNS = { add: "+", change: "~", remove: "-" };

function fields(values: Readonly<Record<string, unknown>> = {}): string {
  return Object.entries(values).filter(([key]) => key !== "address")
    .map(([key, value]) => `${key} ${JSON.stringify(value)}`).join(", ");
}

function lineOf({ op, what, name, service, before, after }: Difference): string {
  const thing = `${SIGNS[op]} ${what} ${name}${service ? ` of ${service}` : ""}`;
  if (op === "change") return `${thing}: ${fields(before)} -> ${fields(after)}`;
  const details = op === "add" && what !== "service" ? fields(after) : "";
  return details === "" ? thing : `${thing}: ${details}`;
}

async function read(path: string): Promise<string> {
  if (path === "-") return await new Response(Deno.stdin.readable).text();
  try {
    return await Deno.readTextFile(path);
  } catch (error) {
    throw new UsageError(`Cannot read "${path}": ${(error as Error).message.split(":")[0]}`);
  }
}

/** Changes of a file, from now on. */
function watch(path: string): Deno.FsWatcher {
  // Editors put a new file in the place of the old one.
  return Deno.watchFs(path.includes("/") ? path.replace(/\/[^/]*$/, "") || "/" : ".");
}

/** Each time that the file has changed and been left alone since. */
async function* changesOf(
  path: string,
  watcher: Deno.FsWatcher,
  signal: AbortSignal,
): AsyncGenerator<void> {
  signal.addEventListener("abort", () => watcher.close());
  const name = path.split("/").at(-1);
  for await (const event of watcher) {
    if (!event.paths.some((each) => each.split("/").at(-1) === name)) continue;
    await sleep(QUIET_MS, signal);
    if (!signal.aborted) yield;
  }
}

await script(HELP, SPEC, async (args) => {
  const [path, ...more] = args.words;
  const { json, watch: again, "dry-run": dryRun } = args.switches;
  if (path === undefined || more.length > 0) {
    throw new UsageError("apply.ts takes one FILE: see --help");
  }
  if (again && (path === "-" || dryRun)) {
    throw new UsageError("--watch goes neither with standard input nor with --dry-run");
  }
  const apply = async (client: Client): Promise<void> => {
    const state = parseState(await read(path), path === "-" ? "standard input" : path);
    const different = await client.setState(state, { dryRun });
    for (const each of different) print(json ? toJson(each) : lineOf(each));
    if (different.length === 0 && !json) print("nothing to change");
  };
  await withInstance(args, async (client) => {
    if (!again) return await apply(client);
    const signal = untilInterrupted(0);
    const watcher = watch(path);
    await apply(client);
    for await (const _ of changesOf(path, watcher, signal)) {
      await apply(client).catch((error) => console.error(error.message));
    }
  }, { readOnly: dryRun, follow: again });
});
