/** Each of the examples does what it says, in a lab. */

import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { Lab, LAB_ECHO_PORT } from "../../lib/net/lab.ts";
import { Held, spread } from "../../lib/net/lab_client.ts";
import { jsonOf, runScript, Script } from "./process.ts";

const NAME = `examples_${Deno.pid}`;
const I = ["-i", NAME];
const VIP = "192.168.101.1", SERVICE = `${VIP}:80`, LOAD = { address: VIP, port: 80 };
const ECHO = LAB_ECHO_PORT, TALK = { address: VIP, port: ECHO };
const EXAMPLES = new URL("../../examples/", import.meta.url).pathname;
const MOST_LINES = 30;
/** Tried by a test of its own, as it is about the library of libbpf. */
const ELSEWHERE = ["count_packets.ts"];

const tested: string[] = [];
let lab: Lab;

Deno.test.beforeAll(async () => {
  lab = await Lab.create({ name: NAME, destinations: 3 });
  await jsonOf(lab.balancer, "attach.ts", ...I, "eth0");
});

Deno.test.afterAll(async () => {
  await runScript(lab.balancer, "instances.ts", ["remove", NAME]);
  await lab?.remove();
});

function rips(): [string, string, string] {
  return lab.destinations.map(({ address4 }) => address4) as [string, string, string];
}

/** A test that begins with these servers. */
function example(name: string, does: string, run: (argv: string[]) => Promise<void>): void {
  tested.push(`${name}.ts`);
  Deno.test(`${name}.ts ${does}`, async () => {
    for (const port of [80, ECHO]) {
      await jsonOf(lab.balancer, "services.ts", ...I, "set", `${VIP}:${port}`, ...rips());
    }
    await run([Deno.execPath(), "run", "-A", "--no-check", `${EXAMPLES}${name}.ts`]);
  });
}

function ran(argv: string[], ...args: string[]): Promise<string> {
  return lab.balancer.run([...argv, NAME, ...args]);
}

/** What the service has: a field of each server, by its address. */
async function servers<T>(field: string, service = SERVICE): Promise<Record<string, T>> {
  const [listed] = await jsonOf<{ destinations: Record<string, T>[] }>(
    lab.balancer,
    "services.ts",
    ...[...I, "list", service],
  );
  return Object.fromEntries(listed!.destinations.map((each) => [`${each.address}`, each[field]!]));
}

/** Waits until what the service has is so. */
async function become<T>(
  field: string,
  wanted: Record<string, T>,
  service = SERVICE,
): Promise<void> {
  for (const began = performance.now();; await new Promise((wake) => setTimeout(wake, 50))) {
    const found = await servers<T>(field, service);
    try {
      return assertEquals(found, wanted);
    } catch (error) {
      if (performance.now() - began > 20_000) throw error;
    }
  }
}

example("rolling_deploy", "waits until no connection is open on a server", async (argv) => {
  const held = await Held.open(lab.client, { ...TALK, connections: 30 });
  const deploy = Script.spawn(lab.balancer, [...argv, NAME, VIP, `${ECHO}`, "echo", "deployed"]);
  await become(
    "disable",
    Object.fromEntries(rips().map((rip, i) => [rip, i === 0])),
    `${VIP}:${ECHO}`,
  );
  const { failures, moves } = await held.end();
  assertEquals([failures, moves], [{}, {}]);
  const { code, stdout } = await deploy.end();
  assertEquals(code, 0);
  for (const rip of rips()) assertStringIncludes(stdout, `deployed ${rip}\n${rip} is done\n`);
  assertEquals(Object.values(await servers("disable", `${VIP}:${ECHO}`)), [false, false, false]);
});

example("canary", "gives a server more and more", async (argv) => {
  const [one, two, three] = rips();
  assertMatch(await ran(argv, VIP, "80", two, "0"), /weight 1\n.*weight 2\n[^]*weight 100\n$/);
  assertEquals(await servers("weight"), { [one]: 100, [two]: 100, [three]: 100 });
});

example("blue_green", "lets open connections be, and sends new ones elsewhere", async (argv) => {
  const [one, two, three] = rips();
  for (const port of [80, ECHO]) {
    await jsonOf(lab.balancer, "services.ts", ...I, "set", `${VIP}:${port}`, one, two);
  }
  const held = await Held.open(lab.client, { ...TALK, connections: 20 });
  assertEquals(
    await ran(argv, VIP, three),
    `${one}: draining\n${two}: draining\n${three}: serving\n`.repeat(2),
  );
  const { destinations } = await spread(lab.client, { ...LOAD, connections: 30 });
  assertEquals(destinations, { d3: 30 });
  const { failures, moves } = await held.end();
  assertEquals([failures, moves], [{}, {}]);
});

/** Answers whatever is asked for with these addresses: a name server of the fewest words. */
const NAME_SERVER = `
import { createSocket } from "node:dgram";
const socket = createSocket("udp4", (query, { port, address }) => {
  let end = 12;
  while (query[end] !== 0) end += query[end] + 1;
  const question = query.subarray(12, end + 5);
  const record = (text) => [0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4, ...text.split(".").map(Number)];
  const header = [query[0], query[1], 0x81, 0x80, 0, 1, 0, Deno.args.length, 0, 0, 0, 0];
  socket.send(Uint8Array.from([...header, ...question, ...Deno.args.flatMap(record)]), port, address);
});
socket.bind(53, "127.0.0.1", () => console.log("ready"));`;

example("follow_dns", "has the servers that a name has, and drains the others", async (argv) => {
  const [one, two, three] = rips();
  await lab.balancer.run(["ip", "link", "set", "lo", "up"]);
  await jsonOf(lab.balancer, "services.ts", ...I, "set", SERVICE, one, two);
  const words = [Deno.execPath(), "eval", NAME_SERVER, two, three];
  await using server = Script.spawn(lab.balancer, words);
  await server.until((text) => text.includes("ready"));
  const said = await lab.balancer.run([
    ...["env", "NAME_SERVER=127.0.0.1", ...argv, NAME, VIP, "80"],
    ...["shop.example", "0"],
  ]);
  assertEquals(said, `shop.example: ${two} ${three}\n`);
  assertEquals(await servers("disable"), { [one]: true, [two]: false, [three]: false });
});

example("follow_directory", "has a server for each file", async (argv) => {
  const [one, two] = rips();
  const directory = await Deno.makeTempDir();
  try {
    Deno.writeTextFileSync(`${directory}/${one}`, "");
    await using following = Script.spawn(lab.balancer, [...argv, NAME, VIP, "80", directory]);
    await become("weight", { [one]: 1 });
    Deno.writeTextFileSync(`${directory}/${two}`, "3\n");
    await become("weight", { [one]: 1, [two]: 3 });
    Deno.removeSync(`${directory}/${one}`);
    await become("weight", { [two]: 3 });
    assertEquals((await following.end("SIGTERM")).code, 0);
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
});

example("block_for_a_while", "stops who is named, and lets go afterwards", async (argv) => {
  const source = `${lab.client.address4}/32`;
  await using blocking = Script.spawn(lab.balancer, [...argv, NAME, "60", source]);
  const blocked = async (): Promise<unknown> =>
    (await jsonOf<{ block: string[] }>(lab.balancer, "save.ts", ...I))[0]!.block;
  while (JSON.stringify(await blocked()) !== JSON.stringify([source]));
  await lab.client.attempt(["curl", "-s", "--max-time", "1", `http://${VIP}/`]);
  const { code, stdout } = await blocking.end("SIGTERM");
  assertEquals(code, 0);
  assertMatch(stdout, new RegExp(`^${source}: [1-9]\\d* packets\n$`));
  assertEquals(await blocked(), []);
  assertEquals((await spread(lab.client, { ...LOAD, connections: 3 })).failures, {});
});

example("counters_to_file", "writes what a collector reads", async (argv) => {
  const path = await Deno.makeTempFile();
  await spread(lab.client, { ...LOAD, connections: 10 });
  await ran(argv, path);
  const text = await Deno.readTextFile(path);
  await Deno.remove(path);
  assertMatch(text, /^# HELP xvs_forwarded Packets sent to a destination\nxvs_forwarded [1-9]/m);
  for (const line of text.trim().split("\n")) {
    assertMatch(line, /^(# HELP \w+ .+|\w+(\{\w+="[^"]+"(,\w+="[^"]+")*\})? \d+)$/);
  }
});

example("health_check", "takes a server out that lacks the VIP, and back again", async (argv) => {
  const [one, two, three] = rips();
  await using checking = Script.spawn(lab.balancer, [...argv, NAME, VIP, "80", "/", "0.2"]);
  await lab.destinations[1]!.run(["ip", "address", "del", `${VIP}/32`, "dev", "lo"]);
  await become("disable", { [one]: false, [two]: true, [three]: false });
  assertEquals((await spread(lab.client, { ...LOAD, connections: 30 })).failures, {});
  await lab.destinations[1]!.run(["ip", "address", "add", `${VIP}/32`, "dev", "lo"]);
  await become("disable", { [one]: false, [two]: false, [three]: false });
  const { stdout } = await checking.end("SIGTERM");
  assertEquals(stdout, `${two} is down\n${two} is up\n`);
});

example("sorry_server", "says sorry when nobody else is there", async (argv) => {
  const [one, two, three] = rips();
  await jsonOf(lab.balancer, "services.ts", ...I, "set", SERVICE, one, two);
  await using watching = Script.spawn(lab.balancer, [...argv, NAME, VIP, "80", three]);
  await become("disable", { [one]: false, [two]: false, [three]: true });
  await jsonOf(lab.balancer, "services.ts", ...I, "drain", SERVICE, one, two);
  await become("disable", { [one]: true, [two]: true, [three]: false });
  await jsonOf(lab.balancer, "services.ts", ...I, "undrain", SERVICE, one);
  await become("disable", { [one]: false, [two]: true, [three]: true });
  assertEquals((await watching.end("SIGTERM")).code, 0);
});

example("watch_events", "tells what another process does", async (argv) => {
  const [one] = rips();
  await using watching = Script.spawn(lab.balancer, [...argv, NAME]);
  await watching.complains("watching service, destination, neighbour, link");
  await jsonOf(lab.balancer, "services.ts", ...I, "drain", SERVICE, one);
  await watching.until((text) => text.includes("\n"));
  const { code, stdout } = await watching.end("SIGTERM");
  assertEquals(code, 0);
  const { type, change, destination } = JSON.parse(stdout.split("\n")[0]!);
  assertEquals([type, change, destination.address, destination.disable], [
    ...["destination", "changed", one, true],
  ]);
});

example("busiest_clients", "counts the open connections of each", async (argv) => {
  await using held = await Held.open(lab.client, { ...TALK, connections: 30 });
  const [count, address] = (await ran(argv)).trim().split("\t");
  assert(Number(count) >= 30, count);
  assertEquals(address, lab.client.address4);
  await held.end();
});

example("copy_instance", "makes one instance what another is", async (argv) => {
  const other = `${NAME}_copy`;
  await jsonOf(lab.balancer, "attach.ts", "-i", other);
  try {
    const said = await ran(argv, other);
    assertStringIncludes(said, `add service ${SERVICE}/tcp\nadd destination `);
    assertEquals(await ran(argv, other), "");
  } finally {
    await jsonOf(lab.balancer, "instances.ts", "remove", other);
  }
});

example("weights_by_load", "asks each server, and weighs it so", async (argv) => {
  const stack = new AsyncDisposableStack();
  await using _ = stack;
  for (const [i, node] of lab.destinations.entries()) {
    const text = `Deno.serve({ port: 8081 }, () => new Response("${i + 2}.2"))`;
    const server = stack.use(Script.spawn(node, [Deno.execPath(), "eval", text]));
    await server.complains("Listening");
  }
  const at = `${VIP}:8081`;
  await jsonOf(lab.balancer, "services.ts", ...I, "set", at, ...rips());
  const said = await ran(argv, VIP, "8081");
  assertEquals(said, rips().map((rip, i) => `${rip}: weight ${i + 2}\n`).join(""));
  await jsonOf(lab.balancer, "services.ts", ...I, "remove", at);
});

Deno.test("there are a dozen examples, each is short, and each is tested", () => {
  const all = [...Deno.readDirSync(EXAMPLES)].map(({ name }) => name)
    .filter((name) => name.endsWith(".ts") && !ELSEWHERE.includes(name)).sort();
  assertEquals(all, tested.toSorted());
  assert(all.length >= 12);
  for (const name of all) {
    const lines = Deno.readTextFileSync(`${EXAMPLES}${name}`).trim().split("\n");
    assert(lines.length <= MOST_LINES, `${name} has ${lines.length} lines`);
    assertMatch(lines[0]!, /^\/\*\* .+\. \*\/$|^\/\*\* .+\*\/$/);
  }
});
