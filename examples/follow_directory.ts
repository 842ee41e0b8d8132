/** One file, one server: its name is the address, what is in it the weight. Scale with "touch" and "rm". */
import { Client } from "../mod.ts";

const [instance = "default", vip = "", port = "80", directory = "."] = Deno.args;

await using client = await Client.open(instance, { follow: true });
const update = async (): Promise<void> => {
  const files = [...Deno.readDirSync(directory)].filter(({ isFile }) => isFile);
  const servers = files.map(({ name }) => ({
    address: name,
    weight: Number(Deno.readTextFileSync(`${directory}/${name}`).trim() || 1),
  }));
  await client.setService({ address: vip, port: Number(port) }, ...servers);
  console.log(servers.map(({ address, weight }) => `${address}=${weight}`).sort().join(" "));
};
const watcher = Deno.watchFs(directory);
Deno.addSignalListener("SIGTERM", () => watcher.close());
await update();
for await (const _ of watcher) {
  await update().catch((error) => console.error(error.message));
}
