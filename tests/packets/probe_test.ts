/** Probes of this host: there by the way of clients' packets, and back to who asked. */
import { assertEquals, assertThrows } from "@std/assert";
import { TUNNELS } from "../../lib/lb/abi.gen.ts";
import { ProbeError } from "../../mod.ts";
import { ethernet, filler, raw, tcp, udp } from "./build.ts";
import { overheadOf, type Way } from "./expect.ts";
import { packetTests, type Sent } from "./harness.ts";
import {
  assertError,
  assertProbe,
  assertReply,
  HOST,
  NETWORKS,
  portsOf,
  probing,
} from "./probe_support.ts";
import { PROTOCOLS, question, reply, sendProbe, swapped, TRANSPORT } from "./probe_support.ts";
import {
  address,
  CLIENT,
  FAMILIES,
  icmp,
  ip,
  OTHER,
  PORTS,
  ROUTER,
  TAGS,
  through,
  VIP,
} from "./sample.ts";

const test = packetTests();

for (const family of FAMILIES) {
  for (const protocol of PROTOCOLS) {
    for (const tunnel of TUNNELS) {
      for (const outer of FAMILIES) {
        const what =
          `a probe by ${protocol} over IPv${family} takes ${tunnel} to an IPv${outer} server`;
        test(`${what}, and its reply comes back`, async (b) => {
          const way = { address: address(outer, 2), tunnel };
          const [to] = await probing(b, family, through(tunnel, way.address));
          for (const payload of [0, 1, 20, 800].map(filler)) {
            const frame = question(family, to!, TRANSPORT[protocol](PORTS, payload));
            const port = assertProbe(family, frame, sendProbe(b, frame), way);
            const back = swapped({ ...PORTS, sourcePort: port });
            for (const tags of TAGS) {
              const answer = reply(family, TRANSPORT[protocol](back, payload), [...tags]);
              assertReply(answer, b.send(answer), to!, HOST[family], PORTS.sourcePort);
            }
          }
        });
      }
    }
  }

  // X13, T21
  test(`probes over IPv${family} with the same ports to 100 servers are told apart`, async (b) => {
    const servers = Array.from({ length: 100 }, (_, i) => through("ipip", address(4, i + 1)));
    const addresses = await probing(b, family, ...servers);
    const ports = addresses.map((to, i) => {
      const frame = question(family, to, tcp({ ...PORTS, flags: ["syn"] }));
      const way: Way = { address: servers[i]!.address, tunnel: "ipip" };
      return assertProbe(family, frame, sendProbe(b, frame), way);
    });
    assertEquals(new Set(ports).size, 100);
    ports.forEach((port, i) => {
      const answer = reply(family, tcp(swapped({ ...PORTS, sourcePort: port })));
      assertReply(answer, b.send(answer), addresses[i]!, HOST[family], PORTS.sourcePort);
    });
    // Also where there are more to one server than ports that two of the same port may have.
    const many = addresses.slice(0, 5).flatMap((to) =>
      Array.from({ length: 40 }, (_, i) => {
        const ports = { sourcePort: 40001 + i, destinationPort: 80 };
        return portsOf(sendProbe(b, question(family, to, tcp(ports))).frame).sourcePort;
      })
    );
    assertEquals(new Set([...many, ...ports]).size, 300);
    // And each keeps its own.
    addresses.forEach((to, i) => {
      const sent = sendProbe(b, question(family, to, tcp(PORTS)));
      assertEquals(portsOf(sent.frame).sourcePort, ports[i]);
    });
  });

  // X15
  test(`a reply over IPv${family} may take an hour`, async (b) => {
    const [to] = await probing(b, family, { address: address(family, 2) });
    const { frame } = sendProbe(b, question(family, to!, tcp(PORTS)));
    b.advance(3600);
    const answer = reply(family, tcp(swapped({ ...PORTS, ...portsOf(frame) })));
    assertReply(answer, b.send(answer), to!, HOST[family], PORTS.sourcePort);
  });

  // X14, T22
  for (const outer of FAMILIES) {
    for (const tunnel of TUNNELS.filter((each) => each !== "none")) {
      const what = `a probe over IPv${family} that ${tunnel} over IPv${outer} makes too long`;
      test(`${what} is answered as any router would`, async (b) => {
        const [to] = await probing(b, family, through(tunnel, address(outer, 2)));
        const mtu = 1500 - overheadOf(tunnel, address(outer, 2));
        const headers = (family === 4 ? 20 : 40) + 20;
        const fits = question(family, to!, tcp(PORTS, filler(mtu - headers)));
        assertEquals(sendProbe(b, fits).reason, "probe");
        const frame = question(family, to!, tcp(PORTS, filler(mtu - headers + 1)));
        const sent = sendProbe(b, frame);
        assertEquals([sent.action, sent.reason], ["tx", "too_big"]);
        assertError(family, frame, sent, {
          to: to!,
          type: { 4: 3, 6: 2 },
          code: { 4: 4, 6: 0 },
          mtu,
        });
      });
    }
  }

  test(`a probe over IPv${family} that cannot be sent is answered at once`, async (b) => {
    const [to, silent] = await probing(b, family, { address: address(4, 2) }, {
      address: address(4, 3),
    });
    b.nextHops.set(address(4, 3), undefined);
    const unknown = family === 4 ? "240.0.0.99" : "fd78:7673:7072:6f62::99";
    await b.client.setService({ address: VIP[family], port: 81 }, { address: address(4, 4) });
    const gone = b.client.nat(VIP[family], address(4, 4));
    await b.client.removeService({ address: VIP[family], port: 81 });
    assertEquals(b.client.nat(VIP[family], address(4, 4)), undefined);
    b.nextHops.set(address(4, 5), undefined);
    const service = { address: VIP[family], port: 82 };
    await b.client.setService(service, { address: address(4, 5) });
    const deaf = b.client.nat(VIP[family], address(4, 5));
    for (const transport of [tcp(PORTS), udp(PORTS)]) {
      for (const target of [unknown, gone!, deaf!]) {
        const frame = question(family, target, transport);
        const sent = sendProbe(b, frame);
        assertEquals([sent.action, sent.reason], ["tx", "err_probe"]);
        assertError(family, frame, sent, {
          to: target,
          type: { 4: 3, 6: 1 },
          code: { 4: 1, 6: 3 },
        });
      }
      for (const target of [to!, silent!]) {
        assertEquals(sendProbe(b, question(family, target, transport)).reason, "probe");
      }
    }
  });

  test(`what is no probe over IPv${family} stays as it is`, async (b) => {
    const [to] = await probing(b, family, { address: address(family, 2) });
    const rows: [frame: Uint8Array, action: string, reason: string][] = [
      [question(family, CLIENT[family], tcp(PORTS)), "pass", "not_a_vip"],
      [question(family, HOST[family], tcp(PORTS)), "pass", "not_a_vip"],
      [question(family, to!, icmp(family, { type: family === 4 ? 8 : 128 })), "drop", "err_probe"],
      [question(family, to!, raw(132, filler(40))), "drop", "err_probe"],
      [question(family, to!, tcp({ ...PORTS, headerLength: 4 })), "drop", "err_probe"],
    ];
    for (const [frame, action, reason] of rows) {
      const sent = sendProbe(b, frame);
      assertEquals([sent.action, sent.reason, sent.frame], [action, reason, frame]);
    }
  });

  // X17, T9
  test(`what comes from a VIP over IPv${family} and answers no probe stays as it is`, async (b) => {
    const look = (frame: Uint8Array) => {
      const sent = b.send(frame);
      assertEquals([sent.action, sent.reason, sent.frame], ["pass", "not_a_vip", frame]);
    };
    const ports = (port: number) => swapped({ ...PORTS, sourcePort: port });
    look(reply(family, tcp(ports(2000))));
    const [to] = await probing(b, family, { address: address(family, 2) });
    const port = portsOf(sendProbe(b, question(family, to!, tcp(PORTS))).frame).sourcePort;
    const [one, other] = [port, port === 1024 ? 1025 : port - 1];
    look(reply(family, tcp(ports(other))));
    look(reply(family, udp(ports(one))));
    look(reply(family, tcp({ ...ports(one), sourcePort: 81 })));
    look(reply(family, tcp(ports(one)), [], OTHER[family]));
    look(
      ethernet(
        {},
        ip(family, { source: VIP[family], destination: ROUTER[family] }, tcp(ports(one))),
      ),
    );
    look(reply(family, icmp(family, { type: family === 4 ? 0 : 129 })));
    assertEquals(b.send(reply(family, tcp(ports(one)))).reason, "probe_reply");
    await b.client.closeProbes();
    look(reply(family, tcp(ports(one))));
  });

  test(`a VIP over IPv${family} is probed on a server that is disabled, at any port`, async (b) => {
    const server = { address: address(family, 2), disable: true };
    const [to] = await probing(b, family, server);
    for (const destinationPort of [1, 80, 65535]) {
      const frame = question(family, to!, tcp({ ...PORTS, destinationPort, flags: ["syn"] }));
      assertProbe(family, frame, sendProbe(b, frame), { ...server, tunnel: "none" });
    }
  });

  test(`a probe over IPv${family} needs an address of this host to come from`, async (b) => {
    const other = family === 4 ? 6 : 4;
    b.nextHops.set(address(other, 2), { [`source${family}`]: undefined });
    await b.client.setService({ address: VIP[family], port: 80 }, { address: address(other, 2) });
    assertThrows(() => b.client.nat(VIP[family], address(other, 2)), ProbeError, "openProbes()");
    await b.client.openProbes(NETWORKS);
    assertThrows(
      () => b.client.nat(VIP[family], address(other, 2)),
      ProbeError,
      `interface "lo" does not have an IPv${family} address`,
    );
    const first = family === 4 ? "240.0.0.1" : "fd78:7673:7072:6f62::1";
    assertEquals(sendProbe(b, question(family, first, tcp(PORTS))).reason, "err_probe");
    b.nextHops.clear();
    await b.nextHops.tell();
    const to = b.client.nat(VIP[family], address(other, 2))!;
    assertEquals(sendProbe(b, question(family, to, tcp(PORTS))).reason, "probe");
  });

  test(`where ports run out over IPv${family}, the flow longest silent gives way`, async (b) => {
    const [to] = await probing(b, family, { address: address(family, 2) });
    // What has the same port of the same address looks at the same 16 ports.
    const from = (i: number) => (family === 4 ? `10.9.0.${i}` : `fd00:9::${i}`);
    const send = (i: number) =>
      portsOf(sendProbe(b, question(family, to!, tcp(PORTS), { source: from(i) })).frame)
        .sourcePort;
    const ports = Array.from({ length: 16 }, (_, i) => {
      b.advance(1);
      return send(i + 1);
    });
    assertEquals(new Set(ports).size, 16);
    b.advance(1);
    assertEquals(send(1), ports[0]); // no longer silent
    b.advance(1);
    assertEquals(send(17), ports[1]);
    assertEquals(send(1), ports[0]);
    const answer = reply(family, tcp(swapped({ ...PORTS, sourcePort: ports[1]! })));
    assertReply(answer, b.send(answer), to!, from(17), PORTS.sourcePort);
  });
}

// X52
test("a datagram without a checksum stays without one, there and back", async (b) => {
  for (const tunnel of TUNNELS) {
    const [to] = await probing(b, 4, through(tunnel, address(4, 2)));
    const frame = question(4, to!, udp({ ...PORTS, checksum: 0 }, filler(21)));
    const way = { address: address(4, 2), tunnel };
    const port = assertProbe(4, frame, sendProbe(b, frame), way);
    const answer = reply(4, udp({ ...swapped({ ...PORTS, sourcePort: port }), checksum: 0 }));
    assertReply(answer, b.send(answer), to!, HOST[4], PORTS.sourcePort);
  }
});

test("a checksum that comes out as 0 is written as 0xffff", async (b) => {
  for (const family of FAMILIES) {
    const [to] = await probing(b, family, { address: address(family, 2) });
    const send = (word: number) =>
      sendProbe(b, question(family, to!, udp(PORTS, Uint8Array.of(word >> 8, word & 0xff))));
    const checksumOf = ({ frame }: Sent) => new DataView(frame.buffer).getUint16(frame.length - 4);
    // One more in the payload is one less in the checksum.
    const one = checksumOf(send(1));
    assertEquals(checksumOf(send(1 + one)), 0xffff);
    assertEquals(checksumOf(send(2 + one)), 0xfffe);
  }
});
