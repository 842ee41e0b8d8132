/**
 * Carries out every so-manieth history, from a seed on and below another, and prints what came of them:
 * `deno run -A state_run.ts FIRST STEP END`. Several can run beside each other: a change waits for the
 * kernel to see off the packets under way, and does nothing else meanwhile.
 *
 * @module
 */
import { check, historyOf } from "../unit/state_history.ts";
import { inUnits, Program } from "./state_program.ts";

/** What came of some histories. */
export interface Result {
  /** The first thing in each that must not be. */
  faults: string[];
  changes: number;
  packets: number;
  kept: number;
}

async function carryOut(first: number, step: number, end: number): Promise<Result> {
  const result: Result = { faults: [], changes: 0, packets: 0, kept: 0 };
  using program = await Program.create();
  for (let seed = first; seed < end; seed += step) {
    const history = inUnits(historyOf(seed));
    await program.begin(history);
    const { violation, changes, packets, kept } = await check(history, program);
    const fault = violation ?? program.difference;
    if (fault !== undefined) result.faults.push(fault);
    result.changes += changes;
    result.packets += packets;
    result.kept += kept;
  }
  return result;
}

if (import.meta.main) {
  const [first = 0, step = 1, end = 0] = Deno.args.map(Number);
  console.log(JSON.stringify(await carryOut(first, step, end)));
}
