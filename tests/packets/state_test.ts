/**
 * Random histories of a service, carried out on the loaded program through the client's own code. As many
 * as `XVS_HISTORIES` says, 240 by default.
 */
import { assert, assertEquals, fail } from "@std/assert";
import type { RingState } from "../../lib/lb/change.ts";
import { slotOf } from "../../lib/lb/change.ts";
import { check, historyOf } from "../unit/state_history.ts";
import { type AfterChange, inUnits, Program } from "./state_program.ts";
import type { Result } from "./state_run.ts";

const HISTORIES = Number(Deno.env.get("XVS_HISTORIES") ?? 240);
const PROCESSES = 8;

async function carryOut(first: number): Promise<Result> {
  const { success, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: [
      ...["run", "-A", "--no-check", import.meta.resolve("./state_run.ts")],
      ...[first, PROCESSES, HISTORIES].map(String),
    ],
  }).output();
  const text = new TextDecoder();
  if (!success) fail(text.decode(stderr));
  return JSON.parse(text.decode(stdout));
}

Deno.test("the program keeps every flow with its destination, and decides as the model does", async () => {
  const results = await Promise.all(Array.from({ length: PROCESSES }, (_, i) => carryOut(i)));
  assertEquals(results.flatMap(({ faults }) => faults), []);
  const total = (of: (result: Result) => number): number =>
    results.reduce((sum, result) => sum + of(result), 0);
  const [changes, packets, kept] = [
    total((result) => result.changes),
    total((result) => result.packets),
    total((result) => result.kept),
  ];
  // Otherwise the histories would put nothing to the test.
  assert(changes > 10 * HISTORIES && kept > 100 * HISTORIES, `${changes} changes, ${kept} kept`);
  if (Deno.env.has("XVS_VERBOSE")) console.log({ histories: HISTORIES, changes, packets, kept });
});

/** Replaces the ring of the service by one that is wrong. */
function withRing(wrong: (ring: RingState) => Partial<RingState>): AfterChange {
  return ({ registry }, entry) =>
    registry.replaceRings(new Map([[entry, { ...entry.ring, ...wrong(entry.ring) }]]));
}

const FAULTS: Record<string, AfterChange> = {
  "nothing is tracked": withRing(({ current }) => ({ current: current.map(slotOf) })),
  "no window follows a change": withRing(() => ({ windowEndNs: 0n })),
  "nobody is previous": withRing(({ previous }) => ({ previous: previous.map(() => 0) })),
  "no flow is remembered": ({ instance }) => {
    instance.settings = { ...instance.settings, flowBudget: 0 };
  },
  "remembered flows are lost": ({ instance: { flows4 } }) => {
    const { keys, count } = flows4.lookupBatch();
    if (count > 0) flows4.deleteBatch(keys, count);
  },
};

for (const [what, afterChange] of Object.entries(FAULTS)) {
  Deno.test(`a flow loses its destination where ${what}`, async () => {
    using program = await Program.create(afterChange);
    for (let seed = 0; seed < 100; seed++) {
      const history = inUnits(historyOf(seed));
      await program.begin(history);
      if ((await check(history, program)).violation !== undefined) return;
    }
    fail(`no history shows that ${what}`);
  });
}
