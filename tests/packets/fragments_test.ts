/** Datagrams in fragments: all go where the first one went. */
import { assertEquals } from "@std/assert";
import { ethernet, filler, fragmentHeader, type Layer, raw, tcp, udp } from "./build.ts";
import { forwarded, HASH_KEY, hashOf, lengthOf, parseAny } from "./expect.ts";
import { macOf, packetTests } from "./harness.ts";
import { parse } from "./parse.ts";
import {
  address,
  CLIENT,
  FAMILIES,
  type Family,
  icmp,
  ip,
  type IpFields,
  PORTS,
  TAGS,
  through,
  VIP,
} from "./sample.ts";

const PROTOCOLS = ["tcp", "udp"] as const;
const NUMBER = { tcp: 6, udp: 17 } as const;
const TUNNELS = ["none", "ipip", "gre", "fou", "gue"] as const;
/** Bytes of a fragment but the last. */
const SIZE = 64;

const test = packetTests({ hashKey: HASH_KEY });

/** No two datagrams of these tests have the same, since the program would take them for one. */
let id = 0;

/** A segment from the client to the VIP, in three packets. */
function fragmentsOf(family: Family, segment: Layer, tos = 0, fields: IpFields = {}): Layer[] {
  id++;
  const whole = ip(family, fields, segment).encode().subarray(family === 4 ? 20 : 40);
  const starts = [0, SIZE, 2 * SIZE];
  return starts.map((start, i) => {
    const more = i < 2;
    const content = raw(segment.protocol, whole.subarray(start, more ? start + SIZE : undefined));
    const place = { id, dontFragment: false, moreFragments: more, fragmentOffset: start / 8 };
    const extensions = [fragmentHeader(start / 8, more, id)];
    return ip(family, { ...fields, tos, v4: place, v6: { extensions } }, content);
  });
}

for (const family of FAMILIES) {
  for (const protocol of PROTOCOLS) {
    const service = { address: VIP[family], port: 80, protocol };
    const flow = { source: CLIENT[family], destination: VIP[family], ...PORTS };
    const entropy = hashOf({ ...flow, protocol: NUMBER[protocol] }).low;
    const segment = protocol === "tcp" ? tcp(PORTS, filler(151)) : udp(PORTS, filler(163));

    for (const outer of FAMILIES) {
      for (const tunnel of TUNNELS) {
        const name = `fragments of ${protocol} over IPv${family} go by ${tunnel} to an ` +
          `IPv${outer} destination`;
        test(name, async (b) => {
          for (const vlan of [0, 200]) {
            const way = { address: address(outer, 2), tunnel, vlan };
            b.nextHops.set(way.address, { vlan });
            await b.client.setService(service, through(tunnel, way.address));
            await b.nextHops.tell();
            for (const tags of TAGS) {
              for (const packet of fragmentsOf(family, segment, 0xb9)) {
                const frame = ethernet({ tags, minimum: 64 }, packet);
                const sent = b.send(frame);
                assertEquals([sent.action, sent.reason], ["tx", "forwarded"]);
                assertEquals(sent.octets, lengthOf(parse(frame)));
                assertEquals(parseAny(sent.frame), forwarded(parse(frame), way, entropy));
              }
            }
          }
        });
      }
    }
  }

  const service = { address: VIP[family], port: 80, protocol: "udp" } as const;
  const destinations = Array.from({ length: 7 }, (_, i) => ({ address: address(family, 2 + i) }));

  test(`fragments over IPv${family} go to the destination of their datagram`, async (b) => {
    await b.client.setService(service, ...destinations);
    const gone = new Set<string>();
    for (let port = 40000; port < 40100; port++) {
      const segment = udp({ ...PORTS, sourcePort: port }, filler(200));
      const whole = b.send(ethernet({}, ip(family, {}, segment)));
      const owner = parse(whole.frame).ethernet.destination;
      gone.add(owner);
      for (const packet of fragmentsOf(family, segment)) {
        const { reason, frame } = b.send(ethernet({}, packet));
        assertEquals([reason, parse(frame).ethernet.destination], ["forwarded", owner]);
      }
    }
    assertEquals(gone, new Set(destinations.map((each) => macOf(each.address))));
  });

  test(`a fragment over IPv${family} is a later one by any bit of its offset`, async (b) => {
    await b.client.setService(service, destinations[0]!);
    const at = (offset: number, content: Layer): Uint8Array => {
      const place = { id, dontFragment: false, moreFragments: true, fragmentOffset: offset };
      const extensions = [fragmentHeader(offset, true, id)];
      return ethernet({}, ip(family, { v4: place, v6: { extensions } }, content));
    };
    id++;
    assertEquals(b.send(at(0, udp(PORTS, filler(200)))).reason, "forwarded");
    for (let bit = 0; bit < 13; bit++) {
      // What would be its ports are those of no service.
      assertEquals([bit, b.send(at(1 << bit, raw(17, filler(24)))).reason], [bit, "forwarded"]);
    }
  });

  test(`fragments over IPv${family} count for the service of their datagram`, async (b) => {
    await b.client.setService({ ...service, port: 81 }, destinations[0]!);
    await b.client.setService(service, destinations[1]!);
    const fragments = fragmentsOf(family, udp(PORTS, filler(200)));
    for (const packet of fragments) b.send(ethernet({}, packet));
    const { stats } = b.client.service(service);
    assertEquals(stats.incomingPackets, BigInt(fragments.length));
    assertEquals(b.client.service({ ...service, port: 81 }).stats.incomingPackets, 0n);
  });

  test(`fragments over IPv${family} without a first one are dropped`, async (b) => {
    await b.client.setService(service, ...destinations);
    const [first, second, third] = fragmentsOf(family, udp(PORTS, filler(200)))
      .map((packet) => ethernet({}, packet));
    const early = b.send(second!);
    assertEquals([early.action, early.reason], ["drop", "err_fragmented"]);
    assertEquals(b.send(first!).reason, "forwarded");
    for (const late of [third!, second!]) assertEquals(b.send(late).reason, "forwarded");
    // Another datagram of the same client.
    const other = fragmentsOf(family, udp(PORTS, filler(200)))[1]!;
    assertEquals(b.send(ethernet({}, other)).reason, "err_fragmented");
  });

  test(`fragments over IPv${family} do not go to a destination that is gone`, async (b) => {
    await b.client.setService(service, destinations[0]!);
    const [first, second] = fragmentsOf(family, udp(PORTS, filler(200)))
      .map((packet) => ethernet({}, packet));
    assertEquals(b.send(first!).reason, "forwarded");
    await b.client.setService(service, destinations[1]!);
    assertEquals(b.send(second!).reason, "err_fragmented");
    assertEquals(b.send(first!).reason, "forwarded");
    assertEquals(
      parse(b.send(second!).frame).ethernet.destination,
      macOf(destinations[1]!.address),
    );
  });

  test(`fragments over IPv${family} that cut a header short are dropped`, async (b) => {
    await b.client.setService(service, destinations[0]!);
    for (
      const [protocol, length, reason] of [
        [6, 19, "err_tcp_header"],
        [17, 7, "err_udp_header"],
        [family === 4 ? 1 : 58, 7, "err_icmp_header"],
      ] as const
    ) {
      const place = { moreFragments: true, dontFragment: false, id: ++id };
      const v6 = { extensions: [fragmentHeader(0, true, id)] };
      const packet = ip(family, { v4: place, v6 }, raw(protocol, filler(length)));
      assertEquals(b.send(ethernet({}, packet)).reason, reason);
    }
  });

  test(`a ping over IPv${family} in parts is answered part by part`, async (b) => {
    await b.client.setService(service, destinations[0]!);
    const echo = { request: family === 4 ? 8 : 128, reply: family === 4 ? 0 : 129 };
    const ends = { source: VIP[family], destination: CLIENT[family], ttl: 64 };
    const body = filler(150), rest = 0x12340001;
    const parts = (type: number, fields: IpFields): Uint8Array[] =>
      fragmentsOf(family, icmp(family, { type, rest }, body), 0, fields)
        .map((part) => ethernet({}, part));
    const [first, second, third] = parts(echo.request, {}) as [Uint8Array, Uint8Array, Uint8Array];
    id--;
    const expected = parts(echo.reply, ends);
    // Nobody knows yet what they are of.
    assertEquals(b.send(second).reason, "err_fragmented");
    for (const [i, part] of [first, second, third].entries()) {
      const { action, reason, frame, flows } = b.send(part);
      assertEquals([action, reason, flows], ["tx", "icmp_echo_request", 0]);
      assertEquals(frame.subarray(14), expected[i]!.subarray(14));
      const { ethernet: { source, destination } } = parse(frame);
      const { ethernet: came } = parse(part);
      assertEquals([source, destination], [came.destination, came.source]);
    }
    // A fragment header on a whole packet makes it none: RFC 6946.
    const ping = icmp(family, { type: echo.request }, body);
    const whole = ip(family, { v6: { extensions: [fragmentHeader(0, false, ++id)] } }, ping);
    assertEquals(b.send(ethernet({}, whole)).reason, "icmp_echo_request");
  });

  test(`parts of pings over IPv${family} are answered within the budget`, async (b) => {
    await b.client.setService(service, destinations[0]!);
    const ping = icmp(family, { type: family === 4 ? 8 : 128 }, filler(150));
    const [first, second] = fragmentsOf(family, ping).map((part) => ethernet({}, part));
    b.send(first!);
    b.instance.settings = { ...b.instance.settings, icmpBudget: 0 };
    for (const part of [first!, second!]) {
      const { action, reason } = b.send(part);
      assertEquals([action, reason], ["drop", "icmp_limited"]);
    }
  });

  test(`fragments over IPv${family} to a service without destinations are not answered`, async (b) => {
    await b.client.setService(service);
    const reasons = fragmentsOf(family, udp(PORTS, filler(200)))
      .map((part) => b.send(ethernet({}, part)).reason);
    assertEquals(reasons, ["err_no_backend", "err_fragmented", "err_fragmented"]);
  });
}

test("IPv6 fragments are one datagram, whatever their fragment headers say of its content", async (b) => {
  const service = { address: VIP[6], port: 80, protocol: "udp" } as const;
  await b.client.setService(service, { address: address(6, 2) });
  id++;
  const options = { protocol: 60, rest: Uint8Array.of(0, 1, 4, 0, 0, 0, 0) };
  const first = ip(
    6,
    { v6: { extensions: [fragmentHeader(0, true, id), options] } },
    udp(PORTS, filler(48)),
  );
  assertEquals(b.send(ethernet({}, first)).reason, "forwarded");
  // RFC 8200, section 4.5: only the first one's counts.
  for (const protocol of [60, 17, 99]) {
    const later = ip(
      6,
      { v6: { extensions: [fragmentHeader(8, true, id)] } },
      raw(protocol, filler(64)),
    );
    assertEquals(b.send(ethernet({}, later)).reason, "forwarded");
  }
});
