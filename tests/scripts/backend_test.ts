/** backend.ts on a server of a lab: what is missing, what mends it, and whether HTTP then flows. */

import { assert, assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import type { Finding } from "../../lib/net/backend.ts";
import { CommandError } from "../../lib/net/command.ts";
import { Lab } from "../../lib/net/lab.ts";
import { Remote } from "../lab/remote.ts";
import { assertClosedPipe, assertHelp, assertUsage, jsonOf, runScript } from "./process.ts";

const VIP = "192.168.101.1", VIP6 = "fd00:101::1";
const BOTH = ["--vip", VIP, "--vip", VIP6];

let lab: Lab;

Deno.test.beforeAll(async () => {
  lab = await Lab.create({ name: `backend_${Deno.pid}`, destinations: 1 });
});

Deno.test.afterAll(async () => {
  await lab?.remove();
});

function server(): Lab["destinations"][number] {
  return lab.destinations[0]!;
}

/** What `check` finds, and its code with it. */
async function check(...args: string[]): Promise<Finding[]> {
  const { code, stdout, stderr } = await runScript(server(), "backend.ts", [
    ...["check", "--json"],
    ...args,
  ]);
  assertEquals(stderr, "");
  const found = stdout.split("\n").filter((line) => line !== "").map((line) => JSON.parse(line));
  assertEquals(code, found.length > 0 ? 1 : 0);
  return found;
}

/** What takes a piece away, and the word that must be in what check then says. */
const PIECES: [take: string[], says: string][] = [
  [["ip", "address", "del", `${VIP}/32`, "dev", "lo"], `VIP ${VIP} is on the loopback`],
  [["ip", "address", "del", `${VIP6}/128`, "dev", "lo"], `VIP ${VIP6} is on the loopback`],
  [["sysctl", "-w", "net.ipv4.conf.all.arp_ignore=0", "net.ipv4.conf.eth0.arp_ignore=0"], "ARP"],
  [
    ["sysctl", "-w", "net.ipv4.conf.all.arp_announce=0", "net.ipv4.conf.eth0.arp_announce=0"],
    "ARP requests are not sent",
  ],
  [["sysctl", "-w", "net.ipv4.conf.all.rp_filter=1"], "rp_filter"],
  [["ip", "link", "set", "lo", "down"], "the loopback is up"],
  [["ip", "address", "add", `${VIP}/24`, "dev", "eth0"], "not on interface eth0"],
];

Deno.test("backend.ts check finds each piece that is taken away, and its command mends it", async () => {
  assertEquals(await check(...BOTH), []);
  for (const [take, says] of PIECES) {
    await server().run(take);
    const found = await check(...BOTH);
    assert(found.length > 0, take.join(" "));
    assertStringIncludes(found.map(({ missing }) => missing).join("\n"), says);
    for (const { mend } of found) await server().run(["sh", "-c", mend]);
    assertEquals(await check(...BOTH), [], take.join(" "));
  }
});

Deno.test("backend.ts apply makes a bare server a destination", async () => {
  await using remote = await Remote.create(lab);
  const curl = (vip: string): Promise<string> =>
    lab.client.run(["curl", "-sS", "--max-time", "2", `http://${vip}/`]);
  for (const address of [VIP, VIP6]) {
    await remote.call("setService", { address, port: 80 }, { address: server().address4 });
  }
  for (const take of PIECES.slice(0, 4)) await server().run(take[0]);
  await assertRejects(() => curl(VIP), CommandError);
  const ran = await jsonOf<Finding>(server(), "backend.ts", "apply", ...BOTH);
  assertEquals(ran.map(({ mend }) => mend), [
    `ip address replace ${VIP}/32 dev lo`,
    `ip address replace ${VIP6}/128 dev lo nodad`,
    "sysctl -w net.ipv4.conf.all.arp_ignore=1",
    "sysctl -w net.ipv4.conf.all.arp_announce=2",
  ]);
  assertEquals(await curl(VIP), "d1 10.1.0.2\n");
  assertEquals(await check(...BOTH), []);
  assertEquals(await jsonOf(server(), "backend.ts", "apply", ...BOTH), []);
});

Deno.test("backend.ts print is a script that leaves nothing missing", async () => {
  await server().run(["ip", "address", "del", `${VIP}/32`, "dev", "lo"]);
  const { stdout } = await runScript(server(), "backend.ts", ["print", ...BOTH]);
  await server().run(["sh", "-e", "-c", stdout]);
  assertEquals(await check(...BOTH), []);
});

Deno.test("backend.ts check names the devices that a tunnel needs", async () => {
  const devices = async (...args: string[]): Promise<string[]> =>
    (await check(...BOTH, ...args)).map(({ missing }) => missing)
      .flatMap((text) => /^tunnel device (\S+) exists/.exec(text)?.[1] ?? []);
  const near = ["--address", "10.1.0.10"], far = ["--address", "fd00:1::10"];
  assertEquals(await devices("-t", "ipip", ...near), ["tunl0", "sit0"]);
  assertEquals(await devices("-t", "ipip", ...far), ["ip6tnl0"]);
  assertEquals(await devices("-t", "gre", ...near), ["gre0"]);
  assertEquals(await devices("-t", "gre", ...far), ["ip6gre0"]);
  assertEquals(await devices("-t", "fou", "-p", "9999", ...near), ["tunl0", "sit0"]);
  const found = await check(...BOTH, "-t", "gue", "-p", "8888", ...far);
  assertEquals(found.at(-1), {
    missing: "UDP port 8888 of IPv6 takes off headers of FOU and GUE",
    mend: "sh -c 'modprobe fou6; ip -6 fou add port 8888 gue'",
  });
});

Deno.test("backend.ts refuses what cannot be", async () => {
  const wrong: [string[], string][] = [
    [[], "takes one of print, check and apply"],
    [["look", "-v", VIP], "takes one of print, check and apply"],
    [["check"], "No VIP is given"],
    [["check", "-v", "www"], 'Cannot read address "www"'],
    [["check", "-v"], 'Option "--vip" takes a value'],
    [["check", "-v", VIP, "-t", "vxlan"], 'Tunnel "vxlan" is none of none, ipip'],
    [["check", "-v", VIP, "-t", "ipip"], 'Tunnel "ipip" needs --address'],
    [["check", "-v", VIP, "-t", "gue", "-a", "10.1.0.10"], 'Tunnel "gue" needs --port'],
    [["check", "-v", VIP, "-t", "gre", "-a", "10.1.0.10", "-p", "1"], '"gre" has no port'],
    [["check", "-v", VIP, "--frob"], 'Option "--frob" is unknown'],
  ];
  for (const [args, says] of wrong) await assertUsage(server(), "backend.ts", args, says);
  await assertHelp("backend.ts", "vip tunnel port address json");
  await assertClosedPipe(server(), "backend.ts", ["print", ...BOTH]);
});
