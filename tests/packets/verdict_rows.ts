/**
 * Packets that are passed to the host or dropped, by their reason. They find two services at each of the
 * VIPs, port 80 over TCP and UDP, with one destination.
 *
 * @module
 */
import type { Reason } from "../../lib/lb/abi.gen.ts";
import { bytes, cut, ethernet, type EthernetFields, filler, fragmentHeader } from "./build.ts";
import { type Layer, raw, tcp, udp } from "./build.ts";
import { FAMILIES, type Family, icmp, ip, type IpFields, OTHER, PORTS, VIP } from "./sample.ts";

/** A frame, and what must come of it. */
export interface Row {
  name: string;
  reason: Reason;
  action: "pass" | "drop";
  frame: Uint8Array;
}

const VERSION = { 4: { v4: { version: 5 } }, 6: { v6: { version: 4 } } } as const;
/** ICMP of the other family. */
const FOREIGN_ICMP = { 4: 58, 6: 1 } as const;
const HEADER = { 4: 20, 6: 40 } as const;
const PROTOCOLS: Record<Family, readonly number[]> = {
  4: [0, 2, 4, 41, 47, 50, 51, 132, 255],
  6: [2, 4, 41, 47, 50, 51, 59, 132, 135, 255],
};
/** Options that say nothing. */
const PADDING = { protocol: 60, rest: Uint8Array.of(0, 1, 4, 0, 0, 0, 0) };

function* pass(
  reason: "not_ip" | "not_a_vip",
  rows: Iterable<readonly [string, Uint8Array]>,
): Generator<Row> {
  for (const [name, frame] of rows) yield { name, reason, action: "pass", frame };
}

function* drop(reason: Reason, rows: Iterable<readonly [string, Uint8Array]>): Generator<Row> {
  for (const [name, frame] of rows) yield { name, reason, action: "drop", frame };
}

/** The first bytes of a frame. */
function first(length: number, frame: Uint8Array): Uint8Array {
  return frame.slice(0, length);
}

function packet(
  family: Family,
  fields: IpFields = {},
  payload: Layer = tcp(PORTS, bytes("hello")),
  link: EthernetFields = {},
): Uint8Array {
  return ethernet(link, ip(family, fields, payload));
}

function* notIp(): Generator<[string, Uint8Array]> {
  yield ["nothing but an Ethernet header", first(14, packet(4))];
  yield ["ARP", ethernet({ type: 0x0806, minimum: 60 }, filler(28))];
  yield ["LLDP", ethernet({ type: 0x88cc }, filler(40))];
  yield ["802.3 with a length", ethernet({ type: 100 }, filler(100))];
  yield ["ARP with a tag", ethernet({ type: 0x0806, tags: [{ id: 5 }] }, filler(46))];
  const tags = [{ type: 0x88a8, id: 1 }, { id: 2 }, { id: 3 }];
  yield ["three tags", packet(4, {}, tcp(PORTS), { tags })];
  for (const family of FAMILIES) {
    for (const count of [1, 2]) {
      const frame = packet(family, {}, tcp(PORTS), { tags: tags.slice(0, count) });
      for (let length = 14; length < 14 + 4 * count; length++) {
        yield [`IPv${family} whose ${count} tags are cut to ${length} bytes`, first(length, frame)];
      }
    }
    for (const length of [0, 1, HEADER[family] - 1]) {
      yield [`${length} bytes of IPv${family}`, first(14 + length, packet(family))];
    }
  }
}

/** To an address that is no VIP everything passes, whatever is wrong with it. */
function* notVip(family: Family): Generator<[string, Uint8Array]> {
  const to = { destination: OTHER[family] };
  const back = { source: VIP[family], destination: OTHER[family] };
  const of = (name: string): string => `${name} over IPv${family}`;
  yield [of("TCP"), packet(family, to)];
  yield [of("UDP"), packet(family, to, udp(PORTS))];
  yield [of("TCP from a VIP"), packet(family, back)];
  yield [of("ICMP from a VIP"), packet(family, back, icmp(family, { type: 3 }, filler(40)))];
  yield [of("a ping"), packet(family, to, icmp(family, { type: family === 4 ? 8 : 128 }))];
  yield [of("an unknown protocol"), packet(family, to, raw(99, filler(8)))];
  yield [of("nothing"), packet(family, to, raw(6, filler(0)))];
  yield [of("a cut TCP header"), packet(family, to, cut(tcp(PORTS), 19))];
  yield [of("a cut frame"), packet(family, to).slice(0, -1)];
  yield [of("a padded frame"), packet(family, to, udp(PORTS), { minimum: 100 })];
  yield [of("another version"), packet(family, { ...VERSION[family], ...to })];
  for (const ttl of [0, 1]) yield [of(`TTL ${ttl}`), packet(family, { ttl, ...to })];
  for (const tags of [[{ id: 5 }], [{ type: 0x88a8, id: 1 }, { id: 2 }]]) {
    yield [of(`TCP behind ${tags.length} tags`), packet(family, to, tcp(PORTS), { tags })];
  }
  const v6 = { extensions: [fragmentHeader(5, true, 1)] };
  const fragment = { v4: { fragmentOffset: 5, dontFragment: false }, v6, ...to };
  yield [of("a fragment"), packet(family, fragment)];
}

function* notVip6(): Generator<[string, Uint8Array]> {
  const solicitation = icmp(6, { type: 135 }, filler(24));
  const fields = { destination: "ff02::1:ff00:1", ttl: 255 };
  yield ["neighbour discovery of a VIP", packet(6, fields, solicitation)];
  const to = { destination: OTHER[6] };
  const extensions = Array.from({ length: 7 }, () => PADDING);
  yield ["seven extension headers", packet(6, { v6: { extensions }, ...to })];
}

function* malformed(): Generator<[string, Uint8Array]> {
  for (const family of FAMILIES) {
    yield [`IPv${family} of another version`, packet(family, VERSION[family])];
  }
  for (const headerLength of [0, 4]) {
    yield [`${headerLength} words of IPv4 header`, packet(4, { v4: { headerLength } })];
  }
  for (const totalLength of [0, 19]) {
    yield [`IPv4 of ${totalLength} bytes`, packet(4, { v4: { totalLength } })];
  }
  yield ["IPv4 that ends in its options", packet(4, { v4: { headerLength: 15, totalLength: 45 } })];
}

function* cutShort(): Generator<[string, Uint8Array]> {
  for (const family of FAMILIES) {
    yield [`IPv${family} without its last byte`, packet(family).slice(0, -1)];
    yield [`IPv${family} without payload`, first(14 + HEADER[family], packet(family))];
  }
  for (const totalLength of [46, 0xffff]) {
    yield [`IPv4 that says ${totalLength} bytes`, packet(4, { v4: { totalLength } })];
  }
  for (const payloadLength of [26, 0xffff]) {
    yield [`IPv6 that says ${payloadLength} bytes`, packet(6, { v6: { payloadLength } })];
  }
}

function* extensions(): Generator<[string, Uint8Array]> {
  const seven = { extensions: Array.from({ length: 7 }, () => PADDING) };
  yield ["seven extension headers", packet(6, { v6: seven })];
  for (const protocol of [0, 43, 60]) {
    const long = { protocol, rest: Uint8Array.of(255, ...PADDING.rest.subarray(1)) };
    yield [
      `extension header ${protocol} beyond the end`,
      packet(6, { v6: { extensions: [long] } }),
    ];
  }
  for (const protocol of [0, 43, 44, 60]) {
    for (const length of [0, 7]) {
      const name = `${length} bytes of extension header ${protocol}`;
      yield [name, packet(6, {}, raw(protocol, new Uint8Array(length)))];
      // What follows the packet is no part of it.
      yield [
        `${name}, padded`,
        packet(6, {}, raw(protocol, new Uint8Array(length)), { minimum: 90 }),
      ];
    }
  }
}

/** A header that ends too early: with the frame, or before the padding. */
function* headers(
  name: string,
  header: (family: Family) => Layer,
  size: number,
): Generator<[string, Uint8Array]> {
  for (const family of FAMILIES) {
    for (const minimum of [0, 100]) {
      for (let length = 0; length < size; length++) {
        const frame = packet(family, {}, cut(header(family), length), { minimum });
        const padded = minimum ? ", padded" : "";
        yield [`${length} bytes of ${name} over IPv${family}${padded}`, frame];
      }
    }
  }
}

/** Addresses that no sender has. */
const NOBODY: Record<Family, readonly string[]> = {
  4: ["0.0.0.0", "127.0.0.1", "224.0.0.1", "255.255.255.255"],
  6: ["::", "::1", "ff02::1"],
};

/** What would be answered, if there were one host to answer: RFC 1122, section 3.2.2. */
function* fromNobody(
  payload: (family: Family) => Layer,
  ttl = 61,
): Generator<[string, Uint8Array]> {
  for (const family of FAMILIES) {
    const content = payload(family);
    const of = `protocol ${content.protocol} over IPv${family}`;
    for (const source of NOBODY[family]) {
      yield [`${of} from ${source}`, packet(family, { source, ttl }, content)];
    }
    const link = { destination: "ff:ff:ff:ff:ff:ff" };
    yield [`${of} to a group of hosts`, packet(family, { ttl }, content, link)];
  }
}

/** ICMP errors that quote what no VIP sent, or not enough of it. */
function* unrelated(): Generator<[string, Uint8Array]> {
  const ports = { sourcePort: PORTS.destinationPort, destinationPort: PORTS.sourcePort };
  for (const family of FAMILIES) {
    const type = family === 4 ? 3 : 1;
    const ends = { source: VIP[family], destination: "" };
    ends.destination = family === 4 ? "198.51.100.7" : "2001:db8:1::7";
    const about = (fields: IpFields) => ip(family, { ...ends, ...fields }, tcp(ports)).encode();
    const error = (quoted: Uint8Array) => packet(family, {}, icmp(family, { type }, quoted));
    yield [
      `an error about IPv${family} of another version`,
      error(about(VERSION[family])),
    ];
    // What follows the packet is no part of it.
    for (const length of [0, 3]) {
      const quoted = about({}), size = HEADER[family] + length;
      const frame = error(quoted.slice(0, size));
      const padded = new Uint8Array([...frame, ...quoted.subarray(size)]);
      yield [`an error about IPv${family} whose ports end in the padding, ${length}`, padded];
    }
  }
}

function* unsupported(): Generator<[string, Uint8Array]> {
  for (const family of FAMILIES) {
    for (const protocol of [...PROTOCOLS[family], FOREIGN_ICMP[family]]) {
      if (family === 6 && protocol === 0) continue;
      yield [
        `protocol ${protocol} over IPv${family}`,
        packet(family, {}, raw(protocol, filler(40))),
      ];
    }
  }
}

export const ROWS: readonly Row[] = [
  ...pass("not_ip", notIp()),
  ...FAMILIES.flatMap((family) => [...pass("not_a_vip", notVip(family))]),
  ...pass("not_a_vip", notVip6()),
  ...drop("err_malformed", malformed()),
  ...drop(
    "err_malformed",
    fromNobody((family) => icmp(family, { type: family === 4 ? 8 : 128 }, filler(8))),
  ),
  ...drop("err_expired", fromNobody(() => tcp(PORTS), 1)),
  ...drop("err_icmp_unrelated", unrelated()),
  ...drop("err_tot_len", cutShort()),
  ...drop("err_extensions", extensions()),
  ...drop("err_l4_unsupported", unsupported()),
  ...drop("err_tcp_header", headers("TCP", () => tcp(PORTS), 20)),
  ...drop(
    "err_tcp_header",
    headers("TCP with 4 words of header", () => tcp({ ...PORTS, headerLength: 4 }), 21),
  ),
  ...drop("err_udp_header", headers("UDP", () => udp(PORTS), 8)),
  ...drop("err_icmp_header", headers("ICMP", (family) => icmp(family, { type: 3 }), 8)),
];
