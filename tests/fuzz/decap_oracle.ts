/**
 * Judges what the decapsulator did with a packet, by what `bpf/README.md` says of it.
 *
 * @module
 */
import { Address, Prefix } from "../../lib/net/address.ts";
import { DECAP_REASONS, type DecapReason } from "../../lib/lb/decap_abi.gen.ts";
import type { Family } from "../packets/sample.ts";
import { sum, word } from "./read.ts";
import type { Run } from "./runner.ts";

const PASSED: readonly DecapReason[] = ["not_a_tunnel", "fragment", "not_local"];
const DROP = 1, PASS = 2;
const TAG_TYPES = [0x8100, 0x88a8];
const ETHER_TYPE = { 4: 0x0800, 6: 0x86dd } as const;
const CONGESTION = 3;

/** How the decapsulator is set up. */
export interface DecapScene {
  peers: readonly string[];
  vips: readonly string[];
  addresses: readonly string[];
  udp: Readonly<Record<number, "fou" | "gue">>;
}

/** Reads a frame step by step; what is not there ends it. */
class Walk {
  at: number;
  /** Where the outer packet ends: what follows is padding. */
  end: number;
  readonly frame: Uint8Array;

  constructor(frame: Uint8Array) {
    this.frame = frame;
    this.at = 14;
    this.end = frame.length;
  }

  /** The first of so many bytes, behind which it goes on; undefined: the packet ends before. */
  take(size: number): number | undefined {
    if (this.at + size > this.end) return undefined;
    this.at += size;
    return this.at - size;
  }
}

/** An outer header. */
interface Outer {
  start: number;
  family: Family;
  length: number;
  protocol: number;
  fragment: "none" | "first" | "later";
  ecn: number;
}

type Inner = { family: Family; start: number };

/** The oracle. */
export class DecapOracle {
  readonly #peers: readonly Prefix[];
  readonly #vips: ReadonlySet<string>;
  readonly #addresses: ReadonlySet<string>;
  readonly #udp: DecapScene["udp"];

  constructor({ peers, vips, addresses, udp }: DecapScene) {
    this.#peers = peers.map((peer) => Prefix.parse(peer));
    this.#vips = keys(vips);
    this.#addresses = keys(addresses);
    this.#udp = udp;
  }

  /** What is wrong with what became of a frame; undefined: nothing. */
  judge(sent: Uint8Array, run: Run): string | undefined {
    const reason = DECAP_REASONS[run.reason];
    if (!reason) return "it was not counted under exactly one reason";
    const walk = new Walk(sent);
    const link = skipTags(walk);
    const outer = link === undefined ? "not_ip" : readOuter(walk, link);
    const octets = typeof outer === "string" ? sent.length : outer.length;
    if (run.octets !== octets) return `${reason}: ${run.octets} octets were counted, not ${octets}`;
    let verdict = typeof outer === "string" ? outer : this.#open(walk, outer);
    // What a header is that ends in the padding, it need not say; only that it is none of ours.
    const padded = typeof outer !== "string" && walk.end < sent.length;
    if (padded && verdict === "unreadable" && PASSED.includes(reason)) verdict = reason;
    const complaint = typeof verdict === "string"
      ? leftAlone(verdict, sent, run, reason)
      : this.#judgeInner(sent, walk, outer as Outer, verdict, run, reason);
    return complaint && `${reason}: ${complaint}`;
  }

  /** What the outer packet carries, or why it is nothing of ours. */
  #open(walk: Walk, outer: Outer): Inner | DecapReason {
    const extensions = outer.family === 6 ? skipExtensions(walk, outer) : undefined;
    if (extensions) return extensions;
    const inner = this.#openTunnel(walk, outer);
    if (typeof inner === "string") return inner;
    const [from, size] = outer.family === 4 ? [16, 4] : [24, 16];
    const destination = walk.frame.subarray(outer.start + from, outer.start + from + size);
    return this.#addresses.has(destination.join()) ? inner : "not_local";
  }

  #openTunnel(walk: Walk, outer: Outer): Inner | DecapReason {
    switch (outer.protocol) {
      case 4:
      case 41:
        if (outer.fragment !== "none") return "fragment";
        return { family: outer.protocol === 4 ? 4 : 6, start: walk.at };
      case 47:
        return outer.fragment === "none" ? openGre(walk) : "fragment";
      case 17:
        return this.#openUdp(walk, outer);
      default:
        return "not_a_tunnel";
    }
  }

  #openUdp(walk: Walk, outer: Outer): Inner | DecapReason {
    if (outer.fragment === "later") return "not_a_tunnel";
    const udp = walk.take(8);
    if (udp === undefined) return "unreadable";
    const kind = this.#udp[word(walk.frame, udp + 2)];
    if (!kind) return "not_a_tunnel";
    if (outer.fragment !== "none") return "fragment";
    if (word(walk.frame, udp + 4) !== walk.end - udp) return "unreadable";
    return kind === "fou" ? openFou(walk) : openGue(walk);
  }

  #judgeInner(
    sent: Uint8Array,
    walk: Walk,
    outer: Outer,
    { family, start }: Inner,
    run: Run,
    reason: DecapReason,
  ): string | undefined {
    const size = family === 4 ? 20 : 40;
    if (start + size > walk.end || sent[start]! >> 4 !== family) {
      return leftAlone("unreadable", sent, run, reason);
    }
    const [from, width] = family === 4 ? [16, 4] : [24, 16];
    const vip = sent.subarray(start + from, start + from + width).join();
    if (!this.#vips.has(vip)) return leftAlone("not_a_vip", sent, run, reason);
    if (!this.#isPeer(sent, outer)) return leftAlone("err_unknown_peer", sent, run, reason);
    const length = family === 4 ? word(sent, start + 2) : 40 + word(sent, start + 4);
    const header = family === 4 ? (sent[start]! & 15) * 4 : 40;
    if (header < size || length < header) return leftAlone("err_malformed", sent, run, reason);
    if (length > walk.end - start) return leftAlone("err_tot_len", sent, run, reason);
    const ecn = family === 4 ? sent[start + 1]! & 3 : (sent[start + 1]! >> 4) & 3;
    const congested = outer.ecn === CONGESTION;
    if (congested && ecn === 0) return leftAlone("err_congestion", sent, run, reason);
    if (reason !== "decapsulated" || run.action !== PASS) return "it is to be decapsulated";
    return checkStripped(sent, outer, { family, start }, run.frame, congested);
  }

  #isPeer(sent: Uint8Array, { family, start }: Outer): boolean {
    const [from, width] = family === 4 ? [12, 4] : [8, 16];
    const source = Address.fromBytes(sent.subarray(start + from, start + from + width));
    return source.family === family && this.#peers.some((peer) => peer.contains(source));
  }
}

function keys(addresses: readonly string[]): ReadonlySet<string> {
  return new Set(addresses.map((text) => Address.parse(text).bytes.join()));
}

/** The family that the frame announces behind up to two tags; undefined: neither. */
function skipTags(walk: Walk): Family | undefined {
  const { frame } = walk;
  for (let tags = 0; tags < 2 && TAG_TYPES.includes(word(frame, walk.at - 2)); tags++) {
    if (walk.take(4) === undefined) return undefined;
  }
  const type = word(frame, walk.at - 2);
  return type === ETHER_TYPE[4] ? 4 : type === ETHER_TYPE[6] ? 6 : undefined;
}

/** A frame of a family that ends before its IP header is not even IP where it has tags. */
function readOuter(walk: Walk, family: Family): Outer | DecapReason {
  const { frame } = walk;
  const tagged = walk.at > 14;
  const start = walk.take(family === 4 ? 20 : 40);
  if (start === undefined) return tagged && frame.length < 22 ? "not_ip" : "unreadable";
  if (frame[start]! >> 4 !== family) return "unreadable";
  const header = family === 4 ? (frame[start]! & 15) * 4 : 40;
  const length = family === 4 ? word(frame, start + 2) : 40 + word(frame, start + 4);
  if (header < 20 || length < header || start + length > frame.length) return "unreadable";
  walk.at = start + header;
  walk.end = start + length;
  const place = family === 4 ? word(frame, start + 6) : 0;
  return {
    start,
    family,
    length,
    protocol: frame[start + (family === 4 ? 9 : 6)]!,
    fragment: place & 0x1fff ? "later" : place & 0x2000 ? "first" : "none",
    ecn: family === 4 ? frame[start + 1]! & 3 : (frame[start + 1]! >> 4) & 3,
  };
}

/** Destination options and a fragment header, in that order. */
function skipExtensions(walk: Walk, outer: Outer): DecapReason | undefined {
  const { frame } = walk;
  if (outer.protocol === 60) {
    const options = walk.take(8);
    if (options === undefined) return "unreadable";
    outer.protocol = frame[options]!;
    walk.at += frame[options + 1]! * 8;
  }
  if (outer.protocol === 44) {
    const fragment = walk.take(8);
    if (fragment === undefined) return "unreadable";
    outer.protocol = frame[fragment]!;
    outer.fragment = word(frame, fragment + 2) >> 3 ? "later" : "first";
  }
  return undefined;
}

function openGre(walk: Walk): Inner | DecapReason {
  const gre = walk.take(4);
  if (gre === undefined) return "unreadable";
  if (word(walk.frame, gre) !== 0) return "not_a_tunnel";
  const type = word(walk.frame, gre + 2);
  const family = type === ETHER_TYPE[4] ? 4 : type === ETHER_TYPE[6] ? 6 : undefined;
  return family ? { family, start: walk.at } : "not_a_tunnel";
}

/** Nothing but the version says what it carries. */
function openFou(walk: Walk): Inner | DecapReason {
  if (walk.at >= walk.end) return "unreadable";
  const version = walk.frame[walk.at]! >> 4;
  return version === 4 || version === 6 ? { family: version, start: walk.at } : "not_a_tunnel";
}

function openGue(walk: Walk): Inner | DecapReason {
  if (walk.at + 4 > walk.end) return "unreadable";
  const { frame, at } = walk;
  if (frame[at]! >> 6 === 1) return openFou(walk);
  if (frame[at] !== 0 || word(frame, at + 2) !== 0) return "not_a_tunnel";
  walk.at += 4;
  const protocol = frame[at + 1];
  const family = protocol === 4 ? 4 : protocol === 41 ? 6 : undefined;
  return family ? { family, start: walk.at } : "not_a_tunnel";
}

/** Passed as it came, or dropped. */
function leftAlone(
  wanted: DecapReason,
  sent: Uint8Array,
  run: Run,
  reason: DecapReason,
): string | undefined {
  const action = wanted.startsWith("err_") ? DROP : PASS;
  if (reason !== wanted || run.action !== action) return `it is ${wanted}`;
  if (action === DROP) return undefined;
  if (run.frame.length !== sent.length) return `its length has become ${run.frame.length}`;
  const at = sent.findIndex((byte, i) => byte !== run.frame[i]);
  return at < 0 ? undefined : `byte ${at} has changed`;
}

/** The link header with its tags, and all from the inner packet on. */
function checkStripped(
  sent: Uint8Array,
  outer: Outer,
  { family, start }: Inner,
  frame: Uint8Array,
  congested: boolean,
): string | undefined {
  const link = outer.start;
  const wanted = new Uint8Array(link + sent.length - start);
  wanted.set(sent.subarray(0, link - 2));
  wanted[link - 2] = ETHER_TYPE[family] >> 8;
  wanted[link - 1] = ETHER_TYPE[family] & 0xff;
  wanted.set(sent.subarray(start), link);
  if (congested) {
    wanted[link + 1]! |= family === 4 ? CONGESTION : CONGESTION << 4;
    if (family === 4) {
      const size = (sent[start]! & 15) * 4;
      if (sum(frame, link, link + size) !== sum(sent, start, start + size)) {
        return "the inner checksum is wrong";
      }
      wanted.set(frame.subarray(link + 10, link + 12), link + 10);
    }
  }
  if (frame.length !== wanted.length) return `${frame.length} bytes are left, not ${wanted.length}`;
  const at = frame.findIndex((byte, i) => byte !== wanted[i]);
  return at < 0 ? undefined : `byte ${at} is ${frame[at]}, not ${wanted[at]}`;
}
