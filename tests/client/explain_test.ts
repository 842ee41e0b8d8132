/** explain(): what the program would do, asked without a trace. */

import { assert, assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { frameOf } from "../../lib/lb/made_up_packet.ts";
import { InvalidValueError, type MadeUpPacket, REASON_TEXT } from "../../mod.ts";
import { clientTests, destinations, hop, service, type Subject } from "./support.ts";

const clientTest = clientTests({ trackMask: 0xffffffff, expired: "drop" });

const PACKET: MadeUpPacket = {
  client: "198.51.100.7",
  clientPort: 40000,
  vip: "192.0.2.1",
  port: 80,
};
const FLOWS = 100;

/** Everything that a packet changes: counters, flows, settings. */
function traces({ client, instance }: Subject): unknown {
  return [
    client.info().metrics,
    client.services(),
    client.services().map(({ service }) => client.destinations(service)),
    client.blocked(),
    instance.flows4.lookupBatch(),
    instance.settings,
  ];
}

/** The flows of a hundred clients. */
function flows(rest: Partial<MadeUpPacket> = {}): MadeUpPacket[] {
  return Array.from({ length: FLOWS }, (_, i) => ({ ...PACKET, clientPort: 20000 + i, ...rest }));
}

/** Sends the very frame of a packet through the program of the instance; the last byte of the MAC it leaves by. */
function sendAll({ instance }: Subject, packets: MadeUpPacket[]): number[] {
  return packets.map((packet) =>
    instance.program.testRun({ data: frameOf(packet), ingressIfindex: 1 }).data[5]!
  );
}

async function explainAll({ client }: Subject, packets: MadeUpPacket[]): Promise<number[]> {
  const ends = [];
  for (const packet of packets) {
    const { destination, frame } = await client.explain(packet);
    assertEquals(frame[5], Number(destination!.split(".").at(-1)));
    ends.push(frame[5]!);
  }
  return ends;
}

clientTest("explain() says where each flow goes, and leaves no trace", async (subject) => {
  const { client, nextHops } = subject;
  for (let i = 1; i <= 4; i++) nextHops.answers.set(`10.0.0.${i}`, hop(i));
  await client.setService(service(1), ...destinations(4));
  const before = traces(subject);
  const explained = await explainAll(subject, flows());
  assertEquals(traces(subject), before);
  assertEquals(new Set(explained).size, 4);
  assertEquals(sendAll(subject, flows()), explained);
});

clientTest(
  "explain() knows what a change has left: remembered flows, and the ring before",
  async (subject) => {
    const { client, nextHops } = subject;
    for (let i = 1; i <= 4; i++) nextHops.answers.set(`10.0.0.${i}`, hop(i));
    await client.setService(service(1), ...destinations(3));
    const home = sendAll(subject, flows());
    await client.setService(service(1), ...destinations(4));
    const speaking = flows().slice(0, FLOWS / 2);
    sendAll(subject, speaking);
    assertEquals(await explainAll(subject, flows()), home);
    const reasons = new Set<string>();
    for (const packet of flows()) {
      const { why } = await client.explain(packet);
      reasons.add(why!.replaceAll(/\d+/g, "N"));
    }
    assertEquals(reasons.size, 3, [...reasons].join("\n"));
    // A new connection goes where the ring leads now.
    const fresh = await explainAll(subject, flows({ flags: ["syn"] }));
    assert(fresh.includes(4));
  },
);

const CASES: [name: string, Partial<MadeUpPacket>, reason: string, action: string][] = [
  ["no VIP", { vip: "192.0.2.99" }, "not_a_vip", "pass"],
  ["no such port", { port: 81 }, "err_service_not_found", "drop"],
  ["blocked", { client: "203.0.113.5" }, "err_denied", "drop"],
  ["at its end", { ttl: 1 }, "err_expired", "drop"],
  ["too long", { length: 1500 }, "too_big", "tx"],
  ["UDP, of which there is no service", { protocol: "udp" }, "err_service_not_found", "drop"],
];

for (const [name, rest, reason, action] of CASES) {
  clientTest(`explain() says why a packet is not forwarded: ${name}`, async (subject) => {
    const { client } = subject;
    await client.setService(service(1), { address: "10.0.0.1", tunnelType: "ipip" });
    await client.block("203.0.113.0/24");
    const before = traces(subject);
    const explanation = await client.explain({ ...PACKET, ...rest });
    assertEquals([explanation.reason, explanation.action], [reason, action]);
    assertEquals(explanation.text, REASON_TEXT[explanation.reason]);
    assertEquals(traces(subject), before);
    await client.unblock("203.0.113.0/24");
  });
}

clientTest("explain() finds IPv6, any-port services, and a service's name", async (subject) => {
  const { client } = subject;
  await client.setService({ address: "2001:db8::1", port: 0, protocol: "udp" }, {
    address: "10.0.0.1",
    tunnelType: "ipip",
  });
  const packet = {
    client: "2001:db8:7::1",
    clientPort: 1,
    vip: "2001:DB8::1",
    port: 5000,
    protocol: "udp",
  } as const;
  const { service: name, destination, why } = await client.explain(packet);
  assertEquals([name, destination], ["[2001:db8::1]:0/udp", "10.0.0.1"]);
  assertStringIncludes(why!, "of the service's ring leads there");
});

clientTest("explain() refuses what is no packet", async ({ client }) => {
  const bad: [Partial<MadeUpPacket>, field: string][] = [
    [{ client: "x" }, "client"],
    [{ client: "2001:db8::1" }, "client"],
    [{ clientPort: -1 }, "clientPort"],
    [{ vip: "0.0.0.0" }, "vip"],
    [{ port: 65536 }, "port"],
    [{ protocol: "icmp" as "tcp" }, "protocol"],
    [{ flags: ["urg" as "syn"] }, "flags"],
    [{ length: 39 }, "length"],
    [{ ttl: 256 }, "ttl"],
  ];
  for (const [rest, field] of bad) {
    const error = await assertRejects(
      () => client.explain({ ...PACKET, ...rest }),
      InvalidValueError,
    );
    assertEquals(error.field, field);
  }
});
