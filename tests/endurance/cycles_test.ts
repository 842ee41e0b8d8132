/** What `make endurance` does 10,000 times. */
import { assert, assertEquals } from "@std/assert";
import { complaints, KINDS, type Outcome } from "./cycles.ts";

const CYCLES = { services: 60, clients: 12, opens: 40, instances: 12 } as const;

Deno.test("what is made and removed leaves nothing behind", async () => {
  const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: [
      ...["run", "-A", "--v8-flags=--expose-gc", new URL("cycles.ts", import.meta.url).pathname],
      ...KINDS.flatMap((kind) => [`--${kind}`, String(CYCLES[kind])]),
    ],
  }).output();
  const output = new TextDecoder().decode(stdout) + new TextDecoder().decode(stderr);
  assertEquals(code, 0, output);
  assertEquals(output.trim().split("\n").length, KINDS.length, output);
});

Deno.test("what is left behind is seen", () => {
  const clean: Outcome = {
    kind: "clients",
    cycles: 10_000,
    descriptors: 0,
    objects: [],
    heapPerCycle: 20,
    rssPerCycle: 100,
    seconds: 1,
  };
  assertEquals(complaints(clean), []);
  for (
    const dirty of [{ descriptors: 1 }, { objects: ["map 5"] }, { heapPerCycle: 1300 }, {
      rssPerCycle: 9000,
    }]
  ) assert(complaints({ ...clean, ...dirty }).length === 1);
});
