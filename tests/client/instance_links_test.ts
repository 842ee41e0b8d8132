/** What becomes of interfaces and programs of instances that have a name; each test in a network of its own. */

import { assert, assertEquals, assertRejects } from "@std/assert";
import { queryXdp, u32 } from "../../lib/bpf/mod.ts";
import { ABI_VERSION } from "../../lib/lb/abi.gen.ts";
import { Instance } from "../../lib/lb/instance.ts";
import { RUN_DIRECTORY } from "../../lib/lb/lock.ts";
import { Store } from "../../lib/lb/store.ts";
import { Client, InstanceNotFoundError, XdpBusyError } from "../../mod.ts";
import { assertMapGone, loaded, Network, run } from "../bpf/support.ts";
import { destinations, service } from "./support.ts";
import { fill, Pinned, said } from "./pinned.ts";

const ROOT = "/sys/fs/bpf/xvs";

function pins(name: string): string[] {
  return [...Deno.readDirSync(`${ROOT}/${name}`)].map((entry) => entry.name);
}

function attached(ifindex: number): boolean {
  return queryXdp(ifindex).generic !== undefined;
}

Deno.test("an instance outlives its client with its interfaces, and goes when it is removed", async () => {
  using network = new Network();
  await using pinned = new Pinned();
  const client = await pinned.create(["left"]);
  await client.close();
  assert(attached(network.ifindex));
  const info = (await Client.instances()).find(({ name }) => name === pinned.name)!;
  assertEquals([info.abiVersion, info.current, info.services], [ABI_VERSION, true, 0]);
  assertEquals(info.interfaces, [{ name: "left", index: network.ifindex, mode: "generic" }]);
  await using again = await pinned.open();
  await again.attach("right");
  await again.detach("left");
  assertEquals(again.info().interfaces.map(({ name }) => name), ["right"]);
  assert(!attached(network.ifindex));
  await again.attach("left", "right");
  await again.close();
  await Client.remove(pinned.name);
  assert(!attached(network.ifindex));
  assertEquals((await Client.instances()).filter(({ name }) => name === pinned.name), []);
  await assertRejects(
    () => pinned.open(),
    InstanceNotFoundError,
    `"${pinned.name}" does not exist`,
  );
  await assertRejects(() => Client.remove(pinned.name), InstanceNotFoundError);
  assert(![...Deno.readDirSync(RUN_DIRECTORY)].some((e) => e.name.startsWith(pinned.name)));
});

Deno.test("an interface that has gone is forgotten by the next change", async () => {
  using _ = new Network();
  await using pinned = new Pinned();
  await using client = await pinned.create(["left"]);
  run("ip", "link", "delete", "left");
  assertEquals(client.info().interfaces.map(({ mode }) => mode), [undefined]);
  await client.createService(service(1));
  assertEquals(client.info().interfaces, []);
  assert(!pins(pinned.name).some((pin) => pin.startsWith("link_")));
});

Deno.test("somebody else's program stays, and the instance is not made", async () => {
  using network = new Network();
  using foreign = loaded();
  using link = foreign.program("pass").attachXdp(network.ifindex, { mode: "generic" });
  await using pinned = new Pinned();
  await assertRejects(() => pinned.create(["right", "left"]), XdpBusyError, '"pass"');
  assertEquals(queryXdp(network.ifindex).generic, foreign.program("pass").id);
  await assertRejects(() => pinned.open(), InstanceNotFoundError);
  assert(!Store.names().includes(pinned.name) && !Store.leftovers().includes(pinned.name));
  await using _ = await pinned.create(["left"], { replace: true });
  assert(!link.attached);
  assert(queryXdp(network.ifindex).generic !== foreign.program("pass").id);
});

Deno.test("what a killed process has left of a new instance, or of one removed, is swept away", async () => {
  using network = new Network();
  await using pinned = new Pinned();
  const client = await pinned.create(["left"]);
  await client.close();
  Deno.renameSync(`${ROOT}/${pinned.name}`, `${ROOT}/${pinned.name}+old`);
  assert(attached(network.ifindex));
  assertEquals((await Client.instances()).filter(({ name }) => name === pinned.name), []);
  assert(!attached(network.ifindex));
  Deno.mkdirSync(`${ROOT}/${pinned.name}+new`, { recursive: true });
  await using _ = await pinned.create(["left"]);
  assert(attached(network.ifindex));
});

Deno.test("upgrade() replaces the program and keeps maps, flows and counters", async () => {
  using network = new Network();
  await using pinned = new Pinned();
  await using client = await pinned.create(["left"]);
  await fill(client);
  await using other = await pinned.open();
  using instance = Instance.open(pinned.name);
  const flow = new Uint8Array(16).fill(1);
  instance.flows4.update(flow, new Uint8Array(16).fill(2));
  const before = { said: said(client), program: queryXdp(network.ifindex).generic };
  await client.upgrade();
  assert(queryXdp(network.ifindex).generic !== before.program);
  assertEquals(instance.program.id, queryXdp(network.ifindex).generic);
  assertEquals(said(other), before.said);
  assertEquals(instance.flows4.lookup(flow), new Uint8Array(16).fill(2));
  await other.createService(service(7));
  assertEquals(client.services().length, 4);
  instance.program.testRun({ data: new Uint8Array(64), ingressIfindex: 1 });
  assertEquals(instance.reasonCounters.sum(1)[0], 1n);
  assertEquals(instance.map("rings").lookup(u32(0)) !== undefined, true);
  assert(!pins(pinned.name).includes("program+new"));
});

Deno.test("instances of several namespaces work side by side", async () => {
  using here = new Network();
  await using one = new Pinned();
  await using client = await one.create(["left"]);
  {
    using there = new Network();
    await using two = new Pinned();
    await using other = await two.create(["left"]);
    assertEquals([here.ifindex, attached(there.ifindex)], [there.ifindex, true]);
    await other.setService(service(1), ...destinations(1));
    const names = (await Client.instances()).map(({ name }) => name);
    assert(names.includes(one.name) && names.includes(two.name));
    await Client.remove(two.name);
    assert(!attached(there.ifindex));
  }
  assert(attached(here.ifindex));
  assertEquals(client.services(), []);
});

Deno.test("nothing in the kernel is left of an instance that was removed", async () => {
  using _ = new Network();
  await using pinned = new Pinned();
  const client = await pinned.create(["left"]);
  await fill(client);
  const ids: number[] = [];
  {
    using instance = Instance.open(pinned.name);
    ids.push(...[...instance.maps.values()].map(({ id }) => id), instance.ringId(0));
  }
  await client.close();
  await Client.remove(pinned.name);
  for (const id of ids) await assertMapGone(id);
});

Deno.test("an interface that is renamed stays attached, and goes by its new name", async () => {
  using network = new Network();
  await using pinned = new Pinned();
  await using client = await pinned.create(["left"]);
  run("ip", "link", "set", "left", "down");
  run("ip", "link", "set", "left", "name", "uplink");
  run("ip", "link", "set", "uplink", "up");
  assertEquals(client.info().interfaces.map(({ name, mode }) => [name, mode]), [[
    "uplink",
    "generic",
  ]]);
  await client.attach("uplink");
  assertEquals(client.info().interfaces.length, 1);
  await client.detach("uplink");
  assert(!attached(network.ifindex));
});
