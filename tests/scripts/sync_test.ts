/** sync.ts between two balancers of a lab: who takes over goes on, and nobody else is listened to. */

import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { Lab, LAB_ECHO_PORT, type LabNode } from "../../lib/net/lab.ts";
import { Held } from "../../lib/net/lab_client.ts";
import type { SyncCounters } from "../../mod.ts";
import { assertHelp, assertUsage, command, jsonOf, runScript, Script } from "./process.ts";

const NAME = `sync_${Deno.pid}`;
const VIP = "192.168.101.1", SERVICE = `${VIP}:${LAB_ECHO_PORT}`;
const HASH_KEY = ["--hash-key", "000102030405060708090a0b0c0d0e0f"];

let lab: Lab;
let directory: string;
/** The balancer, and a server that is one too. */
let nodes: { node: LabNode; instance: string[]; address: string }[];

Deno.test.beforeAll(async () => {
  directory = await Deno.makeTempDir();
  lab = await Lab.create({ name: NAME, destinations: 5 });
  const second = lab.destinations[4]!;
  for (const vip of lab.vips) {
    await second.run([
      "ip",
      "address",
      "del",
      vip.includes(":") ? `${vip}/128` : `${vip}/32`,
      "dev",
      "lo",
    ]);
  }
  nodes = [lab.balancer, second].map((node, i) => ({
    node,
    instance: ["-i", `${NAME}_${i}`],
    address: node.address4,
  }));
  for (const { node, instance } of nodes) {
    await jsonOf(node, "attach.ts", ...instance, ...HASH_KEY, "eth0");
    await jsonOf(node, "services.ts", ...instance, "add", SERVICE, ...rips().slice(0, 3));
  }
});

Deno.test.afterAll(async () => {
  for (const { node, instance } of nodes ?? []) {
    await runScript(node, "instances.ts", ["remove", instance[1]!]);
  }
  await lab?.remove();
  await Deno.remove(directory, { recursive: true });
});

function rips(): string[] {
  return lab.destinations.slice(0, 4).map(({ address4 }) => address4);
}

function key(bytes = 32, mode = 0o600, name = "key"): string {
  const path = `${directory}/${name}`;
  Deno.writeFileSync(path, new Uint8Array(bytes).fill(9), { mode });
  Deno.chmodSync(path, mode);
  return path;
}

function sync(i: number, ...args: string[]): Script {
  const { node, instance } = nodes[i]!;
  const peer = nodes[1 - i]!.address;
  return Script.spawn(node, command("sync.ts", ...instance, "--json", ...args, peer));
}

/** Waits for a line of which something is true. */
async function counted(script: Script, is: (counters: SyncCounters) => boolean): Promise<void> {
  await script.until((text) => {
    const lines = text.split("\n").slice(0, -1);
    return lines.length > 0 && is(JSON.parse(lines.at(-1)!));
  });
}

Deno.test("a peer takes over in the middle of a change, and no connection moves", async () => {
  const path = key();
  await using first = sync(0, "-k", path);
  await using second = sync(1, "-k", path);
  await first.complains(`node ${nodes[1]!.address} is there`);
  await second.complains(`node ${nodes[0]!.address} is there`);

  const held = await Held.open(lab.client, {
    address: VIP,
    port: LAB_ECHO_PORT,
    connections: 300,
    intervalMs: 50,
  });
  // A change makes exceptions; only the first balancer has seen the flows.
  for (const { node, instance } of nodes) {
    await jsonOf(node, "services.ts", ...instance, "add", SERVICE, rips()[3]!);
  }
  await counted(second, ({ outcomes }) => outcomes.stored > 20);
  await new Promise((resolve) => setTimeout(resolve, 1000));
  await lab.client.run(["ip", "route", "replace", `${VIP}/32`, "via", nodes[1]!.address]);
  await new Promise((resolve) => setTimeout(resolve, 1500));
  const { failures, moves, slowestMs } = await held.end();
  await lab.client.run(["ip", "route", "replace", `${VIP}/32`, "via", nodes[0]!.address]);
  assertEquals([failures, moves], [{}, {}], `${slowestMs}`);
  assertEquals((await first.end("SIGTERM")).code, 0);
  assertEquals((await second.end("SIGINT")).code, 0);
});

Deno.test("a node that joins later is told at once", async () => {
  const path = key();
  await using first = sync(0, "-k", path);
  await counted(first, () => true);
  const held = await Held.open(lab.client, {
    address: VIP,
    port: LAB_ECHO_PORT,
    connections: 200,
    intervalMs: 50,
  });
  for (const { node, instance } of nodes) {
    await jsonOf(node, "services.ts", ...instance, "remove", SERVICE, rips()[2]!);
  }
  await new Promise((resolve) => setTimeout(resolve, 500));
  await using second = sync(1, "-k", path);
  await second.complains(`joined ${nodes[0]!.address}: `);
  await lab.client.run(["ip", "route", "replace", `${VIP}/32`, "via", nodes[1]!.address]);
  await new Promise((resolve) => setTimeout(resolve, 1000));
  const { moves } = await held.end();
  await lab.client.run(["ip", "route", "replace", `${VIP}/32`, "via", nodes[0]!.address]);
  // Those of the server that was removed have moved; nobody else.
  assertEquals(Object.keys(moves).filter((move) => !move.startsWith("d3")), []);
});

Deno.test("what others send changes nothing and is counted", async () => {
  await using first = sync(0, "-k", key());
  await using stranger = sync(1, "-k", key(20, 0o600, "other"));
  await counted(first, ({ refused }) => refused.forged > 0);
  const { node } = nodes[1]!;
  const noise = `import { createSocket } from "node:dgram";
    const socket = createSocket("udp4");
    for (let i = 0; i < 200; i++) socket.send(crypto.getRandomValues(new Uint8Array(i)), 7946, "${
    nodes[0]!.address
  }");
    setTimeout(() => socket.close(), 300);`;
  await node.run([Deno.execPath(), "eval", noise]);
  await counted(first, ({ refused }) => refused.malformed >= 150);
  assertStringIncludes((await stranger.end("SIGTERM")).stderr, "does not answer: ");
  const { stdout } = await first.end("SIGTERM");
  const last: SyncCounters = JSON.parse(stdout.trim().split("\n").at(-1)!);
  assertEquals([last.received.datagrams, last.received.records, last.peers], [0, 0, 0]);
});

Deno.test("a node takes over as many records a second as this prints", async () => {
  const COUNT = 400_000, RATE = 150_000;
  const [{ node, instance, address }, { node: other }] = nodes as [
    typeof nodes[0],
    typeof nodes[0],
  ];
  const path = key();
  await using first = sync(0, "-k", path);
  await counted(first, () => true);
  const sender = new URL("./sync_rate.ts", import.meta.url).pathname;
  const began = performance.now();
  await other.run([
    ...[Deno.execPath(), "run", "-A", "--no-check", sender, path, address, "7946"],
    ...[VIP, `${LAB_ECHO_PORT}`, `${COUNT}`, `${RATE}`],
    ...(await jsonOf<{ destinations: { address: string }[] }>(node, "services.ts", ...instance))[0]!
      .destinations.map(({ address }) => address),
  ]);
  const seconds = (performance.now() - began) / 1000;
  let last = { received: { records: 0 } } as SyncCounters, sum = 0;
  await counted(first, (counters) => {
    const all = Object.values(counters.outcomes).reduce((total, each) => total + each, 0);
    const done = all > 0 && all === sum && counters.received.records === last.received.records;
    [last, sum] = [counters, all];
    return done;
  });
  console.log(
    `  ${last.received.records} of ${COUNT} records in ${seconds.toFixed(1)} s: ` +
      `${Math.round(last.received.records / seconds / 1000)} thousand a second`,
  );
  // A datagram may be lost on its way; whatever arrived was dealt with.
  assertEquals(sum, last.received.records);
  assert(sum > COUNT / 2, `${sum}`);
  assert(last.outcomes.stored + last.outcomes.answered > COUNT / 2);
  await runScript(node, "flows.ts", [...instance, "purge"]);
});

Deno.test("nodes with other hash keys say so", async () => {
  const { node } = nodes[1]!, other = `${NAME}_other`;
  await jsonOf(node, "attach.ts", "-i", other);
  try {
    const path = key();
    await using first = sync(0, "-k", path);
    const words = command("sync.ts", "-i", other, "-k", path, nodes[0]!.address);
    await using second = Script.spawn(node, words);
    await first.complains("has another hash key: it would choose other destinations");
    await second.complains("has another hash key");
    await second.until((text) => text.includes("0 peers; told of 0 flows"));
  } finally {
    await jsonOf(node, "instances.ts", "remove", other);
  }
});

Deno.test("sync.ts refuses what cannot be", async () => {
  const { node, instance } = nodes[0]!;
  const wrong: [string[], string][] = [
    [["10.1.0.9"], "needs --key FILE"],
    [["-k", key()], "takes at least one PEER"],
    [["-k", key(), "www"], 'Cannot read address "www"'],
    [["-k", key(), "10.1.0.9", "fd00::1"], "Peers must be of one family"],
    [["-k", key(8, 0o600, "short"), "10.1.0.9"], "has 8 bytes: a key has at least 16"],
    [["-k", key(32, 0o644, "open"), "10.1.0.9"], 'say "chmod 600 '],
    [["-k", `${directory}/none`, "10.1.0.9"], "Cannot read "],
    [["-k", key(), "-p", "70000", "10.1.0.9"], 'Port "70000"'],
  ];
  for (const [args, says] of wrong) {
    await assertUsage(node, "sync.ts", [...instance, ...args], says);
  }
  await assertHelp("sync.ts", "key listen port clock-skew run instance json");
  assert((await runScript(node, "sync.ts", ["-i", "nobody", "-k", key(), "10.1.0.9"])).code === 1);
});
