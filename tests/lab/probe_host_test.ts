/**
 * What probes make of the host that they come from: many at once, instances side by side, a host without IPv6, and
 * what is left afterwards.
 *
 * @module
 */
import { assert, assertEquals, assertRejects } from "@std/assert";
import { Lab, LAB_ECHO_PORT, type LabNode } from "../../lib/net/lab.ts";
import type { Info } from "../../mod.ts";
import { url } from "./decap_script.ts";
import { Remote } from "./remote.ts";

const FAMILIES = [4, 6] as const;
const SERVERS = 5;
/** For each server; the ports that they come from are the same for all. */
const CONNECTIONS = 40;
/** What xvs waits for an answer. */
const XVS_PATIENCE_S = 5;
type Family = 4 | 6;

/** One lab for all tests of this file; each has a balancer of its own. */
let lab: Lab;

Deno.test.beforeAll(async () => {
  lab = await Lab.create({ name: `probe_host_${Deno.pid}`, destinations: SERVERS });
});

Deno.test.afterAll(async () => {
  await lab?.remove();
});

function vip(family: Family): string {
  return lab.vips.find((vip) => vip.includes(":") === (family === 6))!;
}

function addressOf(node: LabNode, family: Family): string {
  return family === 4 ? node.address4 : node.address6;
}

/** All servers behind one VIP, and the address to probe it on each by. */
async function probed(
  remote: Remote,
  family: Family,
  nodes: readonly LabNode[] = lab.destinations,
): Promise<string[]> {
  const destinations = nodes.map((node) => ({ address: addressOf(node, family) }));
  await remote.call("setService", { address: vip(family), port: LAB_ECHO_PORT }, ...destinations);
  const addresses: string[] = [];
  for (const { address } of destinations) {
    addresses.push(await remote.call<string>("nat", vip(family), address));
  }
  return addresses;
}

/** Names of interfaces and networks in the balancer's namespace that probes need. */
async function traces(): Promise<string[]> {
  const links = await lab.balancer.run(["ip", "-o", "link"]);
  const routes = await lab.balancer.run(["ip", "route", "show", "table", "all"]);
  const routes6 = await lab.balancer.run(["ip", "-6", "route", "show", "table", "all"]);
  return [...`${links}${routes}${routes6}`.matchAll(/\b(xvs\d\w*|24\d\.\d\S+|fd78:\S+)/g)]
    .map(([match]) => match);
}

async function answer(address: string): Promise<string> {
  const curl = ["curl", "-sS", "--max-time", "5", url(address, "/")];
  return (await lab.balancer.run(curl)).trim();
}

/**
 * Connections to all addresses at once, from the same ports for each. Each says something after a while; what
 * comes back begins with the server's name.
 */
const MANY = `
  const { connect } = await import("node:net");
  const [port, count, waitMs, ...addresses] = Deno.args;
  const talk = (host, i) => new Promise((resolve) => {
    let said = "";
    const socket = connect({ host, port: Number(port), localPort: 40000 + i });
    const fail = (error) => resolve(String(error));
    socket.setTimeout(Number(waitMs) + 20000, () => fail("timeout"));
    socket.on("error", fail);
    socket.on("connect", () => setTimeout(() => socket.end("hello"), Number(waitMs)));
    socket.on("data", (data) => said += data);
    socket.on("close", () => resolve(said));
  });
  const all = addresses.map((address) =>
    Promise.all(Array.from({ length: Number(count) }, (_, i) => talk(address, i))));
  console.log(JSON.stringify(await Promise.all(all)));
  Deno.exit(0);`;

for (const family of FAMILIES) {
  Deno.test(`lab: ${SERVERS * CONNECTIONS} probes over IPv${family} at once, with slow answers, do not mix`, async () => {
    await using remote = await Remote.create(lab);
    await remote.call("openProbes");
    const addresses = await probed(remote, family);
    const numbers = [LAB_ECHO_PORT, CONNECTIONS, (XVS_PATIENCE_S + 1) * 1000].map(String);
    const flags = ["--quiet", "--no-config", "--no-lock"];
    const said: string[][] = JSON.parse(
      await lab.balancer.run([Deno.execPath(), "eval", ...flags, MANY, ...numbers, ...addresses]),
    );
    assertEquals(
      said,
      lab.destinations.map(({ name }) => Array(CONNECTIONS).fill(`${name}\nhello`)),
    );
  });
}

Deno.test("lab: a client that is closed leaves nothing of its probes", async () => {
  assertEquals(await traces(), []);
  {
    await using remote = await Remote.create(lab);
    await remote.call("openProbes");
    await remote.call("openProbes"); // Once more is no error.
    const [address] = await probed(remote, 4);
    assertEquals(await answer(address!), `d1 ${lab.balancer.address4}`);
    const { ipv4, ipv6 } = await remote.call<Info>("info");
    assertEquals([ipv4, ipv6], ["240.0.0.0", "fd78:7673:7072:6f62::"]);
    assert((await traces()).includes("xvs0p"));
    await remote.call("closeProbes");
    assertEquals(await traces(), []);
    await assertRejects(
      () => remote.call("nat", vip(4), lab.destinations[0]!.address4),
      Error,
      "openProbes() comes first",
    );
    await remote.call("openProbes", { ipv4: "244.1.0.0/16", ipv6: "fd78:1::/96" });
    const again = await remote.call<string>("nat", vip(4), lab.destinations[0]!.address4);
    assertEquals(again, "244.1.0.1");
    assertEquals(await answer(again), `d1 ${lab.balancer.address4}`);
  }
  assertEquals(await traces(), []);
});

Deno.test("lab: what a killed client leaves of its probes goes with the next one's", async () => {
  const killed = await Remote.create(lab);
  await killed.call("openProbes");
  Deno.kill(killed.pid, "SIGKILL");
  await killed[Symbol.asyncDispose]();
  assert((await traces()).includes("xvs0p"));
  {
    await using remote = await Remote.create(lab);
    await remote.call("openProbes");
    assert(!(await traces()).includes("xvs1p"));
    const [address] = await probed(remote, 4);
    assertEquals(await answer(address!), `d1 ${lab.balancer.address4}`);
  }
  assertEquals(await traces(), []);
});

Deno.test("lab: interfaces that somebody removed are made again when they are asked for", async () => {
  await using remote = await Remote.create(lab);
  await remote.call("openProbes");
  const [address] = await probed(remote, 4);
  await lab.balancer.run(["ip", "link", "delete", "xvs0"]);
  await remote.call("openProbes");
  assertEquals(await remote.call("nat", vip(4), lab.destinations[0]!.address4), address);
  assertEquals(await answer(address!), `d1 ${lab.balancer.address4}`);
});

/** Another interface of the balancer on the same network, by which it reaches one server. */
async function secondInterface(server: LabNode): Promise<AsyncDisposable> {
  const { balancer } = lab;
  const peer = `second type veth peer eth1 netns ${balancer.namespace.name}`;
  await lab.switch.run(["ip", "link", "add", ...peer.split(" ")]);
  await lab.switch.run(["ip", "link", "set", "second", "up", "master", "br1"]);
  await balancer.run(["ethtool", "-K", "eth1", "tx", "off", "gro", "off"]);
  // Each interface answers for its own address alone.
  await balancer.run(["sysctl", "-qw", "net.ipv4.conf.all.arp_ignore=1"]);
  await balancer.run(["ip", "address", "add", "10.1.0.9/32", "dev", "eth1"]);
  await balancer.run(["ip", "link", "set", "eth1", "up"]);
  const route = `${server.address4}/32 dev eth1 src 10.1.0.9`;
  await balancer.run(["ip", "route", "add", ...route.split(" ")]);
  return {
    [Symbol.asyncDispose]: async () => void await balancer.run(["ip", "link", "delete", "eth1"]),
  };
}

Deno.test("lab: two instances probe side by side", async () => {
  const [one, two] = lab.destinations;
  await using _ = await secondInterface(two!);
  await using left = await Remote.create(lab);
  const eth1: LabNode = Object.create(lab.balancer, { interface: { value: "eth1" } });
  await using right = await Remote.create(lab, {}, eth1);
  await left.call("openProbes");
  await right.call("openProbes");
  const [toOne] = await probed(left, 4, [one!]);
  const [toTwo] = await probed(right, 4, [two!]);
  assertEquals([toOne, toTwo], ["240.0.0.1", "240.16.0.1"]);
  for (let i = 0; i < 3; i++) {
    assertEquals(await answer(toOne!), `d1 ${lab.balancer.address4}`);
    assertEquals(await answer(toTwo!), "d2 10.1.0.9");
  }
  await left.call("closeProbes");
  assertEquals(await answer(toTwo!), "d2 10.1.0.9");
  assert(!(await traces()).includes("xvs0p"));
});

// X37
Deno.test("lab: a host without IPv6 probes over IPv4", async () => {
  await using lab = await Lab.create({ name: `probe_v4_${Deno.pid}`, destinations: 1 });
  const off = ["all", "default"].map((scope) => `net.ipv6.conf.${scope}.disable_ipv6=1`);
  await lab.balancer.run(["sysctl", "-qw", ...off]);
  await using remote = await Remote.create(lab);
  await remote.call("openProbes");
  const server = { address: lab.destinations[0]!.address4 };
  for (const address of lab.vips) await remote.call("setService", { address, port: 80 }, server);
  const [address4, address6] = [lab.vips[0]!, lab.vips.find((each) => each.includes(":"))!];
  const address = await remote.call<string>("nat", address4, server.address);
  const curl = ["curl", "-sS", "--max-time", "5", url(address, "/")];
  assertEquals(await lab.balancer.run(curl), `d1 ${lab.balancer.address4}\n`);
  assertEquals((await remote.call<Info>("info")).ipv6, undefined);
  await assertRejects(
    () => remote.call("nat", address6, server.address),
    Error,
    "this host has no IPv6",
  );
});
