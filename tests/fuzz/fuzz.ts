/**
 * Fuzzes the XDP programs: `deno run -A tests/fuzz/fuzz.ts [--packets N] [--seed N] [--target NAME]`.
 *
 * @module
 */
import { parseArgs } from "@std/cli/parse-args";
import { type Finding, Session, type Target } from "./session.ts";
import { TARGETS } from "./targets.ts";

/** Packets between two lines of progress. */
const STEP = 100_000;
/** Frames that are cut at every length, and up to which. */
const CUTS = [200, 200] as const;

/** What came of fuzzing one program. */
export interface Outcome {
  packets: number;
  seconds: number;
  counts: Map<string, number>;
  findings: Finding[];
}

/** Fuzzes a program, until there are enough packets or findings. */
export async function fuzz(
  target: Target,
  seed: number,
  packets: number,
  progress: (done: number) => void = () => {},
): Promise<Outcome> {
  const session = new Session(target, seed);
  const started = performance.now();
  session.cuts(...CUTS);
  while (session.packets < packets) {
    await session.run(Math.min(STEP, packets - session.packets));
    progress(session.packets);
  }
  const counts = new Map(target.reasons.map((reason, i) => [reason, target.counts[i]!]));
  return {
    packets: target.counts.reduce((sum, count) => sum + count, 0),
    seconds: (performance.now() - started) / 1000,
    counts,
    findings: session.findings,
  };
}

/** For people. */
export function describe(name: string, seed: number, outcome: Outcome): string {
  const { packets, seconds, counts, findings } = outcome;
  const rows = [...counts].filter(([_, count]) => count > 0).sort((a, b) => b[1] - a[1]);
  const rate = Math.round(packets / seconds * 60);
  return [
    ...rows.map(([reason, count]) => `${reason.padEnd(24)}${count.toString().padStart(12)}`),
    `${name}: ${packets} packets in ${
      seconds.toFixed(1)
    } s, ${rate} a minute, ${findings.length} findings`,
    ...findings.map(({ complaint, packet, age, frame }) =>
      `\nseed ${seed}, packet ${packet}: ${complaint}\n` +
      `  deno run -A tests/fuzz/replay.ts --target ${name} --seed ${seed} --age ${age} ${frame.toHex()}`
    ),
  ].join("\n");
}

if (import.meta.main) {
  const args = parseArgs(Deno.args, { string: ["packets", "seed", "target"] });
  const { packets = "1000000", seed = String(Date.now() % 2 ** 31), target } = args;
  const names = target === undefined ? Object.keys(TARGETS) : [target];
  let failed = false;
  for (const name of names) {
    const create = TARGETS[name];
    if (!create || !/^\d+$/.test(packets) || !/^\d+$/.test(seed)) {
      console.error(`fuzz: say --packets N, --seed N, --target ${Object.keys(TARGETS).join("|")}`);
      Deno.exit(2);
    }
    const running = await create();
    try {
      const progress = (done: number) => {
        if (Deno.stderr.isTerminal()) console.error(`${name}: ${done} of ${packets}`);
      };
      const outcome = await fuzz(running, Number(seed), Number(packets), progress);
      console.log(describe(name, Number(seed), outcome));
      failed ||= outcome.findings.length > 0;
    } finally {
      await running.close();
    }
  }
  Deno.exit(failed ? 1 : 0);
}
