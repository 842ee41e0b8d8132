/** Whatever a packet counts for, it counts for once: its destination, its service, its VIP, and in all. */
import { assertEquals } from "@std/assert";
import type { Reason } from "../../lib/lb/abi.gen.ts";
import type { Client, Metrics } from "../../mod.ts";
import { random } from "../unit/random.ts";
import { ethernet, filler, type Layer, raw, tcp, type TcpFlag, udp } from "./build.ts";
import { HASH_KEY } from "./expect.ts";
import { macOf, packetTests } from "./harness.ts";
import { parse } from "./parse.ts";
import { address, FAMILIES, type Family, icmp, ip, OTHER, TAGS, VIP } from "./sample.ts";

const PACKETS = 1500;
const FLAGS: TcpFlag[] = ["syn", "ack", "fin", "rst", "psh"];
/** So that each of a service's destinations gets some. */
const DESTINATIONS = [1, 2, 3].map((number) => address(4, number));

const test = packetTests({ hashKey: HASH_KEY });

/** A packet, and what it must count for. */
interface Item {
  frame: Uint8Array;
  octets: number;
  reason: Reason;
  /** What it is for, beside the whole: `service ...` or `vip ...`. */
  owners: string[];
  flags: TcpFlag[];
}

const SERVICES = FAMILIES.flatMap((family) => [
  { address: VIP[family], port: 80, protocol: "tcp" as const },
  { address: VIP[family], port: 53, protocol: "udp" as const },
  // Without destinations.
  { address: VIP[family], port: 81, protocol: "tcp" as const },
]);

function nameOf(service: { address: string; port: number }): string {
  return `service ${service.address} ${service.port}`;
}

/** What a packet to a VIP may carry, and what becomes of it. */
function content(
  kind: number,
  family: Family,
  sourcePort: number,
  flags: TcpFlag[],
  payload: Uint8Array,
): { segment: Layer; reason: Reason; port?: number } {
  const to = (destinationPort: number): Layer =>
    tcp({ sourcePort, destinationPort, flags }, payload);
  switch (kind) {
    case 0:
      return { segment: to(81), reason: "err_no_backend", port: 81 };
    case 1:
      return { segment: to(9999), reason: "err_service_not_found" };
    case 2:
      return {
        segment: icmp(family, { type: family === 4 ? 8 : 128 }, payload),
        reason: "icmp_echo_request",
      };
    case 3:
      return { segment: raw(132, payload), reason: "err_l4_unsupported" };
    case 4:
    case 5:
      return {
        segment: udp({ sourcePort, destinationPort: 53 }, payload),
        reason: "forwarded",
        port: 53,
      };
    default:
      return { segment: to(80), reason: "forwarded", port: 80 };
  }
}

/** Packets of every sort, in any order. */
function* mix(): Generator<Item> {
  const next = random(1);
  const below = (n: number): number => next() % n;
  for (let i = 0; i < PACKETS; i++) {
    const family: Family = below(2) === 0 ? 4 : 6;
    const flags = FLAGS.filter(() => below(3) === 0);
    const kind = below(9);
    const { segment, port, ...told } = content(
      kind,
      family,
      1024 + below(60000),
      flags,
      filler(below(1300)),
    );
    const ttl = below(10) === 0 ? 1 : 64;
    const vip = below(10) > 0 ? VIP[family] : undefined;
    const packet = ip(family, { ttl, destination: vip ?? OTHER[family] }, segment);
    const isExpired = ttl === 1 && (port !== undefined || told.reason === "err_service_not_found");
    yield {
      frame: ethernet({ tags: TAGS[below(3)]!, minimum: 64 }, packet),
      octets: packet.encode().length,
      reason: vip === undefined ? "not_a_vip" : isExpired ? "err_expired" : told.reason,
      owners: vip === undefined
        ? []
        : port === undefined
        ? [`vip ${vip}`]
        : [`vip ${vip}`, nameOf({ address: vip, port })],
      flags: kind > 5 ? flags : [],
    };
  }
}

/** Numbers by owner and name. */
class Ledger {
  readonly #numbers = new Map<string, Map<string, number>>();

  add(owner: string, name: string, by = 1): void {
    const numbers = this.#numbers.get(owner) ?? new Map<string, number>();
    numbers.set(name, (numbers.get(name) ?? 0) + by);
    this.#numbers.set(owner, numbers);
  }

  /** A packet of which an owner knows the reason. */
  addReason(owner: string, reason: Reason): void {
    this.add(owner, reason);
    if (reason.startsWith("err_")) this.add(owner, "errors");
  }

  /** In the same order as `metrics`, and with zero for what is missing. */
  of(owner: string, metrics: Metrics): Record<string, number> {
    const numbers = this.#numbers.get(owner);
    return Object.fromEntries(Object.keys(metrics).map((name) => [name, numbers?.get(name) ?? 0]));
  }

  get owners(): string[] {
    return [...this.#numbers.keys()];
  }
}

/** Who counts, and what. */
function* counted(client: Client): Generator<[owner: string, Metrics]> {
  yield ["all", client.info().metrics];
  for (const vip of client.vips()) yield [`vip ${vip.address}`, vip.metrics];
  for (const { service, metrics } of client.services()) {
    yield [nameOf(service), metrics];
    for (const { destination, ...rest } of client.destinations(service)) {
      yield [`${nameOf(service)} ${destination.address}`, rest.metrics];
    }
  }
}

test("every packet of a mixture is counted where it belongs, and nowhere else", async (balancer) => {
  const { client, instance } = balancer;
  instance.settings = { ...instance.settings, icmpBudget: PACKETS };
  await client.setServices(SERVICES.map((service) => ({
    service,
    destinations: service.port === 81
      ? []
      : DESTINATIONS.map((to) => ({ address: to, tunnelType: "ipip" as const })),
  })));
  const before = client.info().metrics;
  const receivers = new Map(DESTINATIONS.map((to) => [macOf(to), to]));
  const ledger = new Ledger();
  for (const { frame, octets, reason, owners, flags } of mix()) {
    const sent = balancer.run(frame);
    ledger.add("all", "packets");
    ledger.add("all", "octets", octets);
    for (const owner of ["all", ...owners]) ledger.addReason(owner, reason);
    if (reason !== "forwarded") continue;
    const receiver = receivers.get(parse(sent.frame).ethernet.destination);
    const served = [...owners, `${owners[1]} ${receiver}`];
    for (const owner of served) ledger.add(owner, "packets");
    for (const owner of served) ledger.add(owner, "octets", octets);
    for (const owner of ["all", ...served]) {
      for (const flag of flags) ledger.add(owner, flag);
    }
  }
  const seen = [...counted(client)];
  assertEquals(seen.map(([owner]) => owner).sort(), ledger.owners.sort());
  for (const [owner, metrics] of seen) {
    const earlier = (name: string): bigint => owner === "all" ? before[name]! : 0n;
    const numbers = Object.entries(metrics)
      .map(([name, value]) => [name, Number(value - earlier(name))]);
    assertEquals([owner, Object.fromEntries(numbers)], [owner, ledger.of(owner, metrics)]);
  }
});

test("what could not be sent is an error of its destination, and begins no flow", async (balancer) => {
  const [service] = SERVICES;
  const { client, instance } = balancer;
  instance.settings = { ...instance.settings, sampleMask: 0 };
  await client.setService(service!, { address: DESTINATIONS[0]! });
  for (const [slot, entry] of instance.destinations.entries()) {
    if (entry.generation !== 0) instance.destinations.set(slot, { ...entry, ifindex: 0 });
  }
  const frame = ethernet({}, ip(4, {}, tcp({ sourcePort: 40000, destinationPort: 80 })));
  assertEquals(balancer.send(frame).reason, "err_backend_invalid");
  const { stats, metrics } = client.destinations(service!)[0]!;
  assertEquals(metrics.errors, 1n);
  assertEquals(stats, { connections: 0n, incomingPackets: 0n, incomingBytes: 0n });
});

test("a flow whose first packet is too long has begun, once it is told so", async (balancer) => {
  const [service] = SERVICES;
  const { client, instance } = balancer;
  instance.settings = { ...instance.settings, sampleMask: 0, icmpBudget: 100 };
  await client.setService(service!, { address: DESTINATIONS[0]!, tunnelType: "ipip" });
  const frame = (length: number) =>
    ethernet({}, ip(4, {}, tcp({ sourcePort: 40000, destinationPort: 80 }, filler(length))));
  assertEquals(balancer.send(frame(1460)).reason, "too_big");
  assertEquals(balancer.send(frame(1000)).reason, "forwarded");
  const { stats, metrics } = client.destinations(service!)[0]!;
  assertEquals([stats.connections, stats.incomingPackets], [1n, 1n]);
  assertEquals([metrics.too_big, metrics.errors], [1n, 0n]);
  assertEquals(client.service(service!).stats.connections, 1n);
});
