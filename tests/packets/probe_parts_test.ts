/** What has to do with a probe and is no whole packet of it: ICMP errors that quote one, and fragments. */
import { assert, assertEquals } from "@std/assert";
import { ethernet, filler, fragmentHeader, type Layer, raw, tcp, udp } from "./build.ts";
import { OUTER_SOURCE, packetTests, PROBE_MAC } from "./harness.ts";
import { type Packet, parse } from "./parse.ts";
import {
  HOST,
  probing,
  PROTOCOLS,
  question,
  reply,
  sendProbe,
  swapped,
  TRANSPORT,
} from "./probe_support.ts";
import {
  address,
  FAMILIES,
  type Family,
  icmp,
  ip,
  type IpFields,
  OTHER,
  PORTS,
  ROUTER,
  TAGS,
  VIP,
} from "./sample.ts";

const test = packetTests();

/** Errors: from whom, and their types and codes by families. */
const ERRORS = [
  ["a port where nobody listens", VIP, { 4: 3, 6: 1 }, { 4: 3, 6: 4 }],
  ["a network too narrow", ROUTER, { 4: 3, 6: 2 }, { 4: 4, 6: 0 }],
  ["the end of its TTL", ROUTER, { 4: 11, 6: 3 }, { 4: 0, 6: 0 }],
] as const;

const HEADERS = { 4: 20, 6: 40 } as const;
/** Where the checksum of a packet without options stands. */
const CHECKSUM_AT = {
  4: { tcp: 20 + 16, udp: 20 + 6 },
  6: { tcp: 40 + 16, udp: 40 + 6 },
};

for (const family of FAMILIES) {
  for (const protocol of PROTOCOLS) {
    for (const [what, from, type, code] of ERRORS) {
      const rows = [TRANSPORT[protocol](PORTS, filler(30)), TRANSPORT[protocol](PORTS)];
      test(`that a probe by ${protocol} over IPv${family} met ${what} reaches who asked`, async (b) => {
        const [to] = await probing(b, family, { address: address(family, 2) });
        for (const transport of rows) {
          const seen = sendProbe(b, question(family, to!, transport)).frame.slice(14);
          for (const length of [seen.length, CHECKSUM_AT[family].udp + 2]) {
            const quote = seen.slice(0, length);
            const ends = { source: from[family], destination: OUTER_SOURCE[family] };
            const message = { type: type[family], code: code[family], rest: 1400 };
            const error = ethernet({}, ip(family, ends, icmp(family, message, quote)));
            const sent = b.send(error);
            assertEquals([sent.action, sent.reason], ["redirect", "probe_reply"]);
            const { ethernet: link, headers: [outer, inner], payload } = parse(sent.frame);
            assertEquals(link.destination, PROBE_MAC);
            if (outer?.kind !== "ipv4" && outer?.kind !== "ipv6") throw new TypeError("no IP");
            const source = from[family] === VIP[family] ? to : from[family];
            assertEquals([outer.source, outer.destination], [source, HOST[family]]);
            assertEquals(inner, { kind: family === 4 ? "icmp4" : "icmp6", ...message });
            // What was quoted is what was sent, but for the TTL, and for a checksum that nobody looks at.
            const wanted = question(family, to!, transport, { ttl: 1 }).slice(14, 14 + length);
            const at = CHECKSUM_AT[family][protocol];
            if (at < length) wanted.set(seen.subarray(at, at + 2), at);
            assertEquals(payload, wanted);
          }
        }
      });
    }
  }

  test(`an ICMP error over IPv${family} about no probe stays as it is`, async (b) => {
    const [to] = await probing(b, family, { address: address(family, 2) });
    const seen = sendProbe(b, question(family, to!, tcp(PORTS))).frame.slice(14);
    const type = family === 4 ? 3 : 1;
    const error = (quote: Uint8Array, destination: string = OUTER_SOURCE[family]) =>
      ethernet({}, ip(family, { source: VIP[family], destination }, icmp(family, { type }, quote)));
    const header = family === 4 ? 20 : 40;
    const other = seen.slice();
    other[header + 1]! ^= 1; // a port of somebody else
    const cutShort = seen.slice(0, header + 3);
    const echo = icmp(family, { type: family === 4 ? 8 : 128, rest: 7 }, seen);
    const ends = { source: VIP[family], destination: OUTER_SOURCE[family] };
    for (
      const frame of [
        error(other),
        error(cutShort),
        error(seen, OTHER[family]),
        ethernet({}, ip(family, ends, echo)),
      ]
    ) {
      const sent = b.send(frame);
      assertEquals([sent.action, sent.reason, sent.frame], ["pass", "not_a_vip", frame]);
    }
    assertEquals(b.send(error(seen)).reason, "probe_reply");
  });
}

/** A packet in two fragments; `make` gives it its ends. */
function inFragments(
  family: Family,
  whole: Uint8Array,
  make: (transport: Layer, fields: IpFields) => Uint8Array,
): Uint8Array[] {
  const transport = whole.subarray(14 + HEADERS[family]);
  return [[0, 1200], [1200, transport.length]].map(([from, end]) => {
    const more = end! < transport.length;
    const v4 = { id: 77, dontFragment: false, moreFragments: more, fragmentOffset: from! / 8 };
    const v6 = { extensions: [fragmentHeader(from! / 8, more, 77)] };
    return make(raw(17, transport.subarray(from!, end!)), { v4, v6 });
  });
}

/** What fragments carry, put together again and read by a parser that refuses a wrong checksum. */
function together(family: Family, frames: Uint8Array[], ends: IpFields): Packet {
  const header = 14 + HEADERS[family] + (family === 4 ? 0 : 8);
  const transport = Uint8Array.from(frames.flatMap((frame) => [...frame.subarray(header)]));
  return parse(ethernet({}, ip(family, ends, raw(17, transport))));
}

for (const family of FAMILIES) {
  test(`datagrams over IPv${family} in fragments arrive whole, there and back`, async (b) => {
    const [to] = await probing(b, family, { address: address(family, 2) });
    const make = (transport: Layer, fields: IpFields) => question(family, to!, transport, fields);
    const there = inFragments(family, question(family, to!, udp(PORTS, filler(2000))), make)
      .map((frame) => {
        const sent = sendProbe(b, frame);
        assertEquals([sent.action, sent.reason], ["redirect", "probe"]);
        return sent.frame;
      });
    const ends = { source: OUTER_SOURCE[family], destination: VIP[family], ttl: 1 };
    const { headers, payload } = together(family, there, ends);
    assertEquals(payload, filler(2000));
    const udpHeader = headers.at(-1);
    assert(udpHeader?.kind === "udp");

    const answer = (transport: Layer, fields = {}) => {
      const ends = { source: VIP[family], destination: OUTER_SOURCE[family], ttl: 63 };
      return ethernet({ tags: TAGS[1]! }, ip(family, { ...ends, ...fields }, transport));
    };
    const whole = reply(family, udp(swapped({ ...PORTS, ...udpHeader }), filler(1999)));
    const [first, later] = inFragments(family, whole, answer);
    assertEquals(b.send(later!).reason, "not_a_vip"); // nobody knows yet whose it is
    const back = [first!, later!].map((frame) => {
      const sent = b.send(frame);
      assertEquals([sent.action, sent.reason], ["redirect", "probe_reply"]);
      return sent.frame;
    });
    const got = together(family, back, { source: to!, destination: HOST[family], ttl: 63 });
    assertEquals(got.payload, filler(1999));
    const { sourcePort, destinationPort } = swapped(PORTS);
    const last = got.headers.at(-1);
    assert(last?.kind === "udp");
    assertEquals([last.sourcePort, last.destinationPort], [sourcePort, destinationPort]);
  });
}
