/** The lines of scripts/README.md do what they say, as a user types them. */

import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { Lab } from "../../lib/net/lab.ts";
import { spread } from "../../lib/net/lab_client.ts";
import { xdpPrograms } from "./balancer.ts";

const ROOT = new URL("../../", import.meta.url).pathname;
const NAME = `tasks_${Deno.pid}`;

/** The tasks, and the line for each. */
function tasks(): [task: string, line: string][] {
  const text = Deno.readTextFileSync(`${ROOT}scripts/README.md`);
  const [, section] = /<!-- tasks:begin -->([^]*)<!-- tasks:end -->/.exec(text)!;
  return [...section!.matchAll(/^(\S[^\n]*)\n\n {4}(\S[^\n]*)\n/gm)].map((
    [, task, line],
  ) => [task!, line!]);
}

/** What a task must have said, by its first words. */
const SAYS: Record<string, RegExp> = {
  "Balance a VIP":
    /eth0 +\d+ +generic\n[^]*192\.168\.101\.1:80\/tcp .*10\.1\.0\.10 10\.1\.0\.11\n$/,
  "Add a server": /10\.1\.0\.12,weight=2\n$/,
  "Change a weight": /^~ destination 10\.1\.0\.11 of .*: weight 1 -> weight 3\n$/,
  "Which server does":
    /^tx, reason forwarded: .*\nservice .*\ndestination 10\.1\.0\.1[012]\nbecause /,
  "Who gets": /packets\/s/,
  "Drain a server": /true\n$/,
  "Which servers do not": /^10\.1\.0\.11\n$/,
  "Drain those": /10\.1\.0\.11,weight=3,drain/,
  "What are packets": /"err_service_not_found": [1-9]/,
  "Save all": /^nothing to change\n$/,
  "Forget flows": /^forgot \d+ flows?\n$/,
  "Have every instance": new RegExp(`^${NAME} runs the program of this version\n$`, "m"),
  "Take it all": /^$/,
};

Deno.test("each line of scripts/README.md does what it says", async () => {
  await using lab = await Lab.create({ name: NAME, destinations: 3 });
  const found = tasks();
  assert(found.length >= 10, `${found.length} tasks`);
  assertEquals(found.length, Object.keys(SAYS).length);
  const directory = await Deno.makeTempDir();
  const prelude = `cd ${directory}; xvs() { local name=$1; shift; ` +
    `${Deno.execPath()} run -A --no-check ${ROOT}scripts/$name.ts "$@"; };`;
  try {
    for (const [task, line] of found) {
      const [words, says] = Object.entries(SAYS).find(([words]) => task.startsWith(words))!;
      if (words === "Which servers do not") {
        await lab.destinations[1]!.run(["ip", "address", "del", "192.168.101.1/32", "dev", "lo"]);
      }
      if (words === "What are packets") {
        await lab.client.attempt(["curl", "-s", "--max-time", "1", "http://192.168.101.1:81/"]);
      }
      // On a host of its own there would be no instance but this.
      const own = line.replaceAll("-i web", `-i ${NAME}`).replace(/ web$/, ` ${NAME}`)
        .replace("jq -r .name", `jq -r 'select(.name == "${NAME}").name'`);
      const result = await lab.balancer.attempt(["bash", "-o", "pipefail", "-c", prelude + own]);
      assertEquals(result.stderr, "", line);
      assertMatch(result.stdout, says, line);
      if (words === "Add a server") {
        const load = { address: "192.168.101.1", port: 80, connections: 40 };
        const { destinations, failures } = await spread(lab.client, load);
        assertEquals([Object.keys(destinations).length, failures], [3, {}]);
      }
    }
    assertStringIncludes(
      await Deno.readTextFile(`${directory}/web.yaml`),
      "address: 192.168.101.1",
    );
    assertEquals(await xdpPrograms(lab.balancer), {});
  } finally {
    await lab.balancer.attempt(["bash", "-c", `${prelude} xvs instances remove ${NAME}`]);
    await Deno.remove(directory, { recursive: true });
  }
});
