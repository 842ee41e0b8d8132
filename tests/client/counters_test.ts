/** Counters say what packets did, and totals never go down, whatever is removed. */

import { assert, assertEquals } from "@std/assert";
import type { Destination, Metrics, Service, Stats } from "../../mod.ts";
import { ethernet, icmp4, ipv4, ipv6, tcp, type TcpFlag, udp } from "../packets/build.ts";
import { random } from "../unit/random.ts";
import { clientTests, destinations, service, type Subject } from "./support.ts";

const clientTest = clientTests();

const HTTP = service(1), HTTPS = service(1, { port: 443 });
const DNS: Service = { address: "2001:db8::1", port: 53, protocol: "udp" };
const [A, B] = destinations(2) as [Destination, Destination];
const XDP_DROP = 1, XDP_PASS = 2, XDP_TX = 3;
const IPV4_TCP_OCTETS = 40n;

/** A packet to a service, from a client's port; what the program did with it. */
function send({ instance }: Subject, to: Service, sourcePort: number, ...flags: TcpFlag[]): number {
  const ports = { sourcePort, destinationPort: to.port };
  const l4 = to.protocol === "udp" ? udp(ports) : tcp({ ...ports, flags });
  const packet = to.address.includes(":")
    ? ipv6({ source: "2001:db8:c::1", destination: to.address }, l4)
    : ipv4({ source: "198.51.100.1", destination: to.address }, l4);
  return instance.program.testRun({ data: ethernet({}, packet) }).retval;
}

type Counted = { stats: Stats; metrics: Metrics };

/** What was seen of open flows is good for 200 ms. */
function anotherLook(): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, 250));
}

/** How much each counter of `after` is above that of `before`; those that are not are left out. */
function gained(before: Counted, after: Counted): Record<string, bigint> {
  return Object.fromEntries(
    Object.entries(after.metrics)
      .map(([name, value]) => [name, value - before.metrics[name]!] as const)
      .filter(([, value]) => value !== 0n),
  );
}

clientTest("a connection is counted by destination, service, VIP and instance", async (subject) => {
  const { client } = subject;
  await client.setServices([
    { service: HTTP, destinations: [A] },
    { service: HTTPS, destinations: [A] },
  ]);
  const look = (): Record<string, Counted> => ({
    destination: client.destinations(HTTP)[0]!,
    service: client.service(HTTP),
    vip: client.vip(HTTP.address),
    instance: client.info(),
  });
  const before = look();
  for (const flags of [["syn"], ["ack"], ["ack", "psh"], ["fin", "ack"]] as const) {
    assertEquals(send(subject, HTTP, 1024, ...flags), XDP_TX);
  }
  assertEquals(send(subject, HTTP, 1025, "syn"), XDP_TX);
  assertEquals(send(subject, HTTP, 1025, "rst"), XDP_TX);
  const after = look();
  const common = {
    ...{ packets: 6n, octets: 6n * IPV4_TCP_OCTETS, flows: 2n },
    ...{ syn: 2n, ack: 3n, fin: 1n, rst: 1n },
  };
  assertEquals(gained(before.destination!, after.destination!), common);
  for (const each of ["service", "vip", "instance"]) {
    assertEquals(gained(before[each]!, after[each]!), { ...common, forwarded: 6n }, each);
  }
  for (const name of Object.keys(after)) {
    const { connections, incomingBytes, incomingPackets } = after[name]!.stats;
    const { flows, octets, packets } = after[name]!.metrics;
    assertEquals([connections, incomingBytes, incomingPackets], [flows, octets, packets], name);
  }
});

clientTest("open flows are counted while they are open", async (subject) => {
  const { client } = subject;
  await client.setService(HTTP, A);
  for (const port of [1, 2, 3]) {
    send(subject, HTTP, port, "syn");
    send(subject, HTTP, port, "ack");
  }
  send(subject, HTTP, 4, "syn"); // Perhaps never heard of again.
  send(subject, HTTP, 3, "fin", "ack");
  await anotherLook();
  assertEquals(client.destinations(HTTP)[0]!.activeConnections, 2);
  assertEquals(client.service(HTTP).metrics.current, 2n);
  assertEquals(client.vip(HTTP.address).metrics.current, 2n);
  assertEquals(client.info().metrics.current, 2n);
});

clientTest("flows of a destination that has gone are not its successor's", async (subject) => {
  const { client, instance } = subject;
  await client.setService(HTTP, A);
  for (const port of [1, 2]) {
    send(subject, HTTP, port, "syn");
    send(subject, HTTP, port, "ack");
  }
  await anotherLook();
  assertEquals(client.destinations(HTTP)[0]!.activeConnections, 2);
  await client.setService(HTTP);
  await client.setService(HTTP, B);
  const [, ...others] = [...instance.destinations.entries()].filter(([, d]) => d.generation > 0);
  assertEquals(others, []);
  assertEquals(client.destinations(HTTP)[0]!.activeConnections, 0);
  await anotherLook();
  assertEquals(client.destinations(HTTP)[0]!.activeConnections, 0);
});

clientTest("what is not forwarded has its reason", async (subject) => {
  const { client, instance } = subject;
  await client.setServices([
    { service: HTTP, destinations: [{ ...A, disable: true }] },
    { service: service(2), destinations: [A] },
  ]);
  const before = { vip: client.vip(HTTP.address), info: client.info() };
  assertEquals(send(subject, HTTP, 1, "syn"), XDP_DROP);
  assertEquals(send(subject, HTTPS, 1, "syn"), XDP_DROP);
  assertEquals(send(subject, service(9), 1, "syn"), XDP_PASS);
  const echo = ipv4(
    { source: "198.51.100.1", destination: HTTP.address },
    icmp4({ type: 8, rest: 1 }),
  );
  assertEquals(instance.program.testRun({ data: ethernet({}, echo) }).retval, XDP_TX);
  const mine = {
    ...{ err_no_backend: 1n, err_service_not_found: 1n, errors: 2n },
    icmp_echo_request: 1n,
  };
  assertEquals(gained(before.vip, client.vip(HTTP.address)), mine);
  assertEquals(gained(before.info, client.info()), {
    ...mine,
    ...{ not_a_vip: 1n, packets: 4n, octets: 3n * IPV4_TCP_OCTETS + 28n },
  });
  assertEquals(
    gained(before.vip, client.vip("192.0.2.2")).errors,
    -before.vip.metrics.errors! || undefined,
  );
});

clientTest("a VIP keeps what its removed services had counted", async (subject) => {
  const { client } = subject;
  await client.setServices([HTTP, HTTPS].map((each) => ({ service: each, destinations: [A] })));
  for (let port = 1; port <= 10; port++) send(subject, HTTPS, port, "syn");
  send(subject, service(1, { port: 9 }), 1, "syn");
  const before = client.vip(HTTP.address);
  assertEquals([before.metrics.syn, before.metrics.err_service_not_found], [10n, 1n]);
  await client.removeService(HTTPS);
  assertEquals(gained(before, client.vip(HTTP.address)), {});
  await client.createService(HTTPS);
  assertEquals(client.service(HTTPS).metrics.packets, 0n);
  assertEquals(gained(before, client.vip(HTTP.address)), {});
});

clientTest("who takes a number over begins at zero", async (subject) => {
  const { client } = subject;
  await client.setService(HTTP, A);
  for (let port = 1; port <= 5; port++) send(subject, HTTP, port, "syn");
  await client.setService(HTTP, B);
  assertEquals(client.destinations(HTTP)[0]!.metrics.packets, 0n);
  assertEquals(client.service(HTTP).metrics.packets, 5n);
  await client.removeService(HTTP);
  await client.setService(service(7), A);
  assertEquals(client.service(service(7)).metrics.packets, 0n);
  assertEquals(client.destinations(service(7))[0]!.metrics.packets, 0n);
  assertEquals(client.vip("192.0.2.7").metrics.packets, 0n);
});

clientTest("totals never go down, and miss nothing, whatever is removed", async (subject) => {
  const { client } = subject;
  const seed = crypto.getRandomValues(new Uint32Array(1))[0]!;
  const next = random(seed);
  const all = [HTTP, HTTPS, DNS, service(2)];
  const start = client.info();
  let last = start;
  let sent = 0n;
  const vips = new Map<string, Counted>();
  for (let step = 0; step < 100; step++) {
    const each = all[next() % all.length]!;
    const exists = client.services().some(({ service: { address, port } }) =>
      address === each.address && port === each.port
    );
    const change = next() % 4;
    if (change === 0 && exists) await client.removeService(each);
    else if (change === 1) await client.setService(each, ...(next() % 2 ? [A, B] : [B]));
    else for (let i = 0; i < 5; i++, sent++) send(subject, each, next() & 0xffff, "syn");
    const info = client.info();
    assertRises(last, info, `seed ${seed}, step ${step}`);
    last = info;
    const present = new Map(client.vips().map((vip) => [vip.address, vip]));
    for (const [address, vip] of present) {
      const before = vips.get(address);
      if (before) assertRises(before, vip, `seed ${seed}, step ${step}, ${address}`);
    }
    for (const address of vips.keys()) if (!present.has(address)) vips.delete(address);
    for (const [address, vip] of present) vips.set(address, vip);
  }
  const { packets, forwarded = 0n, syn = 0n } = gained(start, last);
  assertEquals(packets, sent);
  // All that was forwarded was TCP with SYN, or UDP.
  assert(syn <= forwarded && forwarded <= sent && forwarded > 0n);
});

function assertRises(before: Counted, after: Counted, when: string): void {
  for (const [name, value] of Object.entries(after.metrics)) {
    if (name === "current") continue; // It is no counter.
    assert(value >= before.metrics[name]!, `${name} fell to ${value}: ${when}`);
  }
}
