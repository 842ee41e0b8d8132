/** events(): what happens, whoever does it. */

import { assertEquals } from "@std/assert";
import { Instance } from "../../lib/lb/instance.ts";
import { Client, type InstanceEvent } from "../../mod.ts";
import { Network, run } from "../bpf/support.ts";
import { destinations, FakeNextHops, hop, service, unresolved } from "./support.ts";

const INSTANCE = `events${Deno.pid}`;
const OPTIONS = { instance: INSTANCE, follow: false, maxServices: 8, maxDestinations: 16 };

/** What is told of, without what is the same everywhere. */
function short(event: InstanceEvent): string {
  switch (event.type) {
    case "service":
      return `service ${event.change} ${event.service.address} ${event.service.idleTimeout}`;
    case "destination":
      return `destination ${event.change} ${event.destination.address} ${event.destination.weight}`;
    case "neighbour":
      return `neighbour ${event.destination} ${event.mac} ${event.interface}`;
    case "link":
      return `link ${event.change} ${event.interface.name}`;
    case "flow":
      return `flow ${event.change} ${event.flow.clientPort}`;
  }
}

Deno.test("events() tells what another process changes, each thing once", async () => {
  using _ = new Network();
  const nextHops = new FakeNextHops();
  const [a, b] = destinations(2) as [{ address: string }, { address: string }];
  await using writer = await Client.create([], OPTIONS, { nextHops });
  await using reader = await Client.open(INSTANCE, { readOnly: true });
  const stop = new AbortController();
  const events = reader.events(stop.signal)[Symbol.asyncIterator]();
  const next = async (count: number): Promise<string[]> => {
    const told: string[] = [];
    while (told.length < count) told.push(short((await events.next()).value));
    return told.sort();
  };
  try {
    nextHops.answers.set(b.address, unresolved(b.address));
    await writer.setService(service(1, { idleTimeout: 7 }), a, b);
    assertEquals(await next(4), [
      "destination added 10.0.0.1 1",
      "destination added 10.0.0.2 1",
      "neighbour 10.0.0.1 02:00:00:00:00:01 lo",
      "service added 192.0.2.1 7",
    ]);
    nextHops.answers.set(b.address, hop(5));
    await writer.setService(service(1, { idleTimeout: 8 }), { ...a, weight: 3 }, b);
    assertEquals(await next(3), [
      "destination changed 10.0.0.1 3",
      "neighbour 10.0.0.2 02:00:00:00:00:05 lo",
      "service changed 192.0.2.1 8",
    ]);
    await writer.attach("left");
    assertEquals(await next(1), ["link attached left"]);
    await writer.removeService(service(1));
    assertEquals(await next(3), [
      "destination removed 10.0.0.1 3",
      "destination removed 10.0.0.2 1",
      "service removed 192.0.2.1 8",
    ]);
    run("ip", "link", "delete", "left");
    assertEquals(await next(1), ["link detached left"]);
    stop.abort();
    assertEquals((await events.next()).done, true);
  } finally {
    await Client.remove(INSTANCE);
  }
});

Deno.test("events() tells of flows, of the types asked for alone, and ends with the client", async () => {
  const nextHops = new FakeNextHops();
  const client = await Client.create([], { ...OPTIONS, trackMask: 0 }, { nextHops });
  try {
    const events = client.events(new AbortController().signal, { types: ["flow"] });
    const instance = Instance.open(INSTANCE);
    await client.setService(service(1), ...destinations(1));
    const key = Uint8Array.of(198, 51, 100, 7, 192, 0, 2, 1, 0x9c, 0x40, 0, 80, 6, 0, 0, 0);
    instance.flows4.update(key, new Uint8Array(16));
    const iterator = events[Symbol.asyncIterator]();
    assertEquals(short((await iterator.next()).value), "flow began 40000");
    const value = new Uint8Array(16);
    new Uint32Array(value.buffer).set([1, 1, 0, 1]); // slot and generation of the destination, open
    instance.flows4.update(key, value);
    assertEquals(short((await iterator.next()).value), "flow moved 40000");
    await client.purgeFlows();
    assertEquals(short((await iterator.next()).value), "flow ended 40000");
    instance.close();
    const last = iterator.next();
    await client.close();
    assertEquals((await last).done, true);
  } finally {
    await Client.remove(INSTANCE);
  }
});
