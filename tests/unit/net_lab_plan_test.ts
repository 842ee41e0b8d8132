import { assertEquals, assertThrows } from "@std/assert";
import { AddressError } from "../../lib/net/address.ts";
import { planLab, planNodes } from "../../lib/net/lab_plan.ts";

Deno.test("planLab() gives every interface an address, a MAC and a port of its own", () => {
  const nodes = planNodes(planLab({ destinations: 200, routed: 200 }));
  assertEquals(nodes.length, 403);
  const interfaces = nodes.flatMap((node) => node.interfaces);
  assertEquals(interfaces.length, 404);
  for (const key of ["address4", "address6", "mac", "port"] as const) {
    assertEquals(new Set(interfaces.map((each) => each[key])).size, 404, key);
  }
  assertEquals(new Set(nodes.map(({ namespace }) => namespace)).size, 403);
  // IFNAMSIZ is 16 with the final zero.
  assertEquals(interfaces.filter(({ port }) => port.length > 15), []);
});

Deno.test("planLab() is the same for the same options", () => {
  const options = { name: "x", destinations: 2, routed: 1 };
  assertEquals(planLab(options), planLab(options));
});

Deno.test("planLab() makes up another name each time", () => {
  const names = Array.from({ length: 50 }, () => planLab({}).settings.name);
  assertEquals(new Set(names).size, 50);
});

Deno.test("planLab() has a router only for routed destinations", () => {
  assertEquals(planLab({}).router, undefined);
  assertEquals(planLab({ routed: 1 }).router?.interfaces.map(({ bridge }) => bridge), [
    "br1",
    "br2",
  ]);
});

Deno.test("planLab() sends the client's packets for VIPs to the balancer", () => {
  const { client } = planLab({ vips: ["192.0.2.1", "2001:DB8::1"] });
  const routes = client.commands.filter((command) => command.startsWith("route"));
  assertEquals(routes, [
    "route add 192.0.2.1/32 via 10.1.0.1",
    "route add 2001:db8::1/128 via fd00:1::1",
  ]);
});

Deno.test("planLab() refuses options that no lab can have", () => {
  const refused = [
    { name: "" },
    { name: "a-b" },
    { name: "../a" },
    { name: "a".repeat(33) },
    { destinations: -1 },
    { destinations: 201 },
    { destinations: 1.5 },
    { routed: NaN },
    { mtu: 1279 },
    { mtu: 9001 },
  ];
  for (const options of refused) {
    assertThrows(() => planLab(options), RangeError, "", JSON.stringify(options));
  }
  assertThrows(() => planLab({ vips: ["192.0.2"] }), AddressError);
});
