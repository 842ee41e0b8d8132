/**
 * What the path to a VIP looks like to a client: how long packets may be, and who answers on the way.
 *
 * @module
 */
import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { Lab, LAB_ECHO_PORT } from "../../lib/net/lab.ts";
import type { Info } from "../../mod.ts";
import { decapsulate, exchange, through, TUNNELS, url } from "./decap_script.ts";
import { Remote } from "./remote.ts";

const FAMILIES = [4, 6] as const;
const MTU = 1500;
const OUTER_IP = { 4: 20, 6: 40 } as const;
const OVERHEAD = { ipip: 0, gre: 4, fou: 8, gue: 12 } as const;

type Family = 4 | 6;

/** One lab for all tests of this file, with links that hold no outer header besides the client's packets. */
let lab: Lab;

Deno.test.beforeAll(async () => {
  lab = await Lab.create({ name: `path_${Deno.pid}`, destinations: 1, mtu: MTU });
});

Deno.test.afterAll(async () => {
  await lab?.remove();
});

function vip(family: Family): string {
  return lab.vips.find((vip) => vip.includes(":") === (family === 6))!;
}

/** As the client's kernel has it. */
async function pathMtu(family: Family): Promise<number> {
  const route = await lab.client.run(["ip", "route", "get", vip(family)]);
  return Number(/ mtu (\d+)/.exec(route)?.[1] ?? MTU);
}

async function forgetPathMtu(family: Family): Promise<void> {
  await lab.client.run(["ip", `-${family}`, "route", "flush", "cache"]);
  assertEquals(await pathMtu(family), MTU);
}

async function metric(remote: Remote, name: string): Promise<number> {
  const { metrics } = await remote.call<Info>("info");
  return Number(metrics[name]);
}

Deno.test("lab: uploads get through tunnels that leave less room than clients know of", async (t) => {
  await using stack = new AsyncDisposableStack();
  await decapsulate(stack, lab);
  const remote = stack.use(await Remote.create(lab));
  for (const inner of FAMILIES) {
    for (const outer of FAMILIES) {
      for (const tunnel of TUNNELS) {
        await t.step(`IPv${inner} through ${tunnel} over IPv${outer}`, async () => {
          const service = { address: vip(inner), port: 80 };
          await remote.call("setService", service, through(tunnel, lab.destinations[0]!, outer));
          await forgetPathMtu(inner);
          const before = await metric(remote, "too_big");
          await exchange(lab, service.address);
          assertEquals(await pathMtu(inner), MTU - OUTER_IP[outer] - OVERHEAD[tunnel]);
          assert(await metric(remote, "too_big") > before);
        });
      }
    }
  }
});

Deno.test("lab: a VIP answers pings with TTL 1, in one piece and in several", async () => {
  await using remote = await Remote.create(lab);
  for (const family of FAMILIES) {
    await forgetPathMtu(family);
    const service = { address: vip(family), port: 80 };
    await remote.call("setService", service, through("ipip", lab.destinations[0]!, 4));
    const headers = OUTER_IP[family] + 8;
    for (const flags of [[], ["-t", "1"], ["-M", "do", "-s", `${MTU - headers}`], ["-s", "8000"]]) {
      const ping = ["ping", "-c", "2", "-i", "0.1", "-W", "1", ...flags, vip(family)];
      assertStringIncludes((await lab.client.attempt(ping)).stdout, " 0% packet loss", `${ping}`);
    }
  }
});

Deno.test("lab: traceroute finds the way to a VIP, by TCP, UDP and ICMP", async () => {
  await using stack = new AsyncDisposableStack();
  await decapsulate(stack, lab);
  const remote = stack.use(await Remote.create(lab, { unknownPort: "reject" }));
  for (const family of FAMILIES) {
    const service = { address: vip(family), port: 80 };
    await remote.call("setService", service, through("ipip", lab.destinations[0]!, 4));
    for (const how of [["-T", "-p", "80"], ["-U", "-p", "33434"], ["-I"]]) {
      const trace = ["traceroute", `-${family}`, "-n", "-q", "1", "-w", "1", "-m", "5", ...how];
      const { stdout } = await lab.client.attempt([...trace, vip(family)]);
      const hops = stdout.trim().split("\n").slice(1);
      // Every hop answers: the balancer as a router, by the VIP's address, and the server behind it.
      assert(hops.length >= 1 && hops.length <= 2, `${trace}: ${stdout}`);
      for (const hop of hops) assertStringIncludes(hop, ` ${vip(family)} `, stdout);
    }
  }
});

/** Until it is disposed, what the client sends to the VIPs has TTL 1, as a traceroute's first probes do. */
async function withTtl1(): Promise<AsyncDisposable> {
  const stack = new AsyncDisposableStack();
  for (const family of FAMILIES) {
    const { address4, address6 } = lab.balancer;
    const prefix = `${vip(family)}/${family === 4 ? 32 : 128}`;
    const route = ["ip", "route", "replace", prefix, "via", family === 4 ? address4 : address6];
    await lab.client.run([...route, "hoplimit", "1"]);
    stack.defer(async () => void await lab.client.run(route));
  }
  return stack;
}

/** How many such errors the client has got. */
async function timeExceeded(family: Family): Promise<number> {
  const name = family === 4 ? "IcmpInTimeExcds" : "Icmp6InTimeExcds";
  const json = await lab.client.run(["nstat", "--json", "-a", "-s", "-z", name]);
  return JSON.parse(json).kernel[name];
}

for (const expired of ["reject", "drop"] as const) {
  Deno.test(`lab: probes with TTL 1 meet the policy "${expired}"`, async () => {
    await using remote = await Remote.create(lab, { expired });
    await using _ = await withTtl1();
    const destination = through("ipip", lab.destinations[0]!, 4);
    for (const family of FAMILIES) {
      for (const [protocol, port] of [["udp", LAB_ECHO_PORT], ["tcp", 80]]) {
        const service = { address: vip(family), port, protocol };
        await remote.call("setService", service, destination);
      }
      const before = await timeExceeded(family);
      const datagram = `echo > /dev/udp/${vip(family)}/${LAB_ECHO_PORT}`;
      await lab.client.run(["bash", "-c", datagram]);
      const curl = ["curl", "-s", "--max-time", "1", url(vip(family), "/")];
      assert((await lab.client.attempt(curl)).code !== 0);
      const answers = await timeExceeded(family) - before;
      if (expired === "reject") assert(answers >= 2, `${answers} answers`);
      else assertEquals(answers, 0);
    }
    assert(await metric(remote, "err_expired") >= 4);
  });
}
