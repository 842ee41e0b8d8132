/** config() and setConfig(): kept by the instance, for all services or for none. */

import { assert, assertEquals, assertRejects } from "@std/assert";
import { queryXdp } from "../../lib/bpf/mod.ts";
import { POLICY } from "../../lib/lb/abi.gen.ts";
import { Instance } from "../../lib/lb/instance.ts";
import { Address } from "../../lib/net/address.ts";
import {
  Client,
  type CompleteConfig,
  type Config,
  InvalidValueError,
  NamespaceError,
  UnreachableError,
} from "../../mod.ts";
import { Network, run } from "../bpf/support.ts";
import { clientTests, destinations, FakeNextHops, hop, service, unreachable } from "./support.ts";

const INSTANCE = `config${Deno.pid}`;
const SMALL = { maxServices: 8, maxDestinations: 16, follow: false, instance: INSTANCE };
const DEFAULTS: CompleteConfig = {
  ipv4VLANs: {},
  ipv6VLANs: {},
  routes: {},
  unknownPort: "drop",
  expired: "reject",
  fragmentable: "reject",
  bonding: false,
};
const EVERYTHING: Config = {
  ipv4VLANs: { 1: "10.1.2.254/24", 20: "10.2.0.0/16" },
  ipv6VLANs: { 1: "2001:db8:1::fe/64" },
  routes: { "0.0.0.0/0": 1, "10.9.0.0/16": 1, "2001:db8:9::/48": 1 },
  unknownPort: "reject",
  expired: "drop",
  fragmentable: "drop",
  outerSource4: "10.77.0.0/16",
  outerSource6: "2001:db8:77::/64",
  bonding: true,
};

Deno.test("config() tells another process everything that was set", async () => {
  const nextHops = new FakeNextHops();
  try {
    await using one = await Client.create([], SMALL, { nextHops });
    assertEquals(one.config(), DEFAULTS);
    await using two = await Client.open(INSTANCE, {}, { nextHops });
    await one.setConfig(EVERYTHING);
    assertEquals(two.config(), EVERYTHING);
    await using three = await Client.open(INSTANCE, { readOnly: true });
    assertEquals(three.config(), EVERYTHING);
    await two.setConfig({ unknownPort: "pass" });
    assertEquals(one.config(), { ...DEFAULTS, unknownPort: "pass" });
  } finally {
    await Client.remove(INSTANCE);
  }
});

Deno.test("what is given to create() is the configuration", async () => {
  await using client = await Client.create([], { ...EVERYTHING, follow: false });
  assertEquals(client.config(), EVERYTHING);
});

const clientTest = clientTests();

const BAD: [Config, field: string, says: string][] = [
  [{ ipv4VLANs: { 4095: "10.0.0.0/8" } }, "ipv4VLANs", 'VLAN ID "4095"'],
  [{ ipv4VLANs: { 1: "2001:db8::/32" } }, "ipv4VLANs", "it is not IPv4"],
  [{ ipv6VLANs: { 1: "x" } }, "ipv6VLANs", '"x"'],
  [{ routes: { "10.0.0.0/8": 7 } }, "routes", "VLAN 7 has no router"],
  [{ ipv4VLANs: { 7: "10.7.0.0/16" }, routes: { "10.0.0.0/8": 7 } }, "routes", "has no router"],
  [{ unknownPort: "ignore" as "drop" }, "unknownPort", "none of drop, pass, reject"],
  [{ expired: "pass" as "drop" }, "expired", "none of drop, reject"],
  [{ outerSource4: "2001:db8::/64" }, "outerSource4", "not an IPv4 prefix"],
];

for (const [config, field, says] of BAD) {
  clientTest(
    `setConfig(${JSON.stringify(config)}) is refused, and changes nothing`,
    async (subject) => {
      const error = await assertRejects(
        () => subject.client.setConfig(config),
        InvalidValueError,
        says,
      );
      assertEquals(error.field, field);
      assertEquals(subject.client.config(), DEFAULTS);
    },
  );
}

clientTest(
  "networks that change have all next hops found anew, or nothing changes",
  async (subject) => {
    const { client, nextHops } = subject;
    const [a, b] = destinations(2) as [{ address: string }, { address: string }];
    await client.setService(service(1), a);
    await client.setService(service(2), a, b);
    nextHops.answers.set(a.address, hop(7));
    nextHops.answers.set(b.address, unreachable(b.address));
    const before = subject.state();
    const networks: Config = { ipv4VLANs: { 1: "10.0.0.254/24" } };
    await assertRejects(() => client.setConfig(networks), UnreachableError, b.address);
    assertEquals(subject.state(), before);
    assertEquals(client.config().ipv4VLANs, {});
    nextHops.answers.set(b.address, hop(8));
    await client.setConfig(networks);
    const macs = [1, 2].map((n) =>
      client.destinations(service(n)).map(({ mac }) => mac?.slice(-2))
    );
    assertEquals(macs, [["07"], ["07", "08"]]);
    await client.setConfig({});
  },
);

clientTest(
  "a policy that changes asks for no next hop, and keeps those that are silent",
  async (subject) => {
    const { client, nextHops, instance } = subject;
    await client.setService(service(1), ...destinations(2));
    const asked = nextHops.asked.length;
    nextHops.answers.set("10.0.0.1", unreachable("10.0.0.1"));
    await client.setConfig({ expired: "drop" });
    assertEquals(nextHops.asked.length, asked);
    assertEquals(instance.settings.expired, POLICY.DROP);
    assertEquals(client.destinations(service(1)).every(({ mac }) => mac), true);
    await client.setConfig({});
  },
);

clientTest("where tunnels start from changes for destinations that are there", async (subject) => {
  const { client, instance } = subject;
  await client.setService(service(1), { address: "10.0.0.1", tunnelType: "ipip" });
  const source = () => {
    const [, entry] = [...instance.destinations.written()].find(([, { generation }]) =>
      generation
    )!;
    return Address.fromBytes(entry.outerSource.subarray(0, 4)).toString();
  };
  assertEquals(source(), "10.0.0.254");
  await client.setConfig({ outerSource4: "10.77.0.0/16" });
  assertEquals([source(), instance.settings.sourceMask4], ["10.77.0.0", 0xffff]);
  await client.setConfig({});
  assertEquals(source(), "10.0.0.254");
});

Deno.test("the longest route decides, and another process finds next hops by it", async () => {
  using _ = new Network();
  run("ip", "address", "add", "10.1.0.1/24", "dev", "left");
  run("ip", "address", "add", "10.2.0.1/24", "dev", "right");
  const routers = {
    left: ["10.1.0.254", "02:00:00:00:01:fe"],
    right: ["10.2.0.254", "02:00:00:00:02:fe"],
  };
  for (const [name, [address, mac]] of Object.entries(routers)) {
    run("ip", "neighbour", "add", address!, "lladdr", mac!, "dev", name, "nud", "permanent");
  }
  const networks = {
    ipv4VLANs: { 1: "10.1.0.254/24", 2: "10.2.0.254/24" },
    routes: { "0.0.0.0/0": 1, "10.9.0.0/16": 2, "10.9.9.0/24": 1 },
  };
  try {
    await (await Client.create([], { ...SMALL, ...networks })).close();
    await using client = await Client.open(INSTANCE);
    const far = ["172.16.0.1", "10.9.1.1", "10.9.9.1"];
    await client.setService(
      service(1),
      ...far.map((address) => ({ address, tunnelType: "ipip" as const })),
    );
    const ways = () =>
      client.destinations(service(1)).map(({ interface: name, mac }) => [name, mac]);
    const { left: [, left], right: [, right] } = routers;
    assertEquals(ways(), [["left", left], ["right", right], ["left", left]]);
    await client.setConfig({ ...networks, routes: { "0.0.0.0/0": 2 } });
    assertEquals(ways(), [["right", right], ["right", right], ["right", right]]);
  } finally {
    await Client.remove(INSTANCE);
  }
});

Deno.test("an instance is changed from its own network namespace, and seen from any", async () => {
  using network = new Network();
  const nextHops = new FakeNextHops();
  const client = await Client.create(["left"], SMALL, { nextHops });
  try {
    const { namespace } = (await Client.instances()).find(({ name }) => name === INSTANCE)!;
    assert(typeof namespace === "number");
    {
      using _ = new Network();
      const elsewhere = await Client.open(INSTANCE, {}, { nextHops });
      assertEquals(elsewhere.info().interfaces.map(({ name }) => name), ["left"]);
      const change = () => elsewhere.setService(service(1), ...destinations(1));
      await assertRejects(change, NamespaceError, `in network namespace ${namespace}`);
      await assertRejects(() => elsewhere.attach("right"), NamespaceError);
      await assertRejects(() => elsewhere.setConfig({ bonding: true }), NamespaceError);
      await elsewhere.close();
    }
    await client.setService(service(1), ...destinations(1));
    assert(queryXdp(network.ifindex).generic);
    using instance = Instance.open(INSTANCE);
    assertEquals(instance.links.namespace, namespace);
  } finally {
    await client.close();
    await Client.remove(INSTANCE);
  }
});
