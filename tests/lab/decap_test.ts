/**
 * Both ends of the tunnel between real sockets: the balancer encapsulates, `scripts/decap.ts` on every server
 * takes the outer header off. One server is behind a router.
 *
 * @module
 */
import { assert, assertEquals, assertMatch } from "@std/assert";
import { Lab, LAB_ECHO_PORT, type LabNode } from "../../lib/net/lab.ts";
import { Held, spread } from "../../lib/net/lab_client.ts";
import type { DecapCounter, DecapReason, Destination, Service } from "../../mod.ts";
import { Remote } from "./remote.ts";

type Counters = Record<DecapReason, Record<keyof DecapCounter, number>>;

const SCRIPT = new URL("../../scripts/decap.ts", import.meta.url).pathname;

/** One lab for all tests of this file; each has a balancer and decapsulators of its own. */
let lab: Lab;

Deno.test.beforeAll(async () => {
  lab = await Lab.create({ name: "decap", destinations: 2, routed: 1 });
});

Deno.test.afterAll(async () => {
  await lab.remove();
});

function servers(): LabNode[] {
  return [...lab.destinations, ...lab.routed];
}

function address(node: LabNode, family: 4 | 6): string {
  return family === 4 ? node.address4 : node.address6;
}

function service(family: 4 | 6): Required<Pick<Service, "address" | "port">> {
  return { address: lab.vips.find((vip) => vip.includes(":") === (family === 6))!, port: 80 };
}

function destinations(family: 4 | 6): Destination[] {
  return servers().map((node) => ({ address: address(node, family), tunnelType: "ipip" }));
}

/** `scripts/decap.ts` on a server, from when it is attached until it is disposed. */
class Script implements AsyncDisposable {
  readonly child: Deno.ChildProcess;
  readonly #lines: ReadableStreamDefaultReader<string>;
  #rest = "";

  private constructor(child: Deno.ChildProcess) {
    this.child = child;
    this.#lines = child.stdout.pipeThrough(new TextDecoderStream()).getReader();
  }

  static async start(node: LabNode, peers: string[], ...flags: string[]): Promise<Script> {
    const lists = [
      ...peers.map((peer) => `--peer=${peer}`),
      ...lab.vips.map((vip) => `--vip=${vip}`),
    ];
    const child = node.spawn(
      [Deno.execPath(), "run", "-A", "--no-check", SCRIPT, ...lists, ...flags, node.interface],
      { stdin: "null", stdout: "piped" },
    );
    const script = new Script(child);
    await script.line();
    return script;
  }

  /** The next line of its output. */
  async line(): Promise<string> {
    while (!this.#rest.includes("\n")) {
      const { value, done } = await this.#lines.read();
      if (done) throw new Error("decap.ts ended by itself");
      this.#rest += value;
    }
    const [line, ...rest] = this.#rest.split("\n");
    this.#rest = rest.join("\n");
    return line!;
  }

  /** Reads no more: what it writes next meets a closed pipe. */
  async hangUp(): Promise<void> {
    await this.#lines.cancel();
  }

  /** What `--json` tells of all that was sent before this call. */
  async counters(): Promise<Counters> {
    const calledAt = Date.now();
    for (;;) {
      const { time, counters } = JSON.parse(await this.line());
      if (Date.parse(time) > calledAt) return counters;
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    try {
      this.child.kill("SIGTERM");
    } catch {
      // It has ended.
    }
    await this.hangUp();
    await this.child.status;
  }
}

/** Decapsulators on all servers. */
async function decapsulate(
  stack: AsyncDisposableStack,
  peers = [lab.balancer.address4, lab.balancer.address6],
): Promise<Script[]> {
  return await Promise.all(
    servers().map(async (node) => stack.use(await Script.start(node, peers, "--json"))),
  );
}

async function xdpOn(node: LabNode): Promise<boolean> {
  return /\bxdp/.test(await node.run(["ip", "link", "show", "dev", node.interface]));
}

/** Every server answers, and gets through the tunnel what belongs to each answer. */
async function testSpread(http: ReturnType<typeof service>, scripts: Script[]): Promise<void> {
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

async function testBulk({ address }: ReturnType<typeof service>): Promise<void> {
  const pattern = Uint8Array.from({ length: 5_000_000 }, (_, i) => i % 251);
  const sha256 = new Uint8Array(await crypto.subtle.digest("SHA-256", pattern)).toHex();
  const url = `http://${address.includes(":") ? `[${address}]` : address}`;
  const curl = ["curl", "-sS", "--max-time", "20"];
  const file = await Deno.makeTempFile();
  try {
    await lab.client.run([...curl, "-o", file, `${url}/bytes/${pattern.length}`]);
    assertEquals(await Deno.readFile(file), pattern);
    const counted = await lab.client.run([...curl, "--data-binary", `@${file}`, `${url}/count`]);
    assertEquals(JSON.parse(counted), { bytes: pattern.length, sha256 });
  } finally {
    await Deno.remove(file);
  }
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
  const scripts = await decapsulate(stack);
  const remote = stack.use(await Remote.create(lab));
  for (const inner of [4, 6] as const) {
    for (const outer of [4, 6] as const) {
      const http = service(inner);
      const echo = { ...http, port: LAB_ECHO_PORT, protocol: "udp" as const };
      for (const each of [http, echo]) {
        await remote.call("setService", each, ...destinations(outer));
      }
      const what = `IPv${inner} in IPv${outer}`;
      await t.step(`${what}: HTTP reaches every server`, () => testSpread(http, scripts));
      await t.step(`${what}: 5 MB go up and down, intact`, () => testBulk(http));
      await t.step(`${what}: datagrams reach every server`, () => testDatagrams(echo));
    }
  }
});

Deno.test("lab: what a balancer that is no peer sends is dropped", async () => {
  const http = service(4);
  await using stack = new AsyncDisposableStack();
  const scripts = await decapsulate(stack, ["10.99.0.0/16", lab.balancer.address6]);
  const remote = stack.use(await Remote.create(lab));
  await remote.call("setService", http, ...destinations(4));
  const curl = ["curl", "-s", "--max-time", "1", `http://${http.address}/`];
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
    await using script = await Script.start(node!, ["10.1.0.1"]);
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
  await using script = await Script.start(node!, ["10.1.0.1"], "--json");
  await script.hangUp();
  assertEquals((await script.child.status).code, 0);
  assert(!await xdpOn(node!));
});

Deno.test("lab: decap.ts leaves nothing behind when it is killed", async () => {
  const [node] = lab.destinations;
  await using script = await Script.start(node!, ["10.1.0.1"]);
  assert(await xdpOn(node!));
  script.child.kill("SIGKILL");
  await script.child.status;
  assert(!await xdpOn(node!));
});
