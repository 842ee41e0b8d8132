/** Frames that take several buffers, as they do where the MTU is above some 3,500 bytes. */
import { assert, assertEquals } from "@std/assert";
import { Network, run } from "../bpf/support.ts";
import { ethernet, filler, tcp, udp } from "./build.ts";
import { assertForwarded, HASH_KEY, overheadOf } from "./expect.ts";
import { Balancer, packetTests } from "./harness.ts";
import { parse } from "./parse.ts";
import { address, FAMILIES, ip, PORTS, TAGS, through, VIP } from "./sample.ts";

const MTU = 9000;
const TUNNELS = ["none", "ipip", "gre", "fou", "gue"] as const;

const test = packetTests({ hashKey: HASH_KEY });

for (const family of FAMILIES) {
  const headers = (family === 4 ? 20 : 40) + 20;

  for (const outer of FAMILIES) {
    for (const tunnel of TUNNELS) {
      test(`jumbo frames of IPv${family} go by ${tunnel} to an IPv${outer} destination`, async (b) => {
        const way = { address: address(outer, 2), tunnel };
        b.nextHops.set(way.address, { mtu: MTU });
        await b.client.setService({ address: VIP[family], port: 80 }, through(tunnel, way.address));
        const longest = MTU - overheadOf(tunnel, way.address);
        for (const tags of TAGS) {
          for (const length of [3400, 4096, longest]) {
            const frame = ethernet({ tags }, ip(family, {}, tcp(PORTS, filler(length - headers))));
            assertForwarded(frame, b.send(frame), way);
          }
        }
        if (tunnel === "none") return;
        const frame = ethernet({}, ip(family, {}, tcp(PORTS, filler(longest + 1 - headers))));
        const sent = b.send(frame);
        assertEquals([sent.action, sent.reason], ["tx", "too_big"]);
        const { headers: [, error], payload } = parse(sent.frame);
        assertEquals(error && "rest" in error && error.rest, longest);
        assertEquals(payload, frame.slice(14, 14 + payload.length));
      });
    }
  }

  test(`a jumbo frame of IPv${family} that is cut short is dropped`, async (b) => {
    await b.client.setService({ address: VIP[family], port: 80 }, { address: address(family, 2) });
    const frame = ethernet({}, ip(family, {}, tcp(PORTS, filler(8000))));
    const { action, reason } = b.send(frame.slice(0, -1));
    assertEquals([action, reason], ["drop", "err_tot_len"]);
  });

  test(`a jumbo frame of IPv${family} without a checksum gets one outside`, async (b) => {
    const way = { address: address(6, 2), tunnel: "fou" } as const;
    b.nextHops.set(way.address, { mtu: MTU });
    const service = { address: VIP[family], port: 80, protocol: "udp" } as const;
    await b.client.setService(service, through("fou", way.address));
    const frame = ethernet({}, ip(family, {}, udp({ ...PORTS, checksum: 0 }, filler(8000))));
    const { reason } = b.send(frame);
    assertEquals(reason, "forwarded");
  });
}

Deno.test("an interface with jumbo frames can be attached to in native mode", async () => {
  using _ = new Network();
  for (const name of ["left", "right"]) run("ip", "link", "set", name, "mtu", `${MTU}`);
  await using balancer = await Balancer.create({ mode: "native" });
  await balancer.client.attach("left");
  const [{ mode } = { mode: undefined }] = balancer.client.info().interfaces;
  assert(mode === "native", `${mode}`);
});
