/**
 * Whether a frame that was sent to a destination is what it must be, byte by byte.
 *
 * @module
 */
import { Address, Mac, type Prefix } from "../../lib/net/address.ts";
import { BALANCER_MAC } from "../packets/build.ts";
import { TUNNEL_PORTS } from "../packets/expect.ts";
import type { Family } from "../packets/sample.ts";
import { isSound, type Reading, sum, word } from "./read.ts";
import { mtuOf, outerSource, type SceneDestination } from "./scene.ts";

const OURS = Mac.parse(BALANCER_MAC).bytes;
const ETHER_TYPE = { 4: 0x0800, 6: 0x86dd } as const;
const IP_SIZE = { 4: 20, 6: 40 } as const;
const TUNNEL_SIZE = { none: 0, ipip: 0, gre: 4, fou: 8, gue: 12 } as const;
const UDP = 17;

/** How many bytes a tunnel puts before a packet. */
export function overhead({ tunnel, family }: SceneDestination): number {
  return tunnel === "none" ? 0 : IP_SIZE[family] + TUNNEL_SIZE[tunnel];
}

/** Whether packets of a length fit on the way; what came in by an interface can leave by it. */
export function fits(length: number, d: SceneDestination): boolean {
  return (d.tunnel === "none" && !d.away) || length + overhead(d) <= mtuOf(d);
}

/** Reads one thing after the other, and remembers the first that is not as it must be. */
class Check {
  complaint: string | undefined;
  at = 0;
  readonly frame: Uint8Array;

  constructor(frame: Uint8Array) {
    this.frame = frame;
  }

  fail(what: string, found: unknown, wanted: unknown): void {
    this.complaint ??= `${what} is ${found}, not ${wanted}`;
  }

  number(what: string, size: 1 | 2, wanted: number): void {
    const found = size === 1 ? this.frame[this.at]! : word(this.frame, this.at);
    if (found !== wanted) this.fail(what, found, wanted);
    this.at += size;
  }

  bytes(what: string, wanted: Uint8Array): void {
    for (let i = 0; i < wanted.length; i++) {
      if (this.frame[this.at + i] !== wanted[i]) {
        this.fail(what, this.frame.slice(this.at, this.at + wanted.length).toHex(), wanted.toHex());
        break;
      }
    }
    this.at += wanted.length;
  }
}

/** Tags are rewritten, pushed or popped as the destination's network wants it; an outer one stays. */
function checkLink(
  c: Check,
  sent: Uint8Array,
  r: Reading,
  d: SceneDestination,
  family: Family,
): void {
  c.bytes("the frame's destination", d.mac);
  c.bytes("the frame's source", OURS);
  if (d.vlan) {
    if (r.tags === 2) c.bytes("the outer tag", sent.subarray(12, 16));
    const inner = r.link - 6;
    c.number("the type of the tag", 2, r.tags ? word(sent, inner) : 0x8100);
    const priority = r.tags ? word(sent, inner + 2) & 0xf000 : 0;
    c.number("the tag", 2, priority | d.vlan);
  }
  c.number("the type of the frame", 2, ETHER_TYPE[family]);
}

/** The outer source is an address, or one of a prefix. */
function checkSource(c: Check, prefix: Prefix): void {
  const size = prefix.family === 4 ? 4 : 16;
  const found = Address.fromBytes(c.frame.subarray(c.at, c.at + size));
  if (!prefix.contains(found)) c.fail("the outer source", found, `in ${prefix}`);
  c.at += size;
}

function checkOuterIp(c: Check, r: Reading, d: SceneDestination): void {
  const inner = r.family === 4 ? 4 : 41;
  const protocol = { none: inner, ipip: inner, gre: 47, fou: UDP, gue: UDP }[d.tunnel];
  const start = c.at;
  if (d.family === 4) {
    c.number("the outer version", 1, 0x45);
    c.number("the outer TOS", 1, r.tos);
    c.number("the outer length", 2, r.length + overhead(d));
    c.number("the outer id", 2, 0);
    c.number("the outer flags", 2, 0x4000);
    c.number("the outer TTL", 1, 64);
    c.number("the outer protocol", 1, protocol);
    if (sum(c.frame, start, start + 20) !== 0) c.fail("the outer checksum", "wrong", "right");
    c.at += 2;
  } else {
    c.number("the outer version", 2, 0x6000 | (r.tos << 4));
    c.number("the outer flow label", 2, 0);
    c.number("the outer length", 2, r.length + overhead(d) - 40);
    c.number("the outer protocol", 1, protocol);
    c.number("the outer hop limit", 1, 64);
  }
  checkSource(c, outerSource(d));
  c.bytes("the outer destination", d.bytes);
}

/** A sum over all of the packet, if the sender's own sums promise that it comes out right. */
function checkOuterUdp(c: Check, sent: Uint8Array, r: Reading, d: SceneDestination): void {
  const start = c.at, length = r.length + overhead(d) - IP_SIZE[d.family];
  const port = word(c.frame, start);
  if (port < 0xc000) c.fail("the outer source port", port, "49152 to 65535");
  c.at += 2;
  c.number("the outer port", 2, d.tunnel === "gue" ? TUNNEL_PORTS.gue : TUNNEL_PORTS.fou);
  c.number("the outer UDP length", 2, length);
  if (!d.checksum) return c.number("the outer UDP checksum", 2, 0);
  if (word(c.frame, c.at) === 0) c.fail("the outer UDP checksum", 0, "given");
  c.at += 2;
  const addresses = d.family === 4
    ? sum(c.frame, start - 8, start)
    : sum(c.frame, start - 32, start);
  const total = addresses + UDP + length + sum(c.frame, start, start + length);
  if (total % 0xffff === 0) return;
  const summed = r.fragment !== "none" || (r.family === 6 && r.at !== r.link + 40) ||
    (r.protocol === UDP && (word(sent, r.at + 6) === 0 || word(sent, r.at + 4) !== r.rest));
  if (summed || isSound(sent, r)) c.fail("the outer UDP checksum", "wrong", "right");
}

function checkTunnel(c: Check, sent: Uint8Array, r: Reading, d: SceneDestination): void {
  checkOuterIp(c, r, d);
  if (d.tunnel === "gre") {
    c.number("the GRE flags", 2, 0);
    c.number("the GRE protocol", 2, ETHER_TYPE[r.family || 4]);
  } else if (d.tunnel === "fou" || d.tunnel === "gue") {
    checkOuterUdp(c, sent, r, d);
    if (d.tunnel === "fou") return;
    c.number("the GUE length", 1, 0);
    c.number("the GUE protocol", 1, r.family === 4 ? 4 : 41);
    c.number("the GUE flags", 2, 0);
  }
}

/** All from the IP header on is as it was, but for the TTL, and with it IPv4's checksum. */
function checkInner(c: Check, sent: Uint8Array, r: Reading, size: number, ttl: number): void {
  const start = c.at, frame = c.frame;
  if (frame.length - start !== size) {
    return c.fail("what is left of the frame", frame.length - start, size);
  }
  const ttlAt = r.family === 4 ? 8 : 7;
  if (frame[start + ttlAt] !== ttl) c.fail("the TTL", frame[start + ttlAt], ttl);
  const mutable = r.family === 4 ? [8, 10, 11] : [7];
  for (let i = 0; i < size; i++) {
    if (frame[start + i] === sent[r.link + i] || mutable.includes(i)) continue;
    return c.fail(`byte ${i} of the packet`, frame[start + i], sent[r.link + i]);
  }
  if (r.family !== 4) return;
  // What was wrong stays wrong by as much, and what was right stays right.
  const before = sum(sent, r.link, r.link + r.header), after = sum(frame, start, start + r.header);
  if (before !== after) c.fail("the sum of the IPv4 header", after, before);
}

/** What is wrong with a frame that was sent to a destination; undefined: nothing. */
export function checkForwarded(
  sent: Uint8Array,
  r: Reading,
  frame: Uint8Array,
  d: SceneDestination,
): string | undefined {
  const c = new Check(frame);
  const tunnelled = d.tunnel !== "none";
  checkLink(c, sent, r, d, tunnelled ? d.family : r.family || 4);
  if (tunnelled) checkTunnel(c, sent, r, d);
  // What follows the packet in its frame does not go into a tunnel.
  const size = tunnelled ? r.length : sent.length - r.link;
  checkInner(c, sent, r, size, tunnelled ? r.ttl - 1 : 1);
  return c.complaint;
}
