/**
 * Frames that nobody has sent, to ask the program about.
 *
 * @module
 */
import { Address } from "../net/address.ts";
import { IPPROTO } from "./entries.ts";
import { InvalidValueError } from "./errors.ts";
import { type Protocol } from "./types.ts";
import { integer, unicast } from "./values.ts";

/** A packet to a VIP, in words. */
export interface MadeUpPacket {
  client: string;
  clientPort: number;
  vip: string;
  port: number;
  /** Default "tcp". */
  protocol?: Protocol;
  /** TCP flags. Default `["ack"]`: of an established flow. */
  flags?: readonly TcpFlag[];
  /** Of the whole IP packet, in bytes. Default: no more than headers. */
  length?: number;
  /** TTL or hop limit. Default 64. */
  ttl?: number;
}

/** What a TCP segment may say. */
export type TcpFlag = keyof typeof TCP_FLAGS;

const TCP_FLAGS = { fin: 1, syn: 2, rst: 4, psh: 8, ack: 16 };
const ETHERNET_BYTES = 14;
const ETHER_TYPE = { 4: 0x0800, 6: 0x86dd };
const IP_BYTES = { 4: 20, 6: 40 };
const L4_BYTES = { tcp: 20, udp: 8 };
/** What a test run takes: a page, less what the kernel puts around a frame. */
const MAX_BYTES = 3400;
const DONT_FRAGMENT = 0x4000;
/** The number of the first segment, and the window: of no meaning, but such that nobody takes offence. */
const SEQUENCE = 1, WINDOW = 0xffff;

/**
 * The frame of a packet.
 *
 * @throws {InvalidValueError} when a field cannot be
 */
export function frameOf(packet: MadeUpPacket): Uint8Array {
  const { protocol = "tcp", flags = ["ack"], ttl = 64 } = packet;
  const client = unicast(packet.client, "client", "Client");
  const vip = unicast(packet.vip, "vip", "VIP");
  if (client.family !== vip.family) {
    const message = `Client "${client}" and VIP "${vip}" are not of one family`;
    throw new InvalidValueError("client", packet.client, message);
  }
  if (!(protocol in L4_BYTES)) {
    const message = `Protocol "${protocol}" is neither "tcp" nor "udp"`;
    throw new InvalidValueError("protocol", protocol, message);
  }
  for (const flag of flags) {
    if (flag in TCP_FLAGS) continue;
    const known = Object.keys(TCP_FLAGS).join(", ");
    throw new InvalidValueError("flags", flag, `TCP flag "${flag}" is none of ${known}`);
  }
  integer(packet.clientPort, 0, 65535, "clientPort", "Client port");
  integer(packet.port, 0, 65535, "port", "Port");
  integer(ttl, 0, 255, "ttl", "TTL");
  const { family } = vip;
  const least = IP_BYTES[family] + L4_BYTES[protocol];
  const length = integer(packet.length ?? least, least, MAX_BYTES, "length", "Length");

  const frame = new Uint8Array(ETHERNET_BYTES + length);
  const view = new DataView(frame.buffer);
  view.setUint16(12, ETHER_TYPE[family]);
  const ip = new DataView(frame.buffer, ETHERNET_BYTES);
  const fields = { client, vip, number: IPPROTO[protocol], ttl, length };
  (family === 4 ? writeIpv4 : writeIpv6)(ip, fields);
  const l4 = new DataView(frame.buffer, ETHERNET_BYTES + IP_BYTES[family]);
  l4.setUint16(0, packet.clientPort);
  l4.setUint16(2, packet.port);
  if (protocol === "udp") {
    l4.setUint16(4, length - IP_BYTES[family]);
  } else {
    l4.setUint32(4, SEQUENCE);
    l4.setUint8(12, (L4_BYTES.tcp / 4) << 4);
    l4.setUint8(13, flags.reduce((bits, flag) => bits | TCP_FLAGS[flag], 0));
    l4.setUint16(14, WINDOW);
  }
  return frame;
}

interface IpFields {
  client: Address;
  vip: Address;
  number: number;
  ttl: number;
  length: number;
}

function writeIpv4(ip: DataView, { client, vip, number, ttl, length }: IpFields): void {
  ip.setUint8(0, 0x45);
  ip.setUint16(2, length);
  ip.setUint16(6, DONT_FRAGMENT);
  ip.setUint8(8, ttl);
  ip.setUint8(9, number);
  write(ip, 12, client);
  write(ip, 16, vip);
  let sum = 0;
  for (let at = 0; at < IP_BYTES[4]; at += 2) sum += ip.getUint16(at);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  ip.setUint16(10, sum ^ 0xffff);
}

function writeIpv6(ip: DataView, { client, vip, number, ttl, length }: IpFields): void {
  ip.setUint8(0, 0x60);
  ip.setUint16(4, length - IP_BYTES[6]);
  ip.setUint8(6, number);
  ip.setUint8(7, ttl);
  write(ip, 8, client);
  write(ip, 24, vip);
}

function write(view: DataView, at: number, address: Address): void {
  address.bytes.forEach((byte, i) => view.setUint8(at + i, byte));
}
