/**
 * Native XDP on veth, which sends only where the peer runs a program too: here one that passes everything.
 *
 * @module
 */
import { assert, assertEquals } from "@std/assert";
import { Lab } from "../../lib/net/lab.ts";
import { spread } from "../../lib/net/lab_client.ts";
import type { Info } from "../../mod.ts";
import { BpfFs, loaded } from "../bpf/support.ts";
import { decapsulate, exchange, through } from "./decap_script.ts";
import { Remote } from "./remote.ts";

Deno.test("lab: native mode balances with and without a tunnel", async () => {
  await using stack = new AsyncDisposableStack();
  const lab = stack.use(await Lab.create({ name: `native_${Deno.pid}`, destinations: 2 }));
  const bpffs = stack.use(new BpfFs());
  const object = stack.use(loaded());
  const path = `${bpffs.path}/pass`;
  object.program("pass").pin(path);
  await lab.attachToPorts(path, [lab.balancer]);
  await decapsulate(stack, lab);
  const remote = stack.use(await Remote.create(lab, { mode: "native" }));
  assertEquals((await remote.call<Info>("info")).interfaces[0]?.mode, "native");
  for (const vip of [lab.vips[0]!, lab.vips.find((address) => address.includes(":"))!]) {
    const service = { address: vip, port: 80 };
    for (const tunnel of [undefined, "ipip", "gue"] as const) {
      const destinations = lab.destinations.map((node) =>
        tunnel ? through(tunnel, node, 4) : { address: node.address4 }
      );
      await remote.call("setService", service, ...destinations);
      const result = await spread(lab.client, { ...service, connections: 100 });
      assertEquals(result.failures, {});
      assertEquals(Object.keys(result.destinations).sort(), ["d1", "d2"]);
      await exchange(lab, vip);
    }
  }
  const { metrics } = await remote.call<Info>("info");
  assert(Number(metrics.forwarded) > 1000);
});
