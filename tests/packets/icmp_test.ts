/** Pings of a VIP, and ICMP errors about its flows. */
import { assertEquals } from "@std/assert";
import type { Protocol } from "../../mod.ts";
import {
  ethernet,
  type EthernetFields,
  filler,
  fragmentHeader,
  type IcmpFields,
  raw,
  tcp,
  udp,
} from "./build.ts";
import type { Layer } from "./build.ts";
import { forwarded, HASH_KEY, hashOf, lengthOf, parseAny } from "./expect.ts";
import { type Balancer, macOf, packetTests } from "./harness.ts";
import { type Header, parse } from "./parse.ts";
import {
  address,
  CLIENT,
  FAMILIES,
  type Family,
  icmp,
  ip,
  type IpFields,
  OTHER,
  PORTS,
  ROUTER,
  TAGS,
  through,
  VIP,
} from "./sample.ts";

const balancerTest = packetTests({ hashKey: HASH_KEY });

/** With a budget for as many answers as a test has packets. */
function test(name: string, run: (balancer: Balancer) => Promise<void>): void {
  balancerTest(name, (balancer) => {
    balancer.instance.settings = { ...balancer.instance.settings, icmpBudget: 1_000_000 };
    return run(balancer);
  });
}

const PROTOCOLS = ["tcp", "udp"] as const;
const ECHO = { 4: { request: 8, reply: 0 }, 6: { request: 128, reply: 129 } } as const;
/** Type and code of each kind of error. */
const ERRORS = {
  4: [[3, 0], [3, 3], [3, 4], [11, 0], [12, 0]],
  6: [[1, 4], [2, 0], [3, 0], [4, 1]],
} as const;
/** And of messages that are neither that nor a ping. */
const UNSUPPORTED = {
  4: [[0, 0], [4, 0], [5, 1], [8, 1], [13, 0], [17, 0]],
  6: [[0, 0], [5, 0], [128, 1], [129, 0], [133, 0], [135, 0], [137, 0]],
} as const;

test("an error in fragments goes where the flow goes, and its datagram is told from the flow's", async (b) => {
  await b.client.setService({ address: VIP[4], port: 80 }, { address: address(4, 2) });
  const ends = { source: VIP[4], destination: CLIENT[4] };
  const ports = { sourcePort: PORTS.destinationPort, destinationPort: PORTS.sourcePort };
  const error = icmp(4, { type: 3, code: 3 }, ip(4, ends, tcp(ports, filler(28))).encode());
  const place = { id: 77, dontFragment: false };
  const first = { v4: { ...place, moreFragments: true } };
  const later = { v4: { ...place, fragmentOffset: 9 } };
  const send = (fields: IpFields, content: Layer) =>
    b.send(ethernet({}, ip(4, fields, content))).reason;
  assertEquals(send(first, error), "icmp_error");
  assertEquals(send(later, raw(6, filler(8))), "err_fragmented");
  assertEquals(send(later, raw(1, filler(8))), "forwarded");
});

for (const family of FAMILIES) {
  const service = { address: VIP[family], port: 80 };
  const { request, reply } = ECHO[family];

  test(`a ping of an IPv${family} VIP is answered, though it has no destinations`, async (b) => {
    await b.client.createService(service);
    for (const tags of TAGS) {
      for (const length of [0, 1, 56, 1400]) {
        for (const ttl of [1, 64]) {
          const message = icmp(family, { type: request, rest: 0xabcd0001 }, filler(length));
          const frame = ethernet({ tags, minimum: 60 }, ip(family, { ttl, tos: 0xb8 }, message));
          const sent = b.send(frame);
          const asked = parse(frame);
          assertEquals([sent.action, sent.reason], ["tx", "icmp_echo_request"]);
          assertEquals(sent.octets, lengthOf(asked));
          const turned = { source: VIP[family], destination: CLIENT[family] };
          const { source: destination, destination: source } = asked.ethernet;
          assertEquals(parse(sent.frame), {
            ...asked,
            ethernet: { ...asked.ethernet, source, destination },
            headers: asked.headers.map((header): Header =>
              header.kind === "ipv4"
                ? { ...header, ...turned, ttl: 64 }
                : header.kind === "ipv6"
                ? { ...header, ...turned, hopLimit: 64 }
                : header.kind === "icmp4" || header.kind === "icmp6"
                ? { ...header, type: reply }
                : header
            ),
          });
        }
      }
    }
  });

  test(`other ICMP to an IPv${family} VIP is dropped`, async (b) => {
    await b.client.createService(service);
    for (const [type, code] of UNSUPPORTED[family]) {
      const frame = ethernet({}, ip(family, {}, icmp(family, { type, code }, filler(60))));
      const sent = b.send(frame);
      assertEquals([type, sent.action, sent.reason], [type, "drop", "err_icmp_unsupported"]);
    }
  });
}

/** What a destination sent to the client, from the VIP. */
function answer(family: Family, protocol: Protocol, more: IpFields = {}): Layer {
  const ends = { source: VIP[family], destination: CLIENT[family] };
  const ports = { sourcePort: PORTS.destinationPort, destinationPort: PORTS.sourcePort };
  const segment = protocol === "tcp" ? tcp(ports, filler(700)) : udp(ports, filler(700));
  return ip(family, { ...ends, ...more }, segment);
}

/** What a router says about a packet; of that it quotes so many bytes. */
function complaint(
  family: Family,
  fields: IcmpFields,
  about: Layer,
  quote = 504,
  link: EthernetFields = {},
): Uint8Array {
  const body = about.encode().subarray(0, quote);
  return ethernet(link, ip(family, { source: ROUTER[family] }, icmp(family, fields, body)));
}

for (const family of FAMILIES) {
  const [[type, code]] = ERRORS[family];
  for (const protocol of PROTOCOLS) {
    const service = { address: VIP[family], port: 80, protocol };
    const flow = { source: CLIENT[family], destination: VIP[family], ...PORTS };
    const entropy = hashOf({ ...flow, protocol: protocol === "tcp" ? 6 : 17 }).low;
    const segment = protocol === "tcp" ? tcp(PORTS) : udp(PORTS);

    for (const outer of FAMILIES) {
      for (const tunnel of ["none", "ipip", "gre", "fou", "gue"] as const) {
        const name = `an error about ${protocol} of an IPv${family} VIP goes by ${tunnel} ` +
          `to an IPv${outer} destination`;
        test(name, async (b) => {
          const about = answer(family, protocol);
          for (const vlan of [0, 200]) {
            const way = { address: address(outer, 2), tunnel, vlan };
            b.nextHops.set(way.address, { vlan });
            await b.client.setService(service, through(tunnel, way.address));
            await b.nextHops.tell();
            for (const [type, code] of ERRORS[family]) {
              for (const quote of [family === 4 ? 28 : 48, 61, 504]) {
                for (const tags of TAGS) {
                  const fields = { type, code, rest: 1280 };
                  const frame = complaint(family, fields, about, quote, { tags, minimum: 64 });
                  const sent = b.send(frame);
                  assertEquals([sent.action, sent.reason], ["tx", "icmp_error"]);
                  assertEquals(parseAny(sent.frame), forwarded(parse(frame), way, entropy));
                }
              }
            }
          }
        });
      }
    }

    if (family === 4) {
      test(`an error about ${protocol} that quotes options finds the ports behind them`, async (b) => {
        await b.client.setService(service, { address: address(4, 2) });
        for (const words of [1, 10]) {
          const options = new Uint8Array(4 * words).fill(1);
          const about = answer(4, protocol, { v4: { options } });
          const frame = complaint(4, { type, code }, about, 24 + 4 * words);
          assertEquals(b.send(frame).reason, "icmp_error");
        }
      });
    }

    test(`an error about ${protocol} of an IPv${family} VIP goes where the flow goes`, async (b) => {
      const all = Array.from({ length: 5 }, (_, i) => ({ address: address(family, 2 + i) }));
      await b.client.setService(service, ...all);
      const found = b.send(ethernet({}, ip(family, {}, segment)));
      const owner = parse(found.frame).ethernet.destination;
      const frame = complaint(family, { type, code }, answer(family, protocol));
      assertEquals(parse(b.send(frame).frame).ethernet.destination, owner);
      // The flow stays through a change, and so must what is said about it.
      const kept = all.map((each) => ({ ...each, disable: macOf(each.address) === owner }));
      await b.client.setService(service, ...kept);
      const early = b.send(frame);
      assertEquals([parse(early.frame).ethernet.destination, early.flows], [owner, 0]);
      assertEquals(b.send(ethernet({}, ip(family, {}, segment))).flows, 1);
      b.advance(3600);
      assertEquals(parse(b.send(frame).frame).ethernet.destination, owner);
    });
  }

  test(`an error about nothing that an IPv${family} VIP sent is dropped`, async (b) => {
    for (const vip of [VIP[family], OTHER[family]]) {
      await b.client.setService({ address: vip, port: 80 }, { address: address(4, 2) });
    }
    const about: Record<string, Layer> = {
      "from another VIP": answer(family, "tcp", { source: OTHER[family] }),
      "from elsewhere": answer(family, "tcp", { source: ROUTER[family] }),
      "of another protocol": answer(family, "udp"),
      "from another port": ip(
        family,
        { source: VIP[family], destination: CLIENT[family] },
        tcp({ sourcePort: 81, destinationPort: 40000 }),
      ),
      "neither TCP nor UDP": ip(
        family,
        { source: VIP[family], destination: CLIENT[family] },
        raw(132, filler(40)),
      ),
    };
    if (family === 4) {
      about["a fragment"] = answer(4, "tcp", { v4: { fragmentOffset: 100 } });
      // Where its ports would be, there is port 80 in the address.
      const short = { destination: "0.80.0.1", v4: { headerLength: 4 } };
      about["with a header of 16 bytes"] = answer(4, "tcp", short);
    } else {
      about["a fragment"] = answer(6, "tcp", { v6: { extensions: [fragmentHeader(9, true, 1)] } });
    }
    for (const [name, packet] of Object.entries(about)) {
      const { action, reason } = b.send(complaint(family, { type, code }, packet));
      assertEquals([name, action, reason], [name, "drop", "err_icmp_unrelated"]);
    }
    const least = family === 4 ? 24 : 44;
    for (let quote = 0; quote < least; quote++) {
      const { reason } = b.send(complaint(family, { type, code }, answer(family, "tcp"), quote));
      assertEquals([quote, reason], [quote, "err_icmp_unrelated"]);
    }
    const enough = b.send(complaint(family, { type, code }, answer(family, "tcp"), least));
    assertEquals(enough.reason, "icmp_error");
  });
}
