/**
 * Frames for the program to see: right in every field by default, and wrong wherever a test says so.
 *
 * ```ts
 * const syn = tcp({ sourcePort: 40000, destinationPort: 80, flags: ["syn"] });
 * const frame = ethernet({}, ipv4({ source: "198.51.100.7", destination: "192.0.2.1" }, syn));
 * ```
 *
 * @module
 */
import { Address, Mac } from "../../lib/net/address.ts";

/** Makes the pseudo-header of a packet for what it carries. */
type PseudoHeader = (protocol: number, length: number) => Uint8Array;

/** A header with all that follows it. */
export interface Layer {
  /** The number by which an IP header announces it. */
  readonly protocol: number;
  /** The number by which an Ethernet header announces it, if one can. */
  readonly etherType?: number;
  encode(pseudoHeader?: PseudoHeader): Uint8Array;
}

const PROTOCOL = { icmp: 1, ipip: 4, tcp: 6, udp: 17, ipv6: 41, icmp6: 58, fragment: 44 } as const;
const ETHER_TYPE = { ipv4: 0x0800, ipv6: 0x86dd } as const;

/** The MAC of the balancer's interface. */
export const BALANCER_MAC = "02:00:00:00:00:01";
/** The MAC of the router that clients are behind. */
export const ROUTER_MAC = "02:00:00:00:00:02";

/** `text` as bytes, so that a payload can be told from another one. */
export function bytes(text: string): Uint8Array {
  return new TextEncoder().encode(text);
}

/** So many bytes, no two neighbours alike. */
export function filler(length: number): Uint8Array {
  return Uint8Array.from({ length }, (_, i) => i * 7 + 1);
}

/** RFC 1071: the complement of the one's complement sum. */
function checksum(...parts: Uint8Array[]): number {
  let sum = 0;
  for (const part of parts) {
    for (let i = 0; i < part.length; i += 2) sum += (part[i]! << 8) | (part[i + 1] ?? 0);
  }
  while (sum > 0xffff) sum = (sum & 0xffff) + Math.floor(sum / 0x10000);
  return sum ^ 0xffff;
}

/** Big-endian fields one after the other: `[bits, value]`, or bytes as they are. */
function pack(...fields: (readonly [8 | 16 | 32, number] | Uint8Array)[]): Uint8Array {
  const parts: number[] = [];
  for (const field of fields) {
    if (field instanceof Uint8Array) parts.push(...field);
    else for (let shift = field[0] - 8; shift >= 0; shift -= 8) parts.push(field[1] >>> shift);
  }
  return Uint8Array.from(parts);
}

function put16(header: Uint8Array, at: number, value: number): void {
  new DataView(header.buffer, header.byteOffset).setUint16(at, value);
}

/** An 802.1Q or 802.1ad tag. */
export interface VlanTag {
  id: number;
  /** PCP and DEI, 4 bits. */
  priority?: number;
  /** Default 0x8100. */
  type?: number;
}

export interface EthernetFields {
  destination?: string;
  source?: string;
  /** Outermost first. */
  tags?: readonly VlanTag[];
  /** Default: that of the payload. */
  type?: number;
  /** Zeroes follow up to so many bytes; 60 is what a network card sends at least. */
  minimum?: number;
}

/** A frame. */
export function ethernet(fields: EthernetFields, payload: Layer | Uint8Array): Uint8Array {
  const { destination = BALANCER_MAC, source = ROUTER_MAC, tags = [], minimum = 0 } = fields;
  const isLayer = !(payload instanceof Uint8Array);
  const type = fields.type ?? (isLayer ? payload.etherType : undefined);
  if (type === undefined) throw new TypeError("Cannot build a frame: nobody says of what type");
  const frame = pack(
    Mac.parse(destination).bytes,
    Mac.parse(source).bytes,
    ...tags.flatMap(({ id, priority = 0, type = 0x8100 }) =>
      [[16, type], [16, (priority << 12) | id]] as const
    ),
    [16, type],
    isLayer ? payload.encode() : payload,
  );
  const padded = new Uint8Array(Math.max(frame.length, minimum));
  padded.set(frame);
  return padded;
}

export interface Ipv4Fields {
  source: string;
  destination: string;
  tos?: number;
  id?: number;
  dontFragment?: boolean;
  moreFragments?: boolean;
  /** In units of 8 bytes. */
  fragmentOffset?: number;
  ttl?: number;
  /** Default: that of the payload. */
  protocol?: number;
  /** A multiple of 4 bytes. */
  options?: Uint8Array;
  version?: number;
  /** In words. */
  headerLength?: number;
  totalLength?: number;
  checksum?: number;
}

/** An IPv4 packet. */
export function ipv4(fields: Ipv4Fields, payload: Layer): Layer {
  const { tos = 0, id = 0x1234, dontFragment = true, moreFragments = false } = fields;
  const { fragmentOffset = 0, ttl = 61, options = new Uint8Array(0), version = 4 } = fields;
  const source = Address.parse(fields.source).bytes;
  const destination = Address.parse(fields.destination).bytes;
  const encode = (): Uint8Array => {
    const body = payload.encode((protocol, length) =>
      pack(source, destination, [16, protocol], [16, length])
    );
    const size = 20 + options.length;
    const header = pack(
      [8, (version << 4) | (fields.headerLength ?? size / 4)],
      [8, tos],
      [16, fields.totalLength ?? size + body.length],
      [16, id],
      [16, (Number(dontFragment) << 14) | (Number(moreFragments) << 13) | fragmentOffset],
      [8, ttl],
      [8, fields.protocol ?? payload.protocol],
      [16, 0],
      source,
      destination,
      options,
    );
    put16(header, 10, fields.checksum ?? checksum(header));
    return pack(header, body);
  };
  return { protocol: PROTOCOL.ipip, etherType: ETHER_TYPE.ipv4, encode };
}

/** An IPv6 extension header but for its first byte, which names the next. */
export interface ExtensionHeader {
  protocol: number;
  /** One byte less than a multiple of 8. */
  rest: Uint8Array;
}

/** A fragment header, RFC 8200, section 4.5. */
export function fragmentHeader(offset: number, more: boolean, id: number): ExtensionHeader {
  return {
    protocol: PROTOCOL.fragment,
    rest: pack([8, 0], [16, (offset << 3) | Number(more)], [32, id]),
  };
}

export interface Ipv6Fields {
  source: string;
  destination: string;
  trafficClass?: number;
  flowLabel?: number;
  hopLimit?: number;
  /** Default: that of the first extension header, or of the payload. */
  nextHeader?: number;
  extensions?: readonly ExtensionHeader[];
  version?: number;
  payloadLength?: number;
}

/** An IPv6 packet. */
export function ipv6(fields: Ipv6Fields, payload: Layer): Layer {
  const { trafficClass = 0, flowLabel = 0xbeef5, hopLimit = 61, version = 6 } = fields;
  const { extensions = [] } = fields;
  const source = Address.parse(fields.source).bytes;
  const destination = Address.parse(fields.destination).bytes;
  const encode = (): Uint8Array => {
    let body = payload.encode((protocol, length) =>
      pack(source, destination, [32, length], [32, protocol])
    );
    let next = payload.protocol;
    for (const { protocol, rest } of extensions.toReversed()) {
      body = pack([8, next], rest, body);
      next = protocol;
    }
    return pack(
      [32, ((version << 28) | (trafficClass << 20) | flowLabel) >>> 0],
      [16, fields.payloadLength ?? body.length],
      [8, fields.nextHeader ?? next],
      [8, hopLimit],
      source,
      destination,
      body,
    );
  };
  return { protocol: PROTOCOL.ipv6, etherType: ETHER_TYPE.ipv6, encode };
}

const FLAGS = ["fin", "syn", "rst", "psh", "ack", "urg", "ece", "cwr"] as const;

/** A TCP flag. */
export type TcpFlag = (typeof FLAGS)[number];

export interface TcpFields {
  sourcePort: number;
  destinationPort: number;
  sequence?: number;
  acknowledgement?: number;
  flags?: readonly TcpFlag[];
  window?: number;
  /** A multiple of 4 bytes. */
  options?: Uint8Array;
  /** In words. */
  headerLength?: number;
  checksum?: number;
}

/** A TCP segment. */
export function tcp(fields: TcpFields, payload: Uint8Array = new Uint8Array(0)): Layer {
  const { sourcePort, destinationPort, sequence = 1000, acknowledgement = 2000 } = fields;
  const { flags = ["ack"], window = 512, options = new Uint8Array(0) } = fields;
  const bits = flags.reduce((sum, flag) => sum | (1 << FLAGS.indexOf(flag)), 0);
  const encode = (pseudoHeader?: PseudoHeader): Uint8Array => {
    const segment = pack(
      [16, sourcePort],
      [16, destinationPort],
      [32, sequence],
      [32, acknowledgement],
      [8, (fields.headerLength ?? 5 + options.length / 4) << 4],
      [8, bits],
      [16, window],
      [16, 0],
      [16, 0],
      options,
      payload,
    );
    const pseudo = pseudoHeader?.(PROTOCOL.tcp, segment.length) ?? new Uint8Array(0);
    put16(segment, 16, fields.checksum ?? checksum(pseudo, segment));
    return segment;
  };
  return { protocol: PROTOCOL.tcp, encode };
}

export interface UdpFields {
  sourcePort: number;
  destinationPort: number;
  length?: number;
  /** 0: none. */
  checksum?: number;
}

/** A UDP datagram. */
export function udp(fields: UdpFields, payload: Uint8Array = new Uint8Array(0)): Layer {
  const { sourcePort, destinationPort, length = 8 + payload.length } = fields;
  const encode = (pseudoHeader?: PseudoHeader): Uint8Array => {
    const datagram = pack(
      [16, sourcePort],
      [16, destinationPort],
      [16, length],
      [16, 0],
      payload,
    );
    const pseudo = pseudoHeader?.(PROTOCOL.udp, datagram.length) ?? new Uint8Array(0);
    put16(datagram, 6, fields.checksum ?? (checksum(pseudo, datagram) || 0xffff));
    return datagram;
  };
  return { protocol: PROTOCOL.udp, encode };
}

export interface IcmpFields {
  type: number;
  code?: number;
  /** The second word: identifier and sequence number, an MTU, or 0. */
  rest?: number;
  checksum?: number;
}

function icmp(fields: IcmpFields, body: Uint8Array, pseudo: Uint8Array): Uint8Array {
  const { type, code = 0, rest = 0 } = fields;
  const message = pack([8, type], [8, code], [16, 0], [32, rest], body);
  put16(message, 2, fields.checksum ?? checksum(pseudo, message));
  return message;
}

/** An ICMP message; an error quotes a packet as its body. */
export function icmp4(fields: IcmpFields, body: Uint8Array = new Uint8Array(0)): Layer {
  const encode = () => icmp(fields, body, new Uint8Array(0));
  return { protocol: PROTOCOL.icmp, encode };
}

/** An ICMPv6 message. */
export function icmp6(fields: IcmpFields, body: Uint8Array = new Uint8Array(0)): Layer {
  const protocol = PROTOCOL.icmp6;
  const encode = (pseudoHeader?: PseudoHeader): Uint8Array =>
    icmp(fields, body, pseudoHeader?.(protocol, 8 + body.length) ?? new Uint8Array(0));
  return { protocol, encode };
}

/** Anything else that IP carries, or what is left of something. */
export function raw(protocol: number, content: Uint8Array): Layer {
  return { protocol, encode: () => content };
}

/** The first bytes of something, as if the rest had been lost on the way. */
export function cut(layer: Layer, length: number): Layer {
  return { ...layer, encode: (pseudoHeader) => layer.encode(pseudoHeader).subarray(0, length) };
}
