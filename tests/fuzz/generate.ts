/**
 * Frames that the balancer may meet: all that is right, and all that can be wrong.
 *
 * @module
 */
import { Address, Mac } from "../../lib/net/address.ts";
import { BALANCER_MAC, ROUTER_MAC } from "../packets/build.ts";
import { FAMILIES, type Family } from "../packets/sample.ts";
import { mutate } from "./mutate.ts";
import type { Choices } from "./random.ts";
import { MTUS, VIPS } from "./scene.ts";
import { Writer } from "./writer.ts";

const bytesOf = (text: string): Uint8Array => Address.parse(text).bytes;
const OURS = Mac.parse(BALANCER_MAC).bytes;
const ROUTER = Mac.parse(ROUTER_MAC).bytes;
const VIP_BYTES = { 4: VIPS[4].map(bytesOf), 6: VIPS[6].map(bytesOf) } as const;
/** Neighbours of the VIPs, hosts, groups, nobody. */
const OTHERS = {
  4: ["192.0.2.0", "192.0.2.4", "10.0.0.1", "224.0.0.5", "255.255.255.255", "0.0.0.0"].map(bytesOf),
  6: ["2001:db8::", "2001:db8::4", "fd00::1", "ff02::1:ff00:1", "fe80::1", "::"].map(bytesOf),
} as const;
/** Senders that no host can be. */
const NOBODY = {
  4: ["0.0.0.0", "255.255.255.255", "224.0.0.1", "127.0.0.1"].map(bytesOf),
  6: ["::", "ff02::1", "::1"].map(bytesOf),
} as const;
const CLIENTS = { 4: bytesOf("198.51.100.0"), 6: bytesOf("2001:db8:1::") } as const;
const PORTS = [80, 53, 443, 0, 1, 65535];
const TYPES = { 4: [8, 8, 3, 3, 11, 12, 0, 5, 13], 6: [128, 128, 1, 2, 3, 4, 129, 135, 0] };
const ERROR_TYPES = { 4: [3, 11, 12], 6: [1, 2, 3, 4] };
const EXTENSIONS = [0, 43, 44, 60];
const OVERHEADS = [0, 20, 24, 28, 32, 40, 44, 48, 52];
/** What test runs of the kernel take without a second buffer. */
const LONGEST = 3400;

/** Makes one frame after another. */
export class Generator {
  readonly #writer = new Writer(9000);

  /** The next frame: a view that the one after it overwrites. */
  next(choices: Choices): Uint8Array {
    const w = this.#writer;
    w.reset();
    if (choices.oneIn(50)) {
      this.#noise(choices);
    } else {
      this.#frame(choices);
    }
    const frame = w.bytes();
    const wild = choices.oneIn(3) ? mutate(frame, w.marks, choices) : frame;
    return wild.subarray(0, LONGEST);
  }

  /** Bytes of no meaning behind an Ethernet header that may have one. */
  #noise(choices: Choices): void {
    const w = this.#writer;
    w.put(OURS);
    w.put(ROUTER);
    w.u16(choices.of([0x0800, 0x86dd, 0x8100, 0x0806, 0x88a8, choices.below(65536)]));
    for (let left = choices.below(300); left > 0; left--) w.u8(choices.below(256));
  }

  #frame(choices: Choices): void {
    const w = this.#writer;
    const family = choices.of(FAMILIES);
    w.put(choices.oneIn(100) ? Uint8Array.of(255, 255, 255, 255, 255, 255) : OURS);
    w.put(ROUTER);
    const tags = choices.oneIn(3) ? choices.of([1, 1, 1, 2, 2, 3, 5]) : 0;
    for (let i = 0; i < tags; i++) {
      w.u16(choices.of([0x8100, 0x8100, 0x88a8]));
      w.u16(choices.below(65536));
    }
    w.u16(choices.oneIn(200) ? choices.below(65536) : family === 4 ? 0x0800 : 0x86dd);
    const length = this.#ip(choices, family);
    if (choices.oneIn(4)) w.filler(choices.below(64), choices.below(256));
    if (choices.oneIn(3)) w.zeros(Math.max(0, 60 - length));
  }

  /** The length of the payload: small, near a limit, or any. */
  #size(choices: Choices, headers: number): number {
    const kind = choices.below(20);
    if (kind < 11) return choices.below(131);
    if (kind < 17) {
      return Math.max(
        0,
        choices.of(MTUS) - choices.of(OVERHEADS) - headers + choices.between(-2, 2),
      );
    }
    if (kind < 19) return Math.max(0, 504 - headers + choices.between(-2, 2));
    return choices.below(LONGEST - 200);
  }

  #ip(choices: Choices, family: Family): number {
    const w = this.#writer;
    const start = w.mark();
    const fragment = choices.oneIn(8)
      ? choices.of(["first", "later", "atomic"] as const)
      : undefined;
    // Fragments of few datagrams, so that they find each other.
    const clients = fragment ? 2 : 256;
    const source = choices.oneIn(200)
      ? choices.of(NOBODY[family])
      : client(choices, family, clients);
    const destination = choices.oneIn(10)
      ? choices.of(OTHERS[family])
      : choices.of(VIP_BYTES[family]);
    const ttl = choices.of([61, 61, 61, 64, 255, 2, 2, 1, 0]);
    const icmp = family === 4 ? 1 : 58;
    const protocol = choices.oneIn(40)
      ? choices.below(256)
      : choices.of([6, 6, 6, 17, 17, icmp, icmp]);
    if (family === 4) this.#ipv4(choices, source, destination, ttl, protocol, fragment);
    else this.#ipv6(choices, source, destination, ttl, protocol, fragment);
    if (fragment === "later") w.filler(this.#size(choices, 48), choices.below(256));
    else this.#transport(choices, family, protocol, source, destination);
    finish(w, start, family);
    return w.length - start;
  }

  #ipv4(
    choices: Choices,
    source: Uint8Array,
    destination: Uint8Array,
    ttl: number,
    protocol: number,
    fragment: "first" | "later" | "atomic" | undefined,
  ): void {
    const w = this.#writer;
    const options = choices.oneIn(8) ? choices.below(11) : 0;
    w.u8(0x45 + options);
    w.u8(choices.below(256));
    w.u16(0);
    w.u16(fragment ? choices.below(8) : choices.below(65536));
    const place = choices.of([1, 5, 100, 0x1000, 0x1fff]) | (choices.oneIn(2) ? 0x2000 : 0);
    const flags = choices.of([0x4000, 0x4000, 0]);
    w.u16(fragment === "later" ? place : fragment === "first" ? 0x2000 : flags);
    w.u8(ttl);
    w.u8(protocol);
    w.u16(0);
    w.put(source);
    w.put(destination);
    w.mark();
    for (let i = 0; i < options * 4; i++) w.u8(choices.of([0, 1, 7, 68, 131, 255]));
  }

  #ipv6(
    choices: Choices,
    source: Uint8Array,
    destination: Uint8Array,
    ttl: number,
    protocol: number,
    fragment: "first" | "later" | "atomic" | undefined,
  ): void {
    const w = this.#writer;
    const stack = choices.oneIn(8)
      ? Array.from({ length: choices.between(1, 8) }, () => choices.of(EXTENSIONS))
      : [];
    if (fragment) stack.splice(choices.below(stack.length + 1), 0, 44);
    w.u16(0x6000 | choices.below(4096));
    w.u16(choices.below(65536));
    w.u16(0);
    w.u8(stack[0] ?? protocol);
    w.u8(ttl);
    w.put(source);
    w.put(destination);
    stack.forEach((kind, i) => {
      w.mark();
      w.u8(stack[i + 1] ?? protocol);
      if (kind === 44) {
        w.u8(0);
        const later = (choices.of([1, 5, 0x1fff]) << 3) | choices.below(2);
        w.u16(fragment === "later" ? later : fragment === "first" ? 1 : 0);
        w.u16(0);
        w.u16(choices.below(8));
      } else {
        const words = choices.oneIn(20) ? choices.below(256) : choices.below(3);
        w.u8(words);
        w.filler(6 + (words > 40 && choices.oneIn(2) ? choices.below(20) : words * 8), 1);
      }
    });
  }

  #transport(
    choices: Choices,
    family: Family,
    protocol: number,
    source: Uint8Array,
    destination: Uint8Array,
  ): void {
    const w = this.#writer;
    const start = w.mark();
    let field = -1;
    if (protocol === 6) field = this.#tcp(choices);
    else if (protocol === 17) field = this.#udp(choices);
    else if (protocol === 1 || protocol === 58) {
      field = this.#icmp(choices, family, source, destination);
    } else w.filler(this.#size(choices, 40), choices.below(256));
    if (field < 0) return;
    if (protocol === 17) {
      w.put16(start + 4, choices.oneIn(30) ? choices.below(200) : w.length - start);
      if (choices.oneIn(6)) return; // without a checksum
    }
    if (choices.oneIn(12)) return w.put16(field, choices.below(65536));
    const pseudo = protocol === 1 ? undefined : [source, destination];
    w.checksum(field, start, pseudo, protocol);
  }

  #tcp(choices: Choices): number {
    const w = this.#writer, start = w.length;
    const words = choices.oneIn(4) ? choices.between(5, 15) : 5;
    w.u16(1024 + choices.below(512));
    w.u16(choices.oneIn(4) ? choices.of([...PORTS, choices.below(65536)]) : choices.of([80, 443]));
    w.filler(8, choices.below(256));
    w.u8(((choices.oneIn(50) ? choices.below(16) : words) << 4) | (choices.oneIn(9) ? 15 : 0));
    w.u8(choices.of([0x10, 0x10, 0x18, 0x02, 0x12, 0x11, 0x14, 0x04, choices.below(256)]));
    w.u16(512);
    w.zeros(4);
    w.filler((words - 5) * 4, 1);
    w.mark();
    w.filler(this.#size(choices, 20 + words * 4), choices.below(256));
    return start + 16;
  }

  #udp(choices: Choices): number {
    const w = this.#writer, start = w.length;
    w.u16(1024 + choices.below(512));
    w.u16(choices.oneIn(4) ? choices.of([...PORTS, choices.below(65536)]) : choices.of([53, 443]));
    w.zeros(4);
    w.mark();
    w.filler(this.#size(choices, 28), choices.below(256));
    return start + 6;
  }

  #icmp(
    choices: Choices,
    family: Family,
    source: Uint8Array,
    destination: Uint8Array,
  ): number {
    const w = this.#writer, start = w.length;
    const type = choices.of(TYPES[family]);
    w.u8(type);
    w.u8(choices.oneIn(8) ? choices.below(16) : 0);
    w.zeros(2);
    w.u16(choices.below(65536));
    w.u16(choices.of([1, 1280, 1500, choices.below(65536)]));
    w.mark();
    if (ERROR_TYPES[family].includes(type)) this.#quote(choices, family, source, destination);
    else w.filler(this.#size(choices, 48), choices.below(256));
    return start + 2;
  }

  /** What an error is about: mostly a packet that the VIP sent to the client. */
  #quote(choices: Choices, family: Family, client: Uint8Array, vip: Uint8Array): void {
    const w = this.#writer, start = w.mark();
    const from = choices.oneIn(10) ? choices.of(VIP_BYTES[family]) : vip;
    const protocol = choices.oneIn(10) ? choices.below(256) : choices.of([6, 17]);
    if (family === 4) {
      const options = choices.oneIn(6) ? choices.below(11) : 0;
      w.u8((choices.oneIn(30) ? choices.below(256) : 0x45) + options);
      w.u8(0);
      w.u16(choices.of([40, 1500, choices.below(65536)]));
      w.u16(1);
      w.u16(choices.oneIn(10) ? choices.below(65536) : 0x4000);
      w.u8(60);
      w.u8(protocol);
      w.u16(choices.below(65536));
      w.put(from);
      w.put(client);
      w.filler(options * 4, 1);
    } else {
      w.u16(choices.oneIn(30) ? choices.below(65536) : 0x6000);
      w.u16(0);
      w.u16(choices.of([20, 1440, choices.below(65536)]));
      w.u8(protocol);
      w.u8(60);
      w.put(from);
      w.put(client);
    }
    w.mark();
    w.u16(choices.of([80, 443, 53, choices.below(65536)]));
    w.u16(1024 + choices.below(512));
    w.filler(this.#size(choices, 80), 3);
    if (choices.oneIn(6)) w.cut(start + choices.below(w.length - start + 1));
  }
}

function client(choices: Choices, family: Family, count: number): Uint8Array {
  if (choices.oneIn(100)) return choices.of(VIP_BYTES[family]);
  const address = CLIENTS[family].slice();
  address[family === 4 ? 3 : 6] = choices.below(count);
  return address;
}

/** The lengths, and IPv4's checksum. */
function finish(w: Writer, start: number, family: Family): void {
  const length = w.length - start;
  if (family === 6) return w.put16(start + 4, length - 40);
  w.put16(start + 2, length);
  w.checksum(start + 10, start, undefined, 0, start + (w.at(start) & 15) * 4);
}
