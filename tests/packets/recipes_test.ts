/**
 * The packets by which xvs v0.2.10 was found wanting, T1 to T24 of the project's list, each with what is wanted
 * instead. T6 is refused by the API, T21 to T23 are about probes: `client/validation_test.ts`, `probe_test.ts`.
 */
import { assertEquals } from "@std/assert";
import type { Reason } from "../../lib/lb/abi.gen.ts";
import type { Destination, Protocol, TunnelType } from "../../mod.ts";
import { ethernet, type EthernetFields, filler, fragmentHeader, type Layer } from "./build.ts";
import { tcp, udp } from "./build.ts";
import { assertForwarded, HASH_KEY, parseAny, type Way } from "./expect.ts";
import { type Balancer, macOf, packetTests, type Sent } from "./harness.ts";
import { parse } from "./parse.ts";
import { address, CLIENT, type Family, icmp, ip, type IpFields, OTHER, PORTS } from "./sample.ts";
import { ROUTER, through, VIP } from "./sample.ts";

const test = packetTests({ hashKey: HASH_KEY, trackMask: 0 });
const TAGGED: EthernetFields = { tags: [{ id: 1, priority: 0 }] };

/** A frame from the client to the VIP. */
function frame(
  family: Family,
  payload: Layer,
  fields: IpFields = {},
  link: EthernetFields = {},
): Uint8Array {
  return ethernet(link, ip(family, fields, payload));
}

/** A TCP segment that makes an IP packet of so many bytes. */
function segment(family: Family, length: number): Layer {
  return tcp(PORTS, filler(length - (family === 4 ? 40 : 60)));
}

/** Gives the VIP one destination. */
async function one(
  { client }: Balancer,
  family: Family,
  tunnel: TunnelType,
  outer: Family = family,
  protocol: Protocol = "tcp",
): Promise<Way> {
  const to = address(outer, 2);
  await client.setService({ address: VIP[family], port: 80, protocol }, through(tunnel, to));
  return { address: to, tunnel };
}

/** An answer from the VIP to the client, that quotes what was sent. */
function assertTold(
  sent: Sent,
  family: Family,
  about: Uint8Array,
  tags: number,
  mtu: number,
): void {
  assertEquals([sent.action, sent.reason], ["tx", "too_big"]);
  const { headers: [outer, error], payload, ethernet: { tags: got } } = parse(sent.frame);
  const ends = outer && "source" in outer && [outer.source, outer.destination];
  assertEquals(ends, [VIP[family], CLIENT[family]]);
  const [type, code] = family === 4 ? [3, 4] : [2, 0];
  const kind = family === 4 ? "icmp4" : "icmp6";
  assertEquals(error, { kind, type, code, rest: mtu });
  assertEquals(got.length, tags);
  const start = 14 + 4 * tags;
  assertEquals(payload, about.slice(start, start + payload.length));
}

test("T1 three packets of a UDP flow are one flow, which stays through a change", async (b) => {
  const service = { address: VIP[4], port: 80, protocol: "udp" } as const;
  const first = { address: address(4, 2) }, second = { address: address(4, 3) };
  await b.client.setService(service, first);
  const counts = [1, 2, 3].map(() => b.send(frame(4, udp(PORTS))).flows);
  assertEquals(counts, [1, 0, 0]);
  assertEquals(b.client.service(service).stats.connections, 1n);
  await b.client.setService(service, { ...first, disable: true }, second);
  assertEquals(
    parse(b.send(frame(4, udp(PORTS))).frame).ethernet.destination,
    macOf(first.address),
  );
});

test("T2 three ACKs of a TCP flow are one flow, and leave with TTL 1", async (b) => {
  const way = await one(b, 4, "none");
  for (const flows of [1, 0, 0]) {
    const ack = frame(4, tcp(PORTS)), sent = b.send(ack);
    assertForwarded(ack, sent, way);
    const [header] = parse(sent.frame).headers;
    assertEquals([sent.flows, header?.kind === "ipv4" && header.ttl], [flows, 1]);
  }
});

for (const [name, family, link] of [["T3", 4, {}], ["T4", 4, TAGGED], ["T5", 6, {}]] as const) {
  test(`${name} too long for a tunnel: the VIP tells the client, and quotes it unspoilt`, async (b) => {
    await one(b, family, "ipip");
    const long = frame(family, segment(family, 1500), {}, link);
    const mtu = 1500 - (family === 4 ? 20 : 40);
    assertTold(b.send(long), family, long, link === TAGGED ? 1 : 0, mtu);
  });
}

test("T7 a tagged frame of 64 bytes with 40 of IP, and one of 60 without a tag, go on", async (b) => {
  const way = await one(b, 4, "none");
  for (const [link, minimum] of [[TAGGED, 64], [{}, 60]] as const) {
    const padded = frame(4, tcp(PORTS), {}, { ...link, minimum });
    assertEquals(padded.length, minimum);
    assertForwarded(padded, b.send(padded), way);
  }
});

test("T8 padding is neither summed nor sent through a tunnel", async (b) => {
  const way = await one(b, 4, "fou", 6);
  const padded = frame(4, tcp(PORTS), {}, { minimum: 60 });
  const sent = b.send(padded);
  assertForwarded(padded, sent, way);
  assertEquals(parseAny(sent.frame).padding.length, 0);
  assertEquals(sent.frame.length, 14 + 40 + 8 + 40);
});

test("T9 what comes from a VIP and goes elsewhere passes", async (b) => {
  await one(b, 4, "none");
  const { action, reason } = b.send(
    frame(4, tcp(PORTS), { source: VIP[4], destination: OTHER[4] }),
  );
  assertEquals([action, reason], ["pass", "not_a_vip"]);
});

test("T10 a flow whose destination was removed gets another one", async (b) => {
  const service = { address: VIP[4], port: 80 };
  await one(b, 4, "none");
  b.send(frame(4, tcp(PORTS)));
  await b.client.setService(service, { address: address(4, 3) });
  const sent = b.send(frame(4, tcp(PORTS)));
  assertEquals([sent.action, sent.reason], ["tx", "forwarded"]);
  assertEquals(parse(sent.frame).ethernet.destination, macOf(address(4, 3)));
});

test("T11 too long without DF: signalled, under a reason of its own", async (b) => {
  await one(b, 4, "ipip");
  const { action, reason } = b.send(
    frame(4, segment(4, 1500), { v4: { dontFragment: false } }),
  );
  assertEquals([action, reason], ["tx", "too_big_fragmentable"]);
});

test("T12 an IPv6 fragment is forwarded, and so are those that follow", async (b) => {
  await one(b, 6, "none", 6, "udp");
  const part = (offset: number, more: boolean): Sent =>
    b.send(
      frame(6, udp(PORTS, filler(64)), { v6: { extensions: [fragmentHeader(offset, more, 7)] } }),
    );
  assertEquals([part(0, true).reason, part(9, false).reason], ["forwarded", "forwarded"]);
});

test("T13 a UDP packet does not follow a TCP flow of the same ends", async (b) => {
  await one(b, 4, "none");
  b.send(frame(4, tcp(PORTS)));
  const own: Destination = { address: address(4, 9) };
  await b.client.setService({ address: VIP[4], port: 80, protocol: "udp" }, own);
  const sent = b.send(frame(4, udp(PORTS)));
  assertEquals(parse(sent.frame).ethernet.destination, macOf(own.address));
});

test("T15 an old flow follows its destination to another MAC", async (b) => {
  const { address: to } = await one(b, 4, "none");
  b.send(frame(4, tcp(PORTS)));
  const destinationMac = "02:bb:00:00:00:01";
  b.nextHops.set(to, { destinationMac });
  await b.nextHops.tell();
  assertEquals(parse(b.send(frame(4, tcp(PORTS))).frame).ethernet.destination, destinationMac);
});

for (const [name, family, type, code] of [["T16", 6, 2, 0], ["T17", 4, 3, 4]] as const) {
  test(`${name} an ICMP error that quotes what no VIP sent is dropped`, async (b) => {
    await one(b, family, "none");
    const ends = { source: OTHER[family], destination: CLIENT[family] };
    const ports = { sourcePort: 80, destinationPort: PORTS.sourcePort };
    const quote = ip(family, ends, tcp(ports)).encode();
    const error = icmp(family, { type, code, rest: 1280 }, quote);
    const { action, reason } = b.send(frame(family, error, { source: ROUTER[family] }));
    assertEquals([action, reason], ["drop", "err_icmp_unrelated"]);
  });
}

test("T18 two tags, 802.1ad and 802.1Q, are looked behind", async (b) => {
  const way = await one(b, 4, "none");
  const tagged = frame(4, tcp(PORTS), {}, { tags: [{ type: 0x88a8, id: 1 }, { id: 2 }] });
  assertForwarded(tagged, b.send(tagged), way);
});

test("T19 TTL 1 is answered", async (b) => {
  await one(b, 4, "none");
  const { action, reason } = b.send(frame(4, tcp(PORTS), { ttl: 1 }));
  assertEquals([action, reason], ["tx", "err_expired"]);
});

test("T20 an unknown port has a policy, options are forwarded, errors go to the flow's owner", async (b) => {
  const way = await one(b, 4, "none");
  const reasons: [Sent["action"], Reason][] = [];
  const look = ({ action, reason }: Sent): number => reasons.push([action, reason]);
  const unknown = frame(4, tcp({ ...PORTS, destinationPort: 81 }));
  look(b.send(unknown));
  await b.client.updateVip({ address: VIP[4], unknownPort: "reject" });
  look(b.send(unknown));
  look(b.send(frame(4, tcp(PORTS), { v4: { options: new Uint8Array(4).fill(1) } })));
  const ports = { sourcePort: 80, destinationPort: PORTS.sourcePort };
  const quote = ip(4, { source: VIP[4], destination: CLIENT[4] }, tcp(ports)).encode();
  const error = b.send(frame(4, icmp(4, { type: 3, code: 3 }, quote)));
  look(error);
  assertEquals(parse(error.frame).ethernet.destination, macOf(way.address));
  assertEquals(reasons, [
    ["drop", "err_service_not_found"],
    ["tx", "err_service_not_found"],
    ["tx", "forwarded"],
    ["tx", "icmp_error"],
  ]);
});

test("T24 a lone SYN is forwarded, counted, and not remembered", async (b) => {
  const way = await one(b, 4, "none");
  const syn = frame(4, tcp({ ...PORTS, flags: ["syn"] }));
  const sent = b.send(syn);
  assertForwarded(syn, sent, way);
  assertEquals(sent.flows, 0);
  assertEquals(b.client.service({ address: VIP[4], port: 80 }).metrics.syn, 1n);
});
