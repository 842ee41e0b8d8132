/**
 * Judges what became of probes and of their replies.
 *
 * @module
 */
import { PROBE_PORTS, PROBE_PORTS_FROM, type Reason, REASONS } from "../../lib/lb/abi.gen.ts";
import { Address, Mac, Prefix } from "../../lib/net/address.ts";
import { OUTER_SOURCE, PROBE_MAC } from "../packets/harness.ts";
import { HOST, NETWORKS } from "../packets/probe_support.ts";
import { type Family, VIP } from "../packets/sample.ts";
import { checkError } from "./answered.ts";
import { checkForwarded, overhead } from "./forwarded.ts";
import { Reader, type Reading, sum, word } from "./read.ts";
import type { Run } from "./runner.ts";
import { mtuOf, type SceneDestination } from "./scene.ts";

const DROP = 1, PASS = 2, TX = 3, REDIRECT = 4;
const TCP = 6, UDP = 17;
const HOST_MAC = Mac.parse(PROBE_MAC).bytes;
const PROBE_TTL = 2;
/** After so many others the program may have forgotten a probe. */
const MEMORY = 1000;
/** What every IPv6 network carries. */
const IPV6_LEAST = 1280;
const UNREACHABLE = { 4: { type: 3, code: 1, rest: 0 }, 6: { type: 1, code: 3, rest: 0 } };
const TOO_BIG = { 4: { type: 3, code: 4 }, 6: { type: 2, code: 0 } };
/** Where addresses are in an IP header, and how long they are. */
const ADDRESSES = { 4: [12, 4], 6: [8, 16] } as const;

/** A probe that was sent, by which its reply is told. */
export interface KnownProbe {
  family: Family;
  protocol: number;
  servicePort: number;
  /** Its source port on the network. */
  port: number;
  /** As the host sent it: addresses and source port. */
  host: Uint8Array;
  probed: Uint8Array;
  hostPort: number;
  /** How many there were before. */
  number: number;
}

/** The oracle; it remembers which probes there were. */
export class ProbeOracle {
  readonly known: KnownProbe[] = [];
  #probes = 0;
  readonly #byReply = new Map<string, KnownProbe>();
  /** Replies whose first fragment was seen, and by what they are told. */
  readonly #datagrams = new Map<string, string>();
  readonly #reader: Reader;
  readonly #vips = new Reader([VIP[4], VIP[6]]);
  readonly #destinations: ReadonlyMap<string, SceneDestination>;
  /** Of an IPv6 address the last 32 bits are the number, and those before are zero. */
  readonly #networks = [Prefix.parse(NETWORKS.ipv4), Prefix.parse(`${HOST[6]}/96`)];

  /** @param destinations by their probe addresses */
  constructor(destinations: ReadonlyMap<string, SceneDestination>) {
    this.#destinations = destinations;
    this.#reader = new Reader([...destinations.keys()]);
  }

  /** What is wrong with what became of a frame that the host sent; undefined: nothing. */
  judgeProbe(sent: Uint8Array, run: Run): string | undefined {
    const reason = REASONS[run.reason];
    if (!reason) return "it was not counted under exactly one reason";
    const r = this.#reader.read(sent);
    const complaint = r.tags > 0 || r.family === 0
      ? untouched("not_ip", sent, run, reason)
      : this.#judgeProbe(sent, r, r.family, run, reason);
    return complaint && `probe, ${reason}: ${complaint}`;
  }

  /** The same of one from the network, which may be a reply. */
  judgeReply(sent: Uint8Array, run: Run): string | undefined {
    const reason = REASONS[run.reason];
    if (!reason) return "it was not counted under exactly one reason";
    const r = this.#vips.read(sent);
    if (r.family === 0) return untouched("not_ip", sent, run, reason);
    if (r.vip !== "") return reason.startsWith("probe") ? `${reason}: it is to a VIP` : undefined;
    const probe = this.#probeOf(sent, r, r.family, reason);
    // The program may have forgotten a reply's first fragment, or a probe that was long ago.
    const stale = r.fragment === "later" || (probe && this.#probes - probe.number > MEMORY);
    if (stale && reason === "not_a_vip") return untouched("not_a_vip", sent, run, reason);
    const complaint = probe
      ? checkReply(sent, r, probe, run, reason)
      : untouched("not_a_vip", sent, run, reason);
    return complaint && `reply, ${reason}: ${complaint}`;
  }

  /** The probe that a packet answers. */
  #probeOf(
    sent: Uint8Array,
    r: Reading,
    family: Family,
    reason: Reason,
  ): KnownProbe | undefined {
    if (r.flaw) return undefined;
    const datagram = `${r.datagram} ${r.protocol}`;
    if (r.fragment === "later") return this.#byReply.get(this.#datagrams.get(datagram) ?? "");
    if (r.protocol !== TCP && r.protocol !== UDP) return undefined;
    const key = replyKey(sent, r, family), probe = this.#byReply.get(key);
    // It takes note of a first fragment if it knows the probe.
    if (r.fragment === "first" && reason === "probe_reply") this.#datagrams.set(datagram, key);
    return probe;
  }

  #judgeProbe(
    sent: Uint8Array,
    r: Reading,
    family: Family,
    run: Run,
    reason: Reason,
  ): string | undefined {
    const [source, width] = ADDRESSES[family];
    const address = sent.slice(r.link + source + width, r.link + source + 2 * width);
    const ours = this.#networks.find((network) =>
      network.family === family && network.contains(Address.fromBytes(address))
    );
    if (!ours || address.every((byte, i) => byte === ours.network.bytes[i])) {
      return untouched("not_a_vip", sent, run, reason);
    }
    const dropped = reason === "err_probe" && run.action === DROP;
    if (r.flaw || (r.protocol !== TCP && r.protocol !== UDP && r.fragment !== "later")) {
      return dropped ? undefined : "it is to be dropped as err_probe";
    }
    const d = this.#destinations.get(r.vip);
    if (!d) {
      if (r.fragment === "later") return dropped ? undefined : "there is nobody";
      if (reason !== "err_probe" || run.action !== TX) return "there is nobody";
      return checkError(sent, r, run.frame, UNREACHABLE[family]);
    }
    const room = mtuOf(d) - overhead(d);
    if (r.length > room) {
      if (!/^too_big/.test(reason)) return `it does not fit: there is room for ${room}`;
      const rest = family === 6 ? Math.max(room, IPV6_LEAST) : room;
      // Who must be able to send so much would not send less: RFC 8201.
      if (r.fragment === "later" || (rest > room && r.length <= rest)) {
        return run.action === DROP ? undefined : "it is to be dropped";
      }
      return checkError(sent, r, run.frame, { ...TOO_BIG[family], rest });
    }
    if (reason !== "probe" || run.action !== REDIRECT) return "it is to be sent";
    return this.#checkProbe(sent, r, family, run.frame, d);
  }

  /** It is what a client would send that has the balancer's address, and goes where any such packet would. */
  #checkProbe(
    sent: Uint8Array,
    r: Reading,
    family: Family,
    frame: Uint8Array,
    d: SceneDestination,
  ): string | undefined {
    const size = d.tunnel === "none" ? sent.length - r.link : r.length;
    const inner = frame.length - size - r.link;
    const asClient = sent.slice();
    const [source, width] = ADDRESSES[family];
    asClient.set(Address.parse(OUTER_SOURCE[family]).bytes, r.link + source);
    asClient.set(Address.parse(VIP[family]).bytes, r.link + source + width);
    const ttl = r.link + (family === 4 ? 8 : 7);
    asClient[ttl] = PROBE_TTL;
    const copy = (at: number) => asClient.set(frame.subarray(inner + at, inner + at + 2), at);
    if (family === 4) {
      const word8 = word(sent, r.link + 8), now = word(asClient, r.link + 8);
      fixSum(sent, asClient, r.link + 10, [[r.link + 12, r.link + 20]], now - word8);
    }
    if (r.fragment !== "later") {
      copy(r.at);
      const port = word(asClient, r.at);
      if (port < PROBE_PORTS_FROM || port >= PROBE_PORTS_FROM + PROBE_PORTS) {
        return `its source port is ${port}`;
      }
      const field = r.at + (r.protocol === TCP ? 16 : 6);
      const none = r.protocol === UDP && word(sent, field) === 0;
      const changed: [number, number][] = [
        [r.link + source, r.link + source + 2 * width],
        [r.at, r.at + 2],
      ];
      if (!none) fixSum(sent, asClient, field, changed, 0);
      if (same(word(frame, inner + field), word(asClient, field))) copy(field);
      this.#remember(sent, r, family, port);
    }
    const there = this.#vips.read(asClient);
    return checkForwarded(asClient, there, frame, d);
  }

  #remember(sent: Uint8Array, r: Reading, family: Family, port: number): void {
    const [source, width] = ADDRESSES[family];
    const probe: KnownProbe = {
      family,
      protocol: r.protocol,
      servicePort: r.servicePort,
      port,
      host: sent.slice(r.link + source, r.link + source + width),
      probed: sent.slice(r.link + source + width, r.link + source + 2 * width),
      hostPort: r.clientPort,
      number: this.#probes++,
    };
    this.#byReply.set(keyOf(probe), probe);
    this.known.push(probe);
    if (this.known.length > 10_000) this.known.splice(0, 5000);
  }
}

function keyOf({ family, protocol, servicePort, port }: KnownProbe): string {
  const [vip, ours] = [VIP[family], OUTER_SOURCE[family]].map((text) => Address.parse(text).bytes);
  return `${vip!.join()} ${ours!.join()} ${protocol} ${servicePort} ${port}`;
}

function replyKey(sent: Uint8Array, r: Reading, family: Family): string {
  const [source, width] = ADDRESSES[family], at = r.link + source;
  const [from, to] = [sent.subarray(at, at + width), sent.subarray(at + width, at + 2 * width)];
  // What the service's port is to the client is the source here.
  return `${from.join()} ${to.join()} ${r.protocol} ${r.clientPort} ${r.servicePort}`;
}

/** The host gets it from the probe address, without tags. */
function checkReply(
  sent: Uint8Array,
  r: Reading,
  probe: KnownProbe,
  run: Run,
  reason: Reason,
): string | undefined {
  if (reason !== "probe_reply" || run.action !== REDIRECT) return "it answers a probe";
  const wanted = new Uint8Array(sent.length - r.link + 14);
  wanted.set(HOST_MAC);
  wanted.set(sent.subarray(r.link - 2), 12);
  const link = 14, shift = r.link - 14, at = r.at - shift;
  const [source, width] = ADDRESSES[probe.family];
  const before = wanted.slice();
  wanted.set(probe.probed, link + source);
  wanted.set(probe.host, link + source + width);
  const hasPorts = r.fragment !== "later";
  if (hasPorts) {
    wanted[at + 2] = probe.hostPort >> 8;
    wanted[at + 3] = probe.hostPort & 0xff;
  }
  const fields: number[] = [];
  if (probe.family === 4) {
    fixSum(before, wanted, link + 10, [[link + 12, link + 20]], 0);
    fields.push(link + 10);
  }
  const field = at + (r.protocol === TCP ? 16 : 6);
  if (hasPorts && (r.protocol === TCP || word(before, field) !== 0)) {
    fixSum(
      before,
      wanted,
      field,
      [[link + source, link + source + 2 * width], [at + 2, at + 4]],
      0,
    );
    fields.push(field);
  }
  for (const each of fields) {
    if (same(word(run.frame, each), word(wanted, each))) {
      wanted.set(run.frame.subarray(each, each + 2), each);
    }
  }
  if (run.frame.length !== wanted.length) return `${run.frame.length} bytes, not ${wanted.length}`;
  const wrong = run.frame.findIndex((byte, i) => byte !== wanted[i]);
  return wrong < 0 ? undefined : `byte ${wrong} is ${run.frame[wrong]}, not ${wanted[wrong]}`;
}

/** Writes into a checksum what follows from a change of words; what was wrong stays wrong by as much. */
function fixSum(
  before: Uint8Array,
  after: Uint8Array,
  field: number,
  ranges: readonly (readonly [number, number])[],
  more: number,
): void {
  const grown = ranges.reduce(
    (total, [from, to]) => total + sum(after, from, to) - sum(before, from, to),
    more,
  );
  const value = (((word(before, field) - grown) % 0xffff) + 0xffff) % 0xffff;
  after[field] = value >> 8;
  after[field + 1] = value & 0xff;
}

/** Of checksums, of which zero has two forms. */
function same(a: number, b: number): boolean {
  return a % 0xffff === b % 0xffff;
}

function untouched(wanted: Reason, sent: Uint8Array, run: Run, reason: Reason): string | undefined {
  if (reason !== wanted || run.action !== PASS) return `it is to be passed as ${wanted}`;
  const changed = run.frame.length !== sent.length ||
    sent.findIndex((byte, i) => byte !== run.frame[i]) >= 0;
  return changed ? "it has changed" : undefined;
}
