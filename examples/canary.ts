/** Gives one server a growing share of new connections, as long as its errors stay away; else none at all. */
import { Client } from "../mod.ts";

const [instance = "default", vip = "", port = "80", canary = "", seconds = "60"] = Deno.args;
const STEPS = [1, 2, 5, 10, 20, 50, 100];

await using client = await Client.open(instance);
const service = { address: vip, port: Number(port) };
const look = () =>
  client.destinations(service).find((each) => each.destination.address === canary)!;
await client.editServices((services) =>
  services.map(({ service, destinations }) => ({
    service,
    destinations: service.address !== vip || service.port !== Number(port)
      ? destinations
      : destinations.map((each) => each.address === canary ? each : { ...each, weight: 100 }),
  }))
);
const before = look().metrics.errors!;
for (const weight of STEPS) {
  await client.updateDestination(service, { ...look().destination, weight });
  console.log(`${canary} has weight ${weight}`);
  await new Promise((resolve) => setTimeout(resolve, Number(seconds) * 1000));
  if (look().metrics.errors! === before) continue;
  await client.updateDestination(service, { ...look().destination, weight: 0 });
  throw new Error(`${canary} gets no new connections: it had errors`);
}
