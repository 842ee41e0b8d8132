/** A process that gives a service one set of destinations after the other; see `instances_test.ts`. */

import { Client } from "../../mod.ts";
import { Neighbours } from "./mortal.ts";

const [instance, service, sets, times] = JSON.parse(Deno.args[0]!);
await using client = await Client.open(instance, {}, { nextHops: new Neighbours() });
for (let i = 0; i < times; i++) await client.setService(service, ...sets[i % sets.length]);
