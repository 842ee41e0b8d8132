/** What the tests of lib/bpf have in common. */

import { BpfError, BpfMap, BpfObject, elfOf } from "../../lib/bpf/mod.ts";
import { OBJECT } from "./object.gen.ts";

/** The object built from `test.bpf.c`. */
export const ELF: Uint8Array<ArrayBuffer> = await elfOf(OBJECT);

/** An Ethernet frame of 64 bytes that no program here takes offence at. */
export function frame(fill = 0): Uint8Array<ArrayBuffer> {
  return new Uint8Array(64).fill(fill);
}

/** Opens and loads the object. */
export function loaded(): BpfObject {
  return BpfObject.open(ELF, { name: "test" }).load();
}

/** A value of 8 bytes. */
export function u64(value: number | bigint): Uint8Array<ArrayBuffer> {
  return new Uint8Array(new BigUint64Array([BigInt(value)]).buffer);
}

/** The numbers in bytes that are packed 32-bit ones. */
export function numbersIn(bytes: Uint8Array<ArrayBuffer>): number[] {
  const copy = bytes.slice();
  return [...new Uint32Array(copy.buffer, 0, copy.length / 4)];
}

/** Runs a command and fails if it does. It runs in this thread's namespaces. */
export function run(...[command, ...args]: [string, ...string[]]): string {
  const { success, stdout, stderr } = new Deno.Command(command, { args }).outputSync();
  if (!success) {
    throw new Error(`${command} ${args.join(" ")}: ${new TextDecoder().decode(stderr)}`);
  }
  return new TextDecoder().decode(stdout);
}

/** A directory in a bpffs of its own. */
export class BpfFs implements Disposable {
  readonly path: string = Deno.makeTempDirSync();

  constructor() {
    run("mount", "-t", "bpf", "bpf", this.path);
  }

  [Symbol.dispose](): void {
    run("umount", this.path);
    Deno.removeSync(this.path);
  }
}

const CLONE_NEWNET = 0x40000000;

/**
 * Puts this thread into a network namespace of its own, with a pair of interfaces, until disposed.
 * The kernel removes it all, also when the process dies.
 */
export class Network implements Disposable {
  /** The number of one interface of the pair. */
  readonly ifindex: number;
  /** That of the other one. */
  readonly peerIfindex: number;
  readonly #libc = Deno.dlopen("libc.so.6", {
    unshare: { parameters: ["i32"], result: "i32" }, // int unshare(int flags)
    setns: { parameters: ["i32", "i32"], result: "i32" }, // int setns(int fd, int nstype)
    open: { parameters: ["buffer", "i32"], result: "i32" }, // int open(const char *path, int flags)
    close: { parameters: ["i32"], result: "i32" }, // int close(int fd)
  });
  readonly #before: number;

  constructor() {
    const { open, unshare } = this.#libc.symbols;
    this.#before = open(new TextEncoder().encode("/proc/thread-self/ns/net\0"), 0);
    if (this.#before < 0 || unshare(CLONE_NEWNET) !== 0) {
      throw new Error("Cannot make a network namespace: are you root?");
    }
    // With IPv6 the kernel would send of its own accord.
    run("sysctl", "-q", "-w", "net.ipv6.conf.default.disable_ipv6=1");
    run("ip", "link", "add", "left", "type", "veth", "peer", "name", "right");
    run("ip", "link", "set", "left", "up");
    run("ip", "link", "set", "right", "up");
    const indexOf = (name: string) => JSON.parse(run("ip", "-j", "link", "show", name))[0].ifindex;
    this.ifindex = indexOf("left");
    this.peerIfindex = indexOf("right");
  }

  [Symbol.dispose](): void {
    this.#libc.symbols.setns(this.#before, CLONE_NEWNET);
    this.#libc.symbols.close(this.#before);
    this.#libc.close();
  }
}

/** Waits until the kernel has forgotten a map; it does so a moment after the last use. */
export async function assertMapGone(id: number): Promise<void> {
  const deadline = performance.now() + 5000;
  while (performance.now() < deadline) {
    try {
      BpfMap.fromId(id).close();
    } catch (error) {
      if (error instanceof BpfError && error.code === "ENOENT") return;
      throw error;
    }
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  throw new Error(`Map ${id} is still there`);
}

/** The open file descriptors of this process. */
export function openFds(): string[] {
  return [...Deno.readDirSync("/proc/self/fd")].map(({ name }) => name).sort();
}
