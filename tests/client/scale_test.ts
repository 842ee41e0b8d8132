/** How long it takes with many. No time is asserted, since hosts differ: the numbers are printed. */

import { assertEquals, assertNotEquals } from "@std/assert";
import type { Destination, Service } from "../../mod.ts";
import { destinations, service, Subject } from "./support.ts";

const SERVICES = 1000, DESTINATIONS = 10, MANY = 10_000;
/** Set one after the other on top of the others; each waits for the kernel's readers once. */
const ONE_BY_ONE = 100;

function many(count: number): { service: Service; destinations: Destination[] }[] {
  return Array.from({ length: count }, (_, i) => ({
    service: { address: `192.0.${2 + (i >>> 8)}.${i & 0xff}`, port: 80 },
    destinations: Array.from(
      { length: DESTINATIONS },
      (_, j) => ({ address: `10.${i >>> 8}.${i & 0xff}.${j + 1}` }),
    ),
  }));
}

async function timed(what: string, act: () => unknown): Promise<void> {
  const start = performance.now();
  await act();
  console.log(`  ${what}: ${(performance.now() - start).toFixed(1)} ms`);
}

Deno.test(`${SERVICES} services of ${DESTINATIONS} destinations, and a change of one`, async () => {
  await using subject = await Subject.create();
  const { client } = subject;
  const all = many(SERVICES);
  const [atOnce, oneByOne] = [all.slice(0, -ONE_BY_ONE), all.slice(-ONE_BY_ONE)];
  await timed(`setServices() of ${atOnce.length}`, () => client.setServices(atOnce));
  await timed(`setService() of ${oneByOne.length} more, one by one`, async () => {
    for (const { service, destinations } of oneByOne) {
      await client.setService(service, ...destinations);
    }
  });
  assertEquals(client.services().length, SERVICES);
  const { service, destinations: [first] } = all[500]!;
  const { id } = subject.entry(service);
  let before = subject.rings();
  assertEquals(new Set(before).size, SERVICES + 1);
  for (
    const [what, act] of [
      ["a change of a weight", () => client.updateDestination(service, { ...first!, weight: 2 })],
      ["draining one", () => client.updateDestination(service, { ...first!, disable: true })],
      ["removing one", () => client.removeDestination(service, first!)],
      ["adding one", () => client.createDestination(service, first!)],
    ] as const
  ) {
    await timed(what, act);
    const after = subject.rings();
    assertNotEquals(after[id], before[id]);
    assertEquals(after.with(id, 0), before.with(id, 0));
    before = after;
  }
  await timed("setServices() of what is there", () => client.setServices(all));
  assertEquals(subject.rings(), before);
  await timed("all services, with their destinations", () => {
    for (const { service } of client.services()) client.destinations(service);
  });
  await timed("info()", () => client.info());
  await timed("vips()", () => client.vips());
});

Deno.test(`a service of ${MANY} destinations, and a change of one`, async () => {
  await using subject = await Subject.create();
  const { client } = subject;
  const http = service(1);
  const all = destinations(MANY);
  await timed("setService()", () => client.setService(http, ...all));
  await timed(
    "a change of a weight",
    () => client.updateDestination(http, { ...all[9]!, weight: 2 }),
  );
  await timed("removing one", () => client.removeDestination(http, all[9]!));
  await timed("destinations()", () => assertEquals(client.destinations(http).length, MANY - 1));
});
