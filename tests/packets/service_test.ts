/** Which service a packet is for: what a CPU keeps of it, for how long, and what is no VIP's. */

import { assert, assertEquals, assertNotEquals } from "@std/assert";
import { possibleCpus } from "../../lib/bpf/mod.ts";
import { serviceKey } from "../../lib/lb/entries.ts";
import { completeService } from "../../lib/lb/types.ts";
import { filterBit } from "../../lib/lb/vip_filter.ts";
import { Address } from "../../lib/net/address.ts";
import type { Service } from "../../mod.ts";
import { random } from "../unit/random.ts";
import { ethernet, ipv4, ipv6, tcp } from "./build.ts";
import { type Balancer, macOf, packetTests } from "./harness.ts";

/** More than a CPU keeps: 2^RECENT_BITS in `bpf/maps.h`. */
const MANY = 300;
const FAMILIES = [4, 6] as const;
const VIP = { 4: "192.0.2.1", 6: "2001:db8::1" } as const;
const CLIENT = { 4: "198.51.100.7", 6: "2001:db8:1::7" } as const;
const ONE = "10.0.0.2", OTHER = "10.0.0.3";

const test = packetTests({ maxServices: 1024, maxDestinations: 1024 });

function frame(vip: string, port = 80): Uint8Array {
  const { family } = Address.parse(vip);
  const ends = { source: CLIENT[family], destination: vip };
  const segment = tcp({ sourcePort: 40000, destinationPort: port, ...ends });
  return ethernet({}, family === 4 ? ipv4(ends, segment) : ipv6(ends, segment));
}

/** Removes a service behind the program's back: nobody tells that anything has changed. */
function unmention({ instance }: Balancer, service: Service): void {
  const address = Address.parse(service.address);
  const table = address.family === 4 ? instance.services4 : instance.services6;
  assert(table.delete(serviceKey(address, completeService(service))));
}

/** The destination's MAC, or the reason why there is none. */
function fate(balancer: Balancer, vip: string, port = 80): string {
  const { reason, frame: out } = balancer.send(frame(vip, port));
  return reason === "forwarded" ? out.slice(0, 6).toHex() : reason;
}

function mac(address: string): string {
  return macOf(address).replaceAll(":", "");
}

/** Until each CPU that the test may run on has seen the packet. */
function seenByAll(balancer: Balancer, vip: string): void {
  for (let i = 0; i < 16 * possibleCpus(); i++) balancer.run(frame(vip));
}

for (const family of FAMILIES) {
  const service = { address: VIP[family], port: 80 };

  test(`the table is not asked again for packets over IPv${family} of a service`, async (balancer) => {
    await balancer.client.setService(service, { address: ONE });
    seenByAll(balancer, service.address);
    unmention(balancer, service);
    assertEquals(fate(balancer, service.address), mac(ONE));
    const { instance } = balancer;
    instance.adjust({ revision: instance.revision + 2n });
    assertEquals(fate(balancer, service.address), "err_service_not_found");
  });

  test(`nothing is kept over IPv${family} while a change is under way`, async (balancer) => {
    await balancer.client.setService(service, { address: ONE });
    const { instance } = balancer;
    const { revision } = instance;
    instance.adjust({ revision: revision + 1n });
    seenByAll(balancer, service.address);
    unmention(balancer, service);
    assertEquals(fate(balancer, service.address), "err_service_not_found");
    instance.adjust({ revision: revision + 2n });
    assertEquals(fate(balancer, service.address), "err_service_not_found");
  });

  test(`what was kept over IPv${family} before a change is not used during it`, async (balancer) => {
    await balancer.client.setService(service, { address: ONE });
    seenByAll(balancer, service.address);
    unmention(balancer, service);
    const { instance } = balancer;
    instance.adjust({ revision: instance.revision + 1n });
    assertEquals(fate(balancer, service.address), "err_service_not_found");
    instance.adjust({ revision: instance.revision + 1n });
  });

  test(`a service over IPv${family} that is removed is gone with the next packet`, async (balancer) => {
    const { client } = balancer;
    for (const [address, port] of [[ONE, 80], [OTHER, 81]] as const) {
      await client.setService({ ...service, port }, { address });
    }
    seenByAll(balancer, service.address);
    await client.removeService(service);
    assertEquals(fate(balancer, service.address), "err_service_not_found");
    // Whoever comes next has its id, and its ring.
    await client.setService({ ...service, port: 82 }, { address: OTHER });
    assertEquals(fate(balancer, service.address), "err_service_not_found");
    await client.setService(service, { address: OTHER });
    assertEquals(fate(balancer, service.address), mac(OTHER));
  });

  test(`ports and protocols over IPv${family} are told apart`, async (balancer) => {
    for (let i = 0; i < 16; i++) {
      await balancer.client.setService({ ...service, port: 80 + i }, { address: `10.0.1.${i}` });
    }
    for (let turn = 0; turn < 3; turn++) {
      for (let i = 0; i < 16; i++) {
        assertEquals(fate(balancer, service.address, 80 + i), mac(`10.0.1.${i}`));
      }
    }
    assertEquals(fate(balancer, service.address, 79), "err_service_not_found");
  });

  test(`VIPs over IPv${family} are all found, in whatever order packets come`, async (balancer) => {
    const next = random(family);
    const vips = Array.from({ length: MANY }, () => {
      const bytes = Uint8Array.from({ length: family === 4 ? 4 : 16 }, () => next() & 0xff);
      bytes[0] = family === 4 ? 20 : 0x20;
      return Address.fromBytes(bytes).toString();
    });
    const destinations = [[ONE], [OTHER]].map(([address]) => ({ address: address! }));
    await balancer.client.setServices(vips.map((address, i) => ({
      service: { address, port: 80 },
      destinations: [destinations[i % 2]!],
    })));
    const arrives = (i: number) => {
      const { action, frame: out } = balancer.run(frame(vips[i]!));
      assertEquals([action, out.slice(0, 6).toHex()], ["tx", mac(i % 2 ? OTHER : ONE)], vips[i]);
    };
    for (let turn = 0; turn < 4 * vips.length; turn++) arrives(next() % vips.length);
    // More than there are places, and so some share one.
    await balancer.client.removeService({ address: vips[0]!, port: 80 });
    assertEquals(fate(balancer, vips[0]!), "not_a_vip");
    for (let i = 1; i < vips.length; i++) arrives(i);
  });

  test(`an address over IPv${family} that the filter takes for a VIP's is none`, async (balancer) => {
    const next = random(family + 10);
    const wanted = filterBit(Address.parse(service.address).bytes);
    let twin: string | undefined;
    for (let i = 0; i < 1 << 22 && !twin; i++) {
      const bytes = Address.parse(service.address).bytes.slice();
      for (let at = 1; at <= 3; at++) bytes[bytes.length - at] = next() & 0xff;
      const address = Address.fromBytes(bytes).toString();
      if (address !== service.address && filterBit(bytes) === wanted) twin = address;
    }
    assertNotEquals(twin, undefined);
    await balancer.client.setService(service, { address: ONE });
    assertEquals(fate(balancer, twin!), "not_a_vip");
    // Its bit stays as long as one of them is a VIP.
    await balancer.client.setService({ address: twin!, port: 80 }, { address: OTHER });
    await balancer.client.removeService(service);
    assertEquals(fate(balancer, service.address), "not_a_vip");
    assertEquals(fate(balancer, twin!), mac(OTHER));
  });
}

test("the filter knows nobody once the last VIP has gone", async (balancer) => {
  await balancer.client.setService({ address: VIP[4], port: 80 }, { address: ONE });
  const words = () => {
    const { values } = balancer.instance.map("vip_filter").lookupBatch();
    return [...new BigUint64Array(values.slice().buffer)].filter((word) => word !== 0n);
  };
  assertEquals(words().length, 1);
  await balancer.client.removeService({ address: VIP[4], port: 80 });
  assertEquals(words(), []);
});

test("a revision that is set among other settings does not come back", (balancer) => {
  const { instance } = balancer;
  const { settings } = instance;
  instance.adjust({ revision: settings.revision + 2n });
  instance.settings = settings;
  assertEquals(instance.revision, settings.revision + 2n);
});
