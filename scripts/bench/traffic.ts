/**
 * Packets to measure with: a template, and what varies from one to the next. `bpf/bench.bpf.c` makes packets
 * of it, inside the kernel.
 *
 * @module
 */
import { Address } from "../../lib/net/address.ts";

/** What packets are like. */
export interface Traffic {
  readonly vip: string;
  readonly port: number;
  readonly protocol: "tcp" | "icmp";
  /** Bytes of the frame. */
  readonly length: number;
  /** How many flows take turns: a power of two up to 2^30; with ICMP 1. */
  readonly flows: number;
  /** To how many addresses from `vip` on, whose last two bytes are then zero; IPv4 only. */
  readonly vips: number;
  /** TCP flags. */
  readonly flags: number;
}

/** TCP flags. */
export const SYN = 0x02, ACK = 0x10;

const ETHERNET = 14;
const PROTOCOL = { tcp: 6, icmp: 1 };
const ECHO_REQUEST = 8;
/** The last 14 bits of a source port are the flow's. */
const FIRST_PORT = 0x4000;
/** Where the program writes eight bytes each. */
const WORDS = { 4: [0, 6, 14, 22, 30, 38, 46], 6: [0, 6, 14, 22, 30, 38, 46, 54, 62, 70] } as const;
const LONGEST_HEADERS = 78;

/** Fields of `struct bench` in `bpf/bench.h`, in the order of nothing in particular. */
export interface Template {
  readonly frame: Uint8Array;
  readonly words: readonly bigint[];
  readonly ipSum: number;
  readonly transportSum: number;
}

/** The family of the packets. */
export function familyOf({ vip }: Traffic): 4 | 6 {
  return Address.parse(vip).family;
}

/** A frame that lacks the flow's part and the checksums, and what the program needs to add them. */
export function template(traffic: Traffic): Template {
  const family = familyOf(traffic);
  const transport = ETHERNET + (family === 4 ? 20 : 40);
  const frame = new Uint8Array(traffic.length);
  frame.set([2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2]);
  (family === 4 ? ipv4 : ipv6)(frame, traffic);
  const segment = frame.subarray(transport);
  if (traffic.protocol === "icmp") {
    segment[0] = ECHO_REQUEST;
    new DataView(frame.buffer).setUint16(transport + 2, ~sum(segment) & 0xffff, true);
  } else {
    tcp(segment, traffic);
  }
  const pseudo = Uint8Array.of(0, PROTOCOL[traffic.protocol], segment.length >>> 8, segment.length);
  const addresses = frame.subarray(family === 4 ? 26 : 22, transport);
  const padded = new Uint8Array(Math.max(LONGEST_HEADERS, frame.length));
  padded.set(frame);
  const view = new DataView(padded.buffer);
  return {
    frame,
    words: WORDS[family].map((offset) => view.getBigUint64(offset, true)),
    ipSum: sum(frame.subarray(ETHERNET, transport)),
    // The program adds a checksum where TCP has it; to a ping it adds zero.
    transportSum: traffic.protocol === "icmp"
      ? 0xffff
      : fold(sum(addresses) + sum(pseudo) + sum(segment)),
  };
}

function ipv4(frame: Uint8Array<ArrayBuffer>, { vip, protocol, length }: Traffic): void {
  const view = new DataView(frame.buffer);
  view.setUint16(12, 0x0800);
  view.setUint8(14, 0x45);
  view.setUint16(16, length - ETHERNET);
  view.setUint8(22, 64);
  view.setUint8(23, PROTOCOL[protocol]);
  frame.set([198, 51], 26);
  frame.set(Address.parse(vip).bytes, 30);
}

function ipv6(frame: Uint8Array<ArrayBuffer>, { vip, protocol, length }: Traffic): void {
  const view = new DataView(frame.buffer);
  view.setUint16(12, 0x86dd);
  view.setUint8(14, 0x60);
  view.setUint16(18, length - ETHERNET - 40);
  view.setUint8(20, PROTOCOL[protocol]);
  view.setUint8(21, 64);
  frame.set(Address.parse("2001:db8:1::").bytes, 22);
  frame.set(Address.parse(vip).bytes, 38);
}

function tcp(segment: Uint8Array, { port, flags }: Traffic): void {
  const view = new DataView(segment.buffer, segment.byteOffset);
  view.setUint16(0, FIRST_PORT);
  view.setUint16(2, port);
  view.setUint8(12, 0x50);
  view.setUint8(13, flags);
}

function fold(sum: number): number {
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  return sum;
}

/** One's complement sum of bytes as the host, which is little-endian, reads them. */
function sum(bytes: Uint8Array): number {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  let total = 0;
  for (let i = 0; i + 1 < bytes.length; i += 2) total += view.getUint16(i, true);
  return fold(total + (bytes.length % 2 ? bytes.at(-1)! : 0));
}
