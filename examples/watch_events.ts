/** Writes what happens to an instance, whoever does it, as JSON Lines. */
import { Client } from "../mod.ts";

const [instance = "default", ...types] = Deno.args;

await using client = await Client.open(instance, { readOnly: true });
const stop = new AbortController();
for (const signal of ["SIGINT", "SIGTERM"] as const) {
  Deno.addSignalListener(signal, () => stop.abort());
}
const known = ["service", "destination", "neighbour", "link", "flow"] as const;
const wanted = known.filter((type) => types.length === 0 ? type !== "flow" : types.includes(type));
console.error(`watching ${wanted.join(", ")}`);
for await (const event of client.events(stop.signal, { types: wanted })) {
  console.log(JSON.stringify({ time: new Date().toISOString(), ...event }));
}
