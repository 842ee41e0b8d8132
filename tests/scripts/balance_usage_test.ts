/** Command lines of balance.ts that cannot be: one sentence, code 2, and nothing was changed. */

import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { Lab } from "../../lib/net/lab.ts";
import { assertNothingLeft, command, xdpPrograms } from "./balancer.ts";
import type { Outcome } from "./process.ts";

/** So many run at a time. */
const AT_ONCE = 4;

let lab: Lab;

Deno.test.beforeAll(async () => {
  lab = await Lab.create({ name: `usage_${Deno.pid}`, destinations: 1, routed: 1, servers: false });
});

Deno.test.afterAll(() => lab?.remove());

function run(...args: string[]): Promise<Outcome> {
  return lab.balancer.attempt(command(...args));
}

const NETWORK = "10.1.0.254/24", VIP = "192.168.101.1", RIP = "10.1.0.10";
const GOOD = ["eth0", NETWORK, VIP, RIP];
const PORT = "is not a whole number from 0 to 65535";
const BEHIND =
  'Destination "10.2.0.10" is behind a router and has no tunnel: give it one, such as ';

const WRONG: [args: string[], says: string][] = [
  [[], "balance.ts takes IFACE ROUTER/PREFIX VIP and at least one RIP: see --help"],
  [["eth0", "auto", VIP], "balance.ts takes IFACE ROUTER/PREFIX VIP and at least one RIP"],
  [["eth7", "auto", VIP, RIP], 'Interface "eth7" does not exist: there are lo, eth0'],
  [["eth0,eth7", NETWORK, VIP, RIP], 'Interface "eth7" does not exist'],
  [["lo", "auto", VIP, RIP], `Server "${RIP}" is reached by interface "eth0", which is not among`],
  [["eth0", "10.1.0.254", VIP, RIP], 'Cannot read prefix "10.1.0.254": it is not of the form'],
  [["eth0", "10.1.0.254/33", VIP, RIP], "its length is not a number from 0 to 32"],
  [["eth0", "10.7.0.254/24", VIP, "10.7.0.1"], "no interface has an address in 10.7.0.0/24"],
  [["-V", "10.2.0.0", ...GOOD], 'Cannot read prefix "10.2.0.0"'],
  [["eth0", "auto", "www", RIP], 'VIP "www" is no address: it is neither an IPv4 dotted quad nor'],
  [["-v", "::1", ...GOOD], 'VIP "::1" is a loopback address'],
  [["eth0", "auto", VIP, "10.1.0.300"], 'Destination "10.1.0.300" is no address'],
  [[...GOOD, RIP], `Cannot set destination "${RIP}" of service "${VIP}:80/tcp": it is given twice`],
  [["eth0", "auto", VIP, "10.1.0.1"], '"10.1.0.1": it is an address of this host'],
  [["eth0", "auto", VIP, "203.0.113.9"], 'Cannot send to destination "203.0.113.9": '],
  [["eth0", "auto", VIP, "10.2.0.10"], BEHIND],
  [["-p", "70000", ...GOOD], `Port "70000" ${PORT}`],
  [["-p", "http", ...GOOD], `Port "http" ${PORT}`],
  [["-p", "80/sctp", ...GOOD], 'Port "80/sctp" is not of the form PORT, PORT/tcp or PORT/udp'],
  [["-p", "80", "-p", "80/tcp", ...GOOD], `Cannot set service "${VIP}:80/tcp": it is given twice`],
  [["-r", "soon", ...GOOD], 'Number of seconds "soon" is not a whole number'],
  [["-s=maybe", ...GOOD], 'Option "--sticky" takes no value, but "maybe" is given'],
  [["-t", "vxlan", ...GOOD], 'Tunnel "vxlan" of destination'],
  [["-t", "fou", "-4", "0", ...GOOD], "Port of the fou tunnel 0 is not a whole number from 1"],
  [["-t", "gue", "-G", "gue", ...GOOD], `Port "gue" ${PORT}`],
  [["-f", "0", ...GOOD], "maxFlows 0 is not a whole number from 1"],
  [["--mode", "fast", ...GOOD], 'Mode "fast" is none of native, generic, auto'],
  [["--weight", RIP, ...GOOD], `Weight "${RIP}" is not of the form RIP=N`],
  [["--weight", `${RIP}=heavy`, ...GOOD], `Weight "heavy" ${PORT}`],
  [["--weight", "10.1.0.11=2", ...GOOD], 'Weight "10.1.0.11=2" is for none of the servers given'],
  [["--frobnicate", ...GOOD], 'Option "--frobnicate" is unknown: see --help'],
  [["-z", ...GOOD], 'Option "-z" is unknown: see --help'],
];

Deno.test("a wrong command line is one sentence and code 2, and changes nothing", async () => {
  const rows = WRONG.values();
  // Workers take rows from one list.
  await Promise.all(Array.from({ length: AT_ONCE }, async () => {
    for (const [args, says] of rows) {
      const { code, stdout, stderr } = await run(...args);
      const line = `balance.ts ${args.join(" ")}`;
      assertEquals({ code, stdout }, { code: 2, stdout: "" }, `${line}: ${stderr}`);
      assertStringIncludes(stderr, says, line);
      assertMatch(stderr, /^[^\n]+[^\n.]\n$/, line);
      assertEquals(await xdpPrograms(lab.balancer), {}, line);
    }
  }));
  await assertNothingLeft(lab);
});

Deno.test("--help tells every option, with an example", async () => {
  const { code, stdout, stderr } = await run("--help");
  assertEquals({ code, stderr }, { code: 0, stderr: "" });
  const long =
    "run sticky tunnel fou4-port fou6-port gue-port vip port vlan flows weight mode json";
  for (const name of long.split(" ")) assertStringIncludes(stdout, `--${name}`);
  assertMatch(stdout, /For example[^]*deno run -A scripts\/balance\.ts/);
  assert(stdout.split("\n").every((line) => line.length <= 80));
});
