/** Asks each server for a weight by HTTP, through its tunnel, and gives new connections by it. */
import { Client } from "../mod.ts";

const [instance = "default", vip = "", port = "80", path = "/weight"] = Deno.args;

await using client = await Client.open(instance);
await client.openProbes();
const service = { address: vip, port: Number(port) };
for (const { destination } of client.destinations(service)) {
  const address = client.nat(vip, destination.address)!;
  const host = address.includes(":") ? `[${address}]` : address;
  const signal = AbortSignal.timeout(2000);
  const response = await fetch(`http://${host}:${port}${path}`, { signal });
  const weight = Math.min(65535, Math.max(0, Math.round(Number(await response.text()))));
  if (Number.isNaN(weight)) throw new Error(`${destination.address} says no number`);
  if (weight === destination.weight) continue;
  await client.updateDestination(service, { ...destination, weight });
  console.log(`${destination.address}: weight ${weight}`);
}
