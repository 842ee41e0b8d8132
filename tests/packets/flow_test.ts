/** Which destination a flow is given, and whether it keeps it; see also state_test.ts. */
import { assert, assertEquals } from "@std/assert";
import { monotonicNs, possibleCpus } from "../../lib/bpf/mod.ts";
import { FLOW, FLOW_SEEN_SHIFT } from "../../lib/lb/abi.gen.ts";
import { Instance } from "../../lib/lb/instance.ts";
import { Mac } from "../../lib/net/address.ts";
import type { Protocol, Service } from "../../mod.ts";
import { Client } from "../../mod.ts";
import { ethernet, tcp, type TcpFlag, udp } from "./build.ts";
import { assertForwarded, HASH_KEY, hashOf, type Tuple } from "./expect.ts";
import { ACTIONS, Balancer, FakeNextHops, macOf, packetTests } from "./harness.ts";
import { address, FAMILIES, type Family, ip, VIP } from "./sample.ts";

const PROTOCOLS = ["tcp", "udp"] as const;
const PORT = 80;
const NUMBER = { tcp: 6, udp: 17 };
/** The window after a change, in seconds. */
const WINDOW = 60;
const TICK_S = 2 ** 26 / 1e9;

const test = packetTests({ hashKey: HASH_KEY });

/** Flow `i` of many: 250 clients, and as many ports of each as it takes. */
function flow(family: Family, protocol: Protocol, i: number): Tuple {
  const client = 1 + i % 250;
  return {
    source: family === 4 ? `198.51.100.${client}` : `2001:db8:1::${client.toString(16)}`,
    destination: VIP[family],
    sourcePort: 30000 + Math.floor(i / 250),
    destinationPort: PORT,
    protocol: NUMBER[protocol],
  };
}

function flows(family: Family, protocol: Protocol, count: number, first = 0): Tuple[] {
  return Array.from({ length: count }, (_, i) => flow(family, protocol, first + i));
}

/** A packet of a flow: of TCP one with these flags. */
function frameOf(tuple: Tuple, flags: TcpFlag[] = ["ack"]): Uint8Array {
  const family = tuple.source.includes(":") ? 6 : 4;
  const { source, destination } = tuple;
  const segment = tuple.protocol === 6 ? tcp({ ...tuple, flags }) : udp(tuple);
  return ethernet({}, ip(family, { source, destination }, segment));
}

/** Whom a frame was sent to, by its MAC; undefined if it was dropped. */
function receiver(sent: { action: string; frame: Uint8Array }): string | undefined {
  if (sent.action === "drop") return undefined;
  assertEquals(sent.action, "tx");
  return Mac.fromBytes(sent.frame.subarray(0, 6)).toString();
}

/** Sends a packet of each flow, and tells who got it. */
function receivers(balancer: Balancer, tuples: Tuple[], flags?: TcpFlag[]): (string | undefined)[] {
  return tuples.map((tuple) => receiver(balancer.run(frameOf(tuple, flags))));
}

function service(family: Family, protocol: Protocol, rest: Partial<Service> = {}): Service {
  return { address: VIP[family], port: PORT, protocol, idleTimeout: WINDOW, ...rest };
}

/** The destinations with these numbers. */
function numbered(...numbers: number[]): { address: string }[] {
  return numbers.map((number) => ({ address: address(4, number) }));
}

function mac(number: number): string {
  return macOf(address(4, number));
}

for (const family of FAMILIES) {
  for (const protocol of PROTOCOLS) {
    const kind = `${protocol} over IPv${family}`;
    const tuples = flows(family, protocol, 300);

    test(`flows of ${kind} spread by weight`, async (balancer) => {
      const weights = [1, 2, 5, 0];
      await balancer.client.setService(
        service(family, protocol),
        ...weights.map((weight, i) => ({ address: address(4, i + 1), weight })),
      );
      const many = flows(family, protocol, 4000);
      const got = receivers(balancer, many);
      for (const [i, weight] of weights.entries()) {
        const count = got.filter((each) => each === mac(i + 1)).length;
        const expected = many.length * weight / 8;
        assert(Math.abs(count - expected) <= expected / 10, `weight ${weight} has ${count}`);
      }
    });

    test(`a sticky service of ${kind} gives all flows of a client to one destination`, async (balancer) => {
      const many = flows(family, protocol, 2500);
      const byClient = async (sticky: boolean): Promise<Set<string | undefined>[]> => {
        await balancer.client.setService(
          service(family, protocol, { sticky }),
          ...numbered(1, 2, 3),
        );
        const got = receivers(balancer, many);
        return [...Map.groupBy(got.keys(), (i) => many[i]!.source).values()]
          .map((indexes) => new Set(indexes.map((i) => got[i])));
      };
      const sticky = await byClient(true);
      assertEquals(sticky.length, 250);
      assertEquals(sticky.filter((each) => each.size !== 1), []);
      assertEquals(new Set(sticky.flatMap((each) => [...each])).size, 3);
      await balancer.clear();
      const loose = await byClient(false);
      assert(loose.filter((each) => each.size > 1).length > 200);
    });

    test(`a disabled destination of ${kind} keeps its flows and gets no new ones`, async (balancer) => {
      const { client } = balancer;
      const [one, two, three] = numbered(1, 2, 3);
      await client.setService(service(family, protocol), one!, two!, three!);
      const before = receivers(balancer, tuples);
      await client.updateDestination(service(family, protocol), { ...two!, disable: true });
      assertEquals(receivers(balancer, tuples), before);
      if (protocol === "tcp") {
        const fresh = receivers(balancer, flows(family, protocol, 300, 1000), ["syn"]);
        assertEquals(new Set(fresh), new Set([mac(1), mac(3)]));
      }
      balancer.advance(WINDOW - 1);
      assertEquals(receivers(balancer, tuples), before);
      // Nobody can tell a new flow of UDP from one that was silent, until the window is over.
      balancer.advance(2);
      const late = receivers(balancer, flows(family, protocol, 300, 2000));
      assertEquals(new Set(late), new Set([mac(1), mac(3)]));
      assertEquals(receivers(balancer, tuples), before);
    });

    test(`flows of ${kind} leave a destination that is removed, and no other`, async (balancer) => {
      const { client } = balancer;
      await client.setService(service(family, protocol), ...numbered(1, 2, 3));
      const before = receivers(balancer, tuples);
      await client.removeDestination(service(family, protocol), numbered(2)[0]!);
      const after = receivers(balancer, tuples);
      for (const [i, was] of before.entries()) {
        if (was === mac(2)) assert(after[i] === mac(1) || after[i] === mac(3));
        else assertEquals(after[i], was);
      }
      assert(before.includes(mac(2)));
      // It comes back as somebody else: nobody returns to it unasked.
      await client.createDestination(service(family, protocol), numbered(2)[0]!);
      assertEquals(receivers(balancer, tuples), after);
      if (protocol === "tcp") {
        const fresh = receivers(balancer, flows(family, protocol, 300, 1000), ["syn"]);
        assertEquals(new Set(fresh), new Set([mac(1), mac(2), mac(3)]));
      }
    });

    test(`a remembered flow of ${kind} follows its destination to another MAC`, async (balancer) => {
      const { instance, client, nextHops } = balancer;
      for (const sampleMask of [0, 0xffffffff]) {
        instance.settings = { ...instance.settings, sampleMask };
        await client.setService(service(family, protocol), ...numbered(1));
        const [tuple] = tuples;
        assertEquals(receiver(balancer.send(frameOf(tuple!))), mac(1));
        nextHops.set(address(4, 1), { destinationMac: "02:bb:00:00:00:77" });
        await nextHops.tell();
        assertEquals(receiver(balancer.send(frameOf(tuple!))), "02:bb:00:00:00:77");
        await balancer.clear();
      }
    });

    test(`of ${kind} the flows of the sample are remembered, and no others`, async (balancer) => {
      const { instance, client } = balancer;
      await client.setService(service(family, protocol), ...numbered(1, 2));
      const connections = () => client.service(service(family, protocol)).stats.connections;
      for (const sampleMask of [0xffffffff, 7, 0]) {
        instance.settings = { ...instance.settings, sampleMask };
        const expected = tuples.filter((tuple) => (hashOf(tuple).low & sampleMask) === 0);
        const before = balancer.flows;
        const counted = connections();
        for (let times = 0; times < 3; times++) receivers(balancer, tuples);
        // Those of a coarser sample are there already.
        assertEquals(balancer.flows - before, expected.length - before);
        // Each stands for as many as the sample leaves out.
        const stoodFor = (expected.length - before) * (sampleMask + 1);
        assertEquals(connections() - counted, BigInt(stoodFor));
      }
      assertEquals(balancer.flows, tuples.length);
    });
  }

  test(`a SYN over IPv${family} alone is not remembered`, async (balancer) => {
    const { instance, client } = balancer;
    instance.settings = { ...instance.settings, sampleMask: 0 };
    await client.setService(service(family, "tcp"), ...numbered(1));
    for (const tuple of flows(family, "tcp", 10)) {
      assertEquals(balancer.send(frameOf(tuple, ["syn"])).flows, 0);
    }
    const { metrics } = client.service(service(family, "tcp"));
    assertEquals([metrics.syn, metrics.flows], [10n, 0n]);
  });

  test(`packets of one flow over IPv${family} are one flow`, async (balancer) => {
    const { instance, client } = balancer;
    for (const protocol of PROTOCOLS) {
      instance.settings = { ...instance.settings, sampleMask: 0 };
      await client.setService(service(family, protocol), ...numbered(1, 2, 3));
      const tuple = flow(family, protocol, 0);
      const frame = frameOf(tuple);
      const sent = [1, 2, 3].map(() => balancer.send(frame));
      assertEquals(sent.map((each) => each.flows), [1, 0, 0]);
      assertEquals(client.service(service(family, protocol)).stats.connections, 1n);
      const to = address(4, [1, 2, 3].find((number) => mac(number) === receiver(sent[0]!))!);
      for (const each of sent) assertForwarded(frame, each, { address: to, tunnel: "none" });
      for (const set of [[1, 2, 3, 4], [2, 3, 4], [1, 2, 3]]) {
        const rest = numbered(...set).filter((each) => each.address !== to);
        await client.setService(service(family, protocol), { address: to }, ...rest);
        assertForwarded(frame, balancer.send(frame), { address: to, tunnel: "none" });
      }
    }
  });

  test(`a flow of UDP over IPv${family} has nothing to do with one of TCP`, async (balancer) => {
    const { instance, client } = balancer;
    instance.settings = { ...instance.settings, sampleMask: 0 };
    await client.setService(service(family, "tcp"), ...numbered(1));
    await client.setService(service(family, "udp"), ...numbered(2));
    const [ofTcp, ofUdp] = PROTOCOLS.map((protocol) => frameOf(flow(family, protocol, 0)));
    for (let times = 0; times < 2; times++) {
      assertEquals(receiver(balancer.send(ofTcp!)), mac(1));
      assertEquals(receiver(balancer.send(ofUdp!)), mac(2));
    }
    assertEquals(balancer.flows, 2);
  });
}

test("a SYN leaves a destination that takes no new flows, whatever its ports were used for", async (balancer) => {
  const { instance, client } = balancer;
  instance.settings = { ...instance.settings, sampleMask: 0 };
  await client.setService(service(4, "tcp"), ...numbered(1));
  const tuples = flows(4, "tcp", 50);
  receivers(balancer, tuples);
  await client.setService(
    service(4, "tcp"),
    { ...numbered(1)[0]!, disable: true },
    ...numbered(2),
  );
  assertEquals(new Set(receivers(balancer, tuples)), new Set([mac(1)]));
  // The answer to a SYN begins nothing.
  assertEquals(new Set(receivers(balancer, tuples, ["syn", "ack"])), new Set([mac(1)]));
  assertEquals(new Set(receivers(balancer, tuples, ["syn"])), new Set([mac(2)]));
  assertEquals(new Set(receivers(balancer, tuples)), new Set([mac(2)]));
});

test("a remembered flow does not go to whoever has its destination's slot now", async (balancer) => {
  const { instance, client } = balancer;
  instance.settings = { ...instance.settings, sampleMask: 0 };
  const [gone, stays, next] = numbered(1, 2, 3);
  await client.setService(service(4, "tcp"), gone!);
  const slotOf = (number: number): string | undefined =>
    [...instance.destinations.entries()].find(([, { destinationMac }]) =>
      Mac.fromBytes(destinationMac).toString() === mac(number)
    )?.[0].toHex();
  const slot = slotOf(1);
  const tuples = flows(4, "tcp", 50);
  receivers(balancer, tuples);
  await client.setService(service(4, "tcp"), stays!);
  await client.setService(service(4, "tcp"), stays!, { ...next!, disable: true });
  assertEquals(slotOf(3), slot);
  assertEquals(new Set(receivers(balancer, tuples)), new Set([mac(2)]));
});

test("a flow that falls silent for the window after a change goes where the ring says", async (balancer) => {
  const { client } = balancer;
  await client.setService(service(4, "tcp"), ...numbered(1));
  const tuples = flows(4, "tcp", 50);
  receivers(balancer, tuples);
  await client.setService(
    service(4, "tcp"),
    { ...numbered(1)[0]!, disable: true },
    ...numbered(2),
  );
  const [silent, ...others] = tuples;
  receivers(balancer, others);
  balancer.advance(WINDOW + 1);
  assertEquals(new Set(receivers(balancer, others)), new Set([mac(1)]));
  assertEquals(receivers(balancer, [silent!]), [mac(2)]);
});

test("without a destination that takes flows there is none to send to", async (balancer) => {
  const { client, nextHops } = balancer;
  const [tuple] = flows(4, "tcp", 1);
  const reason = (): string => balancer.send(frameOf(tuple!)).reason;
  await client.createService(service(4, "tcp"));
  assertEquals(reason(), "err_no_backend");
  nextHops.set(address(4, 1), undefined);
  await client.createDestination(service(4, "tcp"), numbered(1)[0]!);
  assertEquals(reason(), "err_no_backend");
  nextHops.clear();
  await nextHops.tell();
  assertEquals(reason(), "forwarded");
});

test("a CPU remembers as many flows in a tick as its budget says, and forwards all", async (balancer) => {
  const { instance, client } = balancer;
  const flowBudget = 10;
  instance.settings = { ...instance.settings, sampleMask: 0, flowBudget };
  await client.setService(service(4, "tcp"), ...numbered(1));
  for (let tick = 1; tick <= 3; tick++) {
    const before = balancer.flows;
    const tuples = flows(4, "tcp", 200, tick * 1000);
    assertEquals(new Set(receivers(balancer, tuples)), new Set([mac(1)]));
    const remembered = balancer.flows - before;
    assert(remembered >= flowBudget && remembered <= flowBudget * possibleCpus(), `${remembered}`);
    balancer.advance(TICK_S);
  }
});

Deno.test("a CPU halves the sample when its flows are more than its budget", async () => {
  // Of its own: what a CPU has spent of this budget is never forgotten.
  await using balancer = await Balancer.create({ hashKey: HASH_KEY });
  const { instance, client } = balancer;
  instance.settings = { ...instance.settings, sampleMask: 0, sampleBudget: 50 };
  await client.setService(service(4, "tcp"), ...numbered(1));
  receivers(balancer, flows(4, "tcp", 50));
  assertEquals([instance.settings.sampleMask, balancer.flows], [0, 50]);
  receivers(balancer, flows(4, "tcp", 1000, 1000));
  const { sampleMask } = instance.settings;
  assert(sampleMask >= 1 && sampleMask < 256, `${sampleMask}`);
  assert(Number.isInteger(Math.log2(sampleMask + 1)));
  assert(balancer.flows < 700, `${balancer.flows} flows`);
});

Deno.test("a CPU counts anew against its budget when another has changed the sample", async () => {
  await using balancer = await Balancer.create({ hashKey: HASH_KEY });
  const { instance, client } = balancer;
  await client.setService(service(4, "tcp"), ...numbered(1));
  for (const sampleMask of [0, 1, 0]) {
    instance.settings = { ...instance.settings, sampleMask, sampleBudget: 50 };
    receivers(balancer, flows(4, "tcp", 40, 100 * sampleMask));
    assertEquals(instance.settings.sampleMask, sampleMask);
    const { keys, count } = instance.flows4.lookupBatch();
    instance.flows4.deleteBatch(keys, count);
  }
});

test("by the kernel's own clock, too, a flow keeps its destination", async () => {
  const options = {
    maxServices: 1,
    maxDestinations: 8,
    maxFlows: 64 * possibleCpus(),
    hashKey: HASH_KEY,
  };
  const instance = await Instance.load(options);
  const nextHops = new FakeNextHops();
  await using client = await Client.create([], options, { instance, nextHops });
  const to = (tuple: Tuple, flags?: TcpFlag[]): string | undefined => {
    const { retval, data } = instance.program.testRun({ data: frameOf(tuple, flags) });
    return receiver({ action: ACTIONS[retval]!, frame: data });
  };
  const before = monotonicNs();
  await client.setService(service(4, "tcp"), ...numbered(1));
  const [old, fresh] = flows(4, "tcp", 2);
  assertEquals(to(old!), mac(1));
  const [[, value]] = [...instance.flows4.entries()] as [[Uint8Array, Uint8Array]];
  const seenNs = BigInt(FLOW.decode(value).seen) << BigInt(FLOW_SEEN_SHIFT);
  // The program's clock is that of the last timer tick.
  assert(seenNs > before - 100_000_000n && seenNs <= monotonicNs(), `${seenNs} at ${before}`);
  await client.setService(
    service(4, "tcp"),
    { ...numbered(1)[0]!, disable: true },
    ...numbered(2),
  );
  assertEquals(to(old!), mac(1));
  assertEquals(to(fresh!, ["syn"]), mac(2));
});
