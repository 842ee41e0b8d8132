/** Services of a VIP that take any port that has no service of its own. */
import { assert, assertEquals } from "@std/assert";
import { bytes, ethernet, fragmentHeader, type Layer, raw, tcp, udp } from "./build.ts";
import { assertForwarded, HASH_KEY, parseAny } from "./expect.ts";
import { macOf, packetTests } from "./harness.ts";
import { parse } from "./parse.ts";
import { address, CLIENT, FAMILIES, type Family, icmp, ip, ROUTER, VIP } from "./sample.ts";

const test = packetTests({ hashKey: HASH_KEY });

const SEGMENTS = { tcp, udp } as const;

function frameTo(family: Family, protocol: "tcp" | "udp", destinationPort: number): Uint8Array {
  const segment = SEGMENTS[protocol]({ sourcePort: 40000, destinationPort }, bytes("hello"));
  return ethernet({}, ip(family, {}, segment));
}

for (const family of FAMILIES) {
  for (const protocol of ["tcp", "udp"] as const) {
    const other = protocol === "tcp" ? "udp" : "tcp";
    const any = { address: VIP[family], port: 0, protocol, idleTimeout: 60 };
    const kind = `${protocol} over IPv${family}`;

    test(`any port of ${kind} is one of a service without a port`, async (b) => {
      const [one, rest] = [address(family, 2), address(family, 3)];
      await b.client.setService({ ...any, port: 80 }, { address: one });
      await b.client.setService(any, { address: rest });
      for (const port of [1, 79, 81, 443, 65535]) {
        const frame = frameTo(family, protocol, port);
        assertForwarded(frame, b.send(frame), { address: rest, tunnel: "none" });
        assertEquals(b.send(frameTo(family, other, port)).reason, "err_service_not_found");
      }
      const frame = frameTo(family, protocol, 80);
      assertForwarded(frame, b.send(frame), { address: one, tunnel: "none" });
      // A service of its own that has nobody does not lend its port.
      await b.client.setService({ ...any, port: 80 });
      assertEquals(b.send(frame).reason, "err_no_backend");
      await b.client.removeService({ ...any, port: 80 });
      assertForwarded(frame, b.send(frame), { address: rest, tunnel: "none" });
      assertEquals(b.client.service(any).stats.incomingPackets, 6n);
      await b.client.removeService(any);
      assertEquals(b.send(frame).reason, "not_a_vip");
    });

    test(`flows to any port of ${kind} keep their destinations`, async (b) => {
      const all = [2, 3, 4, 5].map((number) => ({ address: address(family, number) }));
      await b.client.setService(any, ...all);
      const frames = Array.from({ length: 200 }, (_, i) => frameTo(family, protocol, 1000 + i));
      const owners = () => frames.map((frame) => parse(b.send(frame).frame).ethernet.destination);
      const before = owners();
      assertEquals(new Set(before).size, all.length);
      await b.client.setService(any, ...all.map((each, i) => ({ ...each, disable: i === 0 })));
      assertEquals(owners(), before);
      // After the window the ring is settled around those that moved.
      for (let i = 0; i < 3; i++) {
        b.advance(40);
        await b.client.updateService(any);
        assertEquals(owners(), before);
      }
      const remembered = b.flows;
      assert(remembered > 0 && remembered < frames.length, `${remembered}`);
    });

    test(`errors and fragments of ${kind} to any port go with their flow`, async (b) => {
      const all = [2, 3, 4, 5].map((number) => ({ address: address(family, number) }));
      await b.client.setService(any, ...all);
      for (let port = 1000; port < 1040; port++) {
        const { destination } = parse(b.send(frameTo(family, protocol, port)).frame).ethernet;
        const back = SEGMENTS[protocol]({ sourcePort: port, destinationPort: 40000 });
        const ends = { source: VIP[family], destination: CLIENT[family] };
        const about = ip(family, ends, back).encode();
        const type = family === 4 ? 3 : 1;
        const error = ethernet(
          {},
          ip(family, { source: ROUTER[family] }, icmp(family, { type }, about)),
        );
        const routed = b.send(error);
        assertEquals(routed.reason, "icmp_error");
        assertEquals(parse(routed.frame).ethernet.destination, destination);
        const head = SEGMENTS[protocol]({ sourcePort: 40000, destinationPort: port });
        for (const offset of [0, 8]) {
          const content: Layer = offset === 0 ? head : raw(head.protocol, bytes("the end!"));
          const v4 = { id: port, dontFragment: false, moreFragments: true, fragmentOffset: offset };
          const v6 = { extensions: [fragmentHeader(offset, true, port)] };
          const sent = b.send(ethernet({}, ip(family, { v4, v6 }, content)));
          assertEquals(parseAny(sent.frame).ethernet.destination, destination);
        }
      }
    });
  }
}

test("a VIP with any port answers pings, and drops what has no ports", async (b) => {
  for (const family of FAMILIES) {
    await b.client.setService({ address: VIP[family], port: 0 }, { address: address(family, 2) });
    const ping = icmp(family, { type: family === 4 ? 8 : 128 });
    assertEquals(b.send(ethernet({}, ip(family, {}, ping))).reason, "icmp_echo_request");
    const other = ethernet({}, ip(family, {}, raw(132, bytes("twelve bytes"))));
    assertEquals(b.send(other).reason, "err_l4_unsupported");
    const frame = frameTo(family, "tcp", 1);
    assertEquals(parse(b.send(frame).frame).ethernet.destination, macOf(address(family, 2)));
  }
});
