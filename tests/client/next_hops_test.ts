/** Destinations follow their next hops, and one that is lost stands in nobody's way. */

import { assertEquals, assertRejects } from "@std/assert";
import { Client, type Destination } from "../../mod.ts";
import { Mac } from "../../lib/net/address.ts";
import {
  clientTests,
  destinations,
  FakeNextHops,
  hop,
  service,
  type Subject,
  unreachable,
  unresolved,
} from "./support.ts";

const clientTest = clientTests();

const HTTP = service(1);
const [A, B, C] = destinations(3) as [Destination, Destination, Destination];

/** The MACs that packets are sent to, as user space says. */
function macs({ client }: Subject): (string | undefined)[] {
  return client.destinations(HTTP).map(({ mac }) => mac);
}

/** The MACs in the program's table of destinations. */
function entryMacs({ instance }: Subject): string[] {
  return [...instance.destinations.entries()]
    .filter(([, { generation }]) => generation !== 0)
    .map(([, { destinationMac }]) => Mac.fromBytes(destinationMac).toString());
}

const MAC_A = "02:00:00:00:00:0a", MAC_B = "02:00:00:00:00:0b";

clientTest("a destination gets flows once its neighbour has answered", async (subject) => {
  const { client, nextHops } = subject;
  nextHops.answers.set(A.address, hop(0xa)).set(B.address, unresolved(B.address));
  await client.setService(HTTP, A, B);
  assertEquals(macs(subject), [MAC_A, undefined]);
  const ring = subject.ringId(HTTP);
  nextHops.answers.set(B.address, hop(0xb));
  await nextHops.tell();
  assertEquals(macs(subject), [MAC_A, MAC_B]);
  assertEquals(entryMacs(subject), [MAC_A, MAC_B]);
  assertEquals(subject.ringId(HTTP) === ring, false);
});

clientTest("a neighbour that falls silent is sent to where it was", async (subject) => {
  const { client, nextHops } = subject;
  await client.setService(HTTP, A, B);
  const before = subject.state();
  nextHops.answers.set(A.address, unresolved(A.address)).set(B.address, unreachable(B.address));
  await nextHops.tell();
  assertEquals(subject.state(), before);
});

clientTest("a neighbour's new MAC reaches the program, and no ring changes", async (subject) => {
  const { client, nextHops } = subject;
  nextHops.answers.set(A.address, hop(0xa));
  await client.setServices([
    { service: HTTP, destinations: [A] },
    { service: service(2), destinations: [A] },
  ]);
  const rings = [subject.ringId(HTTP), subject.ringId(service(2))];
  nextHops.answers.set(A.address, hop(0xb));
  await nextHops.tell();
  assertEquals(entryMacs(subject), [MAC_B, MAC_B]);
  assertEquals([subject.ringId(HTTP), subject.ringId(service(2))], rings);
});

clientTest(
  "a destination that a router has come before is sent to where it was",
  async (subject) => {
    const { client, nextHops } = subject;
    nextHops.answers.set(A.address, hop(0xa));
    await client.setService(HTTP, A);
    nextHops.answers.set(A.address, hop(0xff, { onLink: false }));
    await nextHops.tell();
    assertEquals(entryMacs(subject), [MAC_A]);
  },
);

for (
  const [lost, answer] of [
    ["silent", unresolved(B.address)],
    ["unreachable", unreachable(B.address)],
    ["behind a router", hop(0xff, { onLink: false })],
  ] as const
) {
  clientTest(`a destination that is ${lost} is in the way of no other change`, async (subject) => {
    const { client, nextHops } = subject;
    await client.setService(HTTP, A, B);
    nextHops.answers.set(B.address, answer);
    await client.updateDestination(HTTP, { ...A, weight: 2 });
    await client.createDestination(HTTP, C);
    await client.updateService({ ...HTTP, sticky: true });
    await client.updateDestination(HTTP, { ...B, weight: 3 });
    assertEquals(macs(subject), Array(3).fill("02:00:00:00:00:01"));
    await client.updateDestination(HTTP, { ...B, disable: true });
    await client.removeDestination(HTTP, A);
    await client.removeDestination(HTTP, B);
    assertEquals(client.destinations(HTTP).map((each) => each.destination.address), [C.address]);
  });
}

clientTest("neighbours of destinations that are gone are let go", async (subject) => {
  const { client, nextHops } = subject;
  await client.setService(HTTP, A, B);
  await client.setService(service(2), B, C);
  await client.removeDestination(HTTP, A);
  await client.removeService(service(2));
  await nextHops.tell();
  assertEquals(nextHops.retained, [B.address]);
});

clientTest("an address is asked for once, and only while its way is unknown", async (subject) => {
  const { client, nextHops } = subject;
  nextHops.answers.set(C.address, unresolved(C.address));
  const start = nextHops.asked.length;
  await client.setServices([
    { service: HTTP, destinations: [A, B] },
    { service: service(2), destinations: [B, C] },
  ]);
  await client.updateDestination(HTTP, { ...A, weight: 2 });
  await client.removeDestination(HTTP, B);
  await client.updateDestination(HTTP, { ...A, tunnelType: "gre" });
  await client.createDestination(service(2), A);
  assertEquals(nextHops.asked.slice(start), [3, 1, 2]);
});

clientTest("what finds next hops fails, and with it the change alone", async (subject) => {
  const { client, nextHops } = subject;
  await client.setService(HTTP, A);
  const before = subject.state();
  const { resolve } = nextHops;
  nextHops.resolve = () => Promise.reject(new Error("no ip"));
  try {
    await assertRejects(() => client.createDestination(HTTP, B), Error, "no ip");
    assertEquals(subject.state(), before);
  } finally {
    nextHops.resolve = resolve;
  }
  await client.createDestination(HTTP, B);
  assertEquals(macs(subject).length, 2);
});

Deno.test("a host on which changes cannot be followed is balanced all the same", async () => {
  const nextHops = new FakeNextHops();
  // deno-lint-ignore require-yield
  nextHops.follow = async function* (): AsyncGenerator<void> {
    await Promise.resolve();
    throw new Error("no ip");
  };
  const client = await Client.create([], {}, { nextHops });
  await client.setService(HTTP, A);
  assertEquals(client.destinations(HTTP).length, 1);
  await client.close();
  assertEquals(nextHops.closed, true);
});
