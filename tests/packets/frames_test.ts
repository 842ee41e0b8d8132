/** What builds frames and what reads them, against known bytes and against each other. */
import { assert, assertEquals, assertNotEquals, assertThrows } from "@std/assert";
import {
  bytes,
  cut,
  ethernet,
  filler,
  fragmentHeader,
  icmp4,
  icmp6,
  ipv4,
  ipv6,
  type Layer,
  raw,
  tcp,
  udp,
} from "./build.ts";
import { parse, ParseError } from "./parse.ts";

const A4 = { source: "198.51.100.7", destination: "192.0.2.1" };
const A6 = { source: "2001:db8:1::7", destination: "2001:db8::1" };
const PORTS = { sourcePort: 40000, destinationPort: 80 };
const MACS = "020000000001" + "020000000002";

function hex(text: string): Uint8Array {
  return Uint8Array.fromHex(text.replaceAll(/\s/g, ""));
}

Deno.test("a TCP segment over IPv4 is built and read byte for byte", () => {
  const frame = ethernet({}, ipv4(A4, tcp({ ...PORTS, flags: ["syn", "ece"] }, bytes("hi!"))));
  assertEquals(
    frame,
    hex(`${MACS} 0800
      4500 002b 1234 4000 3d06 3f5d c633 6407 c000 0201
      9c40 0050 0000 03e8 0000 07d0 5042 0200 8fb1 0000 686921`),
  );
  assertEquals(parse(frame), {
    ethernet: {
      destination: "02:00:00:00:00:01",
      source: "02:00:00:00:00:02",
      tags: [],
      type: 0x0800,
    },
    headers: [{
      kind: "ipv4",
      tos: 0,
      totalLength: 43,
      id: 0x1234,
      dontFragment: true,
      moreFragments: false,
      fragmentOffset: 0,
      ttl: 61,
      protocol: 6,
      source: "198.51.100.7",
      destination: "192.0.2.1",
      options: new Uint8Array(0),
    }, {
      kind: "tcp",
      sourcePort: 40000,
      destinationPort: 80,
      sequence: 1000,
      acknowledgement: 2000,
      flags: ["syn", "ece"],
      window: 512,
      urgent: 0,
      options: new Uint8Array(0),
    }],
    payload: bytes("hi!"),
    padding: new Uint8Array(0),
  });
});

Deno.test("a UDP datagram over IPv6 behind two tags is built and read byte for byte", () => {
  const tags = [{ type: 0x88a8, id: 7 }, { id: 100, priority: 5 }];
  const frame = ethernet({ tags }, ipv6(A6, udp(PORTS, bytes("hi!"))));
  assertEquals(
    frame,
    hex(`${MACS} 88a8 0007 8100 5064 86dd
      600b eef5 000b 113d 20010db8000100000000000000000007 20010db8000000000000000000000001
      9c40 0050 000b 7e63 686921`),
  );
  const { ethernet: { tags: read }, headers, payload } = parse(frame);
  assertEquals(read, [{ type: 0x88a8, priority: 0, id: 7 }, {
    type: 0x8100,
    priority: 5,
    id: 100,
  }]);
  assertEquals(headers, [{
    kind: "ipv6",
    trafficClass: 0,
    flowLabel: 0xbeef5,
    payloadLength: 11,
    nextHeader: 17,
    hopLimit: 61,
    source: "2001:db8:1::7",
    destination: "2001:db8::1",
  }, { kind: "udp", sourcePort: 40000, destinationPort: 80, length: 11, checksum: true }]);
  assertEquals(payload, bytes("hi!"));
});

/** One of each kind. */
const SAMPLES: Record<string, Uint8Array> = {
  "TCP over IPv4": ethernet({}, ipv4(A4, tcp(PORTS, filler(9)))),
  "TCP with options over IPv4 with options": ethernet(
    {},
    ipv4({ ...A4, options: hex("94040000") }, tcp({ ...PORTS, options: hex("020405b4") })),
  ),
  "UDP over IPv6": ethernet({}, ipv6(A6, udp(PORTS, filler(8)))),
  "TCP over IPv6 with extension headers": ethernet(
    {},
    ipv6(
      {
        ...A6,
        extensions: [{ protocol: 0, rest: hex("00 01040000 0000") }, fragmentHeader(0, false, 7)],
      },
      tcp(PORTS),
    ),
  ),
  "ICMP": ethernet({}, ipv4(A4, icmp4({ type: 8, rest: 0x10002 }, filler(5)))),
  "ICMPv6": ethernet({}, ipv6(A6, icmp6({ type: 128, rest: 0x10002 }, filler(4)))),
  "IPv6 in IPv4": ethernet({}, ipv4(A4, ipv6(A6, tcp(PORTS)))),
  "IPv4 in IPv6": ethernet({ tags: [{ id: 3 }] }, ipv6(A6, ipv4(A4, udp(PORTS, filler(2))))),
};

/** FOU and GUE, by port; GRE needs none. */
const TUNNELS = { 5555: "fou", 6080: "gue" } as const;
const OUTER_PORTS = { sourcePort: 50000, destinationPort: 6080 };
const INNER = ipv4(A4, tcp(PORTS)).encode();

SAMPLES["GRE"] = ethernet({}, ipv4(A4, raw(47, hex(`0000 0800 ${INNER.toHex()}`))));
SAMPLES["GUE"] = ethernet({}, ipv6(A6, udp(OUTER_PORTS, hex(`0004 0000 ${INNER.toHex()}`))));
SAMPLES["FOU"] = ethernet({}, ipv6(A6, udp({ ...OUTER_PORTS, destinationPort: 5555 }, INNER)));

for (const [name, frame] of Object.entries(SAMPLES)) {
  Deno.test(`any bit of ${name} that is turned over is an error or another field`, () => {
    const right = parse(frame, TUNNELS);
    assertEquals(right.padding.length, 0);
    for (let bit = 0; bit < 8 * frame.length; bit++) {
      const wrong = frame.slice();
      wrong[bit >> 3]! ^= 0x80 >> bit % 8;
      try {
        assertNotEquals(parse(wrong, TUNNELS), right, `bit ${bit} does not matter`);
      } catch (error) {
        if (!(error instanceof ParseError)) throw error;
      }
    }
  });

  Deno.test(`${name} that is cut anywhere is an error`, () => {
    for (let length = 0; length < frame.length; length++) {
      assertThrows(() => parse(frame.subarray(0, length), TUNNELS), ParseError);
    }
  });
}

Deno.test("the parser goes down to the innermost header", () => {
  const kinds = (name: string) => parse(SAMPLES[name]!, TUNNELS).headers.map(({ kind }) => kind);
  assertEquals(kinds("IPv6 in IPv4"), ["ipv4", "ipv6", "tcp"]);
  assertEquals(kinds("IPv4 in IPv6"), ["ipv6", "ipv4", "udp"]);
  assertEquals(kinds("GRE"), ["ipv4", "gre", "ipv4", "tcp"]);
  assertEquals(kinds("GUE"), ["ipv6", "udp", "gue", "ipv4", "tcp"]);
  assertEquals(kinds("FOU"), ["ipv6", "udp", "ipv4", "tcp"]);
});

Deno.test("a fragment is read as far as its header", () => {
  const over4 = parse(
    ethernet({}, ipv4({ ...A4, moreFragments: true, fragmentOffset: 3 }, raw(99, filler(16)))),
  );
  const [header4] = over4.headers;
  assert(header4?.kind === "ipv4" && header4.moreFragments && header4.fragmentOffset === 3);
  assertEquals([over4.headers.length, over4.payload], [1, filler(16)]);
  const over6 = parse(
    ethernet({}, ipv6({ ...A6, extensions: [fragmentHeader(3, true, 0x80000001)] }, udp(PORTS))),
  );
  assertEquals(over6.headers.slice(1), [
    { kind: "fragment", nextHeader: 17, offset: 3, more: true, id: 0x80000001 },
  ]);
});

/** What is wrong, and the field in which the parser must see it. */
const WRONG: [what: string, field: string, frame: Uint8Array][] = [
  ["an unknown type", "ethernet.type", ethernet({ type: 0x0806 }, ipv4(A4, tcp(PORTS)))],
  ["version 5 over IPv4", "ipv4.version", ethernet({}, ipv4({ ...A4, version: 5 }, tcp(PORTS)))],
  [
    "a header of 16 bytes",
    "ipv4.headerLength",
    ethernet({}, ipv4({ ...A4, headerLength: 4 }, tcp(PORTS))),
  ],
  [
    "a length that is one too large",
    "ipv4.totalLength",
    ethernet({}, ipv4({ ...A4, totalLength: 41 }, tcp(PORTS))),
  ],
  [
    "a wrong header checksum",
    "ipv4.checksum",
    ethernet({}, ipv4({ ...A4, checksum: 1 }, tcp(PORTS))),
  ],
  ["an unknown protocol", "ipv4.protocol", ethernet({}, ipv4({ ...A4, protocol: 99 }, tcp(PORTS)))],
  ["version 4 over IPv6", "ipv6.version", ethernet({}, ipv6({ ...A6, version: 4 }, tcp(PORTS)))],
  [
    "a payload that is one too long",
    "ipv6.payloadLength",
    ethernet({}, ipv6({ ...A6, payloadLength: 21 }, tcp(PORTS))),
  ],
  [
    "an unknown next header",
    "ipv6.nextHeader",
    ethernet({}, ipv6({ ...A6, nextHeader: 99 }, tcp(PORTS))),
  ],
  ["a wrong TCP checksum", "tcp.checksum", ethernet({}, ipv4(A4, tcp({ ...PORTS, checksum: 1 })))],
  [
    "a TCP header longer than the segment",
    "tcp.headerLength",
    ethernet({}, ipv4(A4, tcp({ ...PORTS, headerLength: 6 }))),
  ],
  ["a TCP header cut short", "tcp.size", ethernet({}, ipv4(A4, cut(tcp(PORTS), 19)))],
  ["a wrong UDP checksum", "udp.checksum", ethernet({}, ipv6(A6, udp({ ...PORTS, checksum: 1 })))],
  [
    "a datagram longer than its packet",
    "udp.length",
    ethernet({}, ipv4(A4, udp({ ...PORTS, length: 9 }))),
  ],
  [
    "a wrong ICMP checksum",
    "icmp4.checksum",
    ethernet({}, ipv4(A4, icmp4({ type: 8, checksum: 1 }))),
  ],
  [
    "a wrong ICMPv6 checksum",
    "icmp6.checksum",
    ethernet({}, ipv6(A6, icmp6({ type: 128, checksum: 1 }))),
  ],
];

for (const [what, field, frame] of WRONG) {
  Deno.test(`the parser finds ${what} in ${field}`, () => {
    assertEquals(assertThrows(() => parse(frame), ParseError).field, field);
  });
}

Deno.test("padding is no part of the packet", () => {
  const packet = ipv4(A4, tcp(PORTS));
  const frame = ethernet({ minimum: 60 }, packet);
  assertEquals(frame.length, 60);
  const { padding, ...padded } = parse(frame);
  assertEquals(padding, new Uint8Array(6));
  assertEquals({ ...padded, padding: new Uint8Array(0) }, parse(ethernet({}, packet)));
});

Deno.test("a datagram over IPv4 may do without a checksum", () => {
  const { headers } = parse(ethernet({}, ipv4(A4, udp({ ...PORTS, checksum: 0 }))));
  assert(headers[1]!.kind === "udp" && !headers[1]!.checksum);
});

Deno.test("extension headers stand in the order given", () => {
  const hopByHop = { protocol: 0, rest: hex("00 01040000 0000") };
  const extensions = [hopByHop, fragmentHeader(3, true, 0xaabbccdd)];
  const packet: Layer = ipv6({ ...A6, extensions }, udp(PORTS));
  assertEquals(
    packet.encode().subarray(4).toHex(),
    "0018" + "003d" + "20010db8000100000000000000000007" + "20010db8000000000000000000000001" +
      "2c00010400000000" + "11000019aabbccdd" + udpOver6().toHex(),
  );
});

/** The datagram alone, as it stands in a whole packet. */
function udpOver6(): Uint8Array {
  return ipv6(A6, udp(PORTS)).encode().subarray(40);
}
