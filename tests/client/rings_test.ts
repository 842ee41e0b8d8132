/** Rings: whose they are, how large, when they change, and when they are settled. */

import { assert, assertEquals, assertNotEquals } from "@std/assert";
import { BpfMap } from "../../lib/bpf/mod.ts";
import { decodeRing, isTracked, slotOf } from "../../lib/lb/change.ts";
import type { RingState } from "../../lib/lb/change.ts";
import type { Destination, Service } from "../../mod.ts";
import { clientTests, destinations, service, type Subject } from "./support.ts";

const clientTest = clientTests();

const HTTP = service(1);
const [A, B, C] = destinations(3) as [Destination, Destination, Destination];
const TRACKED_FOR_NS = 901_000_000_000n;

/** The ring as packets find it. */
function ring(subject: Subject, of: Service = HTTP): RingState {
  using map = BpfMap.fromId(subject.ringId(of));
  return decodeRing(map.lookupBatch().values);
}

/** The address that each entry leads to. */
function owners(subject: Subject, of: Service = HTTP): string[] {
  const records = [...subject.instance.destinationRecords.entries()].map(([, record]) => record);
  return [...ring(subject, of).current].map((entry) => {
    const { used = 0, address } = records[slotOf(entry)] ?? {};
    return used === 1 ? address!.subarray(0, 4).join(".") : "nobody";
  });
}

/** How many entries each destination has, by its address. */
function shares(subject: Subject): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const owner of owners(subject)) counts[owner] = (counts[owner] ?? 0) + 1;
  return counts;
}

clientTest("weights are shares; disabled destinations and weight 0 have none", async (subject) => {
  const { client } = subject;
  await client.setService(
    HTTP,
    { ...A, weight: 1 },
    { ...B, weight: 3 },
    { ...C, disable: true },
    { address: "10.0.0.4", weight: 0 },
  );
  const { [A.address]: one = 0, [B.address]: three = 0, ...others } = shares(subject);
  assertEquals(others, {});
  assert(Math.abs(three - 3 * one) <= 4, `${one} and ${three}`);
});

clientTest("without destinations that take flows every entry is nobody's", async (subject) => {
  await subject.client.setService(HTTP, { ...A, disable: true });
  assertEquals(Object.keys(shares(subject)), ["nobody"]);
});

clientTest("a ring grows with its destinations, and does not shrink with them", async (subject) => {
  const { client } = subject;
  await client.setService(HTTP, ...destinations(10));
  const small = ring(subject).size;
  await client.setService(HTTP, ...destinations(300));
  const large = ring(subject);
  assert(large.size >= 300 * 25 && large.size > small, `${large.size}`);
  assert(large.current.every(isTracked));
  assertEquals(Object.keys(shares(subject)).length, 300);
  await client.setService(HTTP, ...destinations(2));
  assertEquals(ring(subject).size, large.size);
});

clientTest("a change of one service leaves the rings of others alone", async (subject) => {
  const { client } = subject;
  const others = [service(2), service(3, { protocol: "udp" }), service(1, { port: 443 })];
  await client.setServices(
    [HTTP, ...others].map((each) => ({ service: each, destinations: destinations(3) })),
  );
  const before = others.map((each) => subject.ringId(each));
  let own = subject.ringId(HTTP);
  for (
    const change of [
      () => client.updateDestination(HTTP, { ...A, weight: 2 }),
      () => client.updateDestination(HTTP, { ...B, disable: true }),
      () => client.removeDestination(HTTP, A),
      () => client.createDestination(HTTP, { address: "10.0.0.9" }),
      () => client.updateService({ ...HTTP, sticky: true }),
      () => client.setService(HTTP, A),
    ]
  ) {
    await change();
    assertNotEquals(subject.ringId(HTTP), own, `${change}`);
    own = subject.ringId(HTTP);
  }
  await client.removeService(HTTP);
  assertEquals(others.map((each) => subject.ringId(each)), before);
});

clientTest("a change of the tunnel changes no ring", async (subject) => {
  await subject.client.setService(HTTP, A, B);
  const before = subject.ringId(HTTP);
  await subject.client.updateDestination(HTTP, { ...A, tunnelType: "gre" });
  assertEquals(subject.ringId(HTTP), before);
});

clientTest(
  "what a ring says depends on the set alone, not on how it came to be",
  async (subject) => {
    const { client } = subject;
    await client.setService(HTTP, A, B, { ...C, weight: 2 });
    await client.setService(service(2), C, { address: "10.0.0.4" });
    await client.setService(service(2), { ...C, weight: 2 }, B, A);
    assertEquals(owners(subject, service(2)), owners(subject));
  },
);

clientTest("any change settles rings whose window is over", async (subject) => {
  const { client, instance } = subject;
  await client.setService(HTTP, A, B);
  await client.removeDestination(HTTP, B);
  await client.createDestination(HTTP, C);
  assert(ring(subject).current.some(isTracked));
  const { clock } = instance;
  try {
    instance.clock = () => clock() + TRACKED_FOR_NS;
    await client.createService(service(2));
    assert(!ring(subject).current.some(isTracked));
  } finally {
    instance.clock = clock;
  }
});

clientTest("that a ring cannot be settled is not the failure of a change", async (subject) => {
  const { client, instance } = subject;
  await client.setService(HTTP, A, B);
  await client.removeDestination(HTTP, B);
  await client.createDestination(HTTP, C);
  const { clock, createRing } = instance;
  try {
    instance.clock = () => clock() + TRACKED_FOR_NS;
    instance.createRing = () => {
      throw new Error("no memory");
    };
    await client.updateDestination(HTTP, { ...A, tunnelType: "ipip" });
    assert(ring(subject).current.some(isTracked));
    instance.createRing = createRing;
    await client.createService(service(2));
    assert(!ring(subject).current.some(isTracked));
  } finally {
    Object.assign(instance, { clock, createRing });
  }
});
