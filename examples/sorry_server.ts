/** A server that says sorry takes new connections while no other one does. */
import { Client } from "../mod.ts";

const [instance = "default", vip = "", port = "80", sorry = ""] = Deno.args;

await using client = await Client.open(instance, { follow: true });
const update = () =>
  client.editServices((services) =>
    services.map(({ service, destinations }) => {
      if (service.address !== vip || service.port !== Number(port)) {
        return { service, destinations };
      }
      const others = destinations.filter(({ address }) => address !== sorry);
      const disable = others.some((each) => !each.disable && each.weight > 0);
      return { service, destinations: [...others, { address: sorry, disable }] };
    })
  );
const stop = new AbortController();
Deno.addSignalListener("SIGTERM", () => stop.abort());
const events = client.events(stop.signal, { types: ["service", "destination"] });
await update();
console.log(`watching ${vip}`);
for await (const _ of events) await update();
