/** A change that fails has changed nothing, and has taken nothing. */

import { assert, assertEquals, assertRejects } from "@std/assert";
import { BpfError, BpfMap } from "../../lib/bpf/mod.ts";
import { decodeRing } from "../../lib/lb/change.ts";
import {
  type Client,
  type Destination,
  InvalidValueError,
  type Service,
  TableFullError,
  UnreachableError,
} from "../../mod.ts";
import { clientTests, destinations, hop, service, type Subject, unreachable } from "./support.ts";

const SERVICES = 6, DESTINATIONS = 12;
const clientTest = clientTests({ maxServices: SERVICES, maxDestinations: DESTINATIONS });

const FAR = "10.99.0.1";
const [A, B, C] = destinations(3) as [Destination, Destination, Destination];

/** Services 192.0.2.`first` and up, each with so many destinations of its own. */
function many(
  count: number,
  each: number,
  first = 11,
): { service: Service; destinations: Destination[] }[] {
  return Array.from({ length: count }, (_, i) => ({
    service: service(first + i),
    destinations: destinations(each, first + i),
  }));
}

/** What is there before each failure: two services on one VIP, one of IPv6, with five destinations. */
async function furnish({ client }: Subject): Promise<void> {
  await client.setServices([
    { service: service(1, { sticky: true }), destinations: [A, { ...B, weight: 3 }] },
    { service: service(1, { port: 443 }), destinations: [{ ...A, tunnelType: "ipip" }] },
    { service: { address: "2001:db8::1", port: 80 }, destinations: [{ ...A, disable: true }, B] },
  ]);
}

interface Failure {
  name: string;
  act: (client: Client) => Promise<void>;
  // deno-lint-ignore no-explicit-any
  error: new (...args: any[]) => Error;
  says: string;
  /** Fields of the error. */
  data?: Record<string, unknown>;
  before?: (subject: Subject) => void;
}

const last = (destination: Destination) => [
  ...many(2, 2),
  { service: service(1, { port: 443 }), destinations: [destination] },
];

const FAILURES: Failure[] = [
  {
    name: "services beyond maxServices",
    act: (client) =>
      client.setServices([...many(3, 1), { service: service(20), destinations: [] }]),
    error: TableFullError,
    says: 'Cannot add service "192.0.2.20:80/tcp": there is room for 6; ' +
      'the option "maxServices" makes more',
    data: { option: "maxServices", limit: SERVICES },
  },
  {
    name: "destinations beyond maxDestinations",
    act: (client) => client.setServices(many(2, 4)),
    error: TableFullError,
    says: 'Cannot add destination "10.12.0.4" of service "192.0.2.12:80/tcp": ' +
      'there is room for 12; the option "maxDestinations" makes more',
    data: { option: "maxDestinations", limit: DESTINATIONS },
  },
  {
    name: "destinations of a new service beyond maxDestinations",
    act: (client) => client.setService(service(11), ...destinations(8, 1)),
    error: TableFullError,
    says: "maxDestinations",
  },
  {
    name: "an unreachable destination in the last of many services",
    act: (client) => client.setServices(last({ address: FAR })),
    error: UnreachableError,
    says: `Cannot send to destination "${FAR}": there is no route`,
    data: { destination: FAR },
    before: ({ nextHops }) => nextHops.answers.set(FAR, unreachable(FAR)),
  },
  {
    name: "an unreachable destination added to others",
    act: (client) => client.createDestination(service(1), { address: FAR }),
    error: UnreachableError,
    says: "there is no route",
    before: ({ nextHops }) => nextHops.answers.set(FAR, unreachable(FAR)),
  },
  {
    name: "a destination behind a router without a tunnel",
    act: (client) => client.setServices(last({ address: FAR })),
    error: InvalidValueError,
    says: `Destination "${FAR}" is behind a router and has no tunnel: give it one, such as "ipip"`,
    data: { field: "tunnelType", value: "none" },
    before: ({ nextHops }) => nextHops.answers.set(FAR, hop(1, { onLink: false })),
  },
  {
    name: "a destination whose tunnel is taken away behind a router",
    act: (client) => client.updateDestination(service(1, { port: 443 }), A),
    error: InvalidValueError,
    says: `Destination "${A.address}" is behind a router and has no tunnel`,
    before: ({ nextHops }) => nextHops.answers.set(A.address, hop(1, { onLink: false })),
  },
  {
    name: "a tunnel that has nowhere to start from",
    act: (client) => client.setServices(last({ address: "2001:db8:9::1", tunnelType: "ipip" })),
    error: UnreachableError,
    says:
      'Cannot send to destination "2001:db8:9::1": interface "lo" has no IPv6 address for the ' +
      "tunnel to start from",
    before: ({ nextHops }) => nextHops.answers.set("2001:db8:9::1", hop(1, { source6: undefined })),
  },
  {
    name: "a service given twice, once in other words",
    act: (client) =>
      client.setServices([
        ...many(1, 1),
        { service: service(9), destinations: [A] },
        { service: { address: "::ffff:192.0.2.9", port: 80, protocol: "tcp" }, destinations: [B] },
      ]),
    error: InvalidValueError,
    says: 'Cannot set service "192.0.2.9:80/tcp": it is given twice',
    data: { field: "address", value: "192.0.2.9:80/tcp" },
  },
  {
    name: "a destination given twice, once in other words",
    act: (client) => client.setService(service(1), A, B, { address: `::ffff:${A.address}` }),
    error: InvalidValueError,
    says: `Cannot set destination "${A.address}" of service "192.0.2.1:80/tcp": it is given twice`,
    data: { value: A.address },
  },
  {
    name: "a value that cannot be in the last of many services",
    act: (client) => client.setServices(last({ ...C, weight: 65536 })),
    error: InvalidValueError,
    says: "Weight 65536 is not a whole number from 0 to 65535",
    data: { field: "weight", value: 65536 },
  },
  {
    name: "a ring for which there is no memory",
    act: (client) => client.setServices(last(C)),
    error: BpfError,
    says: "Cannot create array map",
    before: ({ instance }) => {
      let calls = 0;
      const { createRing } = instance;
      instance.createRing = (values) => {
        if (++calls < 3) return createRing.call(instance, values);
        instance.createRing = createRing;
        throw new BpfError("create array map", -12);
      };
    },
  },
];

for (const { name, act, error, says, data = {}, before } of FAILURES) {
  clientTest(`${name}: an error, and nothing has changed`, async (subject) => {
    await furnish(subject);
    const state = subject.state();
    for (let attempt = 0; attempt < 3; attempt++) {
      before?.(subject);
      const thrown = await assertRejects(() => act(subject.client), error, says);
      for (const [field, value] of Object.entries(data)) {
        assertEquals((thrown as unknown as Record<string, unknown>)[field], value, field);
      }
    }
    assertEquals(subject.state(), state);
    await assertRoom(subject);
  });
}

/** All that was free is free, and nobody is given what another one has. */
async function assertRoom(subject: Subject): Promise<void> {
  const { client, instance } = subject;
  const [first, ...rest] = many(SERVICES - 3, 2, 30);
  first!.destinations.push({ address: "10.40.0.1" });
  await client.setServices([first!, ...rest]);
  assertEquals(client.services().length, SERVICES);
  const entries = client.services().map((each) => subject.entry(each.service));
  assertEquals(new Set(entries.map(({ id }) => id)).size, SERVICES);
  assertEquals(new Set(entries.map(({ vip }) => vip)).size, SERVICES - 1);
  const used = [...instance.destinationRecords.entries()].filter(([, { used }]) => used === 1);
  assertEquals(used.length, DESTINATIONS);
  assert(entries.every(({ id, vip }) => id < SERVICES && vip < SERVICES));
}

clientTest("a full table takes what another has left", async (subject) => {
  const { client } = subject;
  await client.setServices(many(SERVICES, 2));
  await assertRejects(() => client.createService(service(30)), TableFullError);
  await client.removeService(service(11));
  await client.setService(service(30), ...destinations(2, 30));
  await assertRejects(() => client.createDestination(service(30), C), TableFullError);
  await client.removeDestination(service(12), destinations(1, 12)[0]!);
  await client.createDestination(service(30), C);
  assertEquals(client.destinations(service(30)).length, 3);
});

clientTest("rings of which only some could be put in place are put back", async (subject) => {
  const { client, instance } = subject;
  await furnish(subject);
  const rings = () =>
    client.services().map(({ service }) => {
      using map = BpfMap.fromId(subject.ringId(service));
      return decodeRing(map.lookupBatch().values);
    });
  const { rings: _, ...state } = subject.state() as Record<string, unknown>;
  const before = rings();
  const { updateInnerBatch } = instance.rings;
  instance.rings.updateInnerBatch = async (keys, maps) => {
    instance.rings.updateInnerBatch = updateInnerBatch;
    await instance.rings.updateInnerBatch(keys.subarray(0, 4), maps.slice(0, 1));
    throw new BpfError("update map", -12);
  };
  const wishes = client.services().map(({ service }) => ({ service, destinations: [A, C] }));
  await assertRejects(() => client.setServices(wishes), BpfError, "Cannot update map");
  const { rings: __, ...after } = subject.state() as Record<string, unknown>;
  assertEquals(after, state);
  assertEquals(rings(), before);
  await assertRoom(subject);
});
