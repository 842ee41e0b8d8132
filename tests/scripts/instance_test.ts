/** Scripts that come one after the other to the same instance, in the namespace of a lab's balancer. */

import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { Lab } from "../../lib/net/lab.ts";
import { spread } from "../../lib/net/lab_client.ts";
import type { Flow, InstanceInfo, ServiceExtended } from "../../mod.ts";
import { assertClosedPipe, assertHelp, assertUsage, jsonOf, runScript } from "./process.ts";
import { xdpPrograms } from "./balancer.ts";

const NAME = `scripts_${Deno.pid}`;
const I = ["-i", NAME];
const VIP = "192.168.101.1", SERVICE = `${VIP}:80`;

let lab: Lab;

Deno.test.beforeAll(async () => {
  lab = await Lab.create({ name: NAME, destinations: 3 });
});

Deno.test.afterAll(async () => {
  await runScript(lab.balancer, "instances.ts", ["remove", NAME]);
  await lab?.remove();
});

function rips(): string[] {
  return lab.destinations.map(({ address4 }) => address4);
}

/** What a service has, as services.ts lists it. */
async function listed(): Promise<Record<string, unknown>[]> {
  const services = await jsonOf<{ destinations: Record<string, unknown>[] }>(
    lab.balancer,
    "services.ts",
    ...[...I, "list", SERVICE],
  );
  return services[0]!.destinations;
}

async function fails(script: string, ...args: string[]): Promise<string> {
  const { code, stdout, stderr } = await runScript(lab.balancer, script, [...I, ...args]);
  assertEquals({ code, stdout }, { code: 1, stdout: "" }, stderr);
  assertMatch(stderr, /^[^\n]+[^\n.]\n$/);
  return stderr;
}

Deno.test("attach.ts makes an instance that outlives it, and instances.ts lists it", async () => {
  const [attached] = await jsonOf(lab.balancer, "attach.ts", ...I, "eth0");
  assertEquals([attached!.name, attached!.mode], ["eth0", "generic"]);
  assertEquals(await xdpPrograms(lab.balancer), { eth0: "xvs" });
  const all = await jsonOf<InstanceInfo>(lab.balancer, "instances.ts");
  const found = all.find(({ name }) => name === NAME)!;
  assertEquals([found.current, found.services, found.interfaces.length], [true, 0, 1]);
  assertEquals((await jsonOf(lab.balancer, "attach.ts", ...I, "eth0")).length, 1);
  const { stdout } = await runScript(lab.balancer, "instances.ts", []);
  assertMatch(stdout, new RegExp(`${NAME} +0 +eth0 \\(generic\\)`));
});

Deno.test("services.ts adds, drains, removes and sets, and connections follow", async () => {
  const [one, two, three] = rips() as [string, string, string];
  await jsonOf(lab.balancer, "services.ts", ...I, "add", SERVICE, one, `${two},weight=2`);
  await jsonOf(lab.balancer, "services.ts", ...I, "add", SERVICE, three);
  assertEquals((await listed()).map(({ address, weight }) => [address, weight]), [
    [one, 1],
    [two, 2],
    [three, 1],
  ]);
  const to = async (): Promise<string[]> => {
    const { destinations, failures } = await spread(lab.client, {
      address: VIP,
      port: 80,
      connections: 60,
    });
    assertEquals(failures, {});
    return Object.keys(destinations).sort();
  };
  assertEquals((await to()).length, 3);
  await jsonOf(lab.balancer, "services.ts", ...I, "drain", SERVICE, one);
  assertEquals((await listed()).map(({ disable }) => disable), [true, false, false]);
  assertEquals((await to()).length, 2);
  await jsonOf(lab.balancer, "services.ts", ...I, "undrain", SERVICE);
  await jsonOf(lab.balancer, "services.ts", ...I, "remove", SERVICE, two, three);
  assertEquals((await to()).length, 1);
  await jsonOf(lab.balancer, "services.ts", ...I, "set", SERVICE, "--sticky", two);
  const [service] = await jsonOf(lab.balancer, "services.ts", ...I);
  assertEquals([service!.sticky, service!.idleTimeout], [true, 900]);
  assertEquals((await listed()).map(({ address }) => address), [two]);
});

Deno.test("two processes that add at the same time both succeed", async () => {
  const [one, two, three] = rips() as [string, string, string];
  const add = (rip: string) => jsonOf(lab.balancer, "services.ts", ...I, "add", SERVICE, rip);
  await jsonOf(lab.balancer, "services.ts", ...I, "set", SERVICE, two);
  await Promise.all([add(one), add(three)]);
  assertEquals((await listed()).map(({ address }) => address).sort(), [one, two, three].sort());
});

Deno.test("services.ts says in a sentence what cannot be, and changes nothing", async () => {
  const before = await listed();
  const [one] = rips() as [string];
  const stranger = await fails("services.ts", "remove", SERVICE, "10.1.0.99");
  assertStringIncludes(stranger, `has no destination "10.1.0.99"`);
  assertStringIncludes(await fails("services.ts", "add", SERVICE, one), "it exists already");
  assertStringIncludes(await fails("services.ts", "add", SERVICE), "it exists already");
  assertStringIncludes(await fails("services.ts", "drain", `${VIP}:81`), "does not exist");
  const wrong: [string[], string][] = [
    [["frob"], 'does not know "frob"'],
    [["add"], "takes a service"],
    [["add", "www:80"], 'Cannot read address "www"'],
    [["add", `${VIP}:80/sctp`], "is not of the form ADDRESS:PORT/tcp"],
    [["add", SERVICE, "10.1.0.99,speed=2"], "none of tunnel, port, weight"],
    [["add", SERVICE, "10.1.0.99,tunnel=vxlan"], 'Tunnel "vxlan" of destination'],
    [["add", SERVICE, "10.1.0.99,weight=x"], 'Weight "x" is not a whole number'],
    [["list", "--idle-timeout"], "takes a value"],
  ];
  for (const [args, says] of wrong) {
    await assertUsage(lab.balancer, "services.ts", [...I, ...args], says);
  }
  assertEquals(await listed(), before);
});

Deno.test("status.ts tells what became of packets, for people and for programs", async () => {
  await spread(lab.client, { address: VIP, port: 80, connections: 20 });
  const [status] = await jsonOf<{ metrics: Record<string, number>; services: ServiceExtended[] }>(
    lab.balancer,
    "status.ts",
    ...I,
  );
  assert(status!.metrics.forwarded! > 100);
  assertEquals(status!.services.length, 1);
  const { stdout } = await runScript(lab.balancer, "status.ts", I);
  assertStringIncludes(stdout, `instance ${NAME}: attached to eth0 (generic)`);
  assertMatch(stdout, new RegExp(`${SERVICE}/tcp +10\\.1\\.0\\.\\d+ +02:[^ ]+ +1 +up`));
  assertMatch(stdout, /\d +forwarded +sent to a destination/);
});

Deno.test("flows.ts lists, counts, finds and purges", async () => {
  await spread(lab.client, { address: VIP, port: 80, connections: 20 });
  const flows = await jsonOf<Flow>(lab.balancer, "flows.ts", ...I, "list");
  assert(flows.length >= 20, `${flows.length} flows`);
  const { client, clientPort } = flows[0]!;
  const found = await jsonOf<Flow>(
    lab.balancer,
    "flows.ts",
    ...I,
    "find",
    `${client}:${clientPort}`,
  );
  assertEquals(found.map((flow) => [flow.client, flow.clientPort]), [[client, clientPort]]);
  const counts = await jsonOf<{ flows: number }>(lab.balancer, "flows.ts", ...I, "count");
  assertEquals(counts.reduce((sum, each) => sum + each.flows, 0), flows.length);
  const [purged] = await jsonOf(lab.balancer, "flows.ts", ...I, "purge", "-s", SERVICE);
  assertEquals(purged, { purged: flows.length });
  assertEquals(await jsonOf(lab.balancer, "flows.ts", ...I), []);
  await assertUsage(lab.balancer, "flows.ts", [...I, "find"], "takes a client");
  await assertUsage(lab.balancer, "flows.ts", [...I, "--client", "www"], "www");
});

Deno.test("upgrade.ts replaces the program while connections go on", async () => {
  const running = spread(lab.client, { address: VIP, port: 80, connections: 200 });
  assertEquals(await jsonOf(lab.balancer, "upgrade.ts", ...I), [{ instance: NAME, current: true }]);
  assertEquals((await running).failures, {});
  await assertUsage(lab.balancer, "upgrade.ts", [...I, "now"], 'takes no "now"');
});

Deno.test("detach.ts takes it off, attach.ts goes on, and instances.ts removes it", async () => {
  await jsonOf(lab.balancer, "detach.ts", ...I, "--all");
  assertEquals(await xdpPrograms(lab.balancer), {});
  await jsonOf(lab.balancer, "attach.ts", ...I, "eth0");
  assertEquals((await spread(lab.client, { address: VIP, port: 80, connections: 5 })).failures, {});
  const usage: [string, string[], string][] = [
    ["detach.ts", [...I], "takes the names of interfaces, or --all"],
    ["detach.ts", [...I, "eth9"], 'Interface "eth9" is not attached: there are eth0'],
    ["attach.ts", [...I, "eth9"], 'Interface "eth9" does not exist'],
    ["attach.ts", [...I, "--bonding"], "exists already: --bonding is of a new one"],
    ["attach.ts", ["-i", "no.name", "eth0"], 'Instance "no.name" cannot be'],
    ["attach.ts", ["-i", `${NAME}b`, "--hash-key", "12"], "must be 16 bytes in hexadecimal"],
    ["attach.ts", ["-i", `${NAME}b`, "--max-flows", "0"], "maxFlows 0 is not a whole number"],
    ["instances.ts", ["remove"], "takes list, or remove"],
  ];
  for (const [script, args, says] of usage) await assertUsage(lab.balancer, script, args, says);
  for (const script of ["instances.ts", "services.ts", "status.ts", "flows.ts"]) {
    await assertClosedPipe(lab.balancer, script, script === "instances.ts" ? [] : I);
  }
  const nobody = await runScript(lab.balancer, "instances.ts", ["remove", "nobody"]);
  assertEquals(nobody.code, 1);
  assertStringIncludes(nobody.stderr, 'Instance "nobody" does not exist');
  await jsonOf(lab.balancer, "instances.ts", "remove", NAME);
  assertEquals(await xdpPrograms(lab.balancer), {});
  assertStringIncludes(await fails("status.ts"), `Instance "${NAME}" does not exist`);
});

Deno.test("scripts tell their options", async () => {
  await assertHelp(
    "attach.ts",
    "mode replace vlan route unknown-port expired hash-key instance json",
  );
  await assertHelp("detach.ts", "all instance json");
  await assertHelp("services.ts", "sticky idle-timeout instance json");
  await assertHelp("status.ts", "instance json");
  await assertHelp("flows.ts", "service vip destination client state idle instance json");
  await assertHelp("upgrade.ts", "object instance json");
  await assertHelp("instances.ts", "json");
});
