/** What happens to networks: interfaces that go and come, an MTU that shrinks, a namespace that is deleted. */
import { assert, assertEquals, assertRejects } from "@std/assert";
import { Lab, LAB_ECHO_PORT } from "../../lib/net/lab.ts";
import { Held, spread } from "../../lib/net/lab_client.ts";
import { Client, type Info, type InstanceEvent, XvsError } from "../../mod.ts";
import { Network, run } from "../bpf/support.ts";
import { FakeNextHops } from "../client/support.ts";
import { Remote } from "../lab/remote.ts";

const SMALL = { maxServices: 8, maxDestinations: 64, maxFlows: 256, maxBlocked: 4 };
const DEADLINE_MS = 10_000;

/** One lab for all tests of this file but the last; each has a balancer of its own. */
let lab: Lab;

Deno.test.beforeAll(async () => {
  lab = await Lab.create({ name: `misfortune_${Deno.pid}`, destinations: 3 });
});

Deno.test.afterAll(async () => {
  await lab?.remove();
});

function vip(): string {
  return lab.vips.find((address) => !address.includes(":"))!;
}

function servers(rest: Record<string, unknown> = {}): { address: string }[] {
  return lab.destinations.map(({ address4 }) => ({ address: address4, ...rest }));
}

/** Waits until it is so. */
async function until(what: string, so: () => Promise<boolean>): Promise<void> {
  const deadline = performance.now() + DEADLINE_MS;
  while (!await so()) {
    assert(performance.now() < deadline, `${what} within ${DEADLINE_MS / 1000} s`);
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}

async function isServed(): Promise<boolean> {
  const { failures } = await spread(lab.client, { address: vip(), port: 80, connections: 40 });
  return Object.keys(failures).length === 0;
}

Deno.test("an interface that was down serves again once it is up, and open connections go on", async () => {
  const { balancer } = lab;
  await using remote = await Remote.create(lab);
  for (const port of [80, LAB_ECHO_PORT]) {
    await remote.call("setService", { address: vip(), port }, ...servers());
  }
  await using held = await Held.open(lab.client, {
    address: vip(),
    port: LAB_ECHO_PORT,
    connections: 20,
    intervalMs: 20,
  });
  for (let round = 0; round < 2; round++) {
    await balancer.run(["ip", "link", "set", balancer.interface, "down"]);
    const { interfaces } = await remote.call<Info>("info");
    assertEquals(interfaces.map(({ name, mode }) => [name, mode]), [["eth0", "generic"]]);
    await remote.call("updateDestination", { address: vip(), port: 80 }, {
      ...servers()[0]!,
      weight: 2 + round,
    });
    await new Promise((resolve) => setTimeout(resolve, 500));
    await balancer.run(["ip", "link", "set", balancer.interface, "up"]);
    await until("everybody is served", isServed);
  }
  const { failures, slowestMs } = await held.end();
  assertEquals(failures, {});
  assert(slowestMs > 200, `no word was held up: ${slowestMs} ms`);
});

Deno.test("an MTU that shrinks is followed, and told to clients; and one that grows", async () => {
  const { balancer, client } = lab;
  const service = { address: vip(), port: 9, protocol: "udp" as const };
  await using remote = await Remote.create(lab);
  await remote.call("setService", service, ...servers({ tunnelType: "ipip" }));
  const metric = async (name: string): Promise<number> => {
    const { metrics } = await remote.call<{ metrics: Record<string, number> }>("service", service);
    return metrics[name] ?? 0;
  };
  // A datagram of 1,290 bytes, which may not be fragmented, and fits without a tunnel; the client forgets what it
  // was told.
  const send = async (): Promise<void> => {
    await client.run(["ip", "route", "flush", "cache"]);
    const command = `head -c 1262 /dev/zero >/dev/udp/${vip()}/9`;
    await client.attempt(["bash", "-c", command]);
  };
  const grows = async (name: string): Promise<boolean> => {
    const before = await metric(name);
    await send();
    return await metric(name) > before;
  };
  try {
    await until("it is forwarded", () => grows("forwarded"));
    await balancer.run(["ip", "link", "set", balancer.interface, "mtu", "1300"]);
    await until("it is too big", () => grows("too_big"));
    const route = await client.run(["ip", "route", "get", vip()]);
    assert(/mtu 1280\b/.test(route), route);
    await balancer.run(["ip", "link", "set", balancer.interface, "mtu", "1500"]);
    await until("it is forwarded again", () => grows("forwarded"));
  } finally {
    await balancer.run(["ip", "link", "set", balancer.interface, "mtu", "1500"]);
    await client.run(["ip", "route", "flush", "cache"]);
  }
});

Deno.test("an interface that is deleted, and one made anew, are told of", async () => {
  using _ = new Network();
  await using client = await Client.create(["left"], SMALL, { nextHops: new FakeNextHops() });
  const stop = new AbortController();
  const events: InstanceEvent[] = [];
  const listening = (async () => {
    for await (const event of client.events(stop.signal, { types: ["link"] })) events.push(event);
  })();
  const told = () =>
    events.map((event) => event.type === "link" && [event.change, event.interface.name]);
  run("ip", "link", "delete", "left");
  await until("it is told", () => Promise.resolve(events.length === 1));
  run("ip", "link", "add", "left", "type", "veth", "peer", "name", "right");
  await client.attach("left");
  await until("it is told", () => Promise.resolve(events.length === 2));
  assertEquals(told(), [["detached", "left"], ["attached", "left"]]);
  stop.abort();
  await listening;
});

Deno.test("an instance whose namespace was deleted says so, can be changed, and removed", async () => {
  const name = `orphan${Deno.pid}`;
  const other = await Lab.create({ name: `orphan_${Deno.pid}`, destinations: 1, servers: false });
  try {
    await using remote = await Remote.create(other, { instance: name });
    const service = { address: other.vips[0]!, port: 80 };
    await remote.call("setService", service, { address: other.destinations[0]!.address4 });
  } finally {
    await other.remove();
  }
  try {
    const info = (await Client.instances()).find((each) => each.name === name)!;
    assertEquals([info.namespace, info.interfaces.map(({ mode }) => mode)], [undefined, [
      undefined,
    ]]);
    await using client = await Client.open(name);
    assertEquals(client.info().interfaces.map(({ mode }) => mode), [undefined]);
    await client.createService({ address: "192.0.2.9", port: 80 });
    assertEquals(client.services().length, 2);
  } finally {
    await Client.remove(name);
  }
  await assertRejects(() => Client.open(name), XvsError, `Instance "${name}" does not exist`);
});
