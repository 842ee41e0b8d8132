/**
 * The decapsulator as a target of fuzzing.
 *
 * @module
 */
import { BpfMap } from "../../lib/bpf/mod.ts";
import { TUNNEL } from "../../lib/lb/abi.gen.ts";
import { OBJECT } from "../../lib/lb/decap.gen.ts";
import { DECAP_REASONS, PEER_KEY4, PEER_KEY6 } from "../../lib/lb/decap_abi.gen.ts";
import { Address, Prefix } from "../../lib/net/address.ts";
import { IFINDEX } from "../packets/harness.ts";
import { FAMILIES, type Family } from "../packets/sample.ts";
import { DecapOracle, type DecapScene } from "./decap_oracle.ts";
import { Generator } from "./generate.ts";
import { mutate } from "./mutate.ts";
import type { Choices } from "./random.ts";
import { Runner } from "./runner.ts";
import { VIPS } from "./scene.ts";
import type { Target } from "./session.ts";
import { Writer } from "./writer.ts";

const SCENE: DecapScene = {
  peers: ["10.1.0.0/28", "fd00:1::/124"],
  vips: [...VIPS[4], ...VIPS[6]],
  addresses: ["10.1.0.10", "fd00:1::10"],
  udp: { 5555: "fou", 6080: "gue" },
};
const SOURCES = {
  4: ["10.1.0.1", "10.1.0.15", "10.1.0.16"],
  6: ["fd00:1::1", "fd00:1::10"],
} as const;
const HOSTS = {
  4: ["10.1.0.10", "10.1.0.10", "10.1.0.11"],
  6: ["fd00:1::10", "fd00:1::11"],
} as const;
const ETHER_TYPE = { 4: 0x0800, 6: 0x86dd } as const;
const LONGEST = 3400;

/** Makes what a peer might send. */
class TunnelGenerator {
  readonly #inner = new Generator();
  readonly #writer = new Writer(12_000);

  next(choices: Choices): Uint8Array {
    const w = this.#writer;
    w.reset();
    const outer = choices.of(FAMILIES);
    w.zeros(12);
    for (let tags = choices.of([0, 0, 0, 1, 2, 3]); tags > 0; tags--) {
      w.u16(choices.of([0x8100, 0x88a8]));
      w.u16(choices.below(65536));
    }
    w.u16(choices.oneIn(100) ? choices.below(65536) : ETHER_TYPE[outer]);
    this.#packet(choices, outer);
    if (choices.oneIn(4)) w.filler(choices.below(40), choices.below(256));
    const frame = w.bytes();
    const wild = choices.oneIn(3) ? mutate(frame, w.marks, choices) : frame;
    return wild.subarray(0, LONGEST);
  }

  #packet(choices: Choices, family: Family): void {
    const w = this.#writer;
    // What is within begins behind the link header of a frame for the balancer.
    const whole = this.#inner.next(choices);
    const inner = whole.subarray(14, choices.oneIn(3) ? undefined : 200);
    const first = (inner[0] ?? 0) >> 4;
    const within: Family = choices.oneIn(30) ? choices.of(FAMILIES) : first === 6 ? 6 : 4;
    const kind = choices.of(["ipip", "gre", "fou", "gue", "gue"] as const);
    const plain = within === 4 ? 4 : 41;
    const protocol = choices.oneIn(40)
      ? choices.below(256)
      : { ipip: plain, gre: 47, fou: 17, gue: 17 }[kind];
    const start = w.mark();
    this.#outer(choices, family, protocol);
    const payload = w.mark();
    if (kind === "gre") {
      w.u16(choices.oneIn(20) ? choices.below(65536) : 0);
      w.u16(choices.oneIn(20) ? choices.below(65536) : ETHER_TYPE[within]);
    } else if (kind !== "ipip") {
      w.u16(0xc123);
      w.u16(choices.oneIn(20) ? choices.below(65536) : kind === "fou" ? 5555 : 6080);
      w.zeros(4);
      if (kind === "gue" && choices.oneIn(2)) {
        w.u8(choices.oneIn(20) ? choices.below(256) : 0);
        w.u8(choices.oneIn(20) ? choices.below(256) : plain);
        w.u16(choices.oneIn(20) ? choices.below(65536) : 0);
      }
    }
    w.mark();
    w.put(inner);
    if (kind === "fou" || kind === "gue") w.put16(payload + 4, w.length - payload);
    if (family === 6) w.put16(start + 4, w.length - start - 40);
    else w.put16(start + 2, w.length - start);
  }

  #outer(choices: Choices, family: Family, protocol: number): void {
    const w = this.#writer;
    const ends = [choices.of<string>(SOURCES[family]), choices.of<string>(HOSTS[family])];
    const fragment = choices.oneIn(12);
    if (family === 4) {
      const options = choices.oneIn(8) ? choices.below(11) : 0;
      w.u8(0x45 + options);
      w.u8(choices.below(4));
      w.zeros(4);
      w.u16(fragment ? choices.of([0x2000, 1, 0x2010, 0x8000]) : 0x4000);
      w.u8(64);
      w.u8(choices.oneIn(50) ? 60 : protocol); // which means nothing behind IPv4
      w.zeros(2);
      for (const end of ends) w.put(Address.parse(end).bytes);
      w.filler(options * 4, 1);
      if (w.at(w.length - options * 4 - 11) !== 60) return;
      w.u8(protocol);
      w.zeros(7);
      return;
    }
    const stack = choices.oneIn(6) ? choices.of([[60], [60, 60], [0], [43]]) : [];
    const chain = fragment ? [...stack, 44] : stack;
    w.u16(0x6000 | (choices.below(4) << 4));
    w.zeros(4);
    w.u8(chain[0] ?? protocol);
    w.u8(64);
    for (const end of ends) w.put(Address.parse(end).bytes);
    chain.forEach((header, i) => {
      w.mark();
      w.u8(chain[i + 1] ?? protocol);
      if (header === 44) {
        w.u8(0);
        w.u16(choices.of([0, 1, 8, 0xfff9]));
        w.zeros(4);
      } else {
        const words = choices.below(3);
        w.u8(words);
        w.zeros(6 + 8 * words);
      }
    });
  }
}

/** The decapsulator. */
export class DecapTarget implements Target {
  readonly age = 0;
  readonly counts: Uint32Array = new Uint32Array(DECAP_REASONS.length);
  readonly reasons: readonly string[] = DECAP_REASONS;
  readonly #owned: AsyncDisposableStack;
  readonly #runner: Runner;
  readonly #oracle = new DecapOracle(SCENE);
  readonly #generator = new TunnelGenerator();

  private constructor(runner: Runner, owned: AsyncDisposableStack) {
    this.#runner = runner;
    this.#owned = owned;
  }

  static async create(): Promise<DecapTarget> {
    await using owned = new AsyncDisposableStack();
    const maps = new Map<string, BpfMap>();
    for (const [name, entries] of Object.entries(tables())) {
      const trie = name.startsWith("peers");
      const map = owned.use(BpfMap.create({
        type: trie ? "lpm_trie" : "hash",
        keySize: entries[0]![0].length,
        valueSize: 1,
        maxEntries: entries.length,
        flags: ["no_prealloc"],
      }));
      for (const [key, value] of entries) map.update(key, Uint8Array.of(value));
      maps.set(name, map);
    }
    const share = (name: string) => maps.get(name);
    const variables = { only_addresses: 1 };
    const runner = await Runner.load(OBJECT, DECAP_REASONS.length, variables, share);
    owned.use(runner);
    return new DecapTarget(runner, owned.move());
  }

  send(frame: Uint8Array): string | undefined {
    const run = this.#runner.run("decap", frame, IFINDEX);
    if (run.reason >= 0) this.counts[run.reason]!++;
    return this.#oracle.judge(frame, run);
  }

  next(choices: Choices): Uint8Array {
    return this.#generator.next(choices);
  }

  change(): Promise<void> {
    return Promise.resolve();
  }

  advance(): void {}

  close(): Promise<void> {
    return this.#owned.disposeAsync();
  }
}

/** What the maps of `bpf/decap_maps.h` hold. */
function tables(): Record<string, [key: Uint8Array, value: number][]> {
  const tables: Record<string, [Uint8Array, number][]> = {};
  const add = (name: string, key: Uint8Array, value = 1) =>
    (tables[name] ??= []).push([key, value]);
  for (const peer of SCENE.peers) {
    const { family, length, network: { bytes: address } } = Prefix.parse(peer);
    add(`peers${family}`, (family === 4 ? PEER_KEY4 : PEER_KEY6).encode({ length, address }));
  }
  for (const set of ["vips", "addresses"] as const) {
    for (const text of SCENE[set]) {
      const { family, bytes } = Address.parse(text);
      add(`${set}${family}`, bytes);
    }
  }
  for (const [port, kind] of Object.entries(SCENE.udp)) {
    const key = Uint8Array.of(Number(port) >> 8, Number(port) & 0xff);
    add("udp_tunnels", key, kind === "fou" ? TUNNEL.FOU : TUNNEL.GUE);
  }
  return tables;
}
