/** In by one interface and out by another, in a network namespace of this thread's own. */
import { assertEquals } from "@std/assert";
import { interfaceIndex } from "../../lib/bpf/mod.ts";
import { Network } from "../bpf/support.ts";
import { ethernet, filler, tcp } from "./build.ts";
import { assertForwarded, HASH_KEY } from "./expect.ts";
import { Balancer } from "./harness.ts";
import { parse } from "./parse.ts";
import { address, FAMILIES, type Family, ip, PORTS, through, VIP } from "./sample.ts";

const TUNNELS = ["none", "ipip", "gue"] as const;

function frameTo(family: Family): Uint8Array {
  return ethernet({}, ip(family, {}, tcp(PORTS)));
}

Deno.test("a packet leaves by its destination's interface, if that is one of the instance's", async () => {
  using _ = new Network();
  await using balancer = await Balancer.create({ hashKey: HASH_KEY });
  const { client, nextHops } = balancer;
  const [left, right] = ["left", "right"].map(interfaceIndex) as [number, number];
  const here = address(4, 1), there = address(4, 2);
  nextHops.set(here, { ifindex: left });
  nextHops.set(there, { ifindex: right });
  await client.attach("left", "right");
  for (const family of FAMILIES) {
    const service = { address: VIP[family], port: 80 };
    const frame = frameTo(family);
    for (const tunnel of TUNNELS) {
      const way = { address: there, tunnel };
      await client.setService(service, through(tunnel, there));
      const other = balancer.send(frame, { ifindex: left });
      assertEquals(other.action, "redirect");
      assertForwarded(frame, { ...other, action: "tx" }, way);
      assertForwarded(frame, balancer.send(frame, { ifindex: right }), way);
      await client.setService(service, through(tunnel, here));
      assertForwarded(frame, balancer.send(frame, { ifindex: left }), { ...way, address: here });
    }
  }
});

Deno.test("a packet too long for its destination's interface is answered, and counted as no other", async () => {
  using _ = new Network();
  await using balancer = await Balancer.create();
  const { client, nextHops } = balancer;
  const [left, right] = ["left", "right"].map(interfaceIndex) as [number, number];
  const mtu = 1400;
  for (const family of FAMILIES) nextHops.set(address(family, 1), { ifindex: right, mtu });
  await client.attach("left", "right");
  for (const family of FAMILIES) {
    const service = { address: VIP[family], port: 80 };
    await client.setService(service, { address: address(family, 1) });
    const frameOf = (length: number) => {
      const headers = family === 4 ? 40 : 60;
      return ethernet({}, ip(family, {}, tcp(PORTS, filler(length - headers))));
    };
    const fits = balancer.send(frameOf(mtu), { ifindex: left });
    assertEquals([fits.action, fits.reason], ["redirect", "forwarded"]);
    const sent = balancer.send(frameOf(mtu + 1), { ifindex: left });
    assertEquals([sent.action, sent.reason], ["tx", "too_big"]);
    const told = parse(sent.frame).headers[1]!;
    assertEquals("rest" in told && told.rest, mtu);
    // By the interface that it came in by it may leave, however long.
    const back = balancer.send(frameOf(mtu + 1), { ifindex: right });
    assertEquals([back.action, back.reason], ["tx", "forwarded"]);
  }
});

Deno.test("a packet stays if its destination's interface is none of the instance's", async () => {
  using _ = new Network();
  await using balancer = await Balancer.create();
  const { client, nextHops } = balancer;
  const [left, right] = ["left", "right"].map(interfaceIndex) as [number, number];
  nextHops.set(address(4, 1), { ifindex: right });
  await client.attach("left");
  for (const family of FAMILIES) {
    await client.setService({ address: VIP[family], port: 80 }, { address: address(4, 1) });
    const { action, reason } = balancer.send(frameTo(family), { ifindex: left });
    assertEquals([action, reason], ["drop", "err_redirect"]);
  }
});

Deno.test("with bonding a packet leaves by the member that it came in by", async () => {
  using _ = new Network();
  await using balancer = await Balancer.create({ bonding: true });
  const { client, nextHops } = balancer;
  const [left, right] = ["left", "right"].map(interfaceIndex) as [number, number];
  nextHops.set(address(4, 1), { ifindex: 99 }); // the bond
  await client.attach("left", "right");
  for (const family of FAMILIES) {
    await client.setService({ address: VIP[family], port: 80 }, { address: address(4, 1) });
    const actions = () =>
      [left, right].map((ifindex) => balancer.send(frameTo(family), { ifindex }).action);
    assertEquals(actions(), ["tx", "tx"]);
    await client.setConfig({ bonding: false });
    assertEquals(actions(), ["drop", "drop"]);
    await client.setConfig({ bonding: true });
  }
});
