/** balance.ts between a client and two servers, from its first line to how it ends. */

import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { Lab, LAB_ECHO_PORT } from "../../lib/net/lab.ts";
import { Held, spread } from "../../lib/net/lab_client.ts";
import { ELF } from "../bpf/support.ts";
import { assertNothingLeft, command, startBalancer, xdpPrograms } from "./balancer.ts";
import type { Script } from "./process.ts";

const VIP = "192.168.101.1", VIP6 = "fd00:101::1";
const RIPS = ["10.1.0.10", "10.1.0.11"] as const;
const GOOD = ["eth0", "auto", VIP, ...RIPS];

let lab: Lab;

Deno.test.beforeAll(async () => {
  lab = await Lab.create({ name: `scripts_${Deno.pid}`, destinations: 2 });
});

Deno.test.afterAll(() => lab?.remove());

/** A test, after which nothing may be left. */
function scriptTest(name: string, test: () => Promise<void>): void {
  Deno.test(`balance.ts: ${name}`, async () => {
    await test();
    await assertNothingLeft(lab);
  });
}

function start(...args: string[]): Promise<Script> {
  return startBalancer(lab.balancer, ...args);
}

/** Connections to a VIP by the server that answered. */
async function served(
  address: string,
  port: number,
  connections: number,
): Promise<Record<string, number>> {
  const { destinations, failures } = await spread(lab.client, { address, port, connections });
  assertEquals(failures, {}, `${address} ${port}`);
  return destinations;
}

scriptTest("the command of the walk-through carries HTTP to both servers", async () => {
  for (const [i, server] of lab.destinations.entries()) {
    await server.run(["ip", "address", "add", `10.1.0.${3 + i}/24`, "dev", server.interface]);
  }
  await using balancer = await start(
    ...["-r", "20", "eth0", "10.1.0.254/24", VIP, "10.1.0.3", "10.1.0.4"],
  );
  assertEquals(await xdpPrograms(lab.balancer), { eth0: "xvs" });
  const answer = await lab.client.run(["curl", "-sS", `http://${VIP}/`]);
  assertMatch(answer, /^d[12] 10\.1\.0\.2\n$/);
  const { d1 = 0, d2 = 0 } = await served(VIP, 80, 200);
  assert(d1 > 50 && d2 > 50 && d1 + d2 === 200, `${d1} and ${d2}`);
  const { code, stderr } = await balancer.end("SIGINT");
  assertEquals({ code, stderr }, { code: 0, stderr: "" });
});

scriptTest("-r 2 runs for two seconds, and shows a table each second", async () => {
  await using balancer = await start("-r", "2", ...GOOD);
  const began = performance.now();
  const { code, stdout, stderr } = await balancer.end();
  const seconds = (performance.now() - began) / 1000;
  assert(seconds > 1.5 && seconds < 8, `${seconds}`);
  assertEquals({ code, stderr }, { code: 0, stderr: "" });
  const [first, ...others] = stdout.trim().split("\n\n");
  assertEquals(others.length, 2);
  const [head, columns, ...rows] = first!.split("\n");
  assertMatch(head!, /^\d\d:\d\d:\d\d +eth0 \(generic\): in 0 packets\/s, 0 bits\/s; forwarded 0 /);
  assertMatch(columns!, /^service +server +state +weight +open flows +new\/s +packets\/s +bits\/s/);
  assertEquals(rows.length, RIPS.length);
  for (const [i, row] of rows.entries()) {
    assertMatch(row, new RegExp(`^${VIP}:80/tcp +${RIPS[i]} +up +1 +0 +0 +0 +0 +0 +0$`));
  }
});

scriptTest("--json is a line a second, with counters, and rates that agree", async () => {
  await using balancer = await start("-r", "0", "--json", ...GOOD);
  await served(VIP, 80, 300);
  const lines = (): string[] => balancer.stdout.split("\n").slice(0, -1);
  const seen = lines().length;
  await balancer.until(() => lines().length > seen + 1);
  const { code, stderr } = await balancer.end("SIGTERM");
  assertEquals({ code, stderr }, { code: 0, stderr: "" });
  const all = lines().map((line) => JSON.parse(line));
  const [first, last] = [all[0], all.at(-1)];
  assertEquals(first.interfaces, [{ name: "eth0", index: 2, mode: "generic" }]);
  assertEquals([first.stats.incomingPackets, first.seconds], [0, 0]);
  assertEquals(first.services[0].rates.connections, 0);
  assert(all[1].seconds > 0.9, `${all[1].seconds}`);
  const [service] = last.services;
  assertEquals(service.service.address, VIP);
  assertEquals(service.stats.connections, 300);
  assertEquals(last.metrics.forwarded, service.metrics.packets);
  const each: { destination: { address: string }; mac: string; stats: { connections: number } }[] =
    service.destinations;
  assertEquals(each.map(({ destination }) => destination.address), [...RIPS]);
  assertEquals(each.map(({ mac }) => mac), lab.destinations.map(({ mac }) => mac));
  assertEquals(each.reduce((sum, { stats }) => sum + stats.connections, 0), 300);
  // Rates times seconds are what was counted.
  const counted = all.reduce(
    (sum, { seconds, services }) => sum + services[0].rates.connections * seconds,
    0,
  );
  assert(Math.abs(counted - 300) < 1, `${counted}`);
});

scriptTest("a reader that has seen enough ends it in silence", async () => {
  const script = '"$@" | head -1; echo "${PIPESTATUS[0]}"';
  const { stdout, stderr } = await lab.balancer.attempt(
    ["bash", "-c", script, "bash", ...command("-r", "0", ...GOOD)],
  );
  assertMatch(stdout, /^[^\n]*eth0 \(generic\)[^\n]*\n0\n$/);
  assertEquals(stderr, "");
});

scriptTest(
  "killed, it leaves nothing attached, and what it asked of the kernel to the next",
  async () => {
    await using balancer = await start("-r", "0", ...GOOD);
    assertEquals(await xdpPrograms(lab.balancer), { eth0: "xvs" });
    await balancer.end("SIGKILL");
    assertEquals(await xdpPrograms(lab.balancer), {});
    await using next = await start("-r", "0", ...GOOD);
    assertEquals((await next.end("SIGTERM")).code, 0);
  },
);

scriptTest("somebody else's program is named, and stays", async () => {
  const object = await Deno.makeTempFile();
  const link = (...args: string[]): Promise<string> =>
    lab.balancer.run(["ip", "link", "set", "dev", "eth0", "xdpgeneric", ...args]);
  try {
    await Deno.writeFile(object, ELF);
    await link("obj", object, "program", "pass");
    const { code, stdout, stderr } = await lab.balancer.attempt(command("-r", "1", ...GOOD));
    assertEquals({ code, stdout }, { code: 1, stdout: "" });
    assertMatch(
      stderr,
      /^Cannot attach to interface 2 "eth0": [^\n]* "pass" [^\n]*; detach it first, or give the option "replace"\n$/,
    );
    assertEquals(await xdpPrograms(lab.balancer), { eth0: "pass" });
  } finally {
    await link("off");
    await Deno.remove(object);
  }
});

scriptTest("--weight gives a server its share", async () => {
  await using balancer = await start("-r", "0", "--weight", `${RIPS[1]}=3`, ...GOOD);
  const { d1 = 0, d2 = 0 } = await served(VIP, 80, 1200);
  assert(d1 > 240 && d1 < 360, `${d1} and ${d2}`);
  await balancer.end("SIGTERM");
});

scriptTest("several VIPs of both families, ports and protocols", async () => {
  const more = ["-v", VIP6, "-v", "192.168.101.2"];
  const ports = ["-p", "80", "-p", "8080/tcp", "-p", `${LAB_ECHO_PORT}/udp`];
  await using balancer = await start("-r", "0", "--json", ...more, ...ports, ...GOOD);
  const [line] = balancer.stdout.split("\n");
  assertEquals(JSON.parse(line!).services.length, 9);
  for (const address of [VIP, VIP6, "192.168.101.2"]) {
    for (const port of [80, 8080]) {
      assertEquals(Object.keys(await served(address, port, 40)).sort(), ["d1", "d2"]);
    }
  }
  for (const address of [VIP, VIP6]) {
    const options = { address, port: LAB_ECHO_PORT, connections: 40, intervalMs: 50 };
    await using held = await Held.open(lab.client, { ...options, mode: "talk" });
    const { destinations, moves, failures } = await held.end();
    assertEquals({ moves, failures }, { moves: {}, failures: {} });
    assertEquals(Object.keys(destinations).sort(), ["d1", "d2"]);
  }
  await balancer.end("SIGTERM");
});

scriptTest("a client of a sticky service stays with one server", async () => {
  await using balancer = await start("-r", "0", "-s", ...GOOD);
  assertEquals(Object.keys(await served(VIP, 80, 50)).length, 1);
  await balancer.end("SIGTERM");
});

scriptTest("several interfaces, each in its mode", async () => {
  const ip = (...args: string[]): Promise<string> => lab.balancer.run(["ip", "link", ...args]);
  await ip("add", "eth1", "type", "veth", "peer", "name", "eth1-peer");
  try {
    await using balancer = await start("-r", "0", "eth0,eth1", ...GOOD.slice(1));
    assertStringIncludes(balancer.stdout, "eth0 (generic), eth1 (generic)");
    assertEquals(await xdpPrograms(lab.balancer), { eth0: "xvs", eth1: "xvs" });
    await ip("delete", "eth1");
    await balancer.until((stdout) => stdout.includes("eth0 (generic), eth1 (gone)"));
    await served(VIP, 80, 20);
    await balancer.end("SIGTERM");
  } finally {
    await ip("delete", "eth1").catch(() => {});
  }
});

scriptTest("a server that does not answer gets nothing until it does", async () => {
  const late = "10.1.0.77";
  await using balancer = await start("-r", "0", "eth0", "auto", VIP, RIPS[0], late);
  assertMatch(balancer.stdout, new RegExp(`${late} +no neighbour`));
  assertEquals(Object.keys(await served(VIP, 80, 30)), ["d1"]);
  await lab.destinations[1]!.run(["ip", "address", "add", `${late}/24`, "dev", "eth0"]);
  await balancer.until((stdout) => new RegExp(`${late} +up`).test(stdout));
  assertEquals(Object.keys(await served(VIP, 80, 60)).sort(), ["d1", "d2"]);
  await balancer.end("SIGTERM");
});
