import { assertEquals, assertThrows } from "@std/assert";
import { Address, AddressError, Prefix } from "../../lib/net/address.ts";
import { RouteError } from "../../lib/net/ip.ts";
import type { LinkInfo, Route } from "../../lib/net/ip_json.ts";
import {
  egress,
  NextHopError,
  type VlanOptions,
  VlanTable,
  type Way,
  wayByRoute,
} from "../../lib/net/way.ts";

function link(name: string, ...prefixes: string[]): LinkInfo {
  return {
    ifindex: 1,
    name,
    kind: undefined,
    mac: "02:00:00:00:00:01",
    mtu: 1500,
    up: true,
    addresses: prefixes.map(Prefix.parse),
    vlan: undefined,
  };
}

const LINKS = [
  link("lo", "127.0.0.1/8", "::1/128"),
  link("eth0", "10.1.0.1/16", "fe80::1/64", "fd00:1::1/64"),
  link("eth1", "10.1.2.1/24", "fd00:2::1/64"),
];

/** `interface neighbour source4 source6`, or the reason that there is none. */
function brief(way: Way | NextHopError): string {
  if (way instanceof NextHopError) return way.reason;
  return `${way.link.name} ${way.neighbour} ${way.source4} ${way.source6}`;
}

function wayTo(options: VlanOptions, address: string): string {
  return brief(new VlanTable(options).wayTo(Address.parse(address), LINKS));
}

Deno.test("a VLAN leads to its own addresses over the interface with an address in it", () => {
  const options = { ipv4VLANs: { 1: "10.1.0.254/24", 2: "10.1.2.254/24" } };
  assertEquals(wayTo(options, "10.1.0.7"), "eth0 10.1.0.7 10.1.0.1 fd00:1::1");
  assertEquals(wayTo(options, "10.1.2.7"), "eth1 10.1.2.7 10.1.2.1 fd00:2::1");
  assertEquals(wayTo(options, "10.1.0.254"), "eth0 10.1.0.254 10.1.0.1 fd00:1::1");
});

Deno.test("of overlapping VLANs the longest prefix counts, whatever the IDs", () => {
  for (const [wide, narrow] of [[1, 2], [2, 1]] as const) {
    const options = { ipv4VLANs: { [wide]: "10.1.0.0/16", [narrow]: "10.1.2.0/24" } };
    assertEquals(wayTo(options, "10.1.2.7"), "eth1 10.1.2.7 10.1.2.1 fd00:2::1");
    assertEquals(wayTo(options, "10.1.3.7"), "eth0 10.1.3.7 10.1.0.1 fd00:1::1");
  }
  assertEquals(
    wayTo({ ipv4VLANs: { 1: "10.1.0.0/16" } }, "10.1.2.7"),
    "eth1 10.1.2.7 10.1.2.1 fd00:2::1",
  );
});

Deno.test("other addresses go through the router of the lowest VLAN ID that has one", () => {
  const options = { ipv4VLANs: { 9: "10.1.2.254/24", 3: "10.1.0.254/24", 1: "10.9.0.0/24" } };
  assertEquals(wayTo(options, "192.0.2.1"), "eth0 10.1.0.254 10.1.0.1 fd00:1::1");
});

Deno.test("a route names the VLAN whose router is meant, the longest first", () => {
  const options = {
    ipv4VLANs: { 3: "10.1.0.254/24", 9: "10.1.2.254/24" },
    routes: { "192.0.2.0/24": 9, "192.0.2.128/25": 3, "198.51.100.0/24": 9 },
  };
  assertEquals(wayTo(options, "192.0.2.1"), "eth1 10.1.2.254 10.1.2.1 fd00:2::1");
  assertEquals(wayTo(options, "192.0.2.200"), "eth0 10.1.0.254 10.1.0.1 fd00:1::1");
  assertEquals(wayTo(options, "203.0.113.1"), "eth0 10.1.0.254 10.1.0.1 fd00:1::1");
  const everything = { ipv4VLANs: options.ipv4VLANs, routes: { "0.0.0.0/0": 9 } };
  assertEquals(wayTo(everything, "203.0.113.1"), "eth1 10.1.2.254 10.1.2.1 fd00:2::1");
});

Deno.test("a VLAN ID of both families gives both sources", () => {
  const options = {
    ipv4VLANs: { 1: "10.1.0.0/24" },
    ipv6VLANs: { 1: "fd00:1::/64", 2: "fd00:2::254/64" },
  };
  assertEquals(wayTo(options, "10.1.0.7"), "eth0 10.1.0.7 10.1.0.1 fd00:1::1");
  const other = { ...options, ipv6VLANs: { 1: "fd00:9::/64" } };
  assertEquals(wayTo(other, "10.1.0.7"), "eth0 10.1.0.7 10.1.0.1 undefined");
  assertEquals(wayTo(options, "fd00:2::9"), "eth1 fd00:2::9 10.1.2.1 fd00:2::1");
  assertEquals(wayTo(options, "2001:db8::1"), "eth1 fd00:2::254 10.1.2.1 fd00:2::1");
});

Deno.test("what VLANs cannot reach has a reason", () => {
  const options = { ipv4VLANs: { 1: "10.1.0.0/24", 2: "10.9.0.0/24" } };
  assertEquals(wayTo(options, "192.0.2.1"), "unreachable");
  assertEquals(wayTo(options, "10.9.0.1"), "no-interface");
  assertEquals(wayTo(options, "10.1.0.1"), "local");
});

Deno.test("onLink is false only behind a router", () => {
  const table = new VlanTable({ ipv4VLANs: { 1: "10.1.0.254/24" } });
  const onLink = (text: string): unknown => {
    const way = table.wayTo(Address.parse(text), LINKS);
    return way instanceof NextHopError ? way : way.onLink;
  };
  assertEquals(onLink("10.1.0.254"), true);
  assertEquals(onLink("10.1.0.7"), true);
  assertEquals(onLink("192.0.2.1"), false);
});

Deno.test("VlanTable decides for a family only where it has VLANs of it", () => {
  const table = new VlanTable({ ipv6VLANs: { 1: "fd00::/64" } });
  assertEquals([table.decidesFor(4), table.decidesFor(6)], [false, true]);
});

Deno.test("VlanTable refuses what cannot be", () => {
  const refuse = (options: VlanOptions, message: string): unknown =>
    assertThrows(() => new VlanTable(options), RangeError, message);
  refuse({ ipv4VLANs: { 0: "10.0.0.0/8" } }, '"0"');
  refuse({ ipv4VLANs: { 4095: "10.0.0.0/8" } }, '"4095"');
  refuse({ ipv4VLANs: { 1.5: "10.0.0.0/8" } }, '"1.5"');
  refuse({ ipv4VLANs: { 1: "fd00::/8" } }, "it is not IPv4");
  refuse({ ipv6VLANs: { 1: "10.0.0.0/8" } }, "it is not IPv6");
  refuse({ ipv4VLANs: { 1: "10.0.0.0/8" }, routes: { "192.0.2.0/24": 1 } }, "no router");
  refuse({ ipv4VLANs: { 1: "10.0.0.1/8" }, routes: { "192.0.2.0/24": 2 } }, "no router");
  refuse({ ipv4VLANs: { 1: "10.0.0.1/8" }, routes: { "2001:db8::/32": 1 } }, "no router");
  assertThrows(() => new VlanTable({ ipv4VLANs: { 1: "10.0.0.0" } }), AddressError);
});

Deno.test("wayByRoute() takes the kernel's gateway, source and MTU", () => {
  const links = new Map(LINKS.map((each) => [each.name, each]));
  const address = Address.parse("192.0.2.1");
  const route: Route = {
    interface: "eth1",
    gateway: Address.parse("10.1.2.254"),
    source: Address.parse("10.1.2.99"),
    mtu: 1400,
    local: false,
  };
  const way = wayByRoute(address, route, links);
  assertEquals(brief(way), "eth1 10.1.2.254 10.1.2.99 fd00:2::1");
  assertEquals(way instanceof NextHopError || [way.mtu, way.onLink], [1400, false]);

  const near = wayByRoute(address, { ...route, gateway: undefined, mtu: 9000 }, links);
  assertEquals(brief(near), "eth1 192.0.2.1 10.1.2.99 fd00:2::1");
  assertEquals(near instanceof NextHopError || [near.mtu, near.onLink], [1500, true]);

  assertEquals(brief(wayByRoute(address, { ...route, local: true }, links)), "local");
  assertEquals(brief(wayByRoute(address, { ...route, interface: "gone" }, links)), "no-interface");
  const refusal = wayByRoute(address, new RouteError("192.0.2.1", "No route to host"), links);
  assertEquals(brief(refusal), "unreachable");
  assertEquals(
    refusal instanceof Error && refusal.message,
    'Cannot find the next hop of "192.0.2.1": No route to host',
  );
});

Deno.test("egress() is what a VLAN device stands on, with its tag", () => {
  const vlan = (name: string, id: number, parent: string | undefined): LinkInfo => ({
    ...link(name),
    ifindex: 7,
    vlan: { id, parent },
  });
  const eth0 = link("eth0");
  const tagged = vlan("eth0.10", 10, "eth0");
  const links = new Map([eth0, tagged].map((each) => [each.name, each]));
  assertEquals(egress(eth0, links), { ifindex: 1, interface: "eth0", vlan: 0 });
  assertEquals(egress(tagged, links), { ifindex: 1, interface: "eth0", vlan: 10 });
  assertEquals(egress(vlan("double", 20, "eth0.10"), links), undefined);
  assertEquals(egress(vlan("elsewhere", 20, undefined), links), undefined);
});
