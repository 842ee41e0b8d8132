/** explain.ts, probe.ts and top.ts: what they tell of an instance with traffic. */

import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { Lab, LAB_ECHO_PORT } from "../../lib/net/lab.ts";
import { spread } from "../../lib/net/lab_client.ts";
import {
  assertClosedPipe,
  assertHelp,
  assertUsage,
  command,
  jsonOf,
  runScript,
  Script,
} from "./process.ts";

const NAME = `look_${Deno.pid}`;
const I = ["-i", NAME];
const VIP = "192.168.101.1", VIP6 = "fd00:101::1";

let lab: Lab;

Deno.test.beforeAll(async () => {
  lab = await Lab.create({ name: NAME, destinations: 2 });
  const rips = lab.destinations.map(({ address4 }) => address4);
  await jsonOf(lab.balancer, "attach.ts", ...I, "eth0");
  for (const vip of [`${VIP}:80`, `[${VIP6}]:80`]) {
    await jsonOf(lab.balancer, "services.ts", ...I, "add", vip, ...rips);
  }
});

Deno.test.afterAll(async () => {
  await runScript(lab.balancer, "instances.ts", ["remove", NAME]);
  await lab?.remove();
});

/** What a probe found, by destination. */
async function probed(...args: string[]): Promise<Record<string, unknown>> {
  const { code, stdout, stderr } = await runScript(lab.balancer, "probe.ts", [
    ...[...I, "--json", "-t", "1"],
    ...args,
  ]);
  assertEquals(stderr, "");
  const lines = stdout.trim().split("\n").map((line) => JSON.parse(line));
  assertEquals(code, lines.every(({ up }) => up) ? 0 : 1);
  return Object.fromEntries(
    lines.map(({ service, destination, up }) => [`${service} ${destination}`, up]),
  );
}

Deno.test("explain.ts tells the destination that a connection really gets", async () => {
  for (
    const [vip, client] of [[VIP, "198.51.100.7:40000"], [VIP6, "[2001:db8::7]:40000"]] as const
  ) {
    const service = vip.includes(":") ? `[${vip}]:80` : `${vip}:80`;
    const [said] = await jsonOf(lab.balancer, "explain.ts", ...I, client, service);
    assertEquals([said!.action, said!.reason, said!.service], [
      "tx",
      "forwarded",
      `${service}/tcp`,
    ]);
    assert(lab.destinations.some(({ address4 }) => address4 === said!.destination));
    assertMatch(said!.frame as string, /^[\da-f]+$/);
  }
  const counted = async (): Promise<unknown[]> => {
    const [status] = await jsonOf<{ services: unknown[] }>(lab.balancer, "status.ts", ...I);
    return status!.services;
  };
  const before = await counted();
  const { stdout } = await runScript(lab.balancer, "explain.ts", [
    ...I,
    "198.51.100.7",
    `${VIP}:81`,
  ]);
  assertStringIncludes(stdout, "drop, reason err_service_not_found: dropped, passed or answered");
  assertEquals(await counted(), before);
  await assertUsage(lab.balancer, "explain.ts", [...I, VIP], "takes CLIENT[:PORT] and SERVICE");
  await assertUsage(lab.balancer, "explain.ts", [...I, "2001:db8::7", VIP], "not of one family");
  await assertUsage(lab.balancer, "explain.ts", [...I, "-f", "urg", "10.0.0.1", VIP], '"urg"');
});

Deno.test("probe.ts sees servers that answer, and those that lack the VIP", async () => {
  const [one, two] = lab.destinations.map(({ address4 }) => address4);
  assertEquals(await probed(), {
    [`${VIP}:80/tcp ${one}`]: true,
    [`${VIP}:80/tcp ${two}`]: true,
    [`[${VIP6}]:80/tcp ${one}`]: true,
    [`[${VIP6}]:80/tcp ${two}`]: true,
  });
  await lab.destinations[1]!.run(["ip", "address", "del", `${VIP}/32`, "dev", "lo"]);
  assertEquals(await probed(`${VIP}:80`), {
    [`${VIP}:80/tcp ${one}`]: true,
    [`${VIP}:80/tcp ${two}`]: false,
  });
  assertEquals(await probed("--http", "/", `${VIP}:80`), {
    [`${VIP}:80/tcp ${one}`]: true,
    [`${VIP}:80/tcp ${two}`]: false,
  });
  await lab.destinations[1]!.run(["ip", "address", "add", `${VIP}/32`, "dev", "lo"]);
  assertEquals(Object.values(await probed("--http", "/")), [true, true, true, true]);
  assertEquals(Object.values(await probed("-p", "9", `${VIP}:80`)), [false, false]);
  const { code, stdout } = await runScript(lab.balancer, "probe.ts", I);
  assertEquals(code, 0);
  assertMatch(stdout, new RegExp(`${VIP}:80/tcp +${one} +up +[\\d.]+`));
  await assertUsage(lab.balancer, "probe.ts", [...I, "-p", "x"], 'Port "x"');
});

Deno.test("probe.ts waits for an answer to a datagram", async () => {
  const rips = lab.destinations.map(({ address4 }) => address4);
  for (const vip of [VIP, `[${VIP6}]`]) {
    const service = `${vip}:${LAB_ECHO_PORT}/udp`;
    await jsonOf(lab.balancer, "services.ts", ...I, "add", service, ...rips);
    assertEquals(Object.values(await probed("--send", "hello", service)), [true, true]);
    assertEquals(Object.values(await probed("--port", "9", service)), [false, false]);
    await jsonOf(lab.balancer, "services.ts", ...I, "remove", service);
  }
});

Deno.test("top.ts shows rates until it is interrupted", async () => {
  await using top = Script.spawn(lab.balancer, command("top.ts", ...I));
  await top.until((text) => text.includes("packets/s"));
  await spread(lab.client, { address: VIP, port: 80, connections: 100 });
  await top.until((text) => /forwarded [1-9][\d.]*k? packets\/s/.test(text));
  assertEquals((await top.end("SIGINT")).code, 0);
  const lines = await jsonOf<{ services: unknown[] }>(lab.balancer, "top.ts", ...I, "-r", "1");
  assert(lines.length >= 1 && lines[0]!.services.length === 2);
  await assertUsage(lab.balancer, "top.ts", [...I, "-n", "0"], "at least 1 second");
});

Deno.test("explain.ts, probe.ts and top.ts tell their options, and end with their reader", async () => {
  await assertHelp("explain.ts", "flags length ttl instance json");
  await assertHelp("probe.ts", "http host port send timeout instance json");
  await assertHelp("top.ts", "interval run instance json");
  await assertClosedPipe(lab.balancer, "explain.ts", [...I, "198.51.100.7", VIP]);
  await assertClosedPipe(lab.balancer, "probe.ts", I);
  await assertClosedPipe(lab.balancer, "top.ts", I);
});
