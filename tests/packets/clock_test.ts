/** The program's own clock, which in other tests is the test's. */

import { assert } from "@std/assert";
import { monotonicNs } from "../../lib/bpf/mod.ts";
import { FLOW, FLOW_SEEN_SHIFT } from "../../lib/lb/abi.gen.ts";
import { Instance } from "../../lib/lb/instance.ts";
import { Client } from "../../mod.ts";
import { ethernet, ipv4, tcp } from "./build.ts";
import { FakeNextHops, IFINDEX } from "./harness.ts";

Deno.test("a flow that is known was seen when it last spoke", async () => {
  const options = { trackMask: 0, maxFlows: 1024, maxServices: 1, maxDestinations: 1 };
  const instance = await Instance.load(options);
  await using client = await Client.create([], options, { instance, nextHops: new FakeNextHops() });
  await client.setService({ address: "192.0.2.1", port: 80 }, { address: "10.0.0.2" });
  const ends = { source: "198.51.100.7", destination: "192.0.2.1" };
  const data = ethernet({}, ipv4(ends, tcp({ sourcePort: 40000, destinationPort: 80, ...ends })));
  for (let i = 0; i < 10; i++) {
    const before = monotonicNs();
    for (let packet = 0; packet < 3; packet++) {
      instance.program.testRun({ data, ingressIfindex: IFINDEX });
    }
    const { values } = instance.flows4.lookupBatch();
    const seenNs = BigInt(FLOW.decode(values).seen) << BigInt(FLOW_SEEN_SHIFT);
    // Two ticks of 10 ms, where ticks are rare, and a unit of `seen`.
    const late = Number(before - seenNs) / 1e6;
    assert(late < 20 + 17 && seenNs <= monotonicNs(), `seen ${late} ms late`);
    await new Promise((resolve) => setTimeout(resolve, 60));
  }
});
