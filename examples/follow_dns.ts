/** Keeps the servers of a service what a DNS name says; those that vanish from it are drained. */
import { Client } from "../mod.ts";

const [instance = "default", vip = "", port = "80", name = "", seconds = "30"] = Deno.args;
const nameServer = Deno.env.get("NAME_SERVER");

await using client = await Client.open(instance, { follow: true });
const service = { address: vip, port: Number(port) };
while (true) {
  const options = nameServer ? { nameServer: { ipAddr: nameServer, port: 53 } } : {};
  // A name server that is down must not take the service down.
  const found = await Deno.resolveDns(name, vip.includes(":") ? "AAAA" : "A", options)
    .catch((): string[] => []);
  if (found.length > 0) {
    const before = client.destinations(service).map(({ destination }) => destination);
    const kept = before.map((each) => ({ ...each, disable: !found.includes(each.address) }));
    const added = found.filter((address) => !before.some((each) => each.address === address));
    await client.setService(service, ...kept, ...added.map((address) => ({ address })));
    console.log(`${name}: ${found.sort().join(" ")}`);
  }
  if (seconds === "0") break;
  await new Promise((resolve) => setTimeout(resolve, Number(seconds) * 1000));
}
