/** Every way to a destination, for every kind of packet. */
import { assertEquals } from "@std/assert";
import type { Destination, Protocol, TunnelType } from "../../mod.ts";
import {
  ethernet,
  filler,
  fragmentHeader,
  ipv4,
  ipv6,
  type Layer,
  raw,
  tcp,
  udp,
  type VlanTag,
} from "./build.ts";
import { assertForwarded, HASH_KEY, TUNNEL_PORTS, type Way } from "./expect.ts";
import { packetTests } from "./harness.ts";
import { parse } from "./parse.ts";

const VIP = { 4: "192.0.2.1", 6: "2001:db8::1" } as const;
const CLIENT = { 4: "198.51.100.7", 6: "2001:db8:1::7" } as const;
const DESTINATION = { 4: "10.0.0.2", 6: "fd00::2" } as const;
const PORTS = { sourcePort: 40000, destinationPort: 80 };
const FAMILIES = [4, 6] as const;
const PROTOCOLS = ["tcp", "udp"] as const;
const TUNNELS = ["none", "ipip", "gre", "fou", "gue"] as const;

type Family = 4 | 6;

const test = packetTests({ hashKey: HASH_KEY });

function segment(protocol: Protocol, payload: Uint8Array): Layer {
  return protocol === "tcp"
    ? tcp({ ...PORTS, flags: ["psh", "ack"] }, payload)
    : udp(PORTS, payload);
}

function packet(family: Family, protocol: Protocol, payload = filler(33)): Layer {
  return family === 4 ? over4({}, protocol, payload) : over6({}, protocol, payload);
}

function over4(fields: object, protocol: Protocol, payload = filler(33)): Layer {
  const ends = { source: CLIENT[4], destination: VIP[4] };
  return ipv4({ ...ends, ...fields }, segment(protocol, payload));
}

function over6(fields: object, protocol: Protocol, payload = filler(33)): Layer {
  const ends = { source: CLIENT[6], destination: VIP[6] };
  return ipv6({ ...ends, ...fields }, segment(protocol, payload));
}

/** What packets of a family and protocol may be like. */
function* variants(family: Family, protocol: Protocol): Generator<[name: string, Uint8Array]> {
  for (const length of [0, 1, 2, 1000]) {
    yield [`of ${length} bytes`, ethernet({}, packet(family, protocol, filler(length)))];
  }
  yield ["of zeroes", ethernet({}, packet(family, protocol, new Uint8Array(50)))];
  yield ["of ones", ethernet({}, packet(family, protocol, new Uint8Array(50).fill(0xff)))];
  for (const minimum of [60, 100]) {
    const frame = ethernet({ minimum }, packet(family, protocol, filler(1)));
    if (minimum === 100) frame.fill(0xee, 98); // not every card pads with zeroes
    yield [`in a frame of ${minimum} bytes at least`, frame];
  }
  if (family === 4) {
    for (const tos of [0x01, 0xb8, 0xff]) {
      yield [`with TOS ${tos}`, ethernet({}, over4({ tos }, protocol))];
    }
    for (const ttl of [2, 64, 255]) {
      yield [`with TTL ${ttl}`, ethernet({}, over4({ ttl }, protocol))];
    }
    yield ["without DF", ethernet({}, over4({ dontFragment: false, id: 0xffff }, protocol))];
    for (const words of [1, 10]) {
      const options = new Uint8Array(4 * words).fill(1); // no operation
      yield [`with ${words} words of options`, ethernet({}, over4({ options }, protocol))];
    }
    if (protocol === "udp") {
      const ends = { source: CLIENT[4], destination: VIP[4] };
      const bare = udp({ ...PORTS, checksum: 0 }, filler(21));
      yield ["without a checksum", ethernet({}, ipv4(ends, bare))];
    }
    return;
  }
  for (const trafficClass of [0x01, 0xb8, 0xff]) {
    yield [`with traffic class ${trafficClass}`, ethernet({}, over6({ trafficClass }, protocol))];
  }
  for (const hopLimit of [2, 64, 255]) {
    yield [`with hop limit ${hopLimit}`, ethernet({}, over6({ hopLimit }, protocol))];
  }
  yield ["without a flow label", ethernet({}, over6({ flowLabel: 0 }, protocol))];
  for (const extensions of EXTENSIONS) {
    const names = extensions.map((header) => header.protocol).join(", ");
    yield [`with extension headers ${names}`, ethernet({}, over6({ extensions }, protocol))];
  }
}

/** Hop-by-hop options, routing (of a type without meaning), destination options. */
const [HOPS, ROUTE, OPTIONS] = [0, 43, 60].map((protocol) => ({
  protocol,
  rest: Uint8Array.of(0, 1, 4, 0, 0, 0, 0),
}));
const LONG = { protocol: 60, rest: Uint8Array.of(3, 1, 28, ...new Uint8Array(28)) };
const EXTENSIONS = [
  [HOPS!],
  [HOPS!, OPTIONS!, ROUTE!, LONG],
  [LONG, LONG, LONG, LONG, LONG, LONG],
  [HOPS!, fragmentHeader(0, false, 0x01020304)],
];

function destination(family: Family, tunnelType: TunnelType): Destination {
  const tunnelPort = tunnelType === "fou" || tunnelType === "gue" ? TUNNEL_PORTS[tunnelType] : 0;
  return { address: DESTINATION[family], tunnelType, tunnelPort };
}

for (const family of FAMILIES) {
  for (const protocol of PROTOCOLS) {
    const service = { address: VIP[family], port: PORTS.destinationPort, protocol };
    for (const tunnel of TUNNELS) {
      for (const outer of FAMILIES) {
        const way: Way = { address: DESTINATION[outer], tunnel };
        const path =
          `${protocol} over IPv${family} goes to an IPv${outer} destination by ${tunnel}`;
        test(path, async (balancer) => {
          await balancer.client.setService(service, destination(outer, tunnel));
          for (const [name, frame] of variants(family, protocol)) {
            try {
              assertForwarded(frame, balancer.send(frame), way);
            } catch (cause) {
              throw new Error(`A packet ${name} is not forwarded as it must be`, { cause });
            }
          }
        });
      }
    }
  }
}

for (const family of FAMILIES) {
  for (const tunnel of ["fou", "gue"] as const) {
    for (const outer of FAMILIES) {
      test(`${tunnel} over IPv${outer} leaves its checksum out if told so, for IPv${family}`, async (balancer) => {
        const spec = { ...destination(outer, tunnel), tunnelEncapNoChecksum: true };
        await balancer.client.setService({ address: VIP[family], port: 80 }, spec);
        const frame = ethernet({}, packet(family, "tcp"));
        const way = { address: DESTINATION[outer], tunnel, checksum: false };
        assertForwarded(frame, balancer.send(frame), way);
      });
    }
  }
}

/** The tags that a frame comes in with. */
const TAGS: VlanTag[][] = [
  [],
  [{ id: 100, priority: 0xb }],
  [{ type: 0x88a8, id: 7, priority: 0x3 }, { id: 100, priority: 0xb }],
];

for (const tags of TAGS) {
  for (const vlan of [0, 200]) {
    for (const tunnel of ["none", "ipip", "gue"] as const) {
      const network = vlan === 0 ? "an untagged network" : `VLAN ${vlan}`;
      test(`a frame with ${tags.length} tags goes to ${network} by ${tunnel}`, async (balancer) => {
        const address = DESTINATION[4];
        balancer.nextHops.set(address, { vlan });
        for (const family of FAMILIES) {
          const service = { address: VIP[family], port: 80 };
          await balancer.client.setService(service, destination(4, tunnel));
          for (const minimum of [0, 64]) {
            const frame = ethernet({ tags, minimum }, packet(family, "tcp", filler(1)));
            assertForwarded(frame, balancer.send(frame), { address, tunnel, vlan });
          }
        }
      });
    }
  }
}

for (const family of FAMILIES) {
  for (const outer of FAMILIES) {
    test(`what follows a datagram over IPv${family} is in the checksum of gue over IPv${outer}`, async (balancer) => {
      const service = { address: VIP[family], port: 80, protocol: "udp" as const };
      await balancer.client.setService(service, destination(outer, "gue"));
      const datagram = packet(family, "udp", filler(21)).encode().subarray(family === 4 ? 20 : 40);
      const options = filler(9); // RFC 9868
      const ends = { source: CLIENT[family], destination: VIP[family] };
      const both = raw(17, Uint8Array.of(...datagram, ...options));
      const sent = balancer.send(ethernet({}, family === 4 ? ipv4(ends, both) : ipv6(ends, both)));
      assertEquals(sent.reason, "forwarded");
      // Not into the tunnel: the parser takes no such datagram.
      const { headers: [, outermost], payload } = parse(sent.frame);
      assertEquals(outermost?.kind === "udp" && outermost.checksum, true);
      assertEquals(payload.slice(-30), Uint8Array.of(...datagram.subarray(8), ...options));
    });
  }
}
