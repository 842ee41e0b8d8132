/**
 * Runs programs on packets of many flows, in the kernel: see `bpf/bench.bpf.c`.
 *
 * @module
 */
import { BpfObject, type BpfProgram, Btf, elfOf, u32 } from "../lib/bpf/mod.ts";
import type { Instance } from "../lib/lb/instance.ts";
import { Address } from "../lib/net/address.ts";
import { OBJECT } from "./bench.gen.ts";

/** What packets are like. */
export interface Traffic {
  vip: string;
  port: number;
  /** Bytes of the frame. */
  length: number;
  /** A power of two. */
  flows: number;
  /** TCP flags; 0x10 is ACK, 0x02 SYN. */
  flags: number;
}

const XDP_TX = 3;
const ETHERNET = 14;
const TCP = 6;
const WORDS = { 4: [0, 6, 14, 22, 30, 38, 46], 6: [0, 6, 14, 22, 30, 38, 46, 54, 62, 70] } as const;
/** Maps that floor_ring shares with the balancer. */
const SHARED = ["services4", "rings", "destinations", "reason_counters", "service_counters"];

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

/** A frame whose checksums, source port and last bytes of the source address are zero. */
function template({ vip, port, length, flags }: Traffic): { frame: Uint8Array; transport: number } {
  const address = Address.parse(vip);
  const frame = new Uint8Array(length);
  const view = new DataView(frame.buffer);
  frame.set([2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2]);
  const transport = ETHERNET + (address.family === 4 ? 20 : 40);
  if (address.family === 4) {
    view.setUint16(12, 0x0800);
    view.setUint8(14, 0x45);
    view.setUint16(16, length - ETHERNET);
    view.setUint8(22, 64);
    view.setUint8(23, TCP);
    frame.set([198, 51], 26);
    frame.set(address.bytes, 30);
  } else {
    view.setUint16(12, 0x86dd);
    view.setUint8(14, 0x60);
    view.setUint16(18, length - transport);
    view.setUint8(20, TCP);
    view.setUint8(21, 64);
    frame.set(Address.parse("2001:db8:1::").bytes, 22);
    frame.set(address.bytes, 38);
  }
  view.setUint16(transport + 2, port);
  view.setUint8(transport + 12, 0x50);
  view.setUint8(transport + 13, flags);
  return { frame, transport };
}

/** The wrapper, the floors, and programs to compare with them. */
export class Runner implements Disposable {
  readonly #object: BpfObject;
  readonly #offsets: Map<string, number>;

  private constructor(object: BpfObject, offsets: Map<string, number>) {
    this.#object = object;
    this.#offsets = offsets;
  }

  /** `instance` is what floor_ring reads its tables from. */
  static async create(instance: Instance): Promise<Runner> {
    const elf = await elfOf(OBJECT);
    using stack = new DisposableStack();
    const object = stack.use(BpfObject.open(elf, { name: "bench" }));
    for (const name of [...SHARED, "destination_counters"]) {
      object.reuseMap(name, instance.map(name));
    }
    object.load();
    const { members } = Btf.fromElf(elf).struct("bench");
    const offsets = new Map(members.map(({ name, offsetBits }) => [name, offsetBits / 8]));
    stack.move();
    return new Runner(object, offsets);
  }

  /** floor_tx, floor_encap or floor_ring. */
  floor(name: string): BpfProgram {
    return this.#object.program(name);
  }

  /**
   * Nanoseconds a packet, the wrapper's own included.
   *
   * @param growth how many bytes longer the program makes each frame
   * @throws {Error} when the program did something else with one
   */
  run(program: BpfProgram, traffic: Traffic, growth: number, repeat: number): number {
    this.#object.map("target").update(u32(0), u32(program.fd));
    const { frame, transport } = template(traffic);
    const family = Address.parse(traffic.vip).family;
    const bench = this.#object.variable("bench");
    const view = new DataView(bench.buffer, bench.byteOffset, bench.byteLength);
    const at = (name: string) => this.#offsets.get(name)!;
    bench.fill(0);
    const padded = new Uint8Array(Math.max(128, frame.length));
    padded.set(frame);
    const words = new DataView(padded.buffer);
    WORDS[family].forEach((offset, i) =>
      view.setBigUint64(at("words") + 8 * i, words.getBigUint64(offset, true), true)
    );
    const segment = frame.subarray(transport);
    const pseudo = new Uint8Array(4);
    new DataView(pseudo.buffer).setUint16(0, TCP);
    new DataView(pseudo.buffer).setUint16(2, segment.length);
    const addresses = frame.subarray(family === 4 ? 26 : 22, transport);
    view.setUint32(at("length"), frame.length, true);
    view.setInt32(at("growth"), growth, true);
    view.setUint32(at("ip_sum"), sum(frame.subarray(ETHERNET, transport)), true);
    view.setUint32(at("transport_sum"), fold(sum(addresses) + sum(pseudo) + sum(segment)), true);
    view.setUint32(at("flows"), traffic.flows, true);
    bench.set(frame.subarray(0, 34), at("outer"));
    const { retval, durationNs } = this.#object.program(`wrap${family}`)
      .testRun({ data: frame, repeat, sizeOut: frame.length + 256 });
    const [wrong, failed] = ["wrong", "failed"].map((name) => view.getBigUint64(at(name), true));
    // The first run, and a run after one that was interrupted, find a frame that has not grown.
    if (retval !== XDP_TX || failed !== 0n || wrong! > BigInt(repeat / 100 + 2)) {
      throw new Error(`"${program.name}" did not send: verdict ${retval}, ${wrong} frames wrong`);
    }
    return durationNs;
  }

  [Symbol.dispose](): void {
    this.#object.close();
  }
}
