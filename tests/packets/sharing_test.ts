/** Flows that two nodes tell each other of; see also share_state_test.ts. */
import { assert, assertEquals } from "@std/assert";
import { FLOW_SEEN_SHIFT, FLOW_SHARE_SHIFT } from "../../lib/lb/abi.gen.ts";
import { decodeRing, isTracked } from "../../lib/lb/change.ts";
import { decodeFlowRecord, encodeFlowRecord } from "../../lib/lb/flow_record.ts";
import { Mac } from "../../lib/net/address.ts";
import type { Protocol, RecordOutcomes, Service } from "../../mod.ts";
import { random } from "../unit/random.ts";
import { ethernet, tcp, type TcpFlag, udp } from "./build.ts";
import { HASH_KEY } from "./expect.ts";
import { Balancer } from "./harness.ts";
import { address, FAMILIES, type Family, ip, VIP } from "./sample.ts";

const WINDOW = 60, PORT = 80, FLOWS = 120;
const INTERVAL_S = 2 ** (FLOW_SEEN_SHIFT + FLOW_SHARE_SHIFT) / 1e9;

let here: Balancer, there: Balancer;

Deno.test.beforeAll(async () => {
  here = await Balancer.create({ hashKey: HASH_KEY });
  there = await Balancer.create({ hashKey: HASH_KEY });
});

Deno.test.afterAll(async () => {
  await here[Symbol.asyncDispose]();
  await there[Symbol.asyncDispose]();
});

/** A test with two nodes whose clocks differ, and of which the first tells of flows. */
function test(name: string, act: () => Promise<void>): void {
  Deno.test(name, async () => {
    try {
      there.advance(12345);
      await here.client.shareFlows(true);
      await act();
    } finally {
      here.client.readFlows();
      for (const node of [here, there]) await node.clear();
    }
  });
}

function service(family: Family, protocol: Protocol, rest: Partial<Service> = {}): Service {
  return { address: VIP[family], port: PORT, protocol, idleTimeout: WINDOW, ...rest };
}

/** Sets the service on both nodes, and lets both windows end. */
async function set(wanted: Service, ...numbers: number[]): Promise<void> {
  for (const { client } of [here, there]) {
    await client.setService(wanted, ...numbers.map((n) => ({ address: address(4, n) })));
  }
}

function advance(seconds: number): void {
  here.advance(seconds);
  there.advance(seconds);
}

function send(
  node: Balancer,
  family: Family,
  protocol: Protocol,
  i: number,
  flags: TcpFlag[] = ["ack"],
): string | undefined {
  const source = family === 4 ? `198.51.100.${1 + i}` : `2001:db8:1::${(1 + i).toString(16)}`;
  const ports = { sourcePort: 40000 + i, destinationPort: PORT };
  const segment = protocol === "udp" ? udp(ports) : tcp({ ...ports, flags });
  const frame = ethernet({}, ip(family, { source, destination: VIP[family] }, segment));
  const sent = node.run(frame);
  return sent.action === "tx" ? Mac.fromBytes(sent.frame.subarray(0, 6)).toString() : undefined;
}

function sendAll(node: Balancer, family: Family, protocol: Protocol): (string | undefined)[] {
  return Array.from({ length: FLOWS }, (_, i) => send(node, family, protocol, i));
}

/** Records of flows that spoke so long ago. */
function aged(records: Uint8Array[], idleMs: number): Uint8Array[] {
  return records.map((record) => encodeFlowRecord({ ...decodeFlowRecord(record)!, idleMs }));
}

function some(outcomes: RecordOutcomes): Partial<RecordOutcomes> {
  return Object.fromEntries(Object.entries(outcomes).filter(([, count]) => count > 0));
}

for (const family of FAMILIES) {
  for (const protocol of ["tcp", "udp"] as const) {
    const kind = `${protocol} over IPv${family}`;

    test(`flows of ${kind} that a change makes exceptions are known to the other node`, async () => {
      await set(service(family, protocol), 1, 2);
      const before = sendAll(here, family, protocol);
      advance(WINDOW + 1);
      assertEquals(here.client.readFlow(), undefined);
      await set(service(family, protocol), 1, 2, 3);
      assertEquals(sendAll(here, family, protocol), before);
      const records = here.client.readFlows();
      assert(records.length > FLOWS / 10 && records.length < FLOWS * 2 / 3);
      assertEquals(some(await there.client.writeFlows(records)), { stored: records.length });
      advance(WINDOW - 1); // the other node's window is over, and the ring says something else
      advance(2);
      assertEquals(sendAll(there, family, protocol), before);
      assertEquals(here.client.sharingCounters().lost, 0n);
    });
  }
}

test("without records, the other node sends the flows elsewhere once its window is over", async () => {
  await set(service(4, "tcp"), 1, 2);
  const before = sendAll(here, 4, "tcp");
  advance(WINDOW + 1);
  await set(service(4, "tcp"), 1, 2, 3);
  sendAll(here, 4, "tcp");
  advance(WINDOW + 1);
  assert(sendAll(there, 4, "tcp").some((to, i) => to !== before[i]));
});

test("nothing is told while nobody asked, of the sample, or of flows that no change concerns", async () => {
  here.instance.adjust({ sampleMask: 0 });
  await set(service(4, "tcp"), 1, 2);
  sendAll(here, 4, "tcp");
  advance(INTERVAL_S);
  sendAll(here, 4, "tcp");
  assertEquals(here.client.readFlows(), []);
  await here.client.shareFlows(false);
  await set(service(4, "tcp"), 1, 2, 3);
  sendAll(here, 4, "tcp");
  assertEquals(here.client.readFlows(), []);
});

test("a flow is told of once in an interval, and once after each change", async () => {
  await set(service(4, "tcp"), 1, 2);
  sendAll(here, 4, "tcp");
  advance(WINDOW + 1);
  await set(service(4, "tcp"), 1, 2, 3);
  const told = () => {
    sendAll(here, 4, "tcp");
    return here.client.readFlows().length;
  };
  const first = told();
  advance(0.1);
  const second = told(); // some may have come to another interval meanwhile
  assert(second === 0 || second === first);
  advance(0.1);
  assertEquals(told(), second === first ? 0 : told());
  advance(INTERVAL_S);
  assertEquals(told(), first);
  await set(service(4, "tcp"), 1, 2, 4);
  advance(0.1);
  assert(told() >= first / 2);
});

test("a new connection on a known tuple takes the place of the old one on the other node", async () => {
  await set(service(4, "tcp"), 1, 2);
  const before = sendAll(here, 4, "tcp");
  advance(WINDOW + 1);
  await set(service(4, "tcp"), 1, 2, 3);
  sendAll(here, 4, "tcp");
  await there.client.writeFlows(here.client.readFlows());
  const anew = Array.from({ length: FLOWS }, (_, i) => send(here, 4, "tcp", i, ["syn"]));
  assert(anew.some((to, i) => to !== before[i]));
  await there.client.writeFlows(here.client.readFlows());
  advance(WINDOW + 1);
  assertEquals(sendAll(there, 4, "tcp"), anew);
});

test("what the other node's ring gives anyway is not kept, and what it has seen since stays", async () => {
  await set(service(4, "tcp"), 1, 2);
  sendAll(here, 4, "tcp");
  advance(WINDOW + 1);
  await set(service(4, "tcp"), 1, 2, 3);
  sendAll(here, 4, "tcp");
  const records = here.client.readFlows();
  await there.client.removeService(service(4, "tcp"));
  await there.client.setService(service(4, "tcp"), { address: address(4, 1) });
  const outcomes = await there.client.writeFlows(records);
  assert(outcomes.answered > 0 && outcomes.unknownDestination > 0);
  assertEquals(there.flows, 0);
  await there.client.setService(
    service(4, "tcp"),
    ...[1, 2].map((n) => ({ address: address(4, n) })),
  );
  const { stored } = await there.client.writeFlows(records);
  assert(stored > 0);
  advance(2 * INTERVAL_S);
  sendAll(there, 4, "tcp");
  assertEquals((await there.client.writeFlows(aged(records, 20_000))).stored, 0);
});

test("flows that another node tells of are no connections until they speak here", async () => {
  there.instance.adjust({ sampleMask: 0 });
  await set(service(4, "tcp"), 1, 2);
  sendAll(here, 4, "tcp");
  advance(WINDOW + 1);
  await set(service(4, "tcp"), 1, 2, 3);
  sendAll(here, 4, "tcp");
  await there.client.writeFlows(here.client.readFlows());
  const open = () =>
    there.client.destinations(service(4, "tcp"))
      .reduce((sum, { activeConnections }) => sum + activeConnections, 0);
  assertEquals(open(), 0);
  advance(1);
  sendAll(there, 4, "tcp");
  advance(1);
  assertEquals(open(), FLOWS);
});

test("records that cannot be used change nothing", async () => {
  await set(service(4, "tcp"), 1, 2);
  sendAll(here, 4, "tcp");
  advance(WINDOW + 1);
  await set(service(4, "tcp"), 1, 2, 3);
  sendAll(here, 4, "tcp");
  const [record] = here.client.readFlows();
  const flow = decodeFlowRecord(record!)!;
  const ring = () => there.instance.map("rings").lookup(new Uint8Array(4));
  const before = ring();
  const write = (bytes: Uint8Array) => there.client.writeFlow(bytes);
  assertEquals(await write(new Uint8Array()), "malformed");
  assertEquals(await write(record!.subarray(1)), "malformed");
  assertEquals(await write(encodeFlowRecord({ ...flow, state: 3 })), "malformed");
  assertEquals(await write(encodeFlowRecord({ ...flow, port: 81 })), "unknownService");
  const nobody = Uint8Array.of(10, 0, 0, 99);
  assertEquals(
    await write(encodeFlowRecord({ ...flow, destination: nobody })),
    "unknownDestination",
  );
  assertEquals(await write(encodeFlowRecord({ ...flow, idleMs: 60_001 })), "stale");
  const seed = Date.now() >>> 0, next = random(seed);
  for (let i = 0; i < 3000; i++) {
    const spoilt = record!.slice(0, next() % 3 ? record!.length : next() % (record!.length + 1));
    for (let n = next() % 4; n >= 0 && spoilt.length > 0; n--) {
      spoilt[next() % Math.min(12, spoilt.length)] = next();
    }
    const outcome = await write(spoilt);
    // Another client port is another flow.
    if (outcome === "stored" || outcome === "answered" || outcome === "older") continue;
    assertEquals(outcome === "malformed" || /^(unknown|stale)/.test(outcome), true, `seed ${seed}`);
  }
  assertEquals(ring(), before);
});

test("entries are marked in the ring in its place, and settled when their flows have gone", async () => {
  await set(service(4, "tcp"), 1, 2);
  sendAll(here, 4, "tcp");
  advance(WINDOW + 1);
  await set(service(4, "tcp"), 1, 2, 3);
  sendAll(here, 4, "tcp");
  const records = here.client.readFlows();
  advance(WINDOW + 2);
  await there.client.setServices([]); // settles
  const tracked = () => {
    const [service] = there.instance.services4.entries().map(([, each]) => each);
    using ring = there.instance.openRing(service!.id);
    return decodeRing(ring.lookupBatch().values).current.filter(isTracked).length;
  };
  assertEquals(tracked(), 0);
  const { stored } = await there.client.writeFlows(aged(records, 1000));
  assert(stored > 0 && tracked() > 0 && tracked() <= stored);
  advance(WINDOW + INTERVAL_S + 2);
  await there.client.setServices([]);
  assertEquals(tracked(), 0);
  assertEquals(there.flows, 0);
});
