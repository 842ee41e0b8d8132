/** Counting runs. */
import { assert, assertEquals } from "@std/assert";
import { countRuns } from "../../lib/bpf/mod.ts";
import { frame, loaded } from "./support.ts";

Deno.test("runs are counted and timed while somebody asks for it", () => {
  using object = loaded();
  const program = object.program("pass");
  program.testRun({ data: frame(), repeat: 10 });
  assertEquals(program.runs, { count: 0n, timeNs: 0n });
  {
    using _ = countRuns();
    program.testRun({ data: frame(), repeat: 10 });
  }
  assertEquals(program.runs.count, 10n);
  assert(program.runs.timeNs > 0n);
  program.testRun({ data: frame(), repeat: 10 });
  assertEquals(program.runs.count, 10n);
});
