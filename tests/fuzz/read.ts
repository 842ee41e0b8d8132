/**
 * What a frame is, by the RFCs and by what `bpf/README.md` says of reasons. It shares no code with the program,
 * and none with what makes frames.
 *
 * @module
 */
import type { Reason } from "../../lib/lb/abi.gen.ts";
import { Address } from "../../lib/net/address.ts";
import type { Family } from "../packets/sample.ts";

/** An ICMP error's subject: the flow as its client has it. */
export interface Quoted {
  protocol: number;
  /** Of the client. */
  clientPort: number;
  servicePort: number;
}

/** A frame, read as far as it goes. */
export interface Reading {
  /** Bytes of the link header, tags included. */
  link: number;
  tags: number;
  /** 0: neither IPv4 nor IPv6, or not even its addresses. */
  family: Family | 0;
  /** The text of the VIP that it is for; "": none. */
  vip: string;
  /** What the IP header says. */
  length: number;
  /** Of the IP header, with IPv4's options. */
  header: number;
  /** Whether it came from one host, and not to a group of them: only then it may be answered. */
  answerable: boolean;
  ttl: number;
  tos: number;
  /** Why it cannot be what it says. */
  flaw: Reason | undefined;
  fragment: "none" | "first" | "later";
  /** What tells its datagram from others. */
  datagram: string;
  /** Of what stands at `at`. */
  protocol: number;
  /** Where the transport header is in the frame; what remains of the IP packet from there on. */
  at: number;
  rest: number;
  clientPort: number;
  servicePort: number;
  tcpFlags: number;
  /** Of an ICMP message. */
  type: number;
  code: number;
}

const TAG_TYPES = [0x8100, 0x88a8];
const ETHERNET = 14;
const TCP = 6;
const UDP = 17;
export const ICMP = { 4: 1, 6: 58 } as const;
/** Hop-by-hop, routing, fragment, destination options: RFC 8200, section 4. */
const EXTENSIONS = [0, 43, 44, 60];
const FRAGMENT = 44;
/** As many are looked behind; and so far into the frame. */
const MOST_EXTENSIONS = 6;
const FARTHEST = 4096;

export function word(bytes: Uint8Array, at: number): number {
  return (bytes[at]! << 8) | bytes[at + 1]!;
}

/** The one's complement sum of bytes as words, modulo 0xffff. */
export function sum(bytes: Uint8Array, from: number, to: number): number {
  let total = 0;
  for (let i = from; i + 1 < to; i += 2) total += (bytes[i]! << 8) | bytes[i + 1]!;
  if ((to - from) % 2 === 1) total += bytes[to - 1]! << 8;
  return total % 0xffff;
}

/** Reads frames that may be for one of some VIPs. */
export class Reader {
  readonly #vips = new Map<string, string>();

  constructor(vips: readonly string[]) {
    for (const vip of vips) this.#vips.set(Address.parse(vip).bytes.join(), vip);
  }

  /** Reads a frame. */
  read(frame: Uint8Array): Reading {
    const reading: Reading = {
      link: ETHERNET,
      tags: 0,
      family: 0,
      vip: "",
      length: 0,
      header: 0,
      answerable: false,
      ttl: 0,
      tos: 0,
      flaw: undefined,
      fragment: "none",
      datagram: "",
      protocol: 0,
      at: 0,
      rest: 0,
      clientPort: 0,
      servicePort: 0,
      tcpFlags: 0,
      type: 0,
      code: 0,
    };
    while (reading.tags < 2 && TAG_TYPES.includes(word(frame, reading.link - 2))) {
      reading.tags++;
      reading.link += 4;
      if (frame.length < reading.link) return reading;
    }
    const type = word(frame, reading.link - 2);
    const left = frame.length - reading.link;
    if (type === 0x0800 && left >= 20) this.#readIpv4(frame, reading);
    else if (type === 0x86dd && left >= 40) this.#readIpv6(frame, reading);
    return reading;
  }

  /** The flow that an ICMP error is about, if a VIP that it is for sent the packet that it quotes. */
  quoted(frame: Uint8Array, reading: Reading): Quoted | undefined {
    const { at, rest, family, link } = reading;
    const start = at + 8, end = at + rest;
    const vip = family === 4
      ? frame.subarray(link + 16, link + 20)
      : frame.subarray(link + 24, link + 40);
    const size = family === 4 ? 20 : 40;
    if (start + size > end || frame[start]! >> 4 !== family) return undefined;
    const source = frame.subarray(
      start + (family === 4 ? 12 : 8),
      start + (family === 4 ? 16 : 24),
    );
    if (source.some((byte, i) => byte !== vip[i])) return undefined;
    const header = family === 4 ? (frame[start]! & 15) * 4 : 40;
    if (header < size) return undefined;
    if (family === 4 && (word(frame, start + 6) & 0x1fff) !== 0) return undefined;
    const protocol = frame[start + (family === 4 ? 9 : 6)]!;
    const ports = start + header;
    if ((protocol !== TCP && protocol !== UDP) || ports + 4 > end) return undefined;
    return {
      protocol,
      clientPort: word(frame, ports + 2),
      servicePort: word(frame, ports),
    };
  }

  #readIpv4(frame: Uint8Array, r: Reading): void {
    const ip = r.link;
    const destination = frame.subarray(ip + 16, ip + 20);
    r.family = 4;
    r.vip = this.#vips.get(destination.join()) ?? "";
    const first = frame[ip + 12]!;
    r.answerable = frame[0]! % 2 === 0 && first > 0 && first < 224 && first !== 127;
    r.header = (frame[ip]! & 15) * 4;
    r.length = word(frame, ip + 2);
    r.ttl = frame[ip + 8]!;
    r.tos = frame[ip + 1]!;
    r.protocol = frame[ip + 9]!;
    if (frame[ip]! >> 4 !== 4 || r.header < 20 || r.length < r.header) {
      r.flaw = "err_malformed";
    } else if (r.length > frame.length - ip) {
      r.flaw = "err_tot_len";
    } else if (r.protocol === ICMP[6]) {
      r.flaw = "err_l4_unsupported";
    } else {
      const place = word(frame, ip + 6);
      if (place & 0x1fff) r.fragment = "later";
      else if (place & 0x2000) r.fragment = "first";
      if (r.fragment !== "none") {
        const ends = frame.subarray(ip + 12, ip + 20).join();
        r.datagram = `${ends}:${word(frame, ip + 4)}:${r.protocol}`;
      }
      r.at = ip + r.header;
      r.rest = r.length - r.header;
      if (r.fragment !== "later") this.#readTransport(frame, r);
    }
  }

  #readIpv6(frame: Uint8Array, r: Reading): void {
    const ip = r.link;
    r.family = 6;
    r.vip = this.#vips.get(frame.subarray(ip + 24, ip + 40).join()) ?? "";
    const source = frame.subarray(ip + 8, ip + 24);
    const nobody = source.every((byte, i) => i < 15 ? byte === 0 : byte < 2); // :: and ::1
    r.answerable = frame[0]! % 2 === 0 && source[0] !== 0xff && !nobody;
    r.header = 40;
    r.length = 40 + word(frame, ip + 4);
    r.ttl = frame[ip + 7]!;
    r.tos = (word(frame, ip) >> 4) & 0xff;
    r.protocol = frame[ip + 6]!;
    if (frame[ip]! >> 4 !== 6) {
      r.flaw = "err_malformed";
    } else if (r.length > frame.length - ip) {
      r.flaw = "err_tot_len";
    } else {
      r.at = ip + 40;
      r.rest = r.length - 40;
      if (!this.#skipExtensions(frame, r)) return;
      if (r.protocol === ICMP[4]) r.flaw = "err_l4_unsupported";
      else this.#readTransport(frame, r);
    }
  }

  /** False if nothing behind them is to be read. */
  #skipExtensions(frame: Uint8Array, r: Reading): boolean {
    for (let count = 0; EXTENSIONS.includes(r.protocol); count++) {
      const isFragment = r.protocol === FRAGMENT;
      const size = r.rest < 8 ? Infinity : isFragment ? 8 : 8 * (frame[r.at + 1]! + 1);
      if (count === MOST_EXTENSIONS || size > r.rest) {
        r.flaw = "err_extensions";
        return false;
      }
      if (isFragment) {
        const place = word(frame, r.at + 2);
        if (place >> 3) r.fragment = "later";
        else if (place & 1) r.fragment = "first";
        const ends = frame.subarray(r.link + 8, r.link + 40).join();
        r.datagram = `${ends}:${word(frame, r.at + 4)}:${word(frame, r.at + 6)}`;
      }
      r.protocol = frame[r.at]!;
      r.at += size;
      r.rest -= size;
      if (r.fragment === "later") return false;
    }
    if (r.at > FARTHEST) r.flaw = "err_extensions";
    return r.flaw === undefined;
  }

  #readTransport(frame: Uint8Array, r: Reading): void {
    switch (r.protocol) {
      case TCP:
        if (r.rest < 20 || frame[r.at + 12]! >> 4 < 5) r.flaw = "err_tcp_header";
        else r.tcpFlags = frame[r.at + 13]!;
        break;
      case UDP:
        if (r.rest < 8) r.flaw = "err_udp_header";
        break;
      case ICMP[4]:
      case ICMP[6]:
        if (r.rest < 8) r.flaw = "err_icmp_header";
        else {
          r.type = frame[r.at]!;
          r.code = frame[r.at + 1]!;
        }
        return;
      default:
        r.flaw = "err_l4_unsupported";
    }
    if (r.flaw) return;
    r.clientPort = word(frame, r.at);
    r.servicePort = word(frame, r.at + 2);
  }
}

/** Whether the IPv4 header's checksum and the transport's are right, as far as one can see. */
export function isSound(frame: Uint8Array, r: Reading): boolean {
  const { link, at, rest, family, protocol } = r;
  if (family === 4 && sum(frame, link, link + r.header) !== 0) return false;
  const whole = sum(frame, at, at + rest);
  if (protocol === ICMP[4]) return whole === 0;
  const addresses = family === 4
    ? sum(frame, link + 12, link + 20)
    : sum(frame, link + 8, link + 40);
  return (whole + addresses + protocol + rest) % 0xffff === 0;
}
