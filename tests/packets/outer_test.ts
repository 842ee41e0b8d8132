/** Outer sources by the flow's hash, and the MTU of a destination. */
import { assert, assertEquals, assertRejects } from "@std/assert";
import { Prefix } from "../../lib/net/address.ts";
import { InvalidValueError } from "../../mod.ts";
import { ethernet, filler, tcp, udp } from "./build.ts";
import { Balancer, packetTests } from "./harness.ts";
import { parse } from "./parse.ts";
import { address, FAMILIES, ip, PORTS, through, VIP } from "./sample.ts";

const OUTER = { 4: "172.16.0.0/16", 6: "fd00:aaaa::/96" } as const;
const FLOWS = 200;
const test = packetTests({ outerSource4: OUTER[4], outerSource6: OUTER[6] });

for (const family of FAMILIES) {
  for (const tunnel of ["ipip", "gre", "fou"] as const) {
    const spread = tunnel !== "fou";
    test(`${tunnel} over IPv${family} ${spread ? "spreads" : "keeps"} its source`, async (b) => {
      const service = { address: VIP[4], port: 80 };
      await b.client.setService(service, through(tunnel, address(family, 1)));
      const sources = new Set<string>();
      for (let flow = 0; flow < FLOWS; flow++) {
        const segment = tcp({ ...PORTS, sourcePort: 1024 + flow, flags: ["ack"] });
        const frame = ethernet({}, ip(4, {}, segment));
        // parse() checks every checksum, the one that depends on the source too.
        const [first, second] = [parse(b.send(frame).frame), parse(b.send(frame).frame)];
        assertEquals(first, second);
        const outer = first.headers[0]!;
        assert(outer.kind === "ipv4" || outer.kind === "ipv6");
        sources.add(outer.source);
      }
      if (!spread) return assertEquals(sources.size, 1);
      const prefix = Prefix.parse(OUTER[family]);
      for (const source of sources) {
        const bits = family === 4 ? 32 : 128;
        assert(prefix.overlaps(Prefix.parse(`${source}/${bits}`)), source);
      }
      assert(sources.size > FLOWS * 0.9, `${sources.size} sources`);
    });
  }
}

test("a destination's own MTU counts if it is smaller than the interface's", async (b) => {
  const service = { address: VIP[4], port: 80, protocol: "udp" } as const;
  const destination = { ...through("ipip", address(4, 1)), mtu: 1000 };
  await b.client.setService(service, destination);
  const send = (length: number) =>
    b.send(ethernet({}, ip(4, { v4: { dontFragment: true } }, udp(PORTS, filler(length - 28)))))
      .reason;
  assertEquals([send(980), send(981)], ["forwarded", "too_big"]);
  await b.client.updateDestination(service, { ...destination, mtu: 9000 });
  assertEquals([send(1480), send(1481)], ["forwarded", "too_big"]);
  await assertRejects(
    () => b.client.updateDestination(service, { ...destination, mtu: 100 }),
    InvalidValueError,
    "MTU 100",
  );
});

Deno.test("an outer source must be a prefix of its family", async () => {
  for (const outerSource4 of ["fd00::/96", "172.16.0.0", "172.16.0.0/33"]) {
    await assertRejects(() => Balancer.create({ outerSource4 }), InvalidValueError, "IPv4 prefix");
  }
});
