/** Instances that outlive a client, and are known by the maps alone. */

import { assert, assertEquals, assertRejects } from "@std/assert";
import { ABI_VERSION } from "../../lib/lb/abi.gen.ts";
import { Instance } from "../../lib/lb/instance.ts";
import { InstanceLock, RUN_DIRECTORY } from "../../lib/lb/lock.ts";
import {
  AbiError,
  Client,
  InstanceBusyError,
  InstanceExistsError,
  InstanceNotFoundError,
  InvalidValueError,
  ReadOnlyError,
  XvsError,
} from "../../mod.ts";
import { destinations, hop, openFiles, service, unresolved } from "./support.ts";
import { fill, Pinned, said } from "./pinned.ts";

Deno.test("another client finds everything that was set, from the maps alone", async () => {
  await using pinned = new Pinned();
  pinned.nextHops.answers.set("10.0.0.2", unresolved("10.0.0.2"));
  const via = hop(9, {
    ifindex: 7,
    interface: "bond0.100",
    vlan: 100,
    source6: undefined,
    mtu: 9000,
  });
  pinned.nextHops.answers.set("10.0.0.3", via);
  const first = await pinned.create();
  await fill(first);
  await first.block("198.51.100.0/24");
  const before = said(first), blocked = first.blocked();
  const vips = first.vips().map(({ address, unknownPort }) => [address, unknownPort]);
  await first.close();
  const files = openFiles();
  await using second = await pinned.open();
  assertEquals(said(second), before);
  assertEquals(second.blocked(), blocked);
  assertEquals(second.vips().map(({ address, unknownPort }) => [address, unknownPort]), vips);
  const next = second.destinations(service(1)).map(({ mac, interface: name }) => [mac, name]);
  assertEquals(next[0], ["02:00:00:00:00:09", "bond0.100"]);
  assertEquals(next[2], [undefined, undefined]);
  await second.close();
  assertEquals(openFiles(), files);
});

Deno.test("what one client changes another sees at once, and goes on from there", async () => {
  await using pinned = new Pinned();
  await using one = await pinned.create();
  await using two = await pinned.open();
  await using three = await pinned.open(true);
  await fill(one);
  assertEquals(said(two), said(one));
  await two.removeDestination(service(1), { address: "10.0.0.1" });
  await one.createDestination(service(1), { address: "10.0.0.9" });
  await two.updateService(service(1, { idleTimeout: 5 }));
  assertEquals(said(one), said(two));
  assertEquals(said(three), said(two));
  assertEquals(
    one.destinations(service(1)).map(({ destination }) => destination.address),
    ["10.0.0.3", "10.0.0.2", "10.0.0.9"],
  );
  await one.removeService(service(1));
  assertEquals(said(three), said(one));
  assertEquals(three.services().length, 2);
});

Deno.test("two clients that change at once do it one after the other, and lose nothing", async () => {
  await using pinned = new Pinned();
  await using one = await pinned.create();
  await using two = await pinned.open();
  await one.createService(service(1));
  await Promise.all(
    destinations(20).map((each, i) =>
      (i % 2 === 0 ? one : two).createDestination(service(1), each)
    ),
  );
  assertEquals(one.destinations(service(1)).length, 20);
  assertEquals(said(two), said(one));
  using instance = Instance.open(pinned.name);
  const slots = [...instance.destinationRecords.written()].filter(([, { used }]) => used === 1);
  assertEquals(slots.length, 20);
});

Deno.test("rings survive: a flow keeps its destination, and a change by another client tracks it", async () => {
  await using pinned = new Pinned();
  await using one = await pinned.create();
  await one.setService(service(1), ...destinations(3));
  using instance = Instance.open(pinned.name);
  const before = instance.ringId(0);
  await using two = await pinned.open();
  await two.updateDestination(service(1), { address: "10.0.0.1" }); // no change at all
  assertEquals(instance.ringId(0), before);
  await two.updateDestination(service(1), { address: "10.0.0.1", disable: true });
  assert(instance.ringId(0) !== before);
  assert(instance.serviceRecords.get(0)!.settleNs > 0n);
});

Deno.test("a name is given once, and cannot be anything", async () => {
  await using pinned = new Pinned();
  await using _ = await pinned.create();
  await assertRejects(() => pinned.create(), InstanceExistsError, "it exists already");
  for (const instance of ["", "a.b", "a/b", "x".repeat(65), "a+b"]) {
    await assertRejects(
      () => Client.create([], { instance }),
      InvalidValueError,
      "a name is 1 to 64",
    );
    await assertRejects(() => Client.open(instance), InvalidValueError);
    await assertRejects(() => Client.remove(instance), InvalidValueError);
  }
});

Deno.test("a client that is read only changes nothing", async () => {
  await using pinned = new Pinned();
  await using writer = await pinned.create();
  await fill(writer);
  await using reader = await pinned.open(true);
  const before = said(reader);
  const changes: (() => Promise<void>)[] = [
    () => reader.createService(service(9)),
    () => reader.removeService(service(1)),
    () => reader.block("10.0.0.0/8"),
    () => reader.attach("lo"),
    () => reader.setConfig({}),
    () => reader.upgrade(),
  ];
  for (const change of changes) await assertRejects(change, ReadOnlyError, pinned.name);
  assertEquals(said(reader), before);
});

Deno.test("another ABI is refused, with the way out, and can be listed and removed", async () => {
  await using pinned = new Pinned();
  await (await pinned.create()).close();
  {
    using instance = Instance.open(pinned.name);
    instance.adjust({ abiVersion: ABI_VERSION + 1 });
  }
  const error = await assertRejects(() => pinned.open(), AbiError, '"save" its services');
  assertEquals([error.found, error.expected], [ABI_VERSION + 1, ABI_VERSION]);
  const info = (await Client.instances()).find(({ name }) => name === pinned.name)!;
  assertEquals([info.abiVersion, info.current], [ABI_VERSION + 1, false]);
  await Client.remove(pinned.name);
  await assertRejects(() => pinned.open(), InstanceNotFoundError);
});

Deno.test("who waits for the lock too long hears who has it", async () => {
  await using pinned = new Pinned();
  await (await pinned.create()).close();
  const lock = await InstanceLock.take(pinned.name);
  const heard: string[] = [];
  const logger = { debug: () => {}, warn: (text: string) => void heard.push(text) };
  const waiting = InstanceLock.take(pinned.name, { timeoutMs: 1200, logger });
  const error = await assertRejects(() => waiting, InstanceBusyError, `process ${Deno.pid} "`);
  assertEquals(error.pid, Deno.pid);
  assertEquals(heard.length, 1);
  lock[Symbol.dispose]();
  (await InstanceLock.take(pinned.name, { timeoutMs: 100 }))[Symbol.dispose]();
});

Deno.test("a reader sees every change whole, while another process makes one after the other", async () => {
  await using pinned = new Pinned();
  await using reader = await pinned.create();
  const sets = [destinations(4, 0), destinations(6, 1)];
  await reader.setService(service(1), ...sets[0]!);
  const script = new URL("flipper.ts", import.meta.url).pathname;
  const args = [
    "run",
    "-A",
    "--no-check",
    script,
    JSON.stringify([pinned.name, service(1), sets, 60]),
  ];
  const flipper = new Deno.Command(Deno.execPath(), { args }).spawn();
  let ended = false;
  const status = flipper.status.then(({ success }) => {
    ended = true;
    return success;
  });
  const addresses = (list: { address: string }[]) => list.map(({ address }) => address).join();
  const wanted = sets.map(addresses);
  let looks = 0, changes = 0, last = "";
  while (!ended) {
    const found = addresses(reader.destinations(service(1)).map((each) => each.destination));
    assert(wanted.includes(found), found);
    if (found !== last) changes++;
    last = found;
    if (looks++ % 50 === 0) await new Promise((resolve) => setTimeout(resolve, 0));
  }
  assert(await status);
  assert(changes > 10 && looks > changes, `${looks} looks, ${changes} changes`);
});

Deno.test("a client whose instance was removed, or made anew, changes nothing any more", async () => {
  await using pinned = new Pinned();
  await using client = await pinned.create();
  await Client.remove(pinned.name);
  await assertRejects(() => client.createService(service(1)), XvsError, "somebody has removed it");
  assert(![...Deno.readDirSync(RUN_DIRECTORY)].some((e) => e.name.startsWith(pinned.name)));
  await using other = await pinned.create();
  await assertRejects(() => client.createService(service(1)), XvsError, "somebody has removed it");
  assertEquals(other.services(), []);
});

Deno.test("a client that does not follow finds next hops again for what it touches", async () => {
  await using pinned = new Pinned();
  await using client = await pinned.create();
  await client.setService(service(1), ...destinations(2));
  await client.setService(service(2), ...destinations(1));
  pinned.nextHops.answers.set("10.0.0.1", hop(7)).set("10.0.0.2", unresolved("10.0.0.2"));
  await client.updateService(service(1, { idleTimeout: 5 }));
  const macs = (last: number) =>
    client.destinations(service(last)).map(({ mac }) => mac!.slice(-2));
  assertEquals([macs(1), macs(2)], [["07", "01"], ["01"]]);
});

Deno.test("whoever changes something settles what is due, though another process made it so", async () => {
  await using pinned = new Pinned();
  await using one = await pinned.create();
  await one.setService(service(1, { idleTimeout: 1 }), ...destinations(2));
  await one.setService(service(1, { idleTimeout: 1 }), ...destinations(3));
  using instance = Instance.open(pinned.name);
  const settleNs = () => instance.serviceRecords.get(0)!.settleNs;
  assert(settleNs() > 0n);
  await using two = await pinned.open();
  await two.createService(service(2));
  assert(settleNs() > 0n, "settled too early");
  while (instance.clock() <= settleNs()) await new Promise((resolve) => setTimeout(resolve, 50));
  await two.createService(service(3));
  assertEquals(settleNs(), 0n);
  // Whoever settled it was killed before it could say so.
  const record = instance.serviceRecords.get(0)!;
  instance.serviceRecords.set(0, { ...record, settleNs: 1n });
  instance.adjust({ revision: instance.revision + 2n });
  await one.createService(service(4));
  assertEquals(settleNs(), 0n);
});

Deno.test("a journal that cannot be written is an error, and nothing has changed", async () => {
  await using pinned = new Pinned();
  await using client = await pinned.create();
  await using other = await pinned.open();
  const inTheWay = `${RUN_DIRECTORY}/${pinned.name}.journal.new`;
  Deno.mkdirSync(inTheWay);
  await assertRejects(() => client.createService(service(1)), Error, "directory");
  Deno.removeSync(inTheWay);
  assertEquals([client.services(), other.services()], [[], []]);
  await other.createService(service(1));
  assertEquals(client.services().length, 1);
});
