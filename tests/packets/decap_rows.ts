/**
 * Packets for the decapsulator, and what is to become of each. Other tunnels than IP in IP, and tagged frames,
 * are in `decap_tunnel_rows.ts`.
 *
 * @module
 */
import type { DecapOptions } from "../../lib/lb/decap.ts";
import type { DecapReason } from "../../lib/lb/decap_abi.gen.ts";
import {
  cut,
  ethernet,
  filler,
  fragmentHeader,
  icmp4,
  icmp6,
  ipv4,
  ipv6,
  type Layer,
  raw,
  tcp,
  udp,
} from "./build.ts";

/** An IP version. */
export type Family = 4 | 6;

/** By family. */
export const PEER = { 4: "10.1.0.1", 6: "fd00:1::1" } as const;
export const HOST = { 4: "10.1.0.10", 6: "fd00:1::10" } as const;
export const CLIENT = { 4: "198.51.100.7", 6: "2001:db8:1::7" } as const;
export const VIP = { 4: "192.0.2.1", 6: "2001:db8::1" } as const;
/** Ports whose bytes differ. */
export const UDP_PORTS = { fou: 5555, gue: 6080 } as const;
export const OPTIONS: DecapOptions = {
  peers: ["10.1.0.0/28", "fd00:1::/124"],
  vips: [VIP[4], VIP[6]],
  fouPorts: [UDP_PORTS.fou],
  guePorts: [UDP_PORTS.gue],
};

export const FAMILIES = [4, 6] as const;
export const MIXES = FAMILIES.flatMap((inner) => FAMILIES.map((outer) => ({ inner, outer })));
const PORTS = { sourcePort: 40000, destinationPort: 80 };
export const SEGMENT = tcp(PORTS, filler(100));
/** RFC 2473, section 4.1.1, as Linux sends it: limit 4, and a PadN. */
export const ENCAPSULATION_LIMIT = { protocol: 60, rest: Uint8Array.of(0, 4, 1, 4, 1, 1, 0) };

/** An IP packet of either family; `fields` are those of both. */
export function ip(
  family: Family,
  fields: { source?: string; destination?: string; tos?: number },
  payload: Layer,
): Layer {
  const { source = CLIENT[family], destination = VIP[family], tos = 0 } = fields;
  return family === 4
    ? ipv4({ source, destination, tos }, payload)
    : ipv6({ source, destination, trafficClass: tos }, payload);
}

/** The outer header that a peer puts before a packet. */
export function tunnel(
  family: Family,
  payload: Layer,
  fields: { source?: string; destination?: string; tos?: number } = {},
): Layer {
  return ip(family, { source: PEER[family], destination: HOST[family], ...fields }, payload);
}

/** A packet to a VIP. */
export function packet(family: Family, payload: Layer = SEGMENT): Layer {
  return ip(family, {}, payload);
}

/** A frame, and what is to become of it. */
export interface Row {
  name: string;
  frame: Uint8Array;
  reason: DecapReason;
  /** The frame that comes out, where it is another one. */
  out?: Uint8Array;
  /** What is counted, where it is not all behind the Ethernet header. */
  octets?: number;
  options?: Partial<DecapOptions>;
}

function decapsulated(): Row[] {
  const row = (name: string, outer: Layer, inner: Layer): Row => ({
    name,
    frame: ethernet({}, outer),
    reason: "decapsulated",
    out: ethernet({}, inner),
  });
  const mixes = MIXES.flatMap(({ inner, outer }) => {
    const what = `IPv${inner} in IPv${outer}`;
    const transports = {
      TCP: SEGMENT,
      "a SYN": tcp({ ...PORTS, flags: ["syn"], options: filler(20) }),
      UDP: udp(PORTS, filler(1)),
      "an echo request": inner === 4 ? icmp4({ type: 8 }) : icmp6({ type: 128 }),
      "an unknown protocol": raw(253, filler(3)),
      "no payload": raw(59, filler(0)),
      "a packet of 1500 bytes": udp(PORTS, filler(1500 - (inner === 4 ? 20 : 40) - 8)),
      "another tunnel": ip(4, {}, SEGMENT),
    };
    return Object.entries(transports).map(([name, transport]) => {
      const packet = ip(inner, { tos: 0xb8 }, transport);
      return row(`${what}: ${name}`, tunnel(outer, packet), packet);
    });
  });
  const fragment = ipv4(
    { source: CLIENT[4], destination: VIP[4], dontFragment: false, moreFragments: true },
    raw(17, filler(64)),
  );
  const options = ipv4({ source: CLIENT[4], destination: VIP[4], options: filler(40) }, SEGMENT);
  const later = ipv6(
    { source: CLIENT[6], destination: VIP[6], extensions: [fragmentHeader(9, false, 7)] },
    raw(17, filler(64)),
  );
  const short = packet(4, tcp(PORTS));
  return [
    ...mixes,
    ...FAMILIES.flatMap((outer) => [
      row(`an inner fragment in IPv${outer}`, tunnel(outer, fragment), fragment),
      row(`an inner fragment of IPv6 in IPv${outer}`, tunnel(outer, later), later),
      row(`inner options in IPv${outer}`, tunnel(outer, options), options),
    ]),
    ...FAMILIES.flatMap((inner) => [
      ...[4, 40].map((length) =>
        row(
          `IPv${inner} behind ${length} bytes of outer options`,
          ipv4(
            { source: PEER[4], destination: HOST[4], options: filler(length) },
            packet(inner),
          ),
          packet(inner),
        )
      ),
      row(
        `IPv${inner} behind a tunnel encapsulation limit`,
        ipv6(
          { source: PEER[6], destination: HOST[6], extensions: [ENCAPSULATION_LIMIT] },
          packet(inner),
        ),
        packet(inner),
      ),
      row(
        `IPv${inner} behind 2048 bytes of destination options`,
        ipv6(
          {
            source: PEER[6],
            destination: HOST[6],
            extensions: [{ protocol: 60, rest: Uint8Array.of(255, ...filler(2046)) }],
          },
          packet(inner),
        ),
        packet(inner),
      ),
    ]),
    {
      name: "a frame with padding keeps it",
      frame: ethernet({ minimum: 90 }, tunnel(4, short)),
      reason: "decapsulated",
      out: ethernet({ minimum: 70 }, short),
      octets: 60,
    },
    {
      name: "the MACs stay",
      frame: ethernet(
        { destination: "02:aa:bb:cc:dd:ee", source: "02:11:22:33:44:55" },
        tunnel(6, short),
      ),
      reason: "decapsulated",
      out: ethernet({ destination: "02:aa:bb:cc:dd:ee", source: "02:11:22:33:44:55" }, short),
    },
    {
      name: "an outer address that is listed",
      frame: ethernet({}, tunnel(4, short)),
      reason: "decapsulated",
      out: ethernet({}, short),
      options: { addresses: [HOST[4]] },
    },
  ];
}

function passed(): Row[] {
  const all = (reason: DecapReason, rows: Record<string, Layer | Uint8Array>): Row[] =>
    Object.entries(rows).map(([name, each]) => ({
      name,
      frame: each instanceof Uint8Array ? each : ethernet({}, each),
      reason,
    }));
  const from = (family: Family) => ({ source: PEER[family], destination: HOST[family] });
  const ofFrame = (row: Row): Row => ({ ...row, octets: row.frame.length });
  const cuts = MIXES.flatMap(({ inner, outer }) => {
    const whole = ethernet({}, tunnel(outer, packet(inner)));
    // As far as the inner addresses; what is cut behind these is too short for its outer header.
    const inside = 14 + (outer === 4 ? 20 : 40) + (inner === 4 ? 20 : 40);
    return [14, 15, 33, inside - 1, inside, whole.length - 1].map((length) => ({
      name: `IPv${inner} in IPv${outer}, cut to ${length} bytes`,
      frame: whole.subarray(0, length),
      reason: "unreadable" as const,
    }));
  });
  return [
    ...all("not_ip", {
      "ARP": ethernet({ type: 0x0806 }, filler(46)),
      "a frame of 14 bytes": ethernet({ type: 0x0806 }, filler(0)),
      "LLDP": ethernet({ type: 0x88cc }, filler(100)),
    }).map(ofFrame),
    ...all("not_a_tunnel", {
      "TCP to a VIP": packet(4),
      "TCP to a VIP over IPv6": packet(6),
      "UDP from a peer": tunnel(4, udp(PORTS)),
      "a ping from a peer": tunnel(4, icmp4({ type: 8 })),
      "a neighbour solicitation": tunnel(6, icmp6({ type: 135 }, filler(24))),
      "a fragment of TCP": ipv4({ ...from(4), moreFragments: true }, raw(6, filler(64))),
      "a fragment of UDP over IPv6": ipv6(
        { ...from(6), extensions: [fragmentHeader(0, true, 1)] },
        raw(17, filler(64)),
      ),
      "destination options before TCP": ipv6(
        { ...from(6), extensions: [ENCAPSULATION_LIMIT] },
        SEGMENT,
      ),
      "what IPv6 would call destination options, over IPv4": ipv4(
        { ...from(4), protocol: 60 },
        raw(60, Uint8Array.of(4, 0, 1, 4, 0, 0, 0, 0, ...packet(4).encode())),
      ),
      "hop-by-hop options": ipv6(
        { ...from(6), extensions: [{ ...ENCAPSULATION_LIMIT, protocol: 0 }] },
        packet(6),
      ),
    }),
    ...[
      ...cuts,
      ...all("unreadable", {
        "an outer header of version 5": ipv4({ ...from(4), version: 5 }, packet(4)),
        "an outer header of version 4 in a frame of IPv6": ethernet(
          { type: 0x86dd },
          packet(4).encode(),
        ),
        "an outer header of 16 bytes": ipv4({ ...from(4), headerLength: 4 }, packet(4)),
        "an outer length less than its header": ipv4({ ...from(4), totalLength: 19 }, packet(4)),
        "an outer length beyond the frame": ipv4({ ...from(4), totalLength: 161 }, packet(4)),
        "an outer IPv6 length beyond the frame": ipv6(
          { ...from(6), payloadLength: 141 },
          packet(4),
        ),
      }),
    ].map(ofFrame),
    ...all("unreadable", {
      "IPv6 inside where IPv4 is announced": ipv4({ ...from(4), protocol: 4 }, packet(6)),
      "IPv4 inside where IPv6 is announced": ipv6({ ...from(6), nextHeader: 41 }, packet(4)),
      "nothing inside": tunnel(4, raw(4, filler(0))),
      "less than a header inside": tunnel(4, cut(packet(4), 19)),
      "less than an IPv6 header inside": tunnel(6, cut(packet(6), 39)),
      "destination options that end the packet": ipv6(
        { ...from(6), extensions: [{ protocol: 60, rest: Uint8Array.of(9, ...filler(6)) }] },
        raw(4, filler(0)),
      ),
      "destination options cut short": ipv6({ ...from(6), nextHeader: 60 }, raw(4, filler(7))),
      "a fragment header cut short": ipv6({ ...from(6), nextHeader: 44 }, raw(4, filler(7))),
    }),
    // The outer packet is empty: what stands in the padding is no part of it.
    ...FAMILIES.map((inner): Row => ({
      name: `a packet to an IPv${inner} VIP in the padding`,
      frame: ethernet({}, ipv4({ ...from(4), totalLength: 20 }, packet(inner))),
      reason: "unreadable",
      octets: 20,
    })),
    {
      name: "options that lead into the padding, where a packet to a VIP is",
      frame: ethernet(
        {},
        ipv6({ ...from(6), extensions: [ENCAPSULATION_LIMIT], payloadLength: 4 }, packet(4)),
      ),
      reason: "unreadable",
      octets: 44,
    },
    ...all("fragment", {
      "the first fragment of a tunnel packet": ipv4(
        { ...from(4), moreFragments: true },
        packet(4),
      ),
      "a later fragment of a tunnel packet": ipv4({ ...from(4), fragmentOffset: 1 }, packet(6)),
      "the first fragment of a tunnel packet over IPv6": ipv6(
        { ...from(6), extensions: [fragmentHeader(0, true, 1)] },
        packet(4),
      ),
      "a later fragment behind destination options": ipv6(
        { ...from(6), extensions: [ENCAPSULATION_LIMIT, fragmentHeader(100, false, 1)] },
        packet(6),
      ),
    }),
    ...FAMILIES.map((outer): Row => ({
      name: `an IPv${outer} tunnel to another address than those given`,
      frame: ethernet({}, tunnel(outer, packet(4), { destination: PEER[outer] })),
      reason: "not_local",
      options: { addresses: [HOST[4], HOST[6]] },
    })),
    {
      name: "an IPv6 tunnel where only an IPv4 address is given",
      frame: ethernet({}, tunnel(6, packet(4))),
      reason: "not_local",
      options: { addresses: [HOST[4]] },
    },
    ...MIXES.flatMap(({ inner, outer }) =>
      [PEER[outer], CLIENT[outer]].map((source): Row => ({
        name: `IPv${inner} in IPv${outer} to no VIP, from ${source}`,
        frame: ethernet(
          {},
          tunnel(outer, ip(inner, { destination: HOST[inner] }, SEGMENT), { source }),
        ),
        reason: "not_a_vip",
      }))
    ),
    {
      name: "a broken packet to no VIP",
      frame: ethernet(
        {},
        tunnel(4, ipv4({ source: CLIENT[4], destination: HOST[4], totalLength: 9 }, SEGMENT)),
      ),
      reason: "not_a_vip",
    },
  ];
}

function dropped(): Row[] {
  const to = (family: Family) => ({ source: CLIENT[family], destination: VIP[family] });
  const length = (family: Family) => packet(family).encode().length;
  const broken = [
    ["err_malformed", "4 words of header", ipv4({ ...to(4), headerLength: 4 }, SEGMENT)],
    ["err_malformed", "a length of 19", ipv4({ ...to(4), totalLength: 19 }, SEGMENT)],
    [
      "err_malformed",
      "less than its options",
      ipv4({ ...to(4), headerLength: 6, totalLength: 23 }, SEGMENT),
    ],
    [
      "err_tot_len",
      "a length of one too many",
      ipv4({ ...to(4), totalLength: length(4) + 1 }, SEGMENT),
    ],
    ["err_tot_len", "a length of 65535", ipv4({ ...to(4), totalLength: 65535 }, SEGMENT)],
    [
      "err_tot_len",
      "an IPv6 length of one too many",
      ipv6({ ...to(6), payloadLength: length(6) - 39 }, SEGMENT),
    ],
    ["err_tot_len", "the last byte missing", cut(packet(6), length(6) - 1)],
  ] as const;
  return [
    ...MIXES.flatMap(({ inner, outer }) =>
      // Just outside the prefix, on both sides, and far away.
      (outer === 4
        ? ["10.0.255.255", "10.1.0.16", "198.51.100.7"]
        : ["fd00:1::10", "fd00:0:ffff::", "::1"])
        .map((source): Row => ({
          name: `IPv${inner} in IPv${outer} to a VIP, from ${source}`,
          frame: ethernet({}, tunnel(outer, packet(inner), { source })),
          reason: "err_unknown_peer",
        }))
    ),
    {
      name: "a broken packet to a VIP, from an unknown peer",
      frame: ethernet({}, tunnel(4, broken[0][2], { source: CLIENT[4] })),
      reason: "err_unknown_peer",
    },
    ...FAMILIES.flatMap((outer) =>
      broken.map(([reason, name, inner]): Row => ({
        name: `${name} in IPv${outer}`,
        frame: ethernet({}, tunnel(outer, inner)),
        reason,
      }))
    ),
    {
      name: "an inner packet whose end is in the padding",
      frame: ethernet(
        {},
        ipv4({ source: PEER[4], destination: HOST[4], totalLength: 159 }, packet(4)),
      ),
      reason: "err_tot_len",
      octets: 159,
    },
    ...MIXES.map(({ inner, outer }): Row => ({
      name: `congestion met by IPv${inner} in IPv${outer} that knows no ECN`,
      frame: ethernet({}, tunnel(outer, packet(inner), { tos: 3 })),
      reason: "err_congestion",
    })),
  ];
}

/** All rows. */
export const ROWS: readonly Row[] = [...decapsulated(), ...passed(), ...dropped()];
