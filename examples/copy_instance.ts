/** Makes one instance what another one is: configuration, services and blocked prefixes, in one change. */
import { Client } from "../mod.ts";

const [from = "default", to = ""] = Deno.args;

await using source = await Client.open(from, { readOnly: true });
await using target = await Client.open(to);
for (const { op, what, name } of await target.setState(source.state())) {
  console.log(`${op} ${what} ${name}`);
}
