import { assert, assertEquals, fail } from "@std/assert";
import { check, historyOf } from "./state_history.ts";
import { Model, RULES } from "./state_model.ts";

const HISTORIES = 3000;

Deno.test("a flow that speaks once per window keeps its destination while that stays", async () => {
  let changes = 0, packets = 0, kept = 0, lookups = 0, insertions = 0;
  for (let seed = 0; seed < HISTORIES; seed++) {
    const history = historyOf(seed);
    const model = new Model(history);
    const outcome = await check(history, model);
    assertEquals(outcome.violation, undefined);
    changes += outcome.changes;
    packets += outcome.packets;
    kept += outcome.kept;
    lookups += model.lookups;
    insertions += model.insertions;
  }
  // Otherwise the histories would put nothing to the test.
  assert(changes > 10 * HISTORIES && kept > 100 * HISTORIES, `${changes} changes, ${kept} kept`);
  if (Deno.env.has("XVS_VERBOSE")) {
    console.log({ histories: HISTORIES, changes, packets, kept, lookups, insertions });
  }
});

for (const rule of RULES) {
  Deno.test(`histories go wrong without the rule that ${rule}`, async () => {
    for (let seed = 0; seed < HISTORIES; seed++) {
      const history = historyOf(seed);
      if ((await check(history, new Model(history, rule))).violation !== undefined) return;
    }
    fail(`${HISTORIES} histories do without the rule "${rule}"`);
  });
}

Deno.test("a history is the same every time", () => {
  const history = historyOf(5);
  assertEquals([...history.steps], [...history.steps]);
});
