/** Drains one server after the other, has a command do its work on it, and takes it back: no connection is cut. */
import { Client } from "../mod.ts";

const [instance = "default", vip = "", port = "80", ...command] = Deno.args;
const PATIENCE_MS = 60_000;

await using client = await Client.open(instance);
const service = { address: vip, port: Number(port) };
for (const { destination } of client.destinations(service)) {
  const { address } = destination;
  await client.updateDestination(service, { ...destination, disable: true });
  const open = () =>
    client.destinations(service).find((each) => each.destination.address === address)!
      .activeConnections;
  for (const began = Date.now(); open() > 0 && Date.now() - began < PATIENCE_MS;) {
    await new Promise((resolve) => setTimeout(resolve, 250));
  }
  const [program, ...args] = [...command, address];
  const { success } = await new Deno.Command(program!, { args, stdout: "inherit" }).output();
  if (!success) throw new Error(`${command} failed on ${address}, which stays drained`);
  await client.updateDestination(service, { ...destination, disable: false });
  console.log(`${address} is done`);
}
