/**
 * Probes between real sockets: programs in the balancer's namespace reach each server through `nat()`. The host
 * accepts only what comes by the interface that it would answer by.
 *
 * @module
 */
import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { Lab, LAB_ECHO_PORT, type LabNode } from "../../lib/net/lab.ts";
import type { Destination, Info } from "../../mod.ts";
import { BpfFs, loaded } from "../bpf/support.ts";
import { decapsulate, through, TUNNELS, url } from "./decap_script.ts";
import { Remote } from "./remote.ts";

const FAMILIES = [4, 6] as const;
const MTU = 1500;
const OUTER_IP = { 4: 20, 6: 40 } as const;
const OVERHEAD = { ipip: 0, gre: 4, fou: 8, gue: 12 } as const;
const CANNOT_CONNECT = 7, TIMED_OUT = 28;
type Family = 4 | 6;

/** One lab for all tests of this file, with links that hold no outer header besides a packet of full length. */
let lab: Lab;

Deno.test.beforeAll(async () => {
  lab = await Lab.create({ name: `probe_${Deno.pid}`, destinations: 2, mtu: MTU });
  await lab.balancer.run(["sysctl", "-qw", "net.ipv4.conf.all.rp_filter=1"]);
});

Deno.test.afterAll(async () => {
  await lab?.remove();
});

function vip(family: Family): string {
  return lab.vips.find((vip) => vip.includes(":") === (family === 6))!;
}

/** What `curl` on the balancer gets from an address. */
async function curl(address: string, path = "/", ...flags: string[]): Promise<string> {
  const argv = ["curl", "-sS", "--max-time", "5", ...flags, url(address, path)];
  return (await lab.balancer.run(argv)).trim();
}

/** What comes back of a datagram, from a new socket. */
async function echo(address: string, text = "hello"): Promise<string> {
  const script = `
    const { createSocket } = await import("node:dgram");
    const socket = createSocket(Deno.args[0].includes(":") ? "udp6" : "udp4");
    socket.on("message", (message) => { console.log(message.toString()); Deno.exit(0); });
    socket.connect(${LAB_ECHO_PORT}, Deno.args[0], () => socket.send(Deno.args[1]));`;
  const argv = [
    Deno.execPath(),
    "eval",
    "--quiet",
    "--no-config",
    "--no-lock",
    script,
    address,
    text,
  ];
  return (await lab.balancer.run(argv, { signal: AbortSignal.timeout(5000) })).trim();
}

/** A file of some length goes up, in segments that are too long at first. */
async function upload(address: string): Promise<void> {
  const pattern = Uint8Array.from({ length: 500_000 }, (_, i) => i % 251);
  const sha256 = new Uint8Array(await crypto.subtle.digest("SHA-256", pattern)).toHex();
  const file = await Deno.makeTempFile();
  try {
    await Deno.writeFile(file, pattern);
    const answer = await curl(address, "/count", "--data-binary", `@${file}`);
    assertEquals(JSON.parse(answer), { bytes: pattern.length, sha256 });
  } finally {
    await Deno.remove(file);
  }
}

async function pathMtu(address: string): Promise<number> {
  const route = await lab.balancer.run(["ip", "route", "get", address]);
  return Number(/ mtu (\d+)/.exec(route)?.[1] ?? MTU);
}

/** Each server as a destination, and the address to probe a VIP on it by. */
async function probed(
  remote: Remote,
  family: Family,
  make: (node: LabNode) => Destination,
): Promise<{ node: LabNode; address: string }[]> {
  const destinations = lab.destinations.map(make);
  for (const port of [80, LAB_ECHO_PORT]) {
    await remote.call("setService", { address: vip(family), port }, ...destinations);
  }
  const targets = [];
  for (const [i, node] of lab.destinations.entries()) {
    const address = await remote.call<string>("nat", vip(family), destinations[i]!.address);
    targets.push({ node, address });
  }
  return targets;
}

/** Each server answers by itself, to TCP and UDP, and gets what is long. */
async function testProbes(
  remote: Remote,
  family: Family,
  make: (node: LabNode) => Destination,
): Promise<string[]> {
  const { address4, address6 } = lab.balancer;
  const targets = await probed(remote, family, make);
  for (const { node, address } of targets) {
    assertEquals(await curl(address), `${node.name} ${family === 4 ? address4 : address6}`);
    assertEquals(await echo(address), `${node.name} hello`);
    await upload(address);
  }
  return targets.map(({ address }) => address);
}

Deno.test("lab: programs on the balancer probe each server through its tunnel", async (t) => {
  await using stack = new AsyncDisposableStack();
  await decapsulate(stack, lab);
  const remote = stack.use(await Remote.create(lab));
  await remote.call("openProbes");
  for (const family of FAMILIES) {
    for (const outer of FAMILIES) {
      for (const tunnel of TUNNELS) {
        await t.step(`IPv${family} by ${tunnel} over IPv${outer}`, async () => {
          await lab.balancer.run(["ip", `-${family}`, "route", "flush", "cache"]);
          const [address] = await testProbes(
            remote,
            family,
            (node) => through(tunnel, node, outer),
          );
          assertEquals(await pathMtu(address!), MTU - OUTER_IP[outer] - OVERHEAD[tunnel]);
        });
      }
      await t.step(`IPv${family} without a tunnel to an IPv${outer} server`, async () => {
        const addresses = await testProbes(remote, family, (node) => ({
          address: outer === 4 ? node.address4 : node.address6,
        }));
        const text = "fragments ".repeat(400).trim();
        for (const [i, address] of addresses.entries()) {
          assertEquals(await echo(address, text), `${lab.destinations[i]!.name} ${text}`);
        }
      });
    }
  }
  const { metrics } = await remote.call<Info>("info");
  assert(Number(metrics.probe) > 1000 && Number(metrics.probe_reply) > 1000);
  assert(Number(metrics.too_big) >= 2 * 16, `${metrics.too_big} packets too big`);
});

Deno.test("lab: a port where nobody listens is known at once, over TCP and UDP", async () => {
  await using stack = new AsyncDisposableStack();
  await decapsulate(stack, lab);
  const remote = stack.use(await Remote.create(lab));
  await remote.call("openProbes");
  for (const family of FAMILIES) {
    const [target] = await probed(remote, family, (node) => through("ipip", node, 4));
    for (const protocol of ["tcp", "udp"]) {
      const path = `/dev/${protocol}/${target!.address}/9`;
      const talk = `exec 3<>${path} && echo a >&3 && sleep 0.3 && echo b >&3`;
      const { code, stderr } = await lab.balancer.attempt(["bash", "-c", talk], {
        signal: AbortSignal.timeout(5000),
      });
      assertEquals(code, 1);
      assertStringIncludes(stderr, "Connection refused");
    }
  }
});

Deno.test("lab: in native mode probes come and go as well", async () => {
  await using stack = new AsyncDisposableStack();
  const bpffs = stack.use(new BpfFs());
  const object = stack.use(loaded());
  const path = `${bpffs.path}/pass`;
  object.program("pass").pin(path);
  await lab.attachToPorts(path, [lab.balancer]);
  stack.defer(async () => {
    await lab.switch.run(["ip", "link", "set", "dev", lab.balancer.port, "xdpdrv", "off"]);
  });
  await decapsulate(stack, lab);
  const remote = stack.use(await Remote.create(lab, { mode: "native" }));
  assertEquals((await remote.call<Info>("info")).interfaces[0]?.mode, "native");
  await remote.call("openProbes");
  for (const family of FAMILIES) {
    await testProbes(remote, family, (node) => ({ address: node.address4 }));
    await testProbes(remote, family, (node) => through("gue", node, 6));
  }
});

Deno.test("lab: a server without the VIP fails its probes, even if it passes packets on", async () => {
  await using stack = new AsyncDisposableStack();
  await decapsulate(stack, lab);
  const remote = stack.use(await Remote.create(lab));
  await remote.call("openProbes");
  const [bad] = lab.destinations;
  // It is a router, and would find the VIP on the other server, by way of the balancer.
  await bad!.run(["sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1"]);
  for (const family of FAMILIES) {
    const prefix = `${vip(family)}/${family === 4 ? 32 : 128}`;
    const { address4, address6 } = lab.balancer;
    await bad!.run(["ip", "address", "delete", prefix, "dev", "lo"]);
    await bad!.run(["ip", "route", "add", prefix, "via", family === 4 ? address4 : address6]);
    try {
      for (const tunnel of [undefined, ...TUNNELS]) {
        const targets = await probed(
          remote,
          family,
          (node) => tunnel ? through(tunnel, node, 4) : { address: node.address4 },
        );
        const codes = await Promise.all(targets.map(async ({ address }) => {
          const argv = ["curl", "-s", "--max-time", "1", url(address, "/")];
          return (await lab.balancer.attempt(argv)).code;
        }));
        assert([CANNOT_CONNECT, TIMED_OUT].includes(codes[0]!), `${codes[0]} by ${tunnel}`);
        assertEquals(codes[1], 0);
      }
    } finally {
      await bad!.run(["ip", "route", "delete", prefix]);
      const nodad = family === 6 ? ["nodad"] : [];
      await bad!.run(["ip", "address", "add", prefix, "dev", "lo", ...nodad]);
    }
  }
});
