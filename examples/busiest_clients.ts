/** Who has the most connections open: the first ten clients. All are known if trackMask is 0, else a sample. */
import { Client } from "../mod.ts";

const [instance = "default", count = "10"] = Deno.args;

await using client = await Client.open(instance, { readOnly: true });
const { sampling } = client.info();
const counts = new Map<string, number>();
for (const flow of client.flows({ state: "open" })) {
  counts.set(flow.client, (counts.get(flow.client) ?? 0) + sampling);
}
const busiest = [...counts].sort(([, a], [, b]) => b - a).slice(0, Number(count));
for (const [address, connections] of busiest) console.log(`${connections}\t${address}`);
