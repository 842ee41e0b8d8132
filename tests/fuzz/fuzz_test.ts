/** A few seconds of what `make fuzz` does for as long as one likes. */
import { assert, assertEquals } from "@std/assert";
import { BalancerTarget } from "./balancer_target.ts";
import { describe, fuzz } from "./fuzz.ts";
import { Choices } from "./random.ts";
import { shrink } from "./shrink.ts";
import { TARGETS } from "./targets.ts";

const SEED = 20;
const PROBES = ["probe", "probe_reply", "err_probe"];
/** Reasons that need a broken driver, or a client that breaks its own tables. */
const UNREACHED = [
  "err_backend_invalid",
  "err_adjust_failed",
  "err_tunnel_unsupported",
  "err_redirect",
  "err_internal",
];
/** What must have been met for it to be worth anything. */
const WANTED: Record<string, (reason: string) => boolean> = {
  xvs: (reason) => !UNREACHED.includes(reason) && !PROBES.includes(reason),
  decap: (reason) => !UNREACHED.includes(reason),
  probe: (reason) => [...PROBES, "not_ip", "not_a_vip", "too_big"].includes(reason),
};

for (const [name, create] of Object.entries(TARGETS)) {
  Deno.test(`whatever is put on the wire, ${name} does what it says`, async () => {
    const target = await create();
    try {
      const outcome = await fuzz(target, SEED, 120_000);
      assertEquals(outcome.findings, [], describe(name, SEED, outcome));
      const unseen = [...outcome.counts].filter(([_, count]) => count === 0).map(([name]) => name);
      assertEquals(unseen.filter(WANTED[name]!), []);
    } finally {
      await target.close();
    }
  });
}

Deno.test("the oracle sees a wrong verdict, a wrong reason, and nearly every wrong byte", async () => {
  const target = await BalancerTarget.create();
  try {
    const choices = new Choices(SEED);
    let bytes = 0, missed = 0;
    for (let i = 0; i < 20_000; i++) {
      const frame = target.next(choices).slice();
      assertEquals(target.send(frame), undefined);
      const dropped = target.send(frame, (run) => {
        run.action = run.action === 1 ? 2 : 1;
      });
      assert(dropped, `another action for ${frame.toHex()}`);
      assert(target.send(frame, (run) => run.octets++), `octets of ${frame.toHex()}`);
      assert(target.send(frame, (run) => run.reason = -1), "no reason");
      let spoilt = false;
      const complaint = target.send(frame, (run) => {
        if (run.action === 1) return;
        spoilt = true;
        run.frame[choices.below(run.frame.length)]! ^= 1 << choices.below(8);
      });
      if (!spoilt) continue;
      bytes++;
      if (!complaint) missed++;
    }
    // Bits of a source that the flow's hash may fill; sums that were wrong before.
    assert(missed < bytes / 50, `${missed} of ${bytes} wrong bytes were not seen`);
  } finally {
    await target.close();
  }
});

Deno.test("a frame is made as small and plain as still shows it", () => {
  const frame = Uint8Array.from({ length: 500 }, (_, i) => 1 + i % 250);
  const shows = (candidate: Uint8Array) => candidate.length > 61 && candidate[40] === 41;
  const small = shrink(frame, shows);
  assertEquals([small.length, small[40]], [62, 41]);
  assertEquals(small.reduce((sum, byte) => sum + byte, 0), 41);
});
