/**
 * Sends frames once more: `deno run -A tests/fuzz/replay.ts [--target NAME] [--seed N --age N] HEX...`, as
 * `fuzz.ts` prints it.
 *
 * @module
 */
import { parseArgs } from "@std/cli/parse-args";
import { Session } from "./session.ts";
import { TARGETS } from "./targets.ts";

const args = parseArgs(Deno.args, { string: ["target", "seed", "age", "_"] });
const { target: name = "xvs", seed = "1", age = "0" } = args;
const create = TARGETS[name];
if (!create || args._.length === 0) {
  console.error(`replay: say --target ${Object.keys(TARGETS).join("|")} --seed N --age N HEX...`);
  Deno.exit(2);
}
const target = await create();
try {
  await new Session(target, Number(seed)).grow(Number(age));
  for (const hex of args._) {
    const before = target.counts.slice();
    const complaint = target.send(Uint8Array.fromHex(String(hex)));
    const reasons = target.reasons.filter((_, i) => target.counts[i] !== before[i]);
    console.log(`${reasons.join(", ")}: ${complaint ?? "as it must be"}`);
  }
} finally {
  await target.close();
}
