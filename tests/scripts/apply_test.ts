/** apply.ts and save.ts: an instance becomes what a file says, and says what it is. */

import { assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { Lab } from "../../lib/net/lab.ts";
import { spread } from "../../lib/net/lab_client.ts";
import type { Difference } from "../../mod.ts";
import {
  assertClosedPipe,
  assertHelp,
  assertUsage,
  command,
  jsonOf,
  runScript,
  Script,
} from "./process.ts";

const NAME = `apply_${Deno.pid}`;
const I = ["-i", NAME];

let lab: Lab;
let directory: string;

Deno.test.beforeAll(async () => {
  directory = await Deno.makeTempDir();
  lab = await Lab.create({ name: NAME, destinations: 2 });
  await jsonOf(lab.balancer, "attach.ts", ...I, "eth0");
});

Deno.test.afterAll(async () => {
  await runScript(lab.balancer, "instances.ts", ["remove", NAME]);
  await lab?.remove();
  await Deno.remove(directory, { recursive: true });
});

function file(text: string, name = "state.yaml"): string {
  const path = `${directory}/${name}`;
  Deno.writeTextFileSync(`${path}.new`, text);
  Deno.renameSync(`${path}.new`, path);
  return path;
}

function shop(weight: number): string {
  const [one, two] = lab.destinations.map(({ address4 }) => address4);
  return `
config: { unknownPort: reject }
services:
  - address: 192.168.101.1
    port: 80
    destinations: [${one}, { address: ${two}, weight: ${weight} }]
block: [203.0.113.0/24]
`;
}

/** Runs a pipe of scripts. */
function pipe(first: string[], second: string[], between = ""): Promise<string> {
  const quoted = (words: string[]) => words.map((word) => `'${word}'`).join(" ");
  const text = `${quoted(command(...first as [string]))} ${between} | ${
    quoted(command(...second as [string]))
  }`;
  return lab.balancer.run(["bash", "-o", "pipefail", "-c", text]);
}

/** That the instance is what it says. */
async function assertSettled(): Promise<void> {
  for (const form of [[], ["--json"]]) {
    const said = await pipe(["save.ts", ...I, ...form], ["apply.ts", ...I, "--dry-run", "-"]);
    assertEquals(said, "nothing to change\n");
  }
}

Deno.test("apply.ts makes an instance be what a file says, and --dry-run only tells", async () => {
  const path = file(shop(2));
  const { stdout } = await runScript(lab.balancer, "apply.ts", [...I, "--dry-run", path]);
  const [one, two] = lab.destinations.map(({ address4 }) => address4);
  assertEquals(stdout.split("\n").slice(0, 4).map((line) => line.split(": ")[0]), [
    "~ config unknownPort",
    "+ service 192.168.101.1:80/tcp",
    `+ destination ${one} of 192.168.101.1:80/tcp`,
    `+ destination ${two} of 192.168.101.1:80/tcp`,
  ]);
  assertEquals(await jsonOf(lab.balancer, "services.ts", ...I), []);
  const made = await jsonOf<Difference>(lab.balancer, "apply.ts", ...I, path);
  assertEquals(made.map(({ op, what }) => `${op} ${what}`), [
    "change config",
    "add service",
    "add destination",
    "add destination",
    "add block",
  ]);
  assertEquals(await jsonOf(lab.balancer, "apply.ts", ...I, path), []);
  const load = { address: "192.168.101.1", port: 80, connections: 40 };
  const { destinations, failures } = await spread(lab.client, load);
  assertEquals([Object.keys(destinations).length, failures], [2, {}]);
  await assertSettled();
});

Deno.test("services go from services.ts through jq into apply.ts", async () => {
  const drain = `| jq -c '.destinations[0].disable = true'`;
  const said = await pipe(
    ["services.ts", ...I, "list", "--json"],
    ["apply.ts", ...I, "-"],
    drain,
  );
  assertMatch(
    said,
    /^~ destination [\d.]+ of 192\.168\.101\.1:80\/tcp: disable false -> disable true\n$/,
  );
  await assertSettled();
});

Deno.test("apply.ts --watch follows the file, and survives a mistake in it", async () => {
  const path = file(shop(3), "watched.yaml");
  await using watching = Script.spawn(lab.balancer, command("apply.ts", ...I, "--watch", path));
  await watching.until((text) => text.includes("weight 2 -> weight 3"));
  file(shop(70000), "watched.yaml");
  await watching.complains(
    "watched.yaml:6: services[0].destinations[1].weight: must be 0 to 65535",
  );
  file(shop(4), "watched.yaml");
  await watching.until((text) => text.includes("weight 3 -> weight 4"));
  assertEquals((await watching.end("SIGTERM")).code, 0);
  await assertSettled();
});

Deno.test("apply.ts says what cannot be, and changes nothing", async () => {
  const wrong: [string[], string][] = [
    [[], "takes one FILE"],
    [["a", "b"], "takes one FILE"],
    [["--watch", "-"], "goes neither with standard input"],
    [[`${directory}/none.yaml`], `Cannot read "${directory}/none.yaml"`],
    [[file("services: [", "bad1.yaml")], "bad1.yaml"],
    [[file(shop(2).replace("192.168.101.1", '"::"'), "bad2.yaml")], "services[0].address: VIP"],
    [
      [file(shop(2).replace("weight: 2", "tunnelType: gue"), "bad3.yaml")],
      "bad3.yaml:6: services[0]",
    ],
    [
      [file("config: { ipv4VLANs: { 1: 10.77.0.1/24 } }", "bad4.yaml")],
      "Cannot send to destination",
    ],
  ];
  for (const [args, says] of wrong) {
    await assertUsage(lab.balancer, "apply.ts", [...I, ...args], says);
  }
  const { code, stderr } = await runScript(lab.balancer, "apply.ts", [
    "-i",
    "nobody",
    file(shop(2)),
  ]);
  assertEquals(code, 1, stderr);
  assertStringIncludes(stderr, 'Instance "nobody" does not exist');
  await assertSettled();
});

Deno.test("save.ts and apply.ts tell their options, and end with their reader", async () => {
  await assertHelp("apply.ts", "dry-run watch instance json");
  await assertHelp("save.ts", "instance json");
  await assertClosedPipe(lab.balancer, "save.ts", I);
  await assertClosedPipe(lab.balancer, "apply.ts", [...I, "--dry-run", file("{services: []}")]);
  await assertUsage(lab.balancer, "save.ts", [...I, "all"], 'takes no "all"');
});
