/** What the tables hold is what the client says, after any number of changes. */

import { assert, assertEquals } from "@std/assert";
import { BpfMap, u32 } from "../../lib/bpf/mod.ts";
import { POLICYS, TUNNELS } from "../../lib/lb/abi.gen.ts";
import { decodeRing, slotOf } from "../../lib/lb/change.ts";
import { Registry } from "../../lib/lb/registry.ts";
import { Address, Mac } from "../../lib/net/address.ts";
import { type Destination, type Service, serviceName, XvsError } from "../../mod.ts";
import { random } from "../unit/random.ts";
import { clientTests, hop, service, type Subject } from "./support.ts";

const clientTest = clientTests({ maxServices: 12, maxDestinations: 40 });

const PROTOCOLS = { 6: "tcp", 17: "udp" } as const;

function text(field: Uint8Array, ipv6: boolean): string {
  return Address.fromBytes(field.subarray(0, ipv6 ? 16 : 4)).toString();
}

function indexOf(key: Uint8Array): number {
  return new Uint32Array(key.slice().buffer)[0]!;
}

/** All services with their destinations, as the records have them, by the services' names. */
function recorded({ instance }: Subject): Record<string, unknown> {
  const destinations = [...instance.destinationRecords.entries()]
    .filter(([, { used }]) => used === 1)
    .map(([, record]) => ({
      service: record.service,
      destination: {
        address: text(record.address, (record.flags & 1) !== 0),
        tunnelType: TUNNELS[record.tunnel],
        tunnelPort: record.tunnelPort,
        tunnelEncapNoChecksum: (record.flags & 2) !== 0,
        mtu: record.mtu,
        weight: record.weight,
        disable: record.disabled === 1,
      },
    }));
  const services = [...instance.serviceRecords.entries()]
    .filter(([, { protocol }]) => protocol !== 0)
    .map(([key, record]) => {
      const spec = {
        address: text(record.address, record.ipv6 === 1),
        port: record.port,
        protocol: PROTOCOLS[record.protocol as 6 | 17],
        sticky: record.sticky === 1,
        idleTimeout: Number(record.idleTimeoutNs / 1_000_000_000n),
        expired: POLICYS[record.expired],
        fragmentable: POLICYS[record.fragmentable],
      };
      const own = destinations.filter((each) => each.service === indexOf(key));
      return [serviceName(spec), { spec, destinations: sorted(own.map((d) => d.destination)) }];
    });
  return Object.fromEntries(services.sort());
}

/** The same, as the client says it. */
function said({ client }: Subject): Record<string, unknown> {
  const services = client.services().map(({ service: spec }) => {
    const destinations = client.destinations(spec).map(({ destination }) => destination);
    return [serviceName(spec), { spec, destinations: sorted(destinations) }];
  });
  return Object.fromEntries(services.sort());
}

function sorted<T extends { address: string }>(list: T[]): T[] {
  return list.sort((a, b) => a.address < b.address ? -1 : 1);
}

/** That packets find what is recorded, and nothing else. */
function assertPacketsFind(subject: Subject): void {
  const { client, instance } = subject;
  const services = client.services().map((each) => each.service);
  const found = [...instance.services4.entries(), ...instance.services6.entries()];
  assertEquals(found.length, services.length);
  const slots = new Set<number>();
  for (const spec of services) {
    const entry = subject.entry(spec);
    assertEquals(entry.sticky, Number(spec.sticky));
    const record = instance.serviceRecords.get(entry.id)!;
    assertEquals([text(record.address, record.ipv6 === 1), record.port], [spec.address, spec.port]);
    using ring = BpfMap.fromId(subject.ringId(spec));
    const { current } = decodeRing(ring.lookupBatch().values);
    const able = client.destinations(spec)
      .filter(({ destination: { disable, weight }, mac }) => !disable && weight > 0 && mac)
      .map(({ destination }) => destination.address);
    const owners = new Set<string>();
    for (const slot of new Set([...current].map(slotOf))) {
      if (slot === 0) continue;
      slots.add(slot);
      const owner = instance.destinationRecords.get(slot)!;
      const there = instance.destinations.get(slot)!;
      assertEquals([owner.used, owner.service], [1, entry.id]);
      assertEquals(there.generation, owner.generation);
      assertEquals(text(there.outerDestination, (there.flags & 1) !== 0), ownerOf(owner));
      assertEquals(Mac.fromBytes(there.destinationMac).toString(), hop().destinationMac);
      owners.add(ownerOf(owner));
    }
    assertEquals([...owners].sort(), able.sort());
  }
  const used = [...instance.destinations.entries()].filter(([, each]) => each.generation !== 0);
  const recorded = [...instance.destinationRecords.entries()].filter(([, each]) => each.used === 1);
  assertEquals(used.map(([key]) => indexOf(key)), recorded.map(([key]) => indexOf(key)));
  assert(slots.size <= used.length);
}

function ownerOf(record: { address: Uint8Array; flags: number }): string {
  return text(record.address, (record.flags & 1) !== 0);
}

/** VIPs are those of the services, no more and no fewer, and each has a number of its own. */
function assertVips({ client, instance }: Subject): void {
  const services = client.services().map((each) => each.service);
  const wanted = new Map<string, number>();
  for (const { address } of services) wanted.set(address, (wanted.get(address) ?? 0) + 1);
  const vips = [...instance.vips4.entries(), ...instance.vips6.entries()]
    .map(([key, { id, services }]) => ({ address: `${Address.fromBytes(key)}`, id, services }));
  assertEquals(new Map(vips.map(({ address, services }) => [address, services])), wanted);
  assertEquals(new Set(vips.map(({ id }) => id)).size, vips.length);
  assertEquals(new Set(client.vips().map(({ address }) => address)), new Set(wanted.keys()));
}

clientTest("tables and client agree through 150 changes, done and refused", async (subject) => {
  const { client } = subject;
  const seed = crypto.getRandomValues(new Uint32Array(1))[0]!;
  const next = random(seed);
  const below = (limit: number): number => next() % limit;
  const pick = <T>(...list: T[]): T => list[below(list.length)]!;
  const aService = (): Service => ({
    ...pick<Service>(
      ...[1, 2, 3].flatMap((last) => [service(last), service(last, { port: 443 })]),
      ...[1, 2].map((last) => ({ address: `2001:db8::${last}`, port: pick(80, 0) })),
      service(1, { protocol: "udp" }),
    ),
    sticky: below(2) === 0,
    idleTimeout: pick(10, 900),
    expired: pick("default", "drop", "reject"),
    fragmentable: pick("default", "drop", "reject"),
  });
  const aDestination = (): Destination => {
    const tunnelType = pick("none", "none", "ipip", "gre", "fou", "gue");
    return {
      address: pick("10.0.0.", "fd00::") + (1 + below(9)),
      weight: pick(0, 1, 1, 2, 65535),
      disable: below(4) === 0,
      tunnelType,
      tunnelPort: tunnelType === "fou" || tunnelType === "gue" ? 1 + below(65535) : 0,
      tunnelEncapNoChecksum: below(2) === 0,
      mtu: pick(0, 1280, 1500),
    };
  };
  const some = (): Destination[] => [
    ...new Map(Array.from({ length: below(7) }, aDestination).map((d) => [d.address, d]))
      .values(),
  ];
  let done = 0, refused = 0;
  for (let step = 0; step < 150; step++) {
    try {
      await pick(
        () => client.createService(aService()),
        () => client.updateService(aService()),
        () => client.removeService(aService()),
        () => client.createDestination(aService(), aDestination()),
        () => client.updateDestination(aService(), aDestination()),
        () => client.removeDestination(aService(), aDestination()),
        () => client.setService(aService(), ...some()),
        () =>
          client.setServices([aService(), aService()].map((each) => ({
            service: each,
            destinations: some(),
          }))),
      )();
      done++;
    } catch (error) {
      assert(error instanceof XvsError, `seed ${seed}: ${(error as Error).stack}`);
      refused++;
    }
    if (step % 10 !== 9) continue;
    assertEquals(recorded(subject), said(subject), `seed ${seed}, step ${step}`);
    assertPacketsFind(subject);
    assertVips(subject);
  }
  assert(done > 30 && refused > 10, `${done} done, ${refused} refused`);
});

clientTest("a slot's next owner has another generation", async ({ client, instance }) => {
  await client.setService(service(1), { address: "10.0.0.1" });
  const [slot] = [...instance.destinationRecords.entries()].find(([, { used }]) => used === 1)!;
  const seen = new Set<number>();
  for (const address of ["10.0.0.1", "10.0.0.2", "10.0.0.1"]) {
    await client.setService(service(1));
    await client.setService(service(1), { address });
    seen.add(instance.destinations.get(slot.slice())!.generation);
  }
  assertEquals(seen.size, 3);
  await client.setService(service(1));
  assertEquals(instance.destinations.get(slot.slice())!.generation, 0);
  assert(instance.destinationRecords.get(u32(indexOf(slot)))!.generation > 0);
});

clientTest(
  "what was read while another process changed it is not taken for the present",
  ({ instance }) => {
    let revision = 0n;
    const changing = Object.create(instance, { revision: { get: () => revision += 2n } });
    assertEquals(new Registry(changing).consistent, false);
    assertEquals(new Registry(instance).consistent, true);
    return Promise.resolve();
  },
);
