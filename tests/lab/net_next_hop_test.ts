import { assertEquals, assertRejects } from "@std/assert";
import { Address } from "../../lib/net/address.ts";
import {
  link,
  LinkNotFoundError,
  links,
  neighbours,
  RouteError,
  routes,
} from "../../lib/net/ip.ts";
import { Lab, type LabNode, type LabOptions } from "../../lib/net/lab.ts";
import { changes } from "../../lib/net/monitor.ts";
import type { Namespace } from "../../lib/net/namespace.ts";
import {
  type NeighbourId,
  NeighbourKeeper,
  neighbourTable,
} from "../../lib/net/neighbour_keeper.ts";
import { type NextHop, NextHopError, NextHops } from "../../lib/net/next_hop.ts";

const QUIET: LabOptions = { servers: false, destinations: 2 };
const NOBODY = "10.1.0.99";

function addresses(...texts: string[]): Address[] {
  return texts.map(Address.parse);
}

/** Resolves one address that must have a next hop. */
async function nextHop(nextHops: NextHops, text: string): Promise<NextHop> {
  const answer = (await nextHops.resolve(addresses(text))).get(text);
  if (answer === undefined || answer instanceof NextHopError) throw answer ?? new Error(text);
  return answer;
}

/** Why each address has no next hop; undefined where it has one. */
async function reasons(nextHops: NextHops, ...texts: string[]): Promise<unknown[]> {
  const answers = await nextHops.resolve(addresses(...texts), { timeoutMs: 50 });
  return texts.map((text) => {
    const answer = answers.get(text);
    return answer instanceof NextHopError ? answer.reason : answer && undefined;
  });
}

/** Entries with an address of the lab's own numbers; the kernel learns link-local ones by itself. */
async function entries(namespace: Namespace): Promise<string[]> {
  return (await neighbours(namespace))
    .filter(({ address }) => !address.isLinkLocal && !address.isMulticast)
    .map(({ address, state, managed }) => `${address} ${state}${managed ? " managed" : ""}`)
    .sort();
}

async function monitorsIn({ namespace }: LabNode): Promise<number> {
  return (await namespace.processes()).length;
}

Deno.test("resolve() finds neighbours and routers of both families", async () => {
  await using lab = await Lab.create({ ...QUIET, routed: 1 });
  const { balancer, router } = lab;
  const [d1, r1] = [lab.node("d1"), lab.node("r1")];
  await using nextHops = new NextHops({ namespace: balancer.namespace });
  const texts = [d1.address4, d1.address6, r1.address4, r1.address6];
  const answers = await nextHops.resolve(addresses(...texts, ...texts));
  assertEquals([...answers.keys()], texts);
  const { ifindex } = await link("eth0", balancer.namespace);
  for (const [text, answer] of answers) {
    const onLink = text === d1.address4 || text === d1.address6;
    assertEquals(answer instanceof NextHopError ? answer : { ...answer }, {
      ifindex,
      interface: "eth0",
      sourceMac: balancer.mac,
      destinationMac: onLink ? d1.mac : router?.mac ?? "",
      vlan: 0,
      mtu: 1600,
      source4: Address.parse(balancer.address4),
      source6: Address.parse(balancer.address6),
      onLink,
    });
  }
});

Deno.test("resolve() gives a reason where there is no next hop", async () => {
  await using lab = await Lab.create(QUIET);
  const { namespace } = lab.balancer;
  const commands = [
    "ip route add blackhole 198.51.100.0/24",
    "ip link add name idle type veth peer name off",
    "ip address add 10.7.0.1/24 dev idle",
    "ip link set idle up",
    "ip route add 203.0.113.0/24 dev lo",
  ];
  for (const command of commands) await namespace.run(command.split(" "));
  await using nextHops = new NextHops({ namespace });
  const texts = [lab.node("d1").address4, NOBODY, "192.0.2.1", "2001:db8::1", "198.51.100.1"];
  assertEquals(
    await reasons(nextHops, ...texts, "10.1.0.1", "::1", "10.7.0.9", "203.0.113.1"),
    [
      undefined,
      "unresolved",
      "unreachable",
      "unreachable",
      "unreachable",
      "local",
      "local",
      "no-interface", // its other end is off, so it has no carrier
      "no-interface", // the loopback is not Ethernet
    ],
  );
});

Deno.test("resolve() takes the smaller MTU of interface and route", async () => {
  await using lab = await Lab.create(QUIET);
  const { namespace } = lab.balancer;
  const d1 = lab.node("d1").address4;
  await namespace.run(["ip", "route", "add", `${d1}/32`, "dev", "eth0", "mtu", "1400"]);
  await using nextHops = new NextHops({ namespace });
  assertEquals((await nextHop(nextHops, d1)).mtu, 1400);
  assertEquals((await nextHop(nextHops, lab.node("d2").address4)).mtu, 1600);
});

Deno.test("resolve() goes by the VLANs given, and by them alone", async () => {
  await using lab = await Lab.create({ ...QUIET, routed: 1 });
  const [d1, r1] = [lab.node("d1"), lab.node("r1")];
  await using nextHops = new NextHops({
    namespace: lab.balancer.namespace,
    ipv4VLANs: { 7: "10.1.0.0/24", 8: `${d1.address4}/24` },
  });
  assertEquals(
    (await nextHop(nextHops, lab.node("d2").address4)).destinationMac,
    lab.node("d2").mac,
  );
  // The kernel's route is through the router; the VLAN's host bits say d1.
  const far = await nextHop(nextHops, r1.address4);
  assertEquals([far.destinationMac, far.onLink, far.vlan], [d1.mac, false, 0]);
  assertEquals((await nextHop(nextHops, r1.address6)).destinationMac, lab.router?.mac ?? "");
});

Deno.test("close() takes back what was asked of the kernel, and no more", async () => {
  await using lab = await Lab.create({ ...QUIET, destinations: 4 });
  const { namespace } = lab.balancer;
  const [d1, d2, d3, d4] = lab.destinations.map(({ address4 }) => address4) as [
    string,
    string,
    string,
    string,
  ];
  const set = (...words: string[]): Promise<string> =>
    namespace.run(["ip", "neighbour", "replace", ...words]);
  await set(d2, "lladdr", lab.node("d2").mac, "dev", "eth0", "nud", "permanent");
  await set(d3, "lladdr", lab.node("d3").mac, "dev", "eth0", "nud", "stale");
  await set(d4, "lladdr", lab.node("d4").mac, "dev", "eth0", "managed");
  const before = await entries(namespace);

  const nextHops = new NextHops({ namespace });
  assertEquals(await reasons(nextHops, d1, d2, d3, d4, NOBODY), [
    undefined,
    undefined,
    undefined,
    undefined,
    "unresolved",
  ]);
  const during = await entries(namespace);
  const managed = [d1, d3, d4, NOBODY];
  assertEquals(
    during.map((each) => each.endsWith("managed")),
    [d1, d2, d3, d4, NOBODY].map((each) => managed.includes(each)),
  );

  await nextHops.close();
  await nextHops.close();
  assertEquals(await entries(namespace), before);
  await assertRejects(() => nextHops.resolve(addresses(d1)), Error, "closed");
});

Deno.test("a neighbour that the kernel refuses does not lose the others", async () => {
  await using lab = await Lab.create(QUIET);
  const { namespace } = lab.balancer;
  await namespace.run(["sysctl", "-q", "-w", "net.ipv6.conf.eth0.disable_ipv6=1"]);
  const ids = (name: string, ...texts: string[]): NeighbourId[] =>
    addresses(...texts).map((address) => ({ address, interface: name }));
  const wanted = [
    ...ids("eth0", "10.1.0.50", "fd00:1::50", "10.1.0.51", "fd00:1::51"),
    ...ids("eth7", "10.1.0.52"),
    ...ids("eth0", "10.1.0.53"),
  ];
  const keeper = new NeighbourKeeper(namespace);
  const refused = await keeper.ask(wanted, await neighbourTable(namespace));
  assertEquals(refused.get("fd00:1::50 eth0"), "IPv6 is disabled on this device");
  assertEquals(refused.get("10.1.0.52 eth7"), 'Cannot find device "eth7"');
  assertEquals([...refused.keys()], ["fd00:1::50 eth0", "fd00:1::51 eth0", "10.1.0.52 eth7"]);
  const kept = ["10.1.0.50", "10.1.0.51", "10.1.0.53"].map((text) => `${text} INCOMPLETE managed`);
  assertEquals(await entries(namespace), kept);

  // One that has gone by itself does not keep the others from going.
  await namespace.run(["ip", "neighbour", "delete", "10.1.0.50", "dev", "eth0"]);
  await keeper.release();
  assertEquals(await entries(namespace), []);
});

Deno.test("so many refusals make the keeper give up the rest", async () => {
  await using lab = await Lab.create(QUIET);
  const { namespace } = lab.balancer;
  await namespace.run(["sysctl", "-q", "-w", "net.ipv6.conf.eth0.disable_ipv6=1"]);
  const wanted = addresses(...Array.from({ length: 1000 }, (_, at) => `fd00:1::${at + 300}`))
    .map((address) => ({ address, interface: "eth0" }));
  const refused = await new NeighbourKeeper(namespace).ask(wanted, new Map());
  assertEquals(refused.size, 1000);
});

Deno.test("retain() gives up the neighbours that nobody needs any more", async () => {
  await using lab = await Lab.create({ ...QUIET, routed: 2 });
  const { namespace } = lab.balancer;
  const [d1, d2, r1, r2] = ["d1", "d2", "r1", "r2"].map((name) => lab.node(name).address4);
  const all = addresses(d1 ?? "", d2 ?? "", r1 ?? "", r2 ?? "");
  await using nextHops = new NextHops({ namespace });
  await nextHops.resolve(all);
  const names = async (): Promise<string[]> =>
    (await entries(namespace)).map((each) => each.split(" ")[0] ?? "");
  assertEquals(await names(), [d1, d2, "10.1.0.254"]);
  await nextHops.retain(addresses(d2 ?? "", r2 ?? ""));
  assertEquals(await names(), [d2, "10.1.0.254"]);
  await nextHops.retain(addresses(d2 ?? ""));
  assertEquals(await names(), [d2]);
});

Deno.test("resolve() takes ten thousand addresses at once, and close() leaves none", async () => {
  await using lab = await Lab.create(QUIET);
  const { namespace } = lab.balancer;
  // One machine of 10,000 addresses, more than the table of neighbours takes of what it learns (1024).
  await namespace.run(["ip", "route", "add", "10.3.0.0/16", "dev", "eth0"]);
  await lab.node("d1").run(["ip", "route", "add", "local", "10.3.0.0/16", "dev", "lo"]);
  await lab.node("d1").run(["sysctl", "-q", "-w", "net.ipv4.conf.all.arp_ignore=0"]);
  await lab.node("d1").run(["sysctl", "-q", "-w", "net.ipv4.conf.eth0.arp_ignore=0"]);
  const texts = Array.from({ length: 10_000 }, (_, at) => `10.3.${at >> 8}.${at & 255}`);
  const nextHops = new NextHops({ namespace });
  const answers = await nextHops.resolve(addresses(...texts, "192.0.2.1"), { timeoutMs: 10_000 });
  const macs = texts.filter((text) => {
    const answer = answers.get(text);
    return answer && !(answer instanceof NextHopError) &&
      answer.destinationMac === lab.node("d1").mac;
  });
  assertEquals(macs.length, 10_000);
  assertEquals(answers.get("192.0.2.1") instanceof NextHopError, true);
  await nextHops.close();
  assertEquals(await entries(namespace), []);
});

Deno.test("follow() tells of what matters within a second, and of nothing else", async () => {
  await using lab = await Lab.create({ ...QUIET, routed: 1 });
  const { balancer, router } = lab;
  const [d1, d2, r1] = [lab.node("d1"), lab.node("d2"), lab.node("r1")];
  const watched = addresses(d1.address4, d1.address6, r1.address4);
  await using nextHops = new NextHops({ namespace: balancer.namespace });
  const stop = new AbortController();
  let turns = 0;
  let seen: (string | undefined)[] = [];
  const following = (async () => {
    for await (const _ of nextHops.follow(stop.signal)) {
      const answers = await nextHops.resolve(watched, { timeoutMs: 0 });
      seen = [...answers.values()].map((answer) =>
        answer instanceof NextHopError ? answer.reason : answer.destinationMac
      );
      turns++;
    }
  })();
  const becomes = async (...expected: (string | undefined)[]): Promise<void> => {
    const deadline = performance.now() + 1000;
    while (JSON.stringify(seen) !== JSON.stringify(expected) && performance.now() < deadline) {
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
    assertEquals(seen, expected);
  };
  const R = router?.mac;
  await becomes(d1.mac, d1.mac, R);
  assertEquals(await monitorsIn(balancer), 1);

  const quiet = turns;
  // A neighbour of no concern: the kernel hears of it, and nobody else does.
  await balancer.run(["ip", "neigh", "add", d2.address4, "lladdr", d2.mac, "dev", "eth0"]);
  // The same neighbour as ever, confirmed once more.
  const args = [d1.address4, "lladdr", d1.mac, "dev", "eth0", "managed", "extern_learn"];
  await balancer.run(["ip", "neigh", "change", ...args, "nud", "stale", "protocol", "120"]);
  await new Promise((resolve) => setTimeout(resolve, 200));
  assertEquals(turns, quiet);

  const moved = "02:00:00:00:00:99";
  await d1.run(["ip", "link", "set", "eth0", "address", moved]);
  await becomes(moved, moved, R);
  await balancer.run(["ip", "route", "del", "10.2.0.0/24"]);
  await becomes(moved, moved, "unreachable");
  await balancer.run(["ip", "link", "set", "eth0", "down"]);
  await becomes("unreachable", "unreachable", "unreachable");
  await balancer.run(["ip", "link", "set", "eth0", "up"]);
  await balancer.run(["ip", "address", "add", `${balancer.address6}/64`, "dev", "eth0", "nodad"]);
  await becomes(moved, moved, "unreachable");

  stop.abort();
  await following;
  assertEquals(await monitorsIn(balancer), 0);
});

Deno.test("follow() of one tells when another has taken its neighbours away", async () => {
  await using lab = await Lab.create(QUIET);
  const { namespace } = lab.balancer;
  const d1 = lab.node("d1").address4;
  await using resident = new NextHops({ namespace });
  const passing = new NextHops({ namespace });
  await passing.resolve(addresses(d1));
  const stop = new AbortController();
  let turns = 0;
  for await (const _ of resident.follow(stop.signal)) {
    await resident.resolve(addresses(d1));
    if (++turns === 1) await passing.close();
    else stop.abort();
  }
  assertEquals(await entries(namespace), [`${d1} REACHABLE managed`]);
});

Deno.test("changes() yields at once and by the clock, and starts another monitor if one dies", async () => {
  await using lab = await Lab.create(QUIET);
  const { namespace } = lab.balancer;
  const stop = new AbortController();
  const monitors = new Set<number>();
  let times = 0;
  const options = { intervalMs: 5, namespace, matters: (): boolean => false };
  for await (const _ of changes(stop.signal, options)) {
    const [pid, ...others] = await namespace.processes();
    assertEquals(others, []);
    if (pid !== undefined) monitors.add(pid);
    if (++times === 3 && pid !== undefined) Deno.kill(pid, "SIGKILL");
    if (monitors.size === 2) stop.abort();
  }
  assertEquals(await namespace.processes(), []);
});

Deno.test("links(), link() and routes() speak of the namespace they are given", async () => {
  await using lab = await Lab.create({ ...QUIET, routed: 1 });
  const { namespace } = lab.balancer;
  assertEquals((await links(namespace)).map(({ name }) => name).sort(), ["eth0", "lo"]);
  const eth0 = await link("eth0", namespace);
  assertEquals([eth0.kind, eth0.mac, eth0.mtu, eth0.up], ["veth", lab.balancer.mac, 1600, true]);
  const own = eth0.addresses.map(String).filter((text) => !text.startsWith("fe80:"));
  assertEquals(own, ["10.1.0.1/24", "fd00:1::1/64"]);
  assertEquals(await link(eth0.ifindex, namespace), eth0);
  await assertRejects(() => link("eth9", namespace), LinkNotFoundError, "there are lo, eth0");

  const found = await routes(
    addresses("192.0.2.1", "10.2.0.10", "2001:db8::1", "10.1.0.7", "192.0.2.2", "fd00:2::1"),
    namespace,
  );
  const ways = Array.from(
    found.values(),
    (route) => route instanceof RouteError ? "none" : `${route.gateway ?? "direct"}`,
  );
  assertEquals(ways, ["none", "10.1.0.254", "none", "direct", "none", "fd00:1::254"]);
  assertEquals(await routes([], namespace), new Map());
});
