/**
 * Both ends of the tunnels between real sockets: the balancer encapsulates, `scripts/decap.ts` on every server
 * takes the outer header off. One server is behind a router.
 *
 * @module
 */
import { assert, assertEquals, assertMatch } from "@std/assert";
import { Lab, LAB_ECHO_PORT, LAB_HTTP_PORTS, type LabNode } from "../../lib/net/lab.ts";
import { Held, spread } from "../../lib/net/lab_client.ts";
import type { DecapReason, Destination, Service } from "../../mod.ts";
import { decapsulate, exchange, Script, through, TUNNELS, url } from "./decap_script.ts";
import { Remote } from "./remote.ts";

const FAMILIES = [4, 6] as const;
const MIXES = FAMILIES.flatMap((inner) => FAMILIES.map((outer) => ({ inner, outer })));
const [HTTP_PORT, OTHER_HTTP_PORT] = LAB_HTTP_PORTS;

/** One lab for all tests of this file; each has a balancer and decapsulators of its own. */
let lab: Lab;

Deno.test.beforeAll(async () => {
  lab = await Lab.create({ name: `decap_${Deno.pid}`, destinations: 3, routed: 1 });
});

Deno.test.afterAll(async () => {
  await lab?.remove();
});

function servers(): LabNode[] {
  return [...lab.destinations, ...lab.routed];
}

function vip(family: 4 | 6): string {
  return lab.vips.find((vip) => vip.includes(":") === (family === 6))!;
}

/** Each server behind a tunnel of its own; `turn` by turn each is behind every one. */
function destinations(family: 4 | 6, turn: number): Destination[] {
  return servers().map((node, i) => through(TUNNELS[(i + turn) % TUNNELS.length]!, node, family));
}

async function xdpOn(node: LabNode): Promise<boolean> {
  return /\bxdp/.test(await node.run(["ip", "link", "show", "dev", node.interface]));
}

/** Every server answers, and gets through the tunnel what belongs to each answer. */
async function testSpread(http: Service, scripts: Script[]): Promise<void> {
  const packets = async (): Promise<number[]> =>
    await Promise.all(scripts.map(async (script) => {
      const { decapsulated, ...others } = await script.counters();
      const errors = Object.entries(others)
        .filter(([reason, { packets }]) => reason.startsWith("err_") && packets > 0);
      assertEquals(errors, []);
      return decapsulated.packets;
    }));
  const before = await packets();
  const load = { ...http, connections: 300 };
  const { destinations: answers, failures } = await spread(lab.client, load);
  const after = await packets();
  assertEquals(failures, {});
  servers().forEach(({ name }, i) => {
    assert(answers[name]! > 0, `${name} answers`);
    // SYN, ACK, request and FIN are the least.
    assert(after[i]! - before[i]! >= 4 * answers[name]!, `what ${name} gets is encapsulated`);
  });
}

async function testDatagrams(echo: Service): Promise<void> {
  const flows = { mode: "talk", connections: 60, intervalMs: 20 } as const;
  await using held = await Held.open(lab.client, { ...echo, ...flows });
  const { destinations: answers, failures, moves } = await held.end();
  assertEquals({ failures, moves }, { failures: {}, moves: {} });
  assertEquals(Object.keys(answers).sort(), servers().map(({ name }) => name).sort());
}

Deno.test("lab: what is sent through a tunnel arrives as if there were none", async (t) => {
  await using stack = new AsyncDisposableStack();
  const scripts = await decapsulate(stack, lab);
  const remote = stack.use(await Remote.create(lab));
  for (const [turn, { inner, outer }] of MIXES.entries()) {
    const address = vip(inner);
    const http = { address, port: HTTP_PORT! };
    const echo = { address, port: LAB_ECHO_PORT, protocol: "udp" as const };
    for (const each of [http, echo]) {
      await remote.call("setService", each, ...destinations(outer, turn));
    }
    const what = `IPv${inner} in IPv${outer}`;
    await t.step(`${what}: HTTP reaches every server`, () => testSpread(http, scripts));
    await t.step(`${what}: datagrams reach every server`, () => testDatagrams(echo));
    for (const [i, destination] of destinations(outer, turn).entries()) {
      const { name } = servers()[i]!;
      await t.step(
        `${what}: 5 MB go down and up through ${destination.tunnelType} to ${name}, intact`,
        async () => {
          const port = OTHER_HTTP_PORT!;
          await remote.call("setService", { address, port }, destination);
          await exchange(lab, address, port);
        },
      );
    }
  }
});

Deno.test("lab: what a balancer that is no peer sends is dropped", async () => {
  const address = vip(4);
  await using stack = new AsyncDisposableStack();
  const scripts = await decapsulate(stack, lab, ["10.99.0.0/16", lab.balancer.address6]);
  const remote = stack.use(await Remote.create(lab));
  await remote.call("setService", { address, port: HTTP_PORT }, ...destinations(4, 0));
  const curl = ["curl", "-s", "--max-time", "1", url(address, "/")];
  assertEquals((await lab.client.attempt(curl)).code, 28); // Timed out.
  const counters = await Promise.all(scripts.map((script) => script.counters()));
  const sum = (reason: DecapReason): number =>
    counters.reduce((all, each) => all + each[reason].packets, 0);
  assert(sum("err_unknown_peer") > 0);
  assertEquals(sum("decapsulated"), 0);
});

Deno.test("lab: decap.ts prints a table, and detaches when it is told to end", async () => {
  const [node] = lab.destinations;
  for (const signal of ["SIGINT", "SIGTERM"] as const) {
    await using script = await Script.start(lab, node!, ["10.1.0.1"]);
    assert(await xdpOn(node!));
    assertMatch(await script.line(), /^\d\d:\d\d:\d\d$/);
    assertMatch(await script.line(), /^reason +packets +packets\/s +bits\/s$/);
    assertMatch(await script.line(), /^decapsulated +\d+ +\S+ +\S+$/);
    script.child.kill(signal);
    assertEquals((await script.child.status).code, 0);
    assert(!await xdpOn(node!));
  }
});

Deno.test("lab: decap.ts ends in silence when nobody reads any more", async () => {
  const [node] = lab.destinations;
  await using script = await Script.start(lab, node!, ["10.1.0.1"], "--json");
  await script.hangUp();
  assertEquals((await script.child.status).code, 0);
  assert(!await xdpOn(node!));
});

Deno.test("lab: decap.ts leaves nothing behind when it is killed", async () => {
  const [node] = lab.destinations;
  await using script = await Script.start(lab, node!, ["10.1.0.1"]);
  assert(await xdpOn(node!));
  script.child.kill("SIGKILL");
  await script.child.status;
  assert(!await xdpOn(node!));
});
