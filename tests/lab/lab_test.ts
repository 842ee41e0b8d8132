import { assertEquals, assertRejects, assertStringIncludes, assertThrows } from "@std/assert";
import { attempt, CommandError, type CommandResult } from "../../lib/net/command.ts";
import { Lab, LAB_ECHO_PORT, LabError, type LabNode, type LabOptions } from "../../lib/net/lab.ts";
import { Namespace } from "../../lib/net/namespace.ts";
import { BpfFs, loaded } from "../bpf/support.ts";

const QUIET: LabOptions = { servers: false, destinations: 1 };

/** The processes in a lab's namespaces. */
async function processesOf(name: string): Promise<number[]> {
  const namespaces = await Namespace.list(`xvs-lab-${name}-`);
  return (await Promise.all(namespaces.map((each) => each.processes()))).flat();
}

/** What there is of a lab on the host, and of some processes. */
async function traces(name: string, processes: readonly number[] = []): Promise<string[]> {
  const namespaces = (await Namespace.list()).map((namespace) => namespace.name);
  const files = Array.from(Deno.readDirSync("/run"), (entry) => entry.name);
  return [
    ...[...namespaces, ...files].filter((each) => each.startsWith(`xvs-lab-${name}`)),
    ...processes.filter(isAlive).map(String),
  ];
}

/** One that has ended has no namespaces, even while its parent has not asked for its code. */
function isAlive(pid: number): boolean {
  try {
    Deno.readLinkSync(`/proc/${pid}/ns/net`);
    return true;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return false;
    throw error;
  }
}

async function curl(from: LabNode, ...args: string[]): Promise<string> {
  return (await from.run(["curl", "--silent", "--fail", "--max-time", "5", ...args])).trimEnd();
}

/** Says something to the echo port and returns what comes back. */
function echo(from: LabNode, transport: "tcp" | "udp", address: string): Promise<string> {
  const script = `
    const [transport, hostname, port] = Deno.args;
    if (transport === "udp") {
      const { createSocket } = await import("node:dgram");
      const socket = createSocket(hostname.includes(":") ? "udp6" : "udp4");
      socket.on("message", (message) => { console.log(message.toString()); Deno.exit(0); });
      socket.connect(Number(port), hostname, () => socket.send("hello"));
    } else {
      const connection = await Deno.connect({ hostname, port: Number(port) });
      await connection.write(new TextEncoder().encode("hello"));
      await connection.closeWrite();
      console.log(await new Response(connection.readable).text());
    }`;
  const flags = ["--quiet", "--no-config", "--no-lock"];
  const argv = [Deno.execPath(), "eval", ...flags, script, transport, address, `${LAB_ECHO_PORT}`];
  return from.run(argv, { signal: AbortSignal.timeout(5000) });
}

Deno.test("a lab's client reaches every destination over both families", async () => {
  await using lab = await Lab.create({ destinations: 2, routed: 1 });
  for (const { name, address4, address6 } of [...lab.destinations, ...lab.routed]) {
    assertEquals(await curl(lab.client, `http://${address4}/`), `${name} 10.1.0.2`);
    assertEquals(await curl(lab.client, `http://[${address6}]:8080/`), `${name} fd00:1::2`);
  }
});

Deno.test("a lab's destinations serve known bytes, count, and echo", async () => {
  await using lab = await Lab.create({ destinations: 1 });
  const [d1] = lab.destinations;
  if (d1 === undefined) throw new Error("There is no destination");
  const sha256 = async (length: number): Promise<string> => {
    const bytes = Uint8Array.from({ length }, (_, at) => at % 251);
    return new Uint8Array(await crypto.subtle.digest("SHA-256", bytes)).toHex();
  };
  const script = `curl -s http://${d1.address4}/bytes/200000 | sha256sum`;
  assertStringIncludes(await lab.client.run(["sh", "-c", script]), await sha256(200_000));
  const file = await Deno.makeTempFile();
  try {
    await Deno.writeFile(file, Uint8Array.from({ length: 100_000 }, (_, at) => at % 251));
    const answer = await curl(
      lab.client,
      "--data-binary",
      `@${file}`,
      `http://${d1.address4}/count`,
    );
    assertEquals(JSON.parse(answer), { bytes: 100_000, sha256: await sha256(100_000) });
  } finally {
    await Deno.remove(file);
  }
  for (const address of [d1.address4, d1.address6]) {
    assertEquals(await echo(lab.client, "tcp", address), "d1\nhello\n");
    assertEquals(await echo(lab.client, "udp", address), "d1 hello\n");
  }
});

Deno.test("a lab's client has its way to the VIPs through the balancer, and no other", async () => {
  await using lab = await Lab.create({ destinations: 1 });
  for (const vip of lab.vips) {
    const via = vip.includes(":") ? lab.balancer.address6 : lab.balancer.address4;
    assertStringIncludes(await lab.client.run(["ip", "route", "get", vip]), `${vip} `);
    assertStringIncludes(await lab.client.run(["ip", "route", "get", vip]), ` via ${via} `);
  }
  // The destination has the VIP on its loopback, and must not say so when asked on the network.
  await lab.client.run(["ip", "route", "replace", `${lab.vips[0]}/32`, "dev", "eth0"]);
  const failure = await assertRejects(
    () => lab.client.run(["curl", "--max-time", "5", `http://${lab.vips[0]}/`]),
    CommandError,
  );
  const CURL_CANNOT_CONNECT = 7;
  assertEquals(failure.code, CURL_CANNOT_CONNECT);
});

Deno.test("a lab appears on the host as namespaces and nothing else", async () => {
  const interfaces = (): string[] => Array.from(Deno.readDirSync("/sys/class/net"), (e) => e.name);
  const before = interfaces();
  await using lab = await Lab.create({ ...QUIET, routed: 1 });
  assertEquals(interfaces(), before);
  const names = (await Namespace.list(`xvs-lab-${lab.name}-`)).map(({ name }) => name);
  assertEquals(
    names.map((name) => name.split("-").at(-1)),
    ["balancer", "client", "d1", "r1", "router", "switch"],
  );
});

Deno.test("a lab's links but the client's have room for outer headers, or not", async () => {
  for (const mtu of [1600, 1500]) {
    await using lab = await Lab.create({ ...QUIET, mtu });
    for (const node of lab.nodes) {
      const [link] = JSON.parse(await node.run(["ip", "-j", "link", "show", "eth0"]));
      assertEquals(link.mtu, node.name === "client" ? 1500 : mtu, node.name);
    }
    const [d1] = lab.destinations;
    const route = await d1?.run(["ip", "route", "get", lab.client.address4]);
    assertStringIncludes(route ?? "", "mtu 1500");
  }
});

Deno.test("Lab.create() twice with one name is one lab, with its servers running", async () => {
  const name = `twice_${Deno.pid}`;
  await using lab = await Lab.create({ name, destinations: 1 });
  const server = lab.destinations[0];
  const [pid] = await server?.namespace.processes() ?? [];
  if (server === undefined || pid === undefined) throw new Error("There is no server");

  await Lab.create({ name, destinations: 1 });
  assertEquals(await server.namespace.processes(), [pid]);

  Deno.kill(pid, "SIGKILL");
  while ((await server.namespace.processes()).includes(pid)) await Promise.resolve();
  await using again = await Lab.create({ name, destinations: 1 });
  assertEquals(await curl(again.client, `http://${server.address4}/`), "d1 10.1.0.2");

  await assertRejects(() => Lab.create({ name, destinations: 2 }), LabError, "other options");
  assertEquals((await Lab.open(name)).destinations.length, 1);
});

Deno.test("a lab goes without trace, whatever runs in it", async () => {
  const lab = await Lab.create({ destinations: 2 });
  // One that ends when asked, and one that does not.
  const children = [
    lab.client.spawn(["sleep", "1000"]),
    lab.balancer.spawn(["sh", "-c", "trap '' TERM; while :; do sleep 1; done"]),
  ];
  const processes = await processesOf(lab.name);
  assertEquals(processes.length >= 4, true, `only ${processes.length} processes`);
  await lab.remove();
  await Promise.all(children.map((child) => child.status));
  assertEquals(await traces(lab.name, processes), []);
  assertEquals(await Lab.remove(lab.name), false);
  await assertRejects(() => Lab.open(lab.name), LabError, "it is not up");
});

Deno.test("a lab whose making fails leaves no trace", async () => {
  // The address is good, but not for a loopback.
  const name = `fails_${Deno.pid}`;
  await assertRejects(() => Lab.create({ name, vips: ["ff02::1"] }), CommandError);
  assertEquals(await traces(name), []);
});

Deno.test("what a killed maker leaves can be taken down by name, or made anew", async () => {
  const name = `killed_${Deno.pid}`;
  const script = `
    const { Lab } = await import(${JSON.stringify(import.meta.resolve("../../lib/net/lab.ts"))});
    setTimeout(() => Deno.kill(Deno.pid, "SIGKILL"), Number(Deno.args[0]));
    await Lab.create({ name: "${name}", destinations: 2 });
    await new Promise(() => setTimeout(() => {}, 60_000));`;
  const flags = ["--quiet", "--no-config", "--no-lock", "--no-check"];
  for (const ms of [30, 70, 110, 150, 400]) {
    const args = ["eval", ...flags, script, String(ms)];
    const { signal } = await new Deno.Command(Deno.execPath(), { args }).spawn().status;
    assertEquals(signal, "SIGKILL");
    if (ms === 110) {
      await using lab = await Lab.create({ name, destinations: 2 });
      assertEquals(await curl(lab.client, "http://10.1.0.11/"), "d2 10.1.0.2");
    }
    const processes = await processesOf(name);
    await Lab.remove(name);
    assertEquals(await traces(name, processes), [], `after ${ms} ms`);
  }
});

Deno.test("two labs do not hear of each other", async () => {
  const [a, b] = await Promise.all([
    Lab.create({ destinations: 1 }),
    Lab.create({ destinations: 2 }),
  ]);
  try {
    assertEquals(await curl(b.client, "http://10.1.0.11/"), "d2 10.1.0.2");
    await b.remove();
    assertEquals(await curl(a.client, "http://10.1.0.10/"), "d1 10.1.0.2");
    assertEquals((await Lab.list()).filter((name) => [a.name, b.name].includes(name)), [a.name]);
  } finally {
    await Promise.all([a.remove(), b.remove()]);
  }
});

Deno.test("node() finds nodes by name, and says which there are", async () => {
  await using lab = await Lab.create(QUIET);
  assertEquals(lab.node("d1"), lab.destinations[0]);
  assertEquals(lab.node("client").address4, "10.1.0.2");
  const message = 'no node "d2"; it has client, balancer, d1';
  assertThrows(() => lab.node("d2"), LabError, message);
});

Deno.test("attachToPorts() gives ports a native program", async () => {
  await using lab = await Lab.create({ destinations: 1 });
  using bpffs = new BpfFs();
  using object = loaded();
  const path = `${bpffs.path}/pass`;
  object.program("pass").pin(path);
  const attached = async (): Promise<string[]> => {
    const ports = JSON.parse(await lab.switch.run(["ip", "-j", "link"]));
    const isNative = (port: { xdp?: { mode: number } }): boolean => port.xdp?.mode === 1;
    return ports.filter(isNative).map((port: { ifname: string }) => port.ifname);
  };
  await lab.attachToPorts(path, [lab.balancer]);
  assertEquals(await attached(), ["balancer"]);
  await lab.attachToPorts(path, [lab.client, lab.node("d1")]);
  assertEquals(await attached(), ["client", "balancer", "d1"]);
  assertEquals(await curl(lab.client, "http://10.1.0.10/"), "d1 10.1.0.2");
});

Deno.test("lab.ts brings labs up and down, runs commands, and ends with the code that fits", async () => {
  const name = `script_${Deno.pid}`;
  const script = new URL("../../scripts/lab.ts", import.meta.url).pathname;
  const lab = (...words: string[]): Promise<CommandResult> =>
    attempt([Deno.execPath(), "run", "-A", script, ...words]);
  try {
    const up = await lab("up", "--name", name, "--destinations", "1", "--json");
    const rows = up.stdout.trim().split("\n").map((line) => JSON.parse(line));
    assertEquals(rows.map(({ node }) => node), ["client", "balancer", "d1"]);
    const run = await lab("run", "--name", name, "client", "curl", "-s", "http://10.1.0.10/");
    assertEquals(run, { code: 0, stdout: "d1 10.1.0.2\n", stderr: "" });
    assertEquals((await lab("run", "--name", name, "d1", "sh", "-c", "exit 7")).code, 7);
    assertEquals((await lab("run", "--name", name, "d2", "true")).code, 1);
    assertStringIncludes((await lab("list")).stdout, `xvs-lab-${name}-d1`);
    assertEquals((await lab("up", "--name", name, "--destinations", "2")).code, 1);
    for (const wrong of [[], ["op"], ["up", "--no"], ["run"], ["up", "--destinations", "x"]]) {
      assertEquals((await lab(...wrong)).code, 2, wrong.join(" "));
    }
    assertStringIncludes((await lab("--help")).stdout, "Example:");
    assertEquals((await lab("down", "--name", name)).code, 0);
    assertEquals(await traces(name), []);
  } finally {
    await Lab.remove(name);
  }
});
