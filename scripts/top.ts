#!/usr/bin/env -S deno run -A
/**
 * Who gets how much, live.
 *
 * @module
 */
import { script } from "./arguments.ts";
import { Display } from "./balance_display.ts";
import { parseSeconds, sleep, untilInterrupted, UsageError, whole } from "./common.ts";
import { INSTANCE, INSTANCE_HELP, noWords, withInstance } from "./words.ts";

const HELP = `top.ts [OPTIONS]

Who gets how much: services and destinations of an instance with their rates, as long as it
runs. In a terminal it fills the screen; in a pipe it writes one table after the other.

  -n, --interval SECONDS how often (default 1)
  -r, --run SECONDS      how long; 0 is until interrupted (default 0)
${INSTANCE_HELP}

For example:

  deno run -A scripts/top.ts -i web
  deno run -A scripts/top.ts --run 10 --json | jq -c '.services[].rates'
`;

const SPEC = {
  values: [...INSTANCE.values, "interval", "run"],
  letters: { ...INSTANCE.letters, interval: "n", run: "r" },
} as const;

await script(HELP, SPEC, (args) => {
  noWords(args.words, "top.ts");
  const { interval = "1", run = "0" } = args.values;
  const ms = whole(interval, 3600, "Interval") * 1000;
  if (ms === 0) throw new UsageError("The interval must be at least 1 second");
  const ended = untilInterrupted(parseSeconds(run));
  return withInstance(args, async (client) => {
    const display = new Display(client, args.switches.json);
    while (!ended.aborted) {
      display.show();
      await sleep(ms, ended);
    }
  }, { readOnly: true });
});
