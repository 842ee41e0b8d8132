/**
 * Judges what the balancer did with a packet, from the packet, from how the balancer is set up and from nothing
 * else.
 *
 * @module
 */
import { type Reason, REASONS } from "../../lib/lb/abi.gen.ts";
import { Address, Prefix } from "../../lib/net/address.ts";
import type { Family } from "../packets/sample.ts";
import { checkEcho, checkError, type Due, EXPIRED, NO_PORT } from "./answered.ts";
import { checkForwarded, fits, overhead } from "./forwarded.ts";
import { Reader, type Reading } from "./read.ts";
import type { Run } from "./runner.ts";
import { BLOCKED, mtuOf, type Scene, type SceneDestination, type SceneService } from "./scene.ts";
import { takesFlows, VIPS } from "./scene.ts";

const ACTION = { drop: 1, pass: 2, tx: 3, redirect: 4 } as const;
const ACTIONS = ["aborted", "drop", "pass", "tx", "redirect"];
const ECHO = { 4: 8, 6: 128 } as const;
/** RFC 792, RFC 4443. */
const ERRORS = { 4: [3, 11, 12], 6: [1, 2, 3, 4] } as const;
const PROTOCOL = { tcp: 6, udp: 17, icmp: 1 } as const;
const SYN = 0x02, ACK = 0x10;
/** So many fragments later, the program may have forgotten a datagram. */
const MEMORY = 1000;

/** Which destination a datagram was for is not seen where its first fragment was too big. */
const ANYBODY = -1;
/** It is a ping, answered part by part. */
const PING = -2;

/** What every IPv6 network carries. */
const IPV6_LEAST = 1280;

/** A datagram whose first fragment was seen. */
interface Datagram {
  mac: number;
  /** When. */
  count: number;
  age: number;
}

/** The oracle. It remembers nothing but fragments. */
export class Oracle {
  readonly #scene: Scene;
  readonly #reader = new Reader([...VIPS[4], ...VIPS[6]]);
  readonly #services = new Map<string, SceneService>();
  readonly #blocked = { 4: Prefix.parse(BLOCKED[4]), 6: Prefix.parse(BLOCKED[6]) };
  readonly #datagrams = new Map<string, Datagram>();
  #fragments = 0;

  constructor(scene: Scene) {
    this.#scene = scene;
    for (const service of scene.services) {
      this.#services.set(`${service.vip} ${service.port} ${PROTOCOL[service.protocol]}`, service);
    }
  }

  /** What is wrong with what became of a frame; undefined: nothing. */
  judge(sent: Uint8Array, run: Run): string | undefined {
    const reason = REASONS[run.reason];
    if (!reason) return "it was not counted under exactly one reason";
    const r = this.#reader.read(sent);
    const complaint = this.#judge(sent, r, run, reason);
    if (complaint) return `${reason}, ${ACTIONS[run.action]}: ${complaint}`;
    const octets = r.family === 0 ? sent.length : r.length;
    if (run.octets !== octets) return `${reason}: ${run.octets} octets were counted, not ${octets}`;
    return undefined;
  }

  #judge(sent: Uint8Array, r: Reading, run: Run, reason: Reason): string | undefined {
    if (r.family === 0) return untouched("not_ip", sent, run, reason);
    if (this.#scene.silent) return untouched("watchdog", sent, run, reason);
    if (r.vip === "") return untouched("not_a_vip", sent, run, reason);
    if (this.#isBlocked(sent, r, r.family)) return dropped("err_denied", run, reason);
    if (r.flaw) return dropped(r.flaw, run, reason);
    if (r.fragment === "later") return this.#judgeLater(sent, r, run, reason);
    if (r.protocol === PROTOCOL.tcp || r.protocol === PROTOCOL.udp) {
      const service = this.#find(r.vip, r.servicePort, r.protocol);
      if (!service) return this.#judgeUnknownPort(sent, r, r.family, run, reason);
      return this.#judgeService(sent, r, service, run, reason, "forwarded");
    }
    return this.#judgeIcmp(sent, r, r.family, run, reason);
  }

  #isBlocked(sent: Uint8Array, r: Reading, family: Family): boolean {
    if (!this.#scene.blocked) return false;
    const [start, size] = family === 4 ? [r.link + 12, 4] : [r.link + 8, 16];
    const source = sent.slice(start, start + size);
    // An IPv4-mapped IPv6 address is none of the blocked ones.
    const address = Address.fromBytes(source);
    return address.family === family && this.#blocked[family].contains(address);
  }

  #find(vip: string, port: number, protocol: number): SceneService | undefined {
    return this.#services.get(`${vip} ${port} ${protocol}`) ??
      this.#services.get(`${vip} 0 ${protocol}`);
  }

  #judgeIcmp(
    sent: Uint8Array,
    r: Reading,
    family: Family,
    run: Run,
    reason: Reason,
  ): string | undefined {
    if (r.type === ECHO[family] && r.code === 0) {
      return this.#judgeEcho(sent, r, run, reason);
    }
    if (!(ERRORS[family] as readonly number[]).includes(r.type)) {
      return dropped("err_icmp_unsupported", run, reason);
    }
    const quoted = this.#reader.quoted(sent, r);
    const service = quoted && this.#find(r.vip, quoted.servicePort, quoted.protocol);
    if (!service) return dropped("err_icmp_unrelated", run, reason);
    return this.#judgeService(sent, r, service, run, reason, "icmp_error");
  }

  /** A ping, or a part of one. */
  #judgeEcho(sent: Uint8Array, r: Reading, run: Run, reason: Reason): string | undefined {
    if (!r.answerable) return dropped("err_malformed", run, reason);
    if (this.#wasSpared(run, reason)) return undefined;
    if (reason !== "icmp_echo_request" || run.action !== ACTION.tx) return "it is a ping";
    this.#note(r, PING);
    return checkEcho(sent, r, run.frame);
  }

  #judgeUnknownPort(
    sent: Uint8Array,
    r: Reading,
    family: Family,
    run: Run,
    reason: Reason,
  ): string | undefined {
    const policy = this.#scene.unknownPorts.get(r.vip) ?? this.#scene.unknownPort;
    if (policy !== "pass" && r.ttl <= 1) {
      return this.#judgeExpired(sent, r, family, run, reason, this.#scene.expired);
    }
    switch (policy) {
      case "pass":
        return untouched("err_service_not_found", sent, run, reason);
      case "drop":
        return dropped("err_service_not_found", run, reason);
      case "reject":
        return this.#answered("err_service_not_found", sent, r, run, reason, NO_PORT[family]);
    }
  }

  /** A packet of a flow of a service, or an error about one. */
  #judgeService(
    sent: Uint8Array,
    r: Reading,
    service: SceneService,
    run: Run,
    reason: Reason,
    good: Reason,
  ): string | undefined {
    const isError = good === "icmp_error";
    if (r.ttl <= 1) {
      const policy = service.expired === "default" ? this.#scene.expired : service.expired;
      const family = service.family;
      return this.#judgeExpired(sent, r, family, run, reason, isError ? "drop" : policy);
    }
    const all = [...service.destinations.values()];
    if (reason === "err_no_backend") {
      return all.some(takesFlows) ? "there is somebody" : dropped(reason, run, reason);
    }
    if (reason !== good) {
      this.#note(r, ANYBODY);
      const { fragmentable } = service;
      const policy = fragmentable === "default" ? this.#scene.fragmentable : fragmentable;
      return this.#judgeTooBig(sent, r, all, run, reason, isError ? "silent" : policy);
    }
    const d = service.destinations.get(macNumber(run.frame));
    if (!d) return `it went to ${run.frame.slice(0, 6).toHex()}, which is none of the service's`;
    const isSyn = !isError && r.protocol === PROTOCOL.tcp && (r.tcpFlags & (SYN | ACK)) === SYN;
    if (isSyn && !takesFlows(d)) return `a new flow went to ${d.address}, which takes none`;
    this.#note(r, macNumber(d.mac));
    return this.#checkSent(sent, r, run, d);
  }

  #checkSent(
    sent: Uint8Array,
    r: Reading,
    run: Run,
    d: SceneDestination,
  ): string | undefined {
    const action = d.away ? "redirect" : "tx";
    if (run.action !== ACTION[action]) return `towards ${d.address} the action is ${action}`;
    if (!d.resolved) return `nobody knows the way to ${d.address}`;
    if (!fits(r.length, d)) {
      return `${r.length} bytes do not fit on the way to ${d.address}`;
    }
    const complaint = checkForwarded(sent, r, run.frame, d);
    return complaint && `towards ${d.address} by ${d.tunnel}: ${complaint}`;
  }

  #judgeExpired(
    sent: Uint8Array,
    r: Reading,
    family: Family,
    run: Run,
    reason: Reason,
    policy: "drop" | "reject",
  ): string | undefined {
    return policy === "reject"
      ? this.#answered("err_expired", sent, r, run, reason, EXPIRED[family])
      : dropped("err_expired", run, reason);
  }

  /** It is too big, and for whom is not said; but the answer gives the room that one of them has. */
  #judgeTooBig(
    sent: Uint8Array,
    r: Reading,
    all: readonly SceneDestination[],
    run: Run,
    reason: Reason,
    policy: "drop" | "reject" | "silent",
  ): string | undefined {
    const rooms = all
      .filter((d) => d.resolved && !fits(r.length, d))
      .map((d) => mtuOf(d) - overhead(d));
    if (rooms.length === 0) return "everybody can take it";
    if (policy === "silent" || !r.answerable) return dropped("too_big", run, reason);
    const family = r.family || 4;
    const fragmentable = family === 4 && (sent[r.link + 6]! & 0x40) === 0;
    if (fragmentable && policy === "drop") return dropped("too_big_fragmentable", run, reason);
    const wanted = fragmentable ? "too_big_fragmentable" : "too_big";
    const [type, code] = family === 4 ? [3, 4] : [2, 0];
    const complaints = [...new Set(rooms)].map((room) => {
      const rest = family === 6 ? Math.max(room, IPV6_LEAST) : room;
      // Who must be able to send so much would not send less: RFC 8201.
      return family === 6 && rest > room && r.length <= rest
        ? dropped(wanted, run, reason)
        : this.#answered(wanted, sent, r, run, reason, { type, code, rest });
    });
    return complaints.includes(undefined) ? undefined : complaints[0];
  }

  #judgeLater(sent: Uint8Array, r: Reading, run: Run, reason: Reason): string | undefined {
    this.#fragments++;
    const known = this.#datagrams.get(r.datagram);
    const fresh = known && known.age === this.#scene.age && this.#fragments - known.count < MEMORY;
    if (reason === "err_fragmented" && !fresh) return dropped(reason, run, reason);
    if (!known && reason !== "too_big" && reason !== "err_expired") {
      return "its first one was not seen";
    }
    const isAnswer = ["icmp_echo_request", "icmp_limited", "err_malformed"].includes(reason);
    if (known && (known.mac === PING ? fresh || isAnswer : isAnswer && !fresh)) {
      return this.#judgeEcho(sent, r, run, reason);
    }
    if (r.ttl <= 1) return dropped("err_expired", run, reason);
    const ofVip = this.#scene.services.filter(({ vip }) => vip === r.vip);
    if (reason === "too_big") {
      return this.#judgeTooBig(
        sent,
        r,
        ofVip.flatMap(({ destinations }) => [...destinations.values()]),
        run,
        reason,
        "silent",
      );
    }
    if (reason !== "forwarded") return "its first one was forwarded";
    const mac = macNumber(run.frame);
    const d = ofVip.map(({ destinations }) => destinations.get(mac)).find((each) => each);
    if (!d) return `it went to ${run.frame.slice(0, 6).toHex()}, which is none of the VIP's`;
    if (fresh && known.mac !== ANYBODY && known.mac !== mac) {
      return `it went to ${d.address}, its first one elsewhere`;
    }
    return this.#checkSent(sent, r, run, d);
  }

  /** Takes note of the first fragment of a datagram. */
  #note(r: Reading, mac: number): void {
    if (r.fragment !== "first") return;
    this.#fragments++;
    this.#datagrams.set(r.datagram, { mac, count: this.#fragments, age: this.#scene.age });
    if (this.#datagrams.size > 100_000) this.#datagrams.clear();
  }

  #answered(
    wanted: Reason,
    sent: Uint8Array,
    r: Reading,
    run: Run,
    reason: Reason,
    due: Due,
  ): string | undefined {
    if (!r.answerable) return dropped(wanted, run, reason);
    if (this.#wasSpared(run, reason)) return undefined;
    if (reason !== wanted || run.action !== ACTION.tx) return `it is to be answered as ${wanted}`;
    return checkError(sent, r, run.frame, due);
  }

  /** Whether an answer was left out because there were too many. */
  #wasSpared(run: Run, reason: Reason): boolean {
    return this.#scene.frugal && reason === "icmp_limited" && run.action === ACTION.drop;
  }
}

/** What destinations are told apart by. */
function macNumber(bytes: Uint8Array): number {
  return (bytes[4]! << 8) | bytes[5]!;
}

function dropped(wanted: Reason, run: Run, reason: Reason): string | undefined {
  return reason === wanted && run.action === ACTION.drop
    ? undefined
    : `it is to be dropped as ${wanted}`;
}

function untouched(wanted: Reason, sent: Uint8Array, run: Run, reason: Reason): string | undefined {
  if (reason !== wanted || run.action !== ACTION.pass) return `it is to be passed as ${wanted}`;
  if (run.frame.length !== sent.length) return `its length has become ${run.frame.length}`;
  const at = sent.findIndex((byte, i) => byte !== run.frame[i]);
  return at < 0 ? undefined : `byte ${at} has changed`;
}
