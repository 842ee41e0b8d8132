/**
 * Counts the packets that an interface receives, by IP protocol, and prints the rates each second:
 * how to use `lib/bpf` with a program of your own. It does not change what happens to the packets.
 *
 *     clang-19 -O2 -g -mcpu=v3 --target=bpf -I/usr/include/$(uname -m)-linux-gnu \
 *       -c examples/count_packets.bpf.c -o count_packets.bpf.o
 *     deno run -A examples/count_packets.ts count_packets.bpf.o eth0
 *
 * Ctrl-C ends it and takes the program off the interface.
 */

import {
  BpfError,
  type BpfMap,
  BpfObject,
  Btf,
  type BtfStruct,
  interfaceIndex,
} from "../lib/bpf/mod.ts";

interface Count {
  packets: bigint;
  bytes: bigint;
}

const NAMES = new Map([[1, "icmp"], [6, "tcp"], [17, "udp"], [58, "icmp6"], [255, "other"]]);

/** Reads the whole map with one system call, and adds up the processors. */
function readCounts(map: BpfMap, layout: BtfStruct): Map<number, Count> {
  const offsetOf = (name: string): number =>
    layout.members.find((member) => member.name === name)!.offsetBits / 8;
  const counts = new Map<number, Count>();
  for (const [key, packed] of map.entries()) {
    const sum = { packets: 0n, bytes: 0n };
    for (const value of map.perCpuValues(packed)) {
      const view = new DataView(value.buffer, value.byteOffset, value.byteLength);
      sum.packets += view.getBigUint64(offsetOf("packets"), true);
      sum.bytes += view.getBigUint64(offsetOf("bytes"), true);
    }
    counts.set(new DataView(key.buffer, key.byteOffset).getUint32(0, true), sum);
  }
  return counts;
}

function printRates(before: Map<number, Count>, after: Map<number, Count>): void {
  const parts = [...after].flatMap(([protocol, { packets, bytes }]) => {
    const last = before.get(protocol)!;
    if (packets === last.packets) return [];
    const name = NAMES.get(protocol) ?? `protocol ${protocol}`;
    return [`${name} ${packets - last.packets} packets/s, ${bytes - last.bytes} bytes/s`];
  });
  console.log(parts.join("; ") || "nothing");
}

/** Resolves with the first signal that asks the program to end. */
async function interrupted(): Promise<void> {
  const signals = ["SIGINT", "SIGTERM"] as const;
  const { promise, resolve } = Promise.withResolvers<void>();
  for (const signal of signals) Deno.addSignalListener(signal, resolve);
  await promise;
  for (const signal of signals) Deno.removeSignalListener(signal, resolve);
}

async function main(file: string, interfaceName: string): Promise<void> {
  const elf = await Deno.readFile(file);
  const layout = Btf.fromElf(elf).struct("count");
  using object = BpfObject.open(elf, { name: "count_packets" }).load();
  using link = object.program("count").attachXdp(interfaceIndex(interfaceName));
  console.log(`counting on ${interfaceName} in ${link.mode} mode`);

  let before = readCounts(object.map("counts"), layout);
  const timer = setInterval(() => {
    const after = readCounts(object.map("counts"), layout);
    printRates(before, after);
    before = after;
  }, 1000);
  await interrupted();
  clearInterval(timer);
}

if (import.meta.main) {
  const [file, interfaceName] = Deno.args;
  if (file === undefined || interfaceName === undefined) {
    console.error("usage: count_packets.ts OBJECT INTERFACE");
    Deno.exit(2);
  }
  try {
    await main(file, interfaceName);
  } catch (error) {
    if (!(error instanceof BpfError || error instanceof Deno.errors.NotFound)) throw error;
    console.error(error.message);
    Deno.exit(1);
  }
}
