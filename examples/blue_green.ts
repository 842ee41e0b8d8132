/** Sends new connections to one set of servers instead of the other, at once; those that are open stay. */
import { Client } from "../mod.ts";

const [instance = "default", vip = "", ...greens] = Deno.args;

await using client = await Client.open(instance);
await client.editServices((services) =>
  services.map(({ service, destinations }) => {
    if (service.address !== vip) return { service, destinations };
    const missing = greens.filter((green) =>
      !destinations.some(({ address }) => address === green)
    );
    const old = destinations.map((each) => ({ ...each, disable: !greens.includes(each.address) }));
    return { service, destinations: [...old, ...missing.map((address) => ({ address }))] };
  })
);
for (const { service } of client.services().filter(({ service }) => service.address === vip)) {
  for (const { destination } of client.destinations(service)) {
    console.log(`${destination.address}: ${destination.disable ? "draining" : "serving"}`);
  }
}
