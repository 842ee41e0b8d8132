/** Checks each server by HTTP, through its real tunnel; those that fail get no new connections until they recover. */
import { Client } from "../mod.ts";

const [instance = "default", vip = "", port = "80", path = "/", seconds = "2"] = Deno.args;

async function isUp(url: string): Promise<boolean> {
  const response = await fetch(url, { signal: AbortSignal.timeout(1000) }).catch(() => undefined);
  await response?.body?.cancel();
  return response?.ok ?? false;
}

await using client = await Client.open(instance, { follow: true });
await client.openProbes();
const service = { address: vip, port: Number(port) };
while (true) {
  for (const { destination } of client.destinations(service)) {
    const address = client.nat(vip, destination.address)!;
    const host = address.includes(":") ? `[${address}]` : address;
    const disable = !await isUp(`http://${host}:${port}${path}`);
    if (disable === destination.disable) continue;
    await client.updateDestination(service, { ...destination, disable });
    console.log(`${destination.address} is ${disable ? "down" : "up"}`);
  }
  await new Promise((resolve) => setTimeout(resolve, Number(seconds) * 1000));
}
