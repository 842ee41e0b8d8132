/** Values that can be, in their canonical form, and values that cannot, with what is said of them. */

import { assertEquals, assertRejects, assertThrows } from "@std/assert";
import {
  Client,
  type Destination,
  InvalidValueError,
  type Options,
  type Service,
} from "../../mod.ts";
import { clientTests, FakeNextHops, service } from "./support.ts";

const clientTest = clientTests();

const HTTP = service(1);

const SAME: [given: string, canonical: string][] = [
  ["192.0.2.77", "192.0.2.77"],
  ["::ffff:192.0.2.77", "192.0.2.77"],
  ["::FFFF:C000:024D", "192.0.2.77"],
  ["2001:DB8:0:0:0:0:0:1", "2001:db8::1"],
  ["2001:0db8::0001", "2001:db8::1"],
];

clientTest("an address is the same in any spelling", async ({ client }) => {
  for (const [given, canonical] of SAME) {
    await client.setService({ address: given, port: 80 }, { address: given });
    assertEquals(client.service({ address: given, port: 80 }).service.address, canonical);
    assertEquals(client.vip(given).address, canonical);
    const [only, ...none] = client.destinations({ address: canonical, port: 80 });
    assertEquals([only!.destination.address, none], [canonical, []]);
    await client.updateDestination({ address: canonical, port: 80 }, { address: given, weight: 2 });
    await client.removeDestination({ address: given, port: 80 }, { address: given });
    await client.removeService({ address: given, port: 80 });
    assertEquals(client.services(), []);
  }
});

const NO_HOST = "it must be a unicast address of a host";

const BAD_SERVICES: [field: string, value: unknown, says: string][] = [
  ["address", "", 'VIP "" is no address'],
  ["address", "192.0.2", 'VIP "192.0.2" is no address: it is neither an IPv4 dotted quad nor IPv6'],
  ["address", "192.0.2.256", 'VIP "192.0.2.256" is no address'],
  ["address", "192.0.2.01", 'VIP "192.0.2.01" is no address'],
  ["address", "192.0.2.1/32", 'VIP "192.0.2.1/32" is no address'],
  ["address", "example.org", 'VIP "example.org" is no address'],
  ["address", "fe80::1%eth0", 'VIP "fe80::1%eth0" is no address'],
  ["address", "0.0.0.0", `VIP "0.0.0.0" is unspecified: ${NO_HOST}`],
  ["address", "::", `VIP "::" is unspecified: ${NO_HOST}`],
  ["address", "127.0.0.1", `VIP "127.0.0.1" is a loopback address: ${NO_HOST}`],
  ["address", "::1", `VIP "::1" is a loopback address: ${NO_HOST}`],
  ["address", "224.0.0.1", `VIP "224.0.0.1" is a multicast address: ${NO_HOST}`],
  ["address", "ff02::1", `VIP "ff02::1" is a multicast address: ${NO_HOST}`],
  ["address", "255.255.255.255", `VIP "255.255.255.255" is the broadcast address: ${NO_HOST}`],
  ["port", -1, "Port -1 is not a whole number from 0 to 65535"],
  ["port", 65536, "Port 65536 is not a whole number from 0 to 65535"],
  ["port", 80.5, "Port 80.5 is not a whole number from 0 to 65535"],
  ["port", NaN, "Port NaN is not a whole number from 0 to 65535"],
  ["port", "80", 'Port "80" is not a whole number from 0 to 65535'],
  ["protocol", "sctp", 'Protocol "sctp" is neither "tcp" nor "udp"'],
  ["protocol", "TCP", 'Protocol "TCP" is neither "tcp" nor "udp"'],
  ["address", 5, 'VIP "5" is no address: it is no text'],
  ["port", 1n, "Port 1 is not a whole number from 0 to 65535"],
  ["sticky", "yes", 'sticky "yes" is neither true nor false'],
  ["sticky", 1, "sticky 1 is neither true nor false"],
  ["idleTimeout", 0, "Idle timeout in seconds 0 is not a whole number from 1 to 31536000"],
  ["idleTimeout", 1e9, "Idle timeout in seconds 1000000000 is not a whole number from 1 to"],
];

clientTest("a service that cannot be is refused by every method", async ({ client }) => {
  for (const [field, value, says] of BAD_SERVICES) {
    const bad = { ...HTTP, [field]: value } as Service;
    const acts: Record<string, () => Promise<void>> = {
      createService: () => client.createService(bad),
      updateService: () => client.updateService(bad),
      removeService: () => client.removeService(bad),
      createDestination: () => client.createDestination(bad, { address: "10.0.0.1" }),
      setService: () => client.setService(bad, { address: "10.0.0.1" }),
    };
    for (const [name, act] of Object.entries(acts)) {
      const error = await assertRejects(act, InvalidValueError, says, name);
      assertEquals([error.field, error.value], [field, value]);
    }
  }
  assertEquals(client.services(), []);
});

const BAD_DESTINATIONS: [given: Partial<Destination>, field: string, says: string][] = [
  [{ address: "10.0.0" }, "address", 'Destination "10.0.0" is no address'],
  [{ address: "127.0.0.2" }, "address", `Destination "127.0.0.2" is a loopback address`],
  [{ address: "ff02::1" }, "address", 'Destination "ff02::1" is a multicast address'],
  [{ address: "0.0.0.0" }, "address", 'Destination "0.0.0.0" is unspecified'],
  [{ weight: -1 }, "weight", "Weight -1 is not a whole number from 0 to 65535"],
  [{ weight: 0.5 }, "weight", "Weight 0.5 is not a whole number from 0 to 65535"],
  [{ disable: "no" as never }, "disable", 'disable "no" is neither true nor false'],
  [{ weight: Infinity }, "weight", "Weight Infinity is not a whole number from 0 to 65535"],
  [{ mtu: 575 }, "mtu", "MTU 575 is not a whole number from 576 to 65535"],
  [
    { tunnelType: "vxlan" as "gre" },
    "tunnelType",
    'Tunnel "vxlan" of destination "10.0.0.1" is not one of none, ipip, gre, fou, gue',
  ],
  [{ tunnelType: "fou" }, "tunnelPort", "Port of the fou tunnel 0 is not a whole number from 1"],
  [
    { tunnelType: "gue", tunnelPort: 65536 },
    "tunnelPort",
    "Port of the gue tunnel 65536 is not a whole number from 1 to 65535",
  ],
  [
    { tunnelType: "gre", tunnelPort: 6080 },
    "tunnelPort",
    'Tunnel "gre" of destination "10.0.0.1" has no port, but 6080 is given',
  ],
];

clientTest("a destination that cannot be is refused by every method", async ({ client }) => {
  await client.setService(HTTP, { address: "10.0.0.1" });
  const before = client.destinations(HTTP);
  for (const [given, field, says] of BAD_DESTINATIONS) {
    const bad = { address: "10.0.0.1", ...given };
    const acts: Record<string, () => Promise<void>> = {
      createDestination: () => client.createDestination(HTTP, bad),
      updateDestination: () => client.updateDestination(HTTP, bad),
      setService: () => client.setService(HTTP, bad),
    };
    for (const [name, act] of Object.entries(acts)) {
      const error = await assertRejects(act, InvalidValueError, says, name);
      assertEquals([error.field, error.value], [field, { tunnelPort: 0, ...bad }[field]], name);
    }
  }
  assertEquals(client.destinations(HTTP), before);
});

clientTest("vip() of what is no address says so", ({ client }) => {
  const says = 'VIP "web" is no address';
  assertThrows(() => client.vip("web"), InvalidValueError, says);
  return Promise.resolve();
});

clientTest("the outermost values can be", async ({ client }) => {
  await client.setService(
    { ...HTTP, port: 65535, idleTimeout: 31536000 },
    { address: "10.0.0.1", weight: 65535, tunnelType: "fou", tunnelPort: 65535 },
    { address: "10.0.0.2", weight: 0, tunnelType: "gue", tunnelPort: 1 },
    { address: "240.0.0.1" },
  );
  await client.setService({ ...HTTP, port: 1, idleTimeout: 1 });
  assertEquals(client.services().length, 2);
});

const BAD_OPTIONS: [given: Options, field: string, says: string][] = [
  [{ maxServices: 0 }, "maxServices", "maxServices 0 is not a whole number from 1 to 16777216"],
  [{ maxDestinations: 1.5 }, "maxDestinations", "maxDestinations 1.5 is not a whole number from 1"],
  [{ maxFlows: 2 ** 25 }, "maxFlows", "maxFlows 33554432 is not a whole number from 1 to 16777216"],
  [{ hashKey: new Uint8Array(15) }, "hashKey", "hashKey has 15 bytes: it must have 16"],
  [{ mode: "fast" as "auto" }, "mode", 'Mode "fast" is none of native, generic, auto'],
  [{ trackMask: -1 }, "trackMask", "trackMask -1 is not a whole number from 0 to 4294967295"],
  [{ interfaceInitDelay: 256 }, "interfaceInitDelay", "is not a whole number from 0 to 255"],
  [{ watchdog: 5, instance: "web" }, "watchdog", "an instance's name: that is to live on"],
  [{ flowsPerCPU: 0 }, "flowsPerCPU", "flowsPerCPU 0 is not a whole number"],
  [{ flowsPerCPU: 100, maxFlows: 100 }, "flowsPerCPU", "flowsPerCPU and maxFlows are both given"],
  [{ trackMask: 2 }, "trackMask", "trackMask 2 is not one less than a power of two"],
  [
    { neighbourTimeout: NaN },
    "neighbourTimeout",
    "neighbourTimeout NaN is not a whole number from 0 to 60000",
  ],
  [{ ipv4VLANs: { 4095: "10.0.0.1/24" } }, "ipv4VLANs", 'Cannot use VLAN ID "4095"'],
  [{ ipv4VLANs: { 1: "fd00::1/64" } }, "ipv4VLANs", "it is not IPv4"],
  [{ ipv6VLANs: { 1: "fd00::1/129" } }, "ipv6VLANs", "its length is not a number from 0 to 128"],
];

Deno.test("an option that cannot be is refused, and named", async () => {
  for (const [options, field, says] of BAD_OPTIONS) {
    const nextHops = new FakeNextHops();
    const create = () => Client.create([], options, { nextHops });
    const error = await assertRejects(create, InvalidValueError, says);
    assertEquals([error.field, error.value], [field, options[field as keyof Options]]);
  }
});
