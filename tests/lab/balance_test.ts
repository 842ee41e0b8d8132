/**
 * The balancer between real sockets: a client, five servers, and the API driven in the balancer's
 * namespace.
 *
 * @module
 */
import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { Lab, LAB_ECHO_PORT } from "../../lib/net/lab.ts";
import { Held, type LabLoadResult, spread } from "../../lib/net/lab_client.ts";
import type { Destination, DestinationExtended, Info, Service } from "../../mod.ts";
import { Remote } from "./remote.ts";

const NAME = `balance_${Deno.pid}`;
const SERVERS = 5;
/** So many that a share of a quarter is within 10 % of it unless something is wrong (4 sigma). */
const CONNECTIONS = 6000;

/** One lab for all tests of this file; each has a balancer of its own. */
let lab: Lab;

function labTest(name: string, test: () => Promise<void>): void {
  Deno.test(`lab: ${name}`, test);
}

Deno.test.beforeAll(async () => {
  lab = await Lab.create({ name: NAME, destinations: SERVERS });
});

Deno.test.afterAll(async () => {
  await lab?.remove();
});

function vip(family: 4 | 6): string {
  return lab.vips.find((address) => address.includes(":") === (family === 6))!;
}

function destinations(family: 4 | 6, count = SERVERS): Destination[] {
  return lab.destinations.slice(0, count)
    .map(({ address4, address6 }) => ({ address: family === 4 ? address4 : address6 }));
}

function assertNoLoss(result: LabLoadResult): void {
  assertEquals(result.failures, {});
}

for (const family of [4, 6] as const) {
  labTest(`connections over IPv${family} spread within 10 % of the weights`, async () => {
    const service = { address: vip(family), port: 80 };
    const weights = [1, 1, 2];
    const set = destinations(family, 3).map((each, i) => ({ ...each, weight: weights[i]! }));
    await using remote = await Remote.create(lab);
    await remote.call("setService", service, ...set);
    const result = await spread(lab.client, { ...service, connections: CONNECTIONS });
    assertNoLoss(result);
    weights.forEach((weight, i) => {
      const share = result.destinations[lab.destinations[i]!.name]! / CONNECTIONS;
      const wanted = weight / 4;
      assert(Math.abs(share - wanted) <= wanted / 10, `${share} instead of ${wanted}`);
    });
  });

  labTest(
    `a UDP flow over IPv${family} stays where it is while a server leaves and comes`,
    async () => {
      const service: Service = { address: vip(family), port: LAB_ECHO_PORT, protocol: "udp" };
      const all = destinations(family);
      await using remote = await Remote.create(lab);
      await remote.call("setService", service, ...all);
      await using held = await Held.open(lab.client, {
        ...service,
        mode: "talk",
        connections: 300,
        intervalMs: 50,
      });
      await remote.call("removeDestination", service, all[4]);
      await new Promise((resolve) => setTimeout(resolve, 300));
      await remote.call("createDestination", service, all[4]);
      await new Promise((resolve) => setTimeout(resolve, 300));
      const { destinations: before, moves, failures } = await held.end();
      assertEquals(failures, {});
      // Only flows of the server that left moved, each once, and none came back.
      const left = lab.destinations[4]!.name;
      const moved = Object.entries(moves);
      assert(moved.every(([move]) => move.startsWith(`${left}>`)), JSON.stringify(moves));
      assertEquals(moved.reduce((sum, [, count]) => sum + count, 0), before[left]);
      assert(before[left]! > 0);
    },
  );

  labTest(
    `draining over IPv${family} keeps open connections, and sends new ones elsewhere`,
    async () => {
      const http = { address: vip(family), port: 80 };
      const echo = { address: vip(family), port: LAB_ECHO_PORT };
      const all = destinations(family, 3);
      await using remote = await Remote.create(lab);
      await remote.call(
        "setServices",
        [http, echo].map((service) => ({ service, destinations: all })),
      );
      await using held = await Held.open(lab.client, { ...echo, connections: 90, intervalMs: 20 });
      for (const service of [http, echo]) {
        await remote.call("updateDestination", service, { ...all[0], disable: true });
      }
      const meanwhile = await spread(lab.client, { ...http, connections: 500 });
      assertNoLoss(meanwhile);
      assertEquals(meanwhile.destinations[lab.destinations[0]!.name], undefined);
      const kept = await held.end();
      assertNoLoss(kept);
      assert(kept.destinations[lab.destinations[0]!.name]! > 0);
    },
  );

  labTest(`5 MB go up and down over IPv${family}, intact`, async () => {
    const service = { address: vip(family), port: 80 };
    await using remote = await Remote.create(lab);
    await remote.call("setService", service, ...destinations(family, 2));
    const size = 5_000_000;
    const pattern = Uint8Array.from({ length: size }, (_, i) => i % 251);
    const hash = new Uint8Array(await crypto.subtle.digest("SHA-256", pattern)).toHex();
    const host = family === 6 ? `[${service.address}]` : service.address;
    const download = await Deno.makeTempFile();
    const upload = await Deno.makeTempFile();
    try {
      await lab.client.run(["curl", "-sS", "-o", download, `http://${host}/bytes/${size}`]);
      assertEquals(await Deno.readFile(download), pattern);
      await Deno.writeFile(upload, pattern);
      const url = `http://${host}/count`;
      const counted = await lab.client.run(["curl", "-sS", "--data-binary", `@${upload}`, url]);
      assertEquals(JSON.parse(counted), { bytes: size, sha256: hash });
    } finally {
      await Deno.remove(download);
      await Deno.remove(upload);
    }
  });

  labTest(`a ping of an IPv${family} VIP is answered by the balancer`, async () => {
    const service = { address: vip(family), port: 80 };
    await using remote = await Remote.create(lab);
    await remote.call("setService", service, ...destinations(family, 1));
    const output = await lab.client.run([
      "ping",
      "-c",
      "3",
      "-i",
      "0.2",
      "-W",
      "1",
      service.address,
    ]);
    assertStringIncludes(output, " 0% packet loss");
    const { metrics } = await remote.call<Info>("info");
    assertEquals(Number(metrics.icmp_echo_request), 3);
  });
}

labTest("changes under load lose no connection", async () => {
  const service = { address: vip(4), port: 80 };
  const all = destinations(4);
  await using remote = await Remote.create(lab);
  await remote.call("setService", service, ...all);
  const load = spread(lab.client, { ...service, connections: CONNECTIONS });
  assert(await remote.call<number>("latency", 50) > 0);
  let done = false;
  load.finally(() => done = true);
  let changes = 0;
  for (; !done; changes++) {
    // Every server drains and returns in turn, and weights wander.
    const set = all.map((each, i) => ({
      ...each,
      disable: changes % SERVERS === i,
      weight: 1 + (changes + i) % 3,
    }));
    await remote.call("setService", { ...service, sticky: changes % 7 === 0 }, ...set);
  }
  assertNoLoss(await load);
  assert(changes > 10, `only ${changes} changes`);
});

labTest("a server that gets another MAC keeps its connections", async () => {
  const service = { address: vip(4), port: LAB_ECHO_PORT };
  const [server] = lab.destinations;
  await using remote = await Remote.create(lab);
  await remote.call("setService", service, ...destinations(4, 1));
  await using held = await Held.open(lab.client, { ...service, connections: 5, intervalMs: 20 });
  await server!.run(["ip", "link", "set", server!.interface, "address", "02:00:00:00:99:99"]);
  try {
    await lab.balancer.run(["ip", "neigh", "flush", "dev", lab.balancer.interface]);
    const deadline = performance.now() + 3000;
    while (true) {
      const [{ mac }] = await remote.call<[DestinationExtended]>("destinations", service);
      if (mac === "02:00:00:00:99:99") break;
      assert(performance.now() < deadline, `the destination's MAC is still ${mac}`);
    }
    assertNoLoss(await held.end());
  } finally {
    await server!.run(["ip", "link", "set", server!.interface, "address", server!.mac]);
    await lab.balancer.run(["ip", "neigh", "flush", "dev", lab.balancer.interface]);
  }
});

labTest("a killed process leaves nothing attached", async () => {
  const remote = await Remote.create(lab);
  const attached = async () =>
    (await lab.balancer.run(["ip", "-d", "link", "show", "dev", lab.balancer.interface])).includes(
      "xdp",
    );
  assert(await attached());
  Deno.kill(remote.pid, "SIGKILL");
  await remote[Symbol.asyncDispose]();
  assert(!await attached());
});
