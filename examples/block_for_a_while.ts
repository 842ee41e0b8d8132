/** Stops a port scan, or whatever else comes from a prefix, for some seconds; tells how much it kept out. */
import { Client } from "../mod.ts";

const [instance = "default", seconds = "600", ...prefixes] = Deno.args;

await using client = await Client.open(instance);
await client.block(...prefixes);
try {
  const { promise, resolve } = Promise.withResolvers<void>();
  for (const signal of ["SIGINT", "SIGTERM"] as const) Deno.addSignalListener(signal, resolve);
  setTimeout(resolve, Number(seconds) * 1000);
  await promise;
} finally {
  for (const { prefix, packets } of client.blocked()) console.log(`${prefix}: ${packets} packets`);
  await client.unblock(...prefixes);
}
Deno.exit();
