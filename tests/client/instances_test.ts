/** Instances that outlive a client, in bpffs; each test has one of its own, in a network namespace of its own. */

import { assert, assertEquals, assertRejects } from "@std/assert";
import { queryXdp, u32 } from "../../lib/bpf/mod.ts";
import { ABI_VERSION } from "../../lib/lb/abi.gen.ts";
import { Instance } from "../../lib/lb/instance.ts";
import { InstanceLock, RUN_DIRECTORY } from "../../lib/lb/lock.ts";
import { Store } from "../../lib/lb/store.ts";
import {
  AbiError,
  Client,
  InstanceBusyError,
  InstanceExistsError,
  InstanceNotFoundError,
  InvalidValueError,
  type Options,
  ReadOnlyError,
  XdpBusyError,
  XvsError,
} from "../../mod.ts";
import { loaded, Network, run } from "../bpf/support.ts";
import { destinations, FakeNextHops, hop, openFiles, service, unresolved } from "./support.ts";

const SMALL = { maxServices: 8, maxDestinations: 32, maxFlows: 1024, maxBlocked: 16 };
const ROOT = "/sys/fs/bpf/xvs";
let count = 0;

/** An instance that is removed in the end, whatever the test makes of it. */
class Pinned implements AsyncDisposable {
  readonly name = `test${Deno.pid}_${++count}`;
  readonly nextHops = new FakeNextHops();

  create(interfaces: string[] = [], options: Options = {}): Promise<Client> {
    const complete = { ...SMALL, follow: false, instance: this.name, ...options };
    return Client.create(interfaces, complete, { nextHops: this.nextHops });
  }

  open(readOnly = false): Promise<Client> {
    return Client.open(this.name, { readOnly }, { nextHops: this.nextHops });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Client.remove(this.name).catch(() => {});
  }
}

/** Everything that a client says, but for what is counted. */
function said(client: Client): unknown {
  return client.services().map(({ service }) => ({
    service,
    destinations: client.destinations(service)
      .map(({ destination, mac, interface: name }) => ({ destination, mac, name })),
  }));
}

function pins(name: string): string[] {
  return [...Deno.readDirSync(`${ROOT}/${name}`)].map((entry) => entry.name);
}

function attached(ifindex: number): boolean {
  return queryXdp(ifindex).generic !== undefined;
}

async function fill(client: Client): Promise<void> {
  const [a, b, c] = destinations(3) as [
    { address: string },
    { address: string },
    { address: string },
  ];
  await client.setServices([
    {
      service: service(1, { sticky: true, idleTimeout: 77 }),
      destinations: [c, { ...a, weight: 3, disable: true, mtu: 1400 }, b],
    },
    {
      service: { address: "2001:db8::1", port: 53, protocol: "udp" },
      destinations: [
        { ...b, tunnelType: "gue", tunnelPort: 6080, tunnelEncapNoChecksum: true },
        { address: "2001:db8:9::1" },
      ],
    },
    { service: service(2, { port: 0 }), destinations: [] },
  ]);
}

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
  const vips = first.vips().map(({ address }) => address);
  await first.close();
  const files = openFiles();
  await using second = await pinned.open();
  assertEquals(said(second), before);
  assertEquals(second.blocked(), blocked);
  assertEquals(second.vips().map(({ address }) => address), vips);
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
