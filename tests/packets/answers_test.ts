/** Errors that the balancer itself sends: too big, expired, no such port. */
import { assert, assertEquals } from "@std/assert";
import { possibleCpus } from "../../lib/bpf/mod.ts";
import { POLICY, type Reason } from "../../lib/lb/abi.gen.ts";
import { ethernet, type EthernetFields, filler, fragmentHeader, raw, tcp, udp } from "./build.ts";
import { assertForwarded, HASH_KEY, overheadOf } from "./expect.ts";
import { type Balancer, packetTests, type Sent } from "./harness.ts";
import { type Header, parse } from "./parse.ts";
import { address, CLIENT, FAMILIES, type Family, icmp, ip, type IpFields } from "./sample.ts";
import { PORTS, TAGS, through, VIP } from "./sample.ts";

const MTU = 1500;
/** How much of a packet an error quotes. */
const QUOTE = 504;
const TUNNELS = ["ipip", "gre", "fou", "gue"] as const;
const TOO_BIG = { 4: { type: 3, code: 4 }, 6: { type: 2, code: 0 } } as const;
const EXPIRED = { 4: { type: 11, code: 0 }, 6: { type: 3, code: 0 } } as const;
const NO_PORT = { 4: { type: 3, code: 3 }, 6: { type: 1, code: 4 } } as const;

const balancerTest = packetTests({ hashKey: HASH_KEY });

/** With a budget for as many answers as a test has packets. */
function test(name: string, run: (balancer: Balancer) => Promise<void>): void {
  balancerTest(name, (balancer) => {
    set(balancer, { icmpBudget: 1_000_000 });
    return run(balancer);
  });
}

function set({ instance }: Balancer, settings: Partial<Balancer["instance"]["settings"]>): void {
  instance.settings = { ...instance.settings, ...settings };
}

/** A frame whose IP packet has so many bytes. */
function frameOf(
  length: number,
  family: Family,
  fields: IpFields,
  link: EthernetFields = {},
): Uint8Array {
  const headers = (family === 4 ? 20 : 40) + 20 + (fields.v4?.options?.length ?? 0);
  return ethernet(link, ip(family, fields, tcp(PORTS, filler(length - headers))));
}

/** An ICMP error about a flow of the VIP, as an IP packet of so many bytes. */
function errorOf(length: number, family: Family, ttl = 61): Uint8Array {
  const ends = { source: VIP[family], destination: CLIENT[family] };
  const ports = { sourcePort: PORTS.destinationPort, destinationPort: PORTS.sourcePort };
  const size = family === 4 ? 20 : 40;
  const about = ip(family, ends, tcp(ports, filler(length))).encode().subarray(
    0,
    length - size - 8,
  );
  return ethernet({}, ip(family, { ttl }, icmp(family, EXPIRED[family], about)));
}

/** The frame was answered, from the VIP to the client, by an error that quotes how it begins. */
function assertAnswered(
  frame: Uint8Array,
  sent: Sent,
  family: Family,
  reason: Reason,
  error: { type: number; code: number; rest: number },
): void {
  assertEquals([sent.action, sent.reason], ["tx", reason]);
  const { ethernet: { source: destination, destination: source, tags, type }, padding } = parse(
    frame,
  );
  const start = 14 + 4 * tags.length;
  const quote = frame.subarray(start, frame.length - padding.length).slice(0, QUOTE);
  assertEquals(sent.octets, frame.length - padding.length - start);
  const ends = { source: VIP[family], destination: CLIENT[family] };
  const outer: Header = family === 4
    ? {
      kind: "ipv4",
      tos: 0,
      totalLength: 28 + quote.length,
      id: 0,
      dontFragment: false,
      moreFragments: false,
      fragmentOffset: 0,
      ttl: 64,
      protocol: 1,
      options: new Uint8Array(0),
      ...ends,
    }
    : {
      kind: "ipv6",
      trafficClass: 0,
      flowLabel: 0,
      payloadLength: 8 + quote.length,
      nextHeader: 58,
      hopLimit: 64,
      ...ends,
    };
  assertEquals(parse(sent.frame), {
    ethernet: { destination, source, tags, type },
    headers: [outer, { kind: family === 4 ? "icmp4" : "icmp6", ...error }],
    payload: quote,
    padding: new Uint8Array(0),
  });
}

for (const family of FAMILIES) {
  const service = { address: VIP[family], port: 80 };

  for (const outer of FAMILIES) {
    for (const tunnel of TUNNELS) {
      const name = `what does not fit into ${tunnel} over IPv${outer} is answered from the ` +
        `IPv${family} VIP`;
      test(name, async (b) => {
        const way = { address: address(outer, 2), tunnel };
        await b.client.setService(service, through(tunnel, way.address));
        const rest = MTU - overheadOf(tunnel, way.address);
        for (const tags of TAGS) {
          const fits = frameOf(rest, family, {}, { tags });
          assertForwarded(fits, b.send(fits), way);
          for (const length of [rest + 1, MTU]) {
            const frame = frameOf(length, family, { tos: 0xb8 }, { tags });
            const error = { ...TOO_BIG[family], rest };
            assertAnswered(frame, b.send(frame), family, "too_big", error);
          }
        }
      });
    }
  }

  test(`the MTU is that of the way to the destination of the IPv${family} VIP`, async (b) => {
    const way = { address: address(4, 2), tunnel: "ipip" } as const;
    for (const mtu of [1400, 3000]) {
      b.nextHops.set(way.address, { mtu });
      await b.client.setService(service, through("ipip", way.address));
      await b.nextHops.tell();
      const fits = frameOf(mtu - 20, family, {});
      assertForwarded(fits, b.send(fits), way);
      const frame = frameOf(mtu - 19, family, {});
      const error = { ...TOO_BIG[family], rest: mtu - 20 };
      assertAnswered(frame, b.send(frame), family, "too_big", error);
    }
  });

  test(`the MTU told to clients of the IPv${family} VIP is one that every network has`, async (b) => {
    const way = { address: address(6, 2), tunnel: "gue" } as const;
    const mtu = 1300;
    b.nextHops.set(way.address, { mtu });
    await b.client.setService(service, through("gue", way.address));
    await b.nextHops.tell();
    const rest = mtu - overheadOf("gue", way.address);
    const send = (length: number) => {
      const frame = frameOf(length, family, {});
      return { frame, sent: b.send(frame) };
    };
    const fits = send(rest);
    assertForwarded(fits.frame, fits.sent, way);
    for (const length of [1281, MTU]) {
      const { frame, sent } = send(length);
      const error = { ...TOO_BIG[family], rest: family === 4 ? rest : 1280 };
      assertAnswered(frame, sent, family, "too_big", error);
    }
    // Of IPv6 whoever sent no more than that would not send less.
    const { action, reason } = send(1280).sent;
    assertEquals([action, reason], [family === 4 ? "tx" : "drop", "too_big"]);
  });

  test(`without a tunnel nothing is too big for the IPv${family} VIP`, async (b) => {
    const way = { address: address(family, 2), tunnel: "none" } as const;
    await b.client.setService(service, { address: way.address });
    const frame = frameOf(MTU, family, {});
    assertForwarded(frame, b.send(frame), way);
  });

  test(`nobody is told that an error about the IPv${family} VIP is too big`, async (b) => {
    await b.client.setService(service, through("ipip", address(4, 2)));
    assertEquals(b.send(errorOf(MTU - 20, family)).reason, "icmp_error");
    const { action, reason } = b.send(errorOf(MTU - 19, family));
    assertEquals([action, reason], ["drop", "too_big"]);
  });

  test(`a fragment but the first is too big for the IPv${family} VIP without an answer`, async (b) => {
    await b.client.setService(service, through("ipip", address(4, 2)));
    const fragment = (offset: number, length: number): Uint8Array => {
      const v6 = { extensions: [fragmentHeader(offset, true, 1)] };
      const v4 = { dontFragment: false, moreFragments: true, fragmentOffset: offset };
      const headers = family === 4 ? 20 : 48;
      const content = offset === 0 ? tcp(PORTS) : raw(6, filler(length - headers));
      return ethernet({}, ip(family, { v4, v6 }, content));
    };
    assertEquals(b.send(fragment(0, 0)).reason, "forwarded");
    assertEquals(b.send(fragment(5, MTU - 20)).reason, "forwarded");
    const { action, reason } = b.send(fragment(5, MTU - 19));
    assertEquals([action, reason], ["drop", "too_big"]);
  });

  test(`a packet to the IPv${family} VIP that has used up its TTL is answered`, async (b) => {
    await b.client.setService(service, { address: address(4, 2) });
    for (const tags of TAGS) {
      for (const ttl of [0, 1]) {
        // One that an error quotes as a whole, padding left out, and one that it does not.
        for (const length of [60, QUOTE - 1, QUOTE, QUOTE + 1, MTU]) {
          const frame = frameOf(length, family, { ttl }, { tags, minimum: 90 });
          const error = { ...EXPIRED[family], rest: 0 };
          assertAnswered(frame, b.send(frame), family, "err_expired", error);
        }
      }
    }
  });

  test(`a packet to the IPv${family} VIP that has used up its TTL is dropped if so set`, async (b) => {
    // Every flow would be remembered, if one began.
    set(b, { expired: POLICY.DROP, sampleMask: 0 });
    await b.client.setService(service, { address: address(4, 2) });
    for (const ttl of [0, 1]) {
      const { action, reason, flows } = b.send(frameOf(80, family, { ttl }));
      assertEquals([action, reason, flows], ["drop", "err_expired", 0]);
    }
  });

  test(`nobody is told that an error about the IPv${family} VIP has expired`, async (b) => {
    await b.client.setService(service, { address: address(4, 2) });
    const { action, reason } = b.send(errorOf(200, family, 1));
    assertEquals([action, reason], ["drop", "err_expired"]);
  });

  for (const segment of [tcp, udp]) {
    const frame = (length: number) =>
      ethernet(
        {},
        ip(family, {}, segment({ sourcePort: 40000, destinationPort: 81 }, filler(length))),
      );
    const of = `${segment.name} to a port of the IPv${family} VIP without a service`;

    test(`${of} is dropped, passed or answered`, async (b) => {
      await b.client.setService(service, { address: address(4, 2) });
      for (const length of [0, 1000]) {
        const dropped = b.send(frame(length));
        assertEquals([dropped.action, dropped.reason], ["drop", "err_service_not_found"]);
        set(b, { unknownPort: POLICY.PASS });
        const passed = b.send(frame(length));
        assertEquals([passed.action, passed.reason], ["pass", "err_service_not_found"]);
        assertEquals(passed.frame, frame(length));
        set(b, { unknownPort: POLICY.REJECT });
        const answered = b.send(frame(length));
        const error = { ...NO_PORT[family], rest: 0 };
        assertAnswered(frame(length), answered, family, "err_service_not_found", error);
        set(b, { unknownPort: POLICY.DROP });
      }
    });
  }

  test(`answers from the IPv${family} VIP keep to a budget`, async (b) => {
    await b.client.setService(service, through("ipip", address(4, 2)));
    const ping = icmp(family, { type: family === 4 ? 8 : 128 }, filler(8));
    const due: [Reason, Uint8Array][] = [
      ["icmp_echo_request", ethernet({}, ip(family, {}, ping))],
      ["too_big", frameOf(MTU, family, {})],
      ["err_expired", frameOf(80, family, { ttl: 1 })],
    ];
    const budget = 5;
    set(b, { icmpBudget: budget });
    for (const [reason, frame] of due) {
      for (const _ of [1, 2]) {
        b.advance(0.1);
        // Each CPU has a budget, and the test may run on one after the other.
        const sent = Array.from({ length: budget * possibleCpus() + 5 }, () => b.send(frame));
        const answered = sent.filter(({ action }) => action === "tx");
        assert(answered.length >= budget && answered.length <= budget * possibleCpus());
        assert(answered.every((each) => each.reason === reason));
        for (const each of sent) {
          if (each.action === "tx") continue;
          assertEquals([each.action, each.reason], ["drop", "icmp_limited"]);
        }
      }
    }
  });
}

test("what came without DF is answered too, and counted apart", async (b) => {
  await b.client.setService({ address: VIP[4], port: 80 }, through("ipip", address(4, 2)));
  const frame = frameOf(MTU, 4, { v4: { dontFragment: false } });
  const error = { ...TOO_BIG[4], rest: MTU - 20 };
  assertAnswered(frame, b.send(frame), 4, "too_big_fragmentable", error);
});

test("an answer quotes the options of an IPv4 packet", async (b) => {
  await b.client.setService({ address: VIP[4], port: 80 }, through("ipip", address(4, 2)));
  const options = new Uint8Array(40).fill(1);
  const frame = frameOf(MTU, 4, { v4: { options } });
  const error = { ...TOO_BIG[4], rest: MTU - 20 };
  assertAnswered(frame, b.send(frame), 4, "too_big", error);
});

test("a packet counts as that of its service, however it was answered", async (b) => {
  const service = { address: VIP[4], port: 80 };
  await b.client.setService(service, through("ipip", address(4, 2)));
  b.send(frameOf(MTU, 4, {}));
  b.send(frameOf(80, 4, { ttl: 1 }));
  const { metrics, stats } = b.client.service(service);
  assertEquals([metrics.too_big, metrics.err_expired, stats.incomingPackets], [1n, 1n, 0n]);
});
