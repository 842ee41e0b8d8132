/**
 * Shows the balancer at work, in network namespaces of its own: HTTP spreads over servers by weight, a
 * server is drained while its connections go on, and nothing is lost. `make demo` runs it.
 *
 * @module
 */
import { Lab } from "../lib/net/lab.ts";
import { Held, type LabLoadResult, spread } from "../lib/net/lab_client.ts";
import { Client } from "../mod.ts";
import { main, table } from "./common.ts";

const NAME = "demo";
const REQUESTS = 2000;
const HELD = 60;
const WEIGHTS = [1, 1, 2];

function print(text: string): void {
  console.log(`\n== ${text}`);
}

/** Throws unless the load met no failure. */
function expectNoLoss({ failures }: LabLoadResult, what: string): void {
  const texts = Object.entries(failures).map(([text, count]) => `${count} x ${text}`);
  if (texts.length > 0) throw new Error(`${what} failed: ${texts.join(", ")}`);
}

/** In the balancer's namespace: the client of the API, driven by hand. */
async function balance(): Promise<void> {
  const lab = await Lab.open(NAME);
  const [vip] = lab.vips as [string];
  const http = { address: vip, port: 80 };
  const echo = { address: vip, port: 7 };
  const destinations = lab.destinations.map(({ address4 }, i) => ({
    address: address4,
    weight: WEIGHTS[i]!,
  }));
  await using client = await Client.create([lab.balancer.interface]);
  await client.setServices([{ service: http, destinations }, { service: echo, destinations }]);

  print(`${REQUESTS} HTTP connections to http://${vip}/ over ${lab.destinations.length} servers`);
  const served = await spread(lab.client, { ...http, connections: REQUESTS });
  expectNoLoss(served, "The spread");
  const sum = WEIGHTS.reduce((a, b) => a + b);
  console.log(table(lab.destinations.map(({ name, address4 }, i) => ({
    server: name,
    address: address4,
    weight: WEIGHTS[i]!,
    connections: served.destinations[name] ?? 0,
    share: `${((served.destinations[name] ?? 0) * 100 / REQUESTS).toFixed(1)} %`,
    wanted: `${(WEIGHTS[i]! * 100 / sum).toFixed(1)} %`,
  }))));

  const [drained] = lab.destinations;
  print(`${HELD} connections stay open and talk; ${drained!.name} is drained under them`);
  await using held = await Held.open(lab.client, { ...echo, connections: HELD, intervalMs: 20 });
  for (const service of [http, echo]) {
    await client.updateDestination(service, { ...destinations[0]!, disable: true });
  }
  const meanwhile = await spread(lab.client, { ...http, connections: REQUESTS });
  expectNoLoss(meanwhile, "Requests while draining");
  const kept = await held.end();
  expectNoLoss(kept, "Open connections while draining");
  console.log(table(lab.destinations.map(({ name }) => ({
    server: name,
    state: name === drained!.name ? "draining" : "up",
    "open connections": kept.destinations[name] ?? 0,
    "new connections": meanwhile.destinations[name] ?? 0,
  }))));
  if (meanwhile.destinations[drained!.name]) {
    throw new Error(`${drained!.name} got new connections`);
  }
  console.log(
    `All ${HELD} open connections went on at their servers (${kept.answers} words echoed), ` +
      `${REQUESTS} new ones went to the others, none was lost.`,
  );

  print("What the program counted");
  const { metrics, interfaces } = client.info();
  const shown = ["forwarded", "not_a_vip", "not_ip", "errors"].map((name) =>
    `${metrics[name]} ${name}`
  );
  console.log(`${interfaces[0]!.name} in ${interfaces[0]!.mode} mode: ${shown.join(", ")}`);
}

await main(async () => {
  if (Deno.args[0] === "balance") return await balance();
  print("A client, a balancer and three servers, each in a network namespace, on one switch");
  await using lab = await Lab.create({ name: NAME, destinations: WEIGHTS.length });
  console.log(table(lab.nodes.map(({ name, address4, address6, mac }) => ({
    node: name,
    IPv4: address4,
    IPv6: address6,
    MAC: mac,
  }))));
  const balancer = lab.balancer.spawn(
    [Deno.execPath(), "run", "-A", import.meta.filename!, "balance"],
    { stdin: "null" },
  );
  const { success } = await balancer.status;
  if (!success) throw new Error("The demo did not go as it should");
  print("Done; the namespaces are removed");
});
