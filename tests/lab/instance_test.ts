/**
 * Traffic does not notice what becomes of processes: kill -9 at any time, upgrades, changes by one process after
 * the other. What breaks and what stalls is counted by the clients.
 *
 * @module
 */
import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { elfOf } from "../../lib/bpf/mod.ts";
import { OBJECT } from "../../lib/lb/xvs.gen.ts";
import { Lab, LAB_ECHO_PORT } from "../../lib/net/lab.ts";
import { run } from "../../lib/net/command.ts";
import { neighbours } from "../../lib/net/ip.ts";
import { Held } from "../../lib/net/lab_client.ts";
import { Client, type Destination, type DestinationExtended, type Info } from "../../mod.ts";
import { Remote } from "./remote.ts";

const NAME = `instance_${Deno.pid}`;
const CONNECTIONS = 2000;
const SERVERS = 4;
/** Each connection says something that often. */
const INTERVAL_MS = 1000;
const STALL_MS = 1000;

let lab: Lab;

Deno.test.beforeAll(async () => {
  lab = await Lab.create({ name: NAME, destinations: SERVERS });
});

Deno.test.afterAll(async () => {
  await lab?.remove();
});

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

/** The addresses that the kernel keeps resolved for us, in the balancer's namespace. */
async function kept(): Promise<string[]> {
  return (await neighbours(lab.balancer.namespace))
    .filter(({ managed, protocol }) => managed && protocol === "120")
    .map(({ address }) => address.toString())
    .sort();
}

Deno.test("lab: neighbours stay resolved without a process, as long as a destination needs them", async () => {
  const service = { address: lab.vips.find((address) => !address.includes(":"))!, port: 80 };
  const [a, b] = lab.destinations.map(({ address4 }) => address4) as [string, string];
  const remote = await Remote.create(lab, { instance: NAME });
  try {
    await remote.call("setService", service, { address: a }, { address: b });
    await remote[Symbol.asyncDispose]();
    assertEquals(await kept(), [a, b].sort());
    {
      await using other = await Remote.open(lab, NAME);
      await other.call("removeDestination", service, { address: a });
    }
    assertEquals(await kept(), [b]);
    const script = `import { Client } from "${new URL("../../mod.ts", import.meta.url)}";
      await Client.remove("${NAME}");`;
    await lab.balancer.run([Deno.execPath(), "eval", script]);
    assertEquals(await kept(), []);
  } finally {
    await Client.remove(NAME).catch(() => {});
  }
});

Deno.test("lab: where ip netns exec hides the pins, the error says so", async () => {
  const script = `import { Client } from "${new URL("../../mod.ts", import.meta.url)}";
    for (const make of [() => Client.open("${NAME}"), () => Client.create([], { instance: "${NAME}" })]) {
      await make().catch(({ name, message }) => console.log(name, message));
    }`;
  const { name } = lab.balancer.namespace;
  const said = await run(["ip", "netns", "exec", name, Deno.execPath(), "eval", script]);
  const [open, create] = said.split("\n");
  assertStringIncludes(
    open!,
    `InstanceNotFoundError Instance "${NAME}" does not exist: there is no bpffs`,
  );
  assertStringIncludes(create!, `XvsError Cannot create instance "${NAME}": there is no bpffs`);
  for (const line of [open, create]) assertStringIncludes(line!, "nsenter --net=/run/netns/NAME");
});

/** Has a process change a service over and over, and kills it at some time or other. */
async function killWhileChanging(
  service: { address: string; port: number },
  sets: Destination[][],
  afterMs: number,
): Promise<void> {
  const remote = await Remote.open(lab, NAME);
  let killed = false;
  const changing = (async () => {
    for (let i = 0; !killed; i++) {
      await remote.call("setService", service, ...sets[i % sets.length]!);
    }
  })().catch(() => {});
  await pause(afterMs);
  killed = true;
  await remote.kill();
  await changing;
}

Deno.test("lab: 2,000 connections outlive every process, an upgrade and changes", async () => {
  const service = {
    address: lab.vips.find((address) => !address.includes(":"))!,
    port: LAB_ECHO_PORT,
  };
  const all: Destination[] = lab.destinations.map(({ address4 }) => ({ address: address4 }));
  const first = await Remote.create(lab, { instance: NAME });
  try {
    await first.call("setService", service, ...all.slice(0, 3));
    await using held = await Held.open(lab.client, {
      ...service,
      connections: CONNECTIONS,
      intervalMs: INTERVAL_MS,
    });
    await first.kill();
    await pause(1000);

    // Weights, draining, and a server more; every server that has connections stays.
    const sets = [
      [{ ...all[0]!, weight: 5 }, { ...all[1]!, disable: true }, all[2]!],
      [all[0]!, { ...all[1]!, weight: 3 }, all[2]!, all[3]!],
      [{ ...all[0]!, disable: true }, all[1]!, all[2]!, { ...all[3]!, weight: 9 }],
    ];
    for (let i = 0; i < 10; i++) await killWhileChanging(service, sets, 150 + 97 * i);

    // Another object; from here, as the program has nothing to do with network namespaces.
    const current = async () =>
      (await Client.instances()).find(({ name }) => name === NAME)!.current;
    {
      await using here = await Client.open(NAME);
      await here.upgrade(Uint8Array.from([...await elfOf(OBJECT), 0]));
    }
    assert(!await current());

    const second = await Remote.open(lab, NAME, { follow: true });
    await second.call("attach", lab.balancer.interface);
    await pause(500);
    await second.kill();

    await using third = await Remote.open(lab, NAME);
    await third.call("upgrade");
    assert(await current());
    await third.call("setService", service, ...all);
    const { interfaces } = await third.call<Info>("info");
    assertEquals(interfaces.map(({ name }) => name), [lab.balancer.interface]);
    const members = await third.call<DestinationExtended[]>("destinations", service);
    assertEquals(
      members.map(({ destination }) => destination.address).sort(),
      all.map((d) => d.address).sort(),
    );

    const { answers, slowestMs, failures, destinations } = await held.end();
    assertEquals(failures, {});
    assertEquals(Object.values(destinations).reduce((sum, n) => sum + n, 0), CONNECTIONS);
    assert(answers >= 6 * CONNECTIONS, `${answers} answers`);
    assert(slowestMs <= STALL_MS, `a connection stalled for ${slowestMs} ms`);
  } finally {
    await first.kill().catch(() => {});
    await Client.remove(NAME);
  }
  const left = [...Deno.readDirSync("/sys/fs/bpf")].map(({ name }) => name);
  assert(!left.includes("xvs") || !(await Client.instances()).some(({ name }) => name === NAME));
});
