/**
 * Probes of this host as a target of fuzzing: what it sends to probe addresses, what answers, and what only looks
 * like it.
 *
 * @module
 */
import { REASONS } from "../../lib/lb/abi.gen.ts";
import { OBJECT } from "../../lib/lb/xvs.gen.ts";
import { bytes, ethernet, filler, fragmentHeader, raw, tcp, udp } from "../packets/build.ts";
import { HASH_KEY } from "../packets/expect.ts";
import { Balancer, IFINDEX, OUTER_SOURCE, PROBE_MAC } from "../packets/harness.ts";
import { HOST, NETWORKS } from "../packets/probe_support.ts";
import { FAMILIES, type Family, icmp, ip, TAGS, VIP } from "../packets/sample.ts";
import { mutate } from "./mutate.ts";
import { type KnownProbe, ProbeOracle } from "./probe_oracle.ts";
import type { Choices } from "./random.ts";
import { Runner } from "./runner.ts";
import {
  asDestination,
  destinationsOfAllKinds,
  MTUS,
  type SceneDestination,
  SPREAD,
} from "./scene.ts";
import type { Target } from "./session.ts";

const FROM_HOST = bytes("\x02\0\0\0\0\x0f");
/** Where the transport header is in a frame without a tag. */
const TRANSPORT = { 4: 34, 6: 54 } as const;
const LONGEST = 3400;
/** So many of the probes sent last may be answered. */
const MEMORY = 64;
const POOL = 256;

/** The programs. */
export class ProbeTarget implements Target {
  readonly age = 0;
  readonly counts: Uint32Array = new Uint32Array(REASONS.length);
  readonly reasons: readonly string[] = REASONS;
  readonly #owned: AsyncDisposableStack;
  readonly #balancer: Balancer;
  readonly #runner: Runner;
  readonly #oracle: ProbeOracle;
  readonly #addresses: Readonly<Record<Family, readonly string[]>>;
  /** Frames made lately: building one costs more than sending it. */
  readonly #pool: { frame: Uint8Array; family: Family }[] = [];

  private constructor(
    balancer: Balancer,
    runner: Runner,
    destinations: ReadonlyMap<string, SceneDestination>,
    owned: AsyncDisposableStack,
  ) {
    this.#balancer = balancer;
    this.#runner = runner;
    const all = [...destinations.keys()];
    this.#addresses = {
      4: all.filter((text) => !text.includes(":")),
      6: all.filter((text) => text.includes(":")),
    };
    this.#oracle = new ProbeOracle(destinations);
    this.#owned = owned;
  }

  static async create(): Promise<ProbeTarget> {
    await using owned = new AsyncDisposableStack();
    const balancer = owned.use(
      await Balancer.create({
        hashKey: HASH_KEY,
        outerSource4: SPREAD[4],
        outerSource6: SPREAD[6],
      }),
    );
    const { client, instance, nextHops } = balancer;
    const byAddress = new Map<string, SceneDestination>();
    for (const family of FAMILIES) {
      const all = destinationsOfAllKinds(family << 8, (i) => ({
        mtu: MTUS[i % 4]!,
        vlan: i % 3 === 1 ? 200 + i : 0,
      }));
      for (const { address, mtu, vlan } of all) nextHops.set(address, { mtu, vlan });
      for (const protocol of ["tcp", "udp"] as const) {
        await client.setService(
          { address: VIP[family], port: 80, protocol },
          ...all.map(asDestination),
        );
      }
      await client.openProbes(NETWORKS);
      for (const d of all) byAddress.set(client.nat(VIP[family], d.address)!, d);
    }
    instance.settings = { ...instance.settings, icmpBudget: 0x7fffffff };
    const share = (name: string) => name === ".rodata" ? undefined : instance.map(name);
    const runner = owned.use(
      await Runner.load(OBJECT, REASONS.length, { manual_clock: 1 }, share),
    );
    return new ProbeTarget(balancer, runner, byAddress, owned.move());
  }

  /** A frame from the host's own MAC comes in where probes do, any other from the network. */
  send(frame: Uint8Array): string | undefined {
    const isProbe = FROM_HOST.every((byte, i) => frame[6 + i] === byte);
    const run = this.#runner.run(isProbe ? "probe" : "xvs", frame, IFINDEX);
    if (run.reason >= 0) this.counts[run.reason]!++;
    return isProbe ? this.#oracle.judgeProbe(frame, run) : this.#oracle.judgeReply(frame, run);
  }

  next(choices: Choices): Uint8Array {
    const { frame, family } = this.#pool.length < POOL || choices.oneIn(10)
      ? this.#build(choices)
      : choices.of(this.#pool);
    if (!choices.oneIn(3)) return frame.subarray(0, LONGEST);
    return mutate(frame.slice(), [14, TRANSPORT[family]], choices).subarray(0, LONGEST);
  }

  #build(choices: Choices): { frame: Uint8Array; family: Family } {
    const known = this.#oracle.known.slice(-MEMORY);
    const probe = known.length > 0 && choices.oneIn(2) ? choices.of(known) : undefined;
    const family = probe?.family ?? choices.of(FAMILIES);
    const frame = probe ? reply(choices, probe) : this.#question(choices, family);
    const made = { frame, family };
    if (this.#pool.length < POOL) this.#pool.push(made);
    else this.#pool[choices.below(POOL)] = made;
    return made;
  }

  change(): Promise<void> {
    return Promise.resolve();
  }

  advance(seconds: number): void {
    this.#balancer.advance(seconds);
  }

  close(): Promise<void> {
    return this.#owned.disposeAsync();
  }

  #question(choices: Choices, family: Family): Uint8Array {
    const ours = this.#addresses[family];
    const nobody = family === 4
      ? ["240.0.0.0", "240.15.255.255", "240.16.0.1"]
      : ["fd78:7673:7072:6f62::", "fd78:7673:7072:6f62::ffff", "fd78:7673:7072:6f62:1::1"];
    const destination = choices.oneIn(10) ? choices.of(nobody) : choices.of(ours);
    const packet = ip(family, {
      source: HOST[family],
      destination,
      ttl: choices.of([64, 64, 1]),
      tos: choices.below(256),
      ...fragment(choices),
    }, transport(choices, family, 32768 + choices.below(256), choices.of([80, 80, 81])));
    return ethernet(
      { destination: PROBE_MAC, source: PROBE_MAC, minimum: choices.below(100) },
      packet,
    );
  }
}

function transport(
  choices: Choices,
  family: Family,
  sourcePort: number,
  destinationPort: number,
): ReturnType<typeof tcp> {
  const payload = filler(choices.oneIn(5) ? choices.below(1500) : choices.below(80));
  const ports = { sourcePort, destinationPort };
  switch (choices.below(10)) {
    case 0:
      return icmp(family, { type: family === 4 ? 8 : 128 }, payload);
    case 1:
      return raw(choices.below(256), payload);
    case 2:
      return udp({ ...ports, checksum: 0 }, payload);
    case 3:
    case 4:
      return udp(ports, payload);
    default:
      return tcp({ ...ports, flags: choices.of([["syn"], ["ack"], ["fin", "ack"]]) }, payload);
  }
}

function fragment(choices: Choices): object {
  if (!choices.oneIn(8)) return {};
  const [offset, more] = choices.of([[0, true], [5, true], [9, false]] as const);
  return {
    v4: { fragmentOffset: offset, moreFragments: more, dontFragment: false, id: choices.below(4) },
    v6: { extensions: [fragmentHeader(offset, more, choices.below(4))] },
  };
}

/** What a server answers to a probe; or something like it. */
function reply(choices: Choices, { family, servicePort, port, protocol }: KnownProbe): Uint8Array {
  const ports = {
    sourcePort: choices.oneIn(20) ? 81 : servicePort,
    destinationPort: choices.oneIn(20) ? port + 1 : port,
  };
  const payload = filler(choices.below(200));
  const packet = ip(family, {
    source: VIP[family],
    destination: OUTER_SOURCE[family],
    ttl: 63,
    ...fragment(choices),
  }, protocol === 6 ? tcp(ports, payload) : udp(ports, payload));
  return ethernet({ tags: choices.of(TAGS), minimum: choices.below(100) }, packet);
}
