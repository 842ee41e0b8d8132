/**
 * Reads frames that the program sends, and believes nothing: every length must agree with the others,
 * every checksum be right, every bit that has to be zero be zero. It has no code in common with what
 * builds frames, nor with the program.
 *
 * @module
 */
import { Address, Mac } from "../../lib/net/address.ts";

/** A frame that is not right. */
export class ParseError extends Error {
  override readonly name = "ParseError";
  /** The field that is wrong, such as `ipv4.checksum`. */
  readonly field: string;

  constructor(field: string, value: number, expected: string) {
    super(`Cannot read a frame: ${field} is "${value}", not ${expected}`);
    this.field = field;
  }
}

export interface Vlan {
  type: number;
  priority: number;
  id: number;
}

export interface Ethernet {
  destination: string;
  source: string;
  /** Outermost first. */
  tags: Vlan[];
  type: number;
}

export interface Ipv4 {
  kind: "ipv4";
  tos: number;
  totalLength: number;
  id: number;
  dontFragment: boolean;
  moreFragments: boolean;
  /** In units of 8 bytes. */
  fragmentOffset: number;
  ttl: number;
  protocol: number;
  source: string;
  destination: string;
  options: Uint8Array;
}

export interface Ipv6 {
  kind: "ipv6";
  trafficClass: number;
  flowLabel: number;
  payloadLength: number;
  nextHeader: number;
  hopLimit: number;
  source: string;
  destination: string;
}

/** A header of hop-by-hop options, of routing, or of destination options. */
export interface Extension {
  kind: "extension";
  nextHeader: number;
  /** All but the first byte. */
  rest: Uint8Array;
}

/** RFC 8200, section 4.5. */
export interface Fragment {
  kind: "fragment";
  nextHeader: number;
  /** In units of 8 bytes. */
  offset: number;
  more: boolean;
  id: number;
}

export interface Tcp {
  kind: "tcp";
  sourcePort: number;
  destinationPort: number;
  sequence: number;
  acknowledgement: number;
  flags: string[];
  window: number;
  urgent: number;
  options: Uint8Array;
}

export interface Udp {
  kind: "udp";
  sourcePort: number;
  destinationPort: number;
  length: number;
  /** False: it says that there is none. */
  checksum: boolean;
}

export interface Icmp {
  kind: "icmp4" | "icmp6";
  type: number;
  code: number;
  rest: number;
}

export interface Gre {
  kind: "gre";
  protocol: number;
}

export interface Gue {
  kind: "gue";
  protocol: number;
}

export type Header = Ipv4 | Ipv6 | Extension | Fragment | Tcp | Udp | Icmp | Gre | Gue;

/** A frame, read. */
export interface Packet {
  ethernet: Ethernet;
  /** Outermost first. */
  headers: Header[];
  /**
   * What follows the innermost header; of an ICMP error, the packet that it quotes, and of a fragment all that
   * follows the header that says so.
   */
  payload: Uint8Array;
  /** What follows the IP packet. */
  padding: Uint8Array;
}

/** What a UDP port stands for, besides being one. */
export type UdpTunnels = Readonly<Record<number, "fou" | "gue">>;

interface Context {
  headers: Header[];
  tunnels: UdpTunnels;
  /** Sum of the addresses in the IP header above, for pseudo-headers. */
  addressSum: number;
}

/** What follows a header. */
interface Rest {
  bytes: Uint8Array;
  /** How to read it; undefined: it is the payload. */
  next: Reader | undefined;
}

type Reader = (bytes: Uint8Array, context: Context) => Rest;

function demand(condition: boolean, field: string, value: number, expected: string): void {
  if (!condition) throw new ParseError(field, value, expected);
}

function viewOf(bytes: Uint8Array, least: number, kind: string): DataView {
  demand(bytes.length >= least, `${kind}.size`, bytes.length, `at least ${least}`);
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
}

/** Sum of big-endian words, carried all the way; an odd byte counts as the upper half of one. */
function wordSum(bytes: Uint8Array): number {
  return bytes.reduce((sum, byte, i) => sum + (i % 2 === 0 ? byte * 256 : byte), 0);
}

/** Words and their checksum add up to a multiple of 0xffff, and not to 0. */
function checkSum(sum: number, field: string, stored: number): void {
  demand(sum > 0 && sum % 0xffff === 0, field, stored, "right");
}

function readerOf(protocol: number, table: ReadonlyMap<number, Reader>, field: string): Reader {
  const reader = table.get(protocol);
  if (!reader) throw new ParseError(field, protocol, `one of ${[...table.keys()].join(", ")}`);
  return reader;
}

const ipv4: Reader = (bytes, context) => {
  const view = viewOf(bytes, 20, "ipv4");
  const first = view.getUint8(0);
  demand(first >> 4 === 4, "ipv4.version", first >> 4, "4");
  const size = (first % 16) * 4;
  const total = view.getUint16(2);
  demand(size >= 20 && size <= total, "ipv4.headerLength", size, `20 to ${total}`);
  demand(total === bytes.length, "ipv4.totalLength", total, String(bytes.length));
  const flags = view.getUint16(6);
  demand(flags < 0x8000, "ipv4.flags", flags, "without the reserved bit");
  const whole = flags % 0x4000 === 0;
  checkSum(wordSum(bytes.subarray(0, size)), "ipv4.checksum", view.getUint16(10));
  const protocol = view.getUint8(9);
  context.headers.push({
    kind: "ipv4",
    tos: view.getUint8(1),
    totalLength: total,
    id: view.getUint16(4),
    dontFragment: Math.floor(flags / 0x4000) === 1,
    moreFragments: Math.floor(flags / 0x2000) % 2 === 1,
    fragmentOffset: flags % 0x2000,
    ttl: view.getUint8(8),
    protocol,
    source: Address.fromBytes(bytes.subarray(12, 16)).toString(),
    destination: Address.fromBytes(bytes.subarray(16, 20)).toString(),
    options: bytes.slice(20, size),
  });
  context.addressSum = wordSum(bytes.subarray(12, 20));
  const next = whole ? readerOf(protocol, OVER_IPV4, "ipv4.protocol") : undefined;
  return { bytes: bytes.subarray(size), next };
};

const ipv6: Reader = (bytes, context) => {
  const view = viewOf(bytes, 40, "ipv6");
  const first = view.getUint32(0);
  demand(first >>> 28 === 6, "ipv6.version", first >>> 28, "6");
  const length = view.getUint16(4);
  demand(length === bytes.length - 40, "ipv6.payloadLength", length, String(bytes.length - 40));
  const nextHeader = view.getUint8(6);
  context.headers.push({
    kind: "ipv6",
    trafficClass: (first >>> 20) % 256,
    flowLabel: first % 0x100000,
    payloadLength: length,
    nextHeader,
    hopLimit: view.getUint8(7),
    source: Address.fromBytes(bytes.subarray(8, 24)).toString(),
    destination: Address.fromBytes(bytes.subarray(24, 40)).toString(),
  });
  context.addressSum = wordSum(bytes.subarray(8, 40));
  return { bytes: bytes.subarray(40), next: readerOf(nextHeader, OVER_IPV6, "ipv6.nextHeader") };
};

const extension: Reader = (bytes, { headers }) => {
  const view = viewOf(bytes, 8, "extension");
  const size = 8 * (1 + view.getUint8(1));
  demand(size <= bytes.length, "extension.length", size, `up to ${bytes.length}`);
  const nextHeader = view.getUint8(0);
  headers.push({ kind: "extension", nextHeader, rest: bytes.slice(1, size) });
  const next = readerOf(nextHeader, OVER_IPV6, "extension.nextHeader");
  return { bytes: bytes.subarray(size), next };
};

const fragment: Reader = (bytes, { headers }) => {
  const view = viewOf(bytes, 8, "fragment");
  const [reserved, place] = [view.getUint8(1), view.getUint16(2)];
  demand(reserved === 0 && Math.floor(place / 2) % 4 === 0, "fragment.reserved", reserved, "0");
  const nextHeader = view.getUint8(0);
  const [offset, more] = [Math.floor(place / 8), place % 2 === 1];
  headers.push({ kind: "fragment", nextHeader, offset, more, id: view.getUint32(4) });
  const whole = offset === 0 && !more;
  const next = whole ? readerOf(nextHeader, OVER_IPV6, "fragment.nextHeader") : undefined;
  return { bytes: bytes.subarray(8), next };
};

const FLAG_NAMES = ["fin", "syn", "rst", "psh", "ack", "urg", "ece", "cwr"];

const tcp: Reader = (bytes, { headers, addressSum }) => {
  const view = viewOf(bytes, 20, "tcp");
  const size = view.getUint8(12) / 16 * 4;
  demand(Number.isInteger(size / 4), "tcp.reserved", view.getUint8(12) % 16, "0");
  demand(size >= 20 && size <= bytes.length, "tcp.headerLength", size, `20 to ${bytes.length}`);
  const sum = addressSum + 6 + bytes.length + wordSum(bytes);
  checkSum(sum, "tcp.checksum", view.getUint16(16));
  const flags = view.getUint8(13);
  headers.push({
    kind: "tcp",
    sourcePort: view.getUint16(0),
    destinationPort: view.getUint16(2),
    sequence: view.getUint32(4),
    acknowledgement: view.getUint32(8),
    flags: FLAG_NAMES.filter((_, bit) => Math.floor(flags / 2 ** bit) % 2 === 1),
    window: view.getUint16(14),
    urgent: view.getUint16(18),
    options: bytes.slice(20, size),
  });
  return { bytes: bytes.subarray(size), next: undefined };
};

const udp: Reader = (bytes, { headers, addressSum, tunnels }) => {
  const view = viewOf(bytes, 8, "udp");
  const length = view.getUint16(4);
  demand(length === bytes.length, "udp.length", length, String(bytes.length));
  const checksum = view.getUint16(6);
  if (checksum !== 0) {
    checkSum(addressSum + 17 + bytes.length + wordSum(bytes), "udp.checksum", checksum);
  }
  const destinationPort = view.getUint16(2);
  headers.push({
    kind: "udp",
    sourcePort: view.getUint16(0),
    destinationPort,
    length,
    checksum: checksum !== 0,
  });
  const tunnel = tunnels[destinationPort];
  const next = tunnel === "gue" ? gue : tunnel === "fou" ? anyIp : undefined;
  return { bytes: bytes.subarray(8), next };
};

/** FOU does not say which family it carries; the first bits do. */
const anyIp: Reader = (bytes, context) => {
  const version = viewOf(bytes, 1, "fou").getUint8(0) >> 4;
  return readerOf(version, new Map([[4, ipv4], [6, ipv6]]), "fou.version")(bytes, context);
};

/** draft-ietf-intarea-gue-09: variant 0, no control message, no options, no flags. */
const gue: Reader = (bytes, { headers }) => {
  const view = viewOf(bytes, 4, "gue");
  demand(view.getUint8(0) === 0, "gue.length", view.getUint8(0), "0");
  demand(view.getUint16(2) === 0, "gue.flags", view.getUint16(2), "0");
  const protocol = view.getUint8(1);
  headers.push({ kind: "gue", protocol });
  return { bytes: bytes.subarray(4), next: readerOf(protocol, WITHIN, "gue.protocol") };
};

/** RFC 2784 without a checksum. */
const gre: Reader = (bytes, { headers }) => {
  const view = viewOf(bytes, 4, "gre");
  demand(view.getUint16(0) === 0, "gre.flags", view.getUint16(0), "0");
  const protocol = view.getUint16(2);
  headers.push({ kind: "gre", protocol });
  return { bytes: bytes.subarray(4), next: readerOf(protocol, ETHER_TYPES, "gre.protocol") };
};

const icmpOf = (kind: Icmp["kind"]): Reader => (bytes, { headers, addressSum }) => {
  const view = viewOf(bytes, 8, kind);
  const pseudo = kind === "icmp6" ? addressSum + 58 + bytes.length : 0;
  checkSum(pseudo + wordSum(bytes), `${kind}.checksum`, view.getUint16(2));
  const [type, code, rest] = [view.getUint8(0), view.getUint8(1), view.getUint32(4)];
  headers.push({ kind, type, code, rest });
  return { bytes: bytes.subarray(8), next: undefined };
};

const WITHIN: ReadonlyMap<number, Reader> = new Map([[4, ipv4], [41, ipv6]]);
const OVER_IP = [...WITHIN, [6, tcp], [17, udp], [47, gre]] as const;
const OVER_IPV4: ReadonlyMap<number, Reader> = new Map([...OVER_IP, [1, icmpOf("icmp4")]]);
const OVER_IPV6: ReadonlyMap<number, Reader> = new Map([
  ...OVER_IP,
  [58, icmpOf("icmp6")],
  [0, extension],
  [43, extension],
  [60, extension],
  [44, fragment],
]);
const ETHER_TYPES: ReadonlyMap<number, Reader> = new Map([[0x0800, ipv4], [0x86dd, ipv6]]);
const TAG_TYPES = [0x8100, 0x88a8];

/** How long an IP packet says that it is. */
function ipLength(bytes: Uint8Array, type: number): number {
  return type === 0x0800
    ? viewOf(bytes, 20, "ipv4").getUint16(2)
    : 40 + viewOf(bytes, 40, "ipv6").getUint16(4);
}

/**
 * Reads a frame down to its innermost header.
 *
 * @throws {ParseError} when anything about it is wrong
 */
export function parse(frame: Uint8Array, tunnels: UdpTunnels = {}): Packet {
  const view = viewOf(frame, 14, "ethernet");
  const tags: Vlan[] = [];
  let at = 12;
  while (TAG_TYPES.includes(view.getUint16(at))) {
    viewOf(frame, at + 6, "ethernet");
    const tag = view.getUint16(at + 2);
    tags.push({ type: view.getUint16(at), priority: tag >> 12, id: tag % 4096 });
    at += 4;
  }
  const type = view.getUint16(at);
  const ethernet = {
    destination: Mac.fromBytes(frame.slice(0, 6)).toString(),
    source: Mac.fromBytes(frame.slice(6, 12)).toString(),
    tags,
    type,
  };
  const context: Context = { headers: [], tunnels, addressSum: 0 };
  let next: Reader | undefined = readerOf(type, ETHER_TYPES, "ethernet.type");
  let bytes = frame.subarray(at + 2);
  const length = ipLength(bytes, type);
  const padding = bytes.slice(length);
  bytes = bytes.subarray(0, length);
  while (next) ({ bytes, next } = next(bytes, context));
  return { ethernet, headers: context.headers, payload: bytes.slice(), padding };
}
