/** Half a minute of what `make endurance` does for ten. */
import { assert, assertEquals } from "@std/assert";
import { losses, run, type TrafficOutcome } from "./traffic.ts";

const SECONDS = 30;

Deno.test("traffic with a change every 100 ms loses nothing", async () => {
  const outcome = await run(SECONDS);
  assertEquals(losses(outcome), []);
  const { changes, held, talked, short } = outcome;
  const least = Math.min(changes, held.answers, talked.answers, short.answers);
  assert(least > SECONDS, JSON.stringify(outcome)); // however slow the machine
});

Deno.test("a loss is seen", () => {
  const none = { destinations: {}, moves: {}, answers: 5, slowestMs: 0, failures: {} };
  const outcome: TrafficOutcome = { changes: 1, held: none, talked: none, short: none };
  assertEquals(losses(outcome), []);
  const lost = {
    ...outcome,
    held: { ...none, failures: { "Error: no answer": 2 } },
    talked: { ...none, moves: { "d1>d2": 1 } },
  };
  assertEquals(losses(lost), ["held: 2 times Error: no answer", "talked: 1 flows moved, d1>d2"]);
});
