/** The scripts in one file, where there is no Deno. */

import { assertEquals, assertStringIncludes } from "@std/assert";
import { attempt, run } from "../../lib/net/command.ts";
import { Lab } from "../../lib/net/lab.ts";
import { spread } from "../../lib/net/lab_client.ts";
import { assertHelp, assertUsage, command } from "./process.ts";

/** What the file needs of a host. */
const TOOLS = ["sh", "tar", "gzip", "tail", "mkdir", "mktemp", "mv", "rmdir", "ip"];

/** A directory with nothing but those in it. */
async function bareTools(directory: string): Promise<string> {
  await Deno.mkdir(directory);
  for (const tool of TOOLS) {
    const path = (await run(["sh", "-c", 'command -v "$1"', "sh", tool])).trim();
    await Deno.symlink(path, `${directory}/${tool}`);
  }
  return directory;
}

Deno.test("one file balances, is asked and is stopped, without Deno on the path", async () => {
  const directory = await Deno.makeTempDir();
  const name = `binary_${Deno.pid}`;
  await using lab = await Lab.create({ name, destinations: 2 });
  try {
    const built = await attempt(command("binary.ts", directory, "--json"));
    assertEquals(built.code, 0, built.stderr);
    const bare = ["env", "-i", `PATH=${await bareTools(`${directory}/bin`)}`];
    const xvs = [...bare, `XVS_HOME=${directory}/home`, `${directory}/xvs`];
    const without = await attempt([...bare, "sh", "-c", "command -v deno"]);
    assertEquals(without.stdout, "");

    const node = lab.balancer;
    await node.run([...xvs, "attach", "-i", name, "eth0"]);
    try {
      const rips = lab.destinations.map(({ address4 }) => address4);
      await node.run([...xvs, "services", "-i", name, "add", "192.168.101.1:80", ...rips]);
      const load = { address: "192.168.101.1", port: 80, connections: 40 };
      const { destinations, failures } = await spread(lab.client, load);
      assertEquals([Object.keys(destinations).length, failures], [2, {}]);
      const link = [...xvs.slice(0, -1), `${directory}/save`, "-i", name];
      assertStringIncludes(await node.run(link), "address: 192.168.101.1");
      await node.run([...xvs, "instances", "remove", name]);
    } finally {
      await node.attempt([...xvs, "instances", "remove", name]);
    }
    const wrong = await attempt([...xvs, "frob"]);
    assertEquals([wrong.code, wrong.stdout], [2, ""]);
    assertStringIncludes(wrong.stderr, "xvs takes the name of a script: apply, attach");
    const usage = await attempt([...xvs, "status", "--frob"]);
    assertEquals([usage.code, usage.stderr], [2, 'Option "--frob" is unknown: see --help\n']);
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
});

Deno.test("binary.ts tells what it takes", async () => {
  await assertHelp("binary.ts", "json");
  await assertUsage(undefined, "binary.ts", [], "takes a DIRECTORY");
});
