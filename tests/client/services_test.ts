/** What each method does, and what it says when it cannot. */

import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import {
  Client,
  DestinationExistsError,
  DestinationNotFoundError,
  InvalidValueError,
  ServiceExistsError,
  ServiceNotFoundError,
  VipNotFoundError,
  XvsError,
} from "../../mod.ts";
import { clientTests, FakeNextHops, hop, openFiles, service, type Subject } from "./support.ts";

const clientTest = clientTests();

const HTTP = service(1);
const NAME = "192.0.2.1:80/tcp";
const A = { address: "10.0.0.1" };
const B = { address: "10.0.0.2" };
const COMPLETE = {
  tunnelType: "none",
  tunnelPort: 0,
  tunnelEncapNoChecksum: false,
  mtu: 0,
  weight: 1,
  disable: false,
} as const;

/** The destinations of a service, as they were asked for. */
function specs({ client }: Subject, of = HTTP): unknown[] {
  return client.destinations(of).map(({ destination }) => destination);
}

clientTest("createService() adds a service with every field, and its VIP", async (subject) => {
  const { client } = subject;
  await client.createService({ ...HTTP, sticky: true });
  await client.createService({ address: "2001:db8::1", port: 53, protocol: "udp" });
  assertEquals(client.services().map((each) => each.service), [
    {
      ...HTTP,
      protocol: "tcp",
      sticky: true,
      idleTimeout: 900,
      expired: "default",
      fragmentable: "default",
    },
    {
      address: "2001:db8::1",
      port: 53,
      protocol: "udp",
      sticky: false,
      idleTimeout: 60,
      expired: "default",
      fragmentable: "default",
    },
  ]);
  assertEquals(client.vips().map(({ address }) => address), ["192.0.2.1", "2001:db8::1"]);
  assertEquals(client.vip("192.0.2.1").stats.incomingPackets, 0n);
  assertEquals(client.service(HTTP).metrics.flows, 0n);
  assertEquals(client.destinations(HTTP), []);
});

clientTest("createService() refuses a service that exists", async (subject) => {
  await subject.client.setService(HTTP, A);
  const error = await assertRejects(
    () => subject.client.createService({ ...HTTP, sticky: true }),
    ServiceExistsError,
    `Cannot create service "${NAME}": it exists already`,
  );
  assert(error instanceof XvsError);
  assertEquals([error.name, error.service], ["ServiceExistsError", NAME]);
  assertEquals(subject.client.service(HTTP).service.sticky, false);
  assertEquals(specs(subject), [{ ...A, ...COMPLETE }]);
});

clientTest("services differ by address, port and protocol", async (subject) => {
  const { client } = subject;
  const four = [HTTP, service(2), service(1, { port: 443 }), service(1, { protocol: "udp" })];
  for (const each of four) await client.createService(each);
  assertEquals(client.services().length, 4);
  assertEquals(client.vips().length, 2);
  assertEquals(new Set(four.map((each) => subject.entry(each).id)).size, 4);
});

clientTest(
  "updateService() changes sticky and idleTimeout, and keeps the destinations",
  async (subject) => {
    const { client } = subject;
    await client.setService(HTTP, A, B);
    const { id } = subject.entry(HTTP);
    await client.updateService({ ...HTTP, sticky: true, idleTimeout: 30 });
    const { sticky, idleTimeout } = client.service(HTTP).service;
    assertEquals([sticky, idleTimeout], [true, 30]);
    assertEquals(subject.entry(HTTP).id, id);
    assertEquals(subject.entry(HTTP).sticky, 1);
    assertEquals(specs(subject).length, 2);
  },
);

clientTest(
  "removeService() removes the service, and its VIP with the last one",
  async (subject) => {
    const { client } = subject;
    const https = service(1, { port: 443 });
    const empty = subject.state();
    await client.setServices([
      { service: HTTP, destinations: [A] },
      { service: https, destinations: [A, B] },
    ]);
    await client.removeService(HTTP);
    assertEquals(client.services().map((each) => each.service.port), [443]);
    assertEquals(client.vips().length, 1);
    await client.removeService(https);
    assertEquals(client.vips(), []);
    // The ring of an id that was in use is the empty one, and not none.
    assertEquals({ ...subject.state() as object, rings: 0 }, { ...empty as object, rings: 0 });
  },
);

clientTest(
  "createDestination() adds a destination behind those that are there",
  async (subject) => {
    const { client, nextHops } = subject;
    nextHops.answers.set(B.address, hop(0xbb));
    await client.createService(HTTP);
    await client.createDestination(HTTP, B);
    await client.createDestination(HTTP, { ...A, weight: 3, tunnelType: "gue", tunnelPort: 6080 });
    assertEquals(specs(subject), [
      { ...B, ...COMPLETE },
      { ...A, ...COMPLETE, weight: 3, tunnelType: "gue", tunnelPort: 6080 },
    ]);
    const [first] = client.destinations(HTTP);
    assertEquals([first!.mac, first!.interface], ["02:00:00:00:00:bb", "lo"]);
    assertEquals(first!.activeConnections, 0);
  },
);

clientTest("createDestination() refuses one that the service has", async (subject) => {
  await subject.client.setService(HTTP, A);
  const error = await assertRejects(
    () => subject.client.createDestination(HTTP, { ...A, weight: 2 }),
    DestinationExistsError,
    `Cannot create destination "10.0.0.1" of service "${NAME}": it exists already`,
  );
  assertEquals([error.service, error.destination], [NAME, "10.0.0.1"]);
  assertEquals(specs(subject), [{ ...A, ...COMPLETE }]);
});

clientTest("updateDestination() makes a destination as given, in its place", async (subject) => {
  const { client } = subject;
  await client.setService(HTTP, { ...A, weight: 5 }, B);
  const changed = { ...A, tunnelType: "ipip", disable: true } as const;
  await client.updateDestination(HTTP, changed);
  assertEquals(specs(subject), [{ ...COMPLETE, ...changed }, { ...COMPLETE, ...B }]);
});

clientTest("removeDestination() takes one away, and the last one too", async (subject) => {
  const { client } = subject;
  await client.setService(HTTP, A, B);
  await client.removeDestination(HTTP, A);
  assertEquals(specs(subject), [{ ...B, ...COMPLETE }]);
  await client.removeDestination(HTTP, B);
  assertEquals(specs(subject), []);
  assertEquals(client.vips().length, 1);
});

clientTest("setService() makes a service be as given, whatever there was", async (subject) => {
  const { client } = subject;
  await client.setService({ ...HTTP, sticky: true }, A, B);
  await client.setService(HTTP, { address: "10.0.0.3" }, { ...B, weight: 9 });
  assertEquals(client.service(HTTP).service.sticky, false);
  assertEquals(specs(subject), [
    { ...B, ...COMPLETE, weight: 9 },
    { address: "10.0.0.3", ...COMPLETE },
  ]);
  await client.setService(HTTP);
  assertEquals(specs(subject), []);
});

clientTest("setServices() leaves services alone that are not given", async (subject) => {
  const { client } = subject;
  await client.setService(HTTP, A);
  const ring = subject.ringId(HTTP);
  await client.setServices([
    { service: service(2), destinations: [A] },
    { service: service(3), destinations: [] },
  ]);
  assertEquals(client.services().length, 3);
  assertEquals(subject.ringId(HTTP), ring);
  await client.setServices([]);
  assertEquals(client.services().length, 3);
});

clientTest("setService() of what is there changes nothing", async (subject) => {
  const { client } = subject;
  await client.setService({ ...HTTP, idleTimeout: 77 }, { ...A, weight: 2 }, B);
  const before = subject.state();
  await client.setService({ ...HTTP, idleTimeout: 77 }, { ...A, weight: 2 }, B);
  // The order is not part of the wish.
  await client.setService({ ...HTTP, idleTimeout: 77 }, B, { ...A, weight: 2 });
  await client.updateService({ ...HTTP, idleTimeout: 77 });
  await client.updateDestination(HTTP, { ...A, weight: 2 });
  assertEquals(subject.state(), before);
});

const NOBODY = 'Service "192.0.2.9:80/tcp" does not exist';
for (
  const [method, act] of Object.entries<(client: Client) => unknown>({
    service: (client) => client.service(service(9)),
    destinations: (client) => client.destinations(service(9)),
    updateService: (client) => client.updateService(service(9)),
    removeService: (client) => client.removeService(service(9)),
    createDestination: (client) => client.createDestination(service(9), A),
    updateDestination: (client) => client.updateDestination(service(9), A),
    removeDestination: (client) => client.removeDestination(service(9), A),
  })
) {
  clientTest(`${method}() of a service that does not exist says so`, async (subject) => {
    await subject.client.setService(HTTP, A);
    const error = await assertRejects(
      async () => await act(subject.client),
      ServiceNotFoundError,
      NOBODY,
    );
    assertEquals(error.service, "192.0.2.9:80/tcp");
  });
}

for (const method of ["updateDestination", "removeDestination"] as const) {
  clientTest(
    `${method}() of a destination that the service does not have says so`,
    async (subject) => {
      await subject.client.setService(HTTP, A);
      await subject.client.setService(service(2), B);
      const error = await assertRejects(
        () => subject.client[method](HTTP, B),
        DestinationNotFoundError,
        `Service "${NAME}" has no destination "10.0.0.2"`,
      );
      assertEquals([error.service, error.destination], [NAME, "10.0.0.2"]);
    },
  );
}

clientTest("vip() of an address that no service has says so", async (subject) => {
  await subject.client.setService(HTTP, A);
  const error = assertThrows(
    () => subject.client.vip("192.0.2.2"),
    VipNotFoundError,
    'VIP "192.0.2.2" does not exist: no service has this address',
  );
  assertEquals(error.address, "192.0.2.2");
});

clientTest("what services() and destinations() give is the caller's to change", async (subject) => {
  const { client } = subject;
  await client.setService(HTTP, A);
  client.service(HTTP).service.port = 1;
  client.destinations(HTTP)[0]!.destination.weight = 7;
  assertEquals(client.service(HTTP).service.port, 80);
  assertEquals(client.destinations(HTTP)[0]!.destination.weight, 1);
});

clientTest("changes that are not waited for are carried out in their order", async (subject) => {
  const { client } = subject;
  const outcome = await Promise.allSettled([
    client.createDestination(HTTP, A),
    client.createService(HTTP),
    client.createDestination(HTTP, A),
    client.createDestination(HTTP, A),
    client.removeDestination(HTTP, A),
    client.createDestination(HTTP, B),
  ]);
  assertEquals(outcome.map(({ status }) => status === "fulfilled"), [
    ...[false, true, true],
    ...[false, true, true],
  ]);
  assertEquals(specs(subject), [{ ...B, ...COMPLETE }]);
});

Deno.test("a client that is closed has let go of everything, and says so", async () => {
  const before = openFiles();
  const nextHops = new FakeNextHops();
  const client = await Client.create([], {}, { nextHops });
  await client.setService(HTTP, A);
  const late = client.createDestination(HTTP, B);
  await client.close();
  await client.close();
  assert(nextHops.closed);
  assertEquals(openFiles(), before);
  for (const act of [() => late, () => client.setService(HTTP, A), () => client.attach("lo")]) {
    await assertRejects(act, XvsError, "Cannot change anything: the client is closed");
  }
  assertThrows(() => client.info(), TypeError, "after closing it");
});

clientTest(
  "editServices() changes what it returns, by what is there at that moment",
  async ({ client }) => {
    const web = { address: "192.0.2.7", port: 80 }, dns = { address: "192.0.2.7", port: 53 };
    await client.setService(web, { address: "10.0.0.1" }, { address: "10.0.0.2" });
    await client.setService(dns, { address: "10.0.0.1" });
    const add = (address: string): Promise<void> =>
      client.editServices((services) =>
        services.filter(({ service }) => service.port === 80).map(({ service, destinations }) => ({
          service,
          destinations: [...destinations, { address }],
        }))
      );
    await Promise.all([add("10.0.0.3"), add("10.0.0.4")]);
    assertEquals(client.services().map(({ service }) => service.port), [80]);
    const addresses = () => client.destinations(web).map(({ destination }) => destination.address);
    assertEquals(addresses(), ["10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4"]);
    await assertRejects(() => add("10.0.0.1"), InvalidValueError, "it is given twice");
    await assertRejects(
      () =>
        client.editServices(() => {
          throw new Error("no");
        }),
      Error,
      "no",
    );
    assertEquals(addresses().length, 4);
  },
);
