/**
 * Packets for the decapsulator through all tunnels but plain IP in IP, and in tagged frames.
 *
 * @module
 */
import {
  cut,
  ethernet,
  filler,
  fragmentHeader,
  ipv4,
  ipv6,
  type Layer,
  raw,
  udp,
  type VlanTag,
} from "./build.ts";
import {
  CLIENT,
  ENCAPSULATION_LIMIT,
  FAMILIES,
  type Family,
  HOST,
  ip,
  MIXES,
  packet,
  PEER,
  type Row,
  SEGMENT,
  tunnel,
  UDP_PORTS,
} from "./decap_rows.ts";

const GRE = 47;
const ETHER_TYPE = { 4: [0x08, 0x00], 6: [0x86, 0xdd] } as const;
const PROTOCOL = { 4: 4, 6: 41 } as const;

/** The ways through which a balancer, or another one's, may send. */
export const KINDS = ["ipip", "gre", "fou", "gue", "gue variant 1"] as const;
type Kind = (typeof KINDS)[number];

function join(...parts: (ArrayLike<number>)[]): Uint8Array {
  return Uint8Array.from(parts.flatMap((part) => Array.from(part)));
}

function gre(head: readonly number[], content: Uint8Array): Layer {
  return raw(GRE, join(head, content));
}

function datagram(port: number, content: Uint8Array, fields: object = {}): Layer {
  return udp({ sourcePort: 0xc123, destinationPort: port, ...fields }, content);
}

/** What stands behind the outer header, for an inner packet; `fields` are those of UDP. */
export function within(kind: Kind, family: Family, inner: Layer, fields: object = {}): Layer {
  const content = inner.encode();
  switch (kind) {
    case "ipip":
      return inner;
    case "gre":
      return gre([0, 0, ...ETHER_TYPE[family]], content);
    case "fou":
      return datagram(UDP_PORTS.fou, content, fields);
    case "gue":
      return datagram(UDP_PORTS.gue, join([0, PROTOCOL[family], 0, 0], content), fields);
    case "gue variant 1":
      return datagram(UDP_PORTS.gue, content, fields);
  }
}

/** Tags that a frame may have, outermost first. */
const TAGS: Record<string, VlanTag[]> = {
  "with a tag": [{ id: 100, priority: 0xb }],
  "with a provider's tag": [{ type: 0x88a8, id: 7 }],
  "with two tags": [{ type: 0x88a8, id: 4095, priority: 0xf }, { id: 1, priority: 0x3 }],
  "with two customers' tags": [{ id: 2 }, { id: 3 }],
};

function decapsulated(): Row[] {
  const row = (
    name: string,
    outer: Layer,
    inner: Layer,
    fields: Parameters<typeof ethernet>[0] = {},
  ): Row => ({
    name,
    frame: ethernet(fields, outer),
    reason: "decapsulated",
    out: ethernet(fields, inner),
    octets: outer.encode().length,
  });
  return MIXES.flatMap(({ inner, outer }) =>
    KINDS.flatMap((kind) => {
      const name = `${kind}, IPv${inner} in IPv${outer}`;
      const large = ip(inner, { tos: 0x2e }, raw(253, filler(1460)));
      const small = packet(inner);
      const wrapped = within(kind, inner, small);
      const isUdp = wrapped.protocol === 17;
      const ends = { source: PEER[outer], destination: HOST[outer] };
      const behindOptions = outer === 4
        ? ipv4({ ...ends, options: filler(40) }, wrapped)
        : ipv6({ ...ends, extensions: [ENCAPSULATION_LIMIT] }, wrapped);
      return [
        row(`${name}: a small packet`, tunnel(outer, wrapped), small),
        row(`${name}: a large packet`, tunnel(outer, within(kind, inner, large)), large),
        row(`${name}: behind outer options`, behindOptions, small),
        ...Object.entries(TAGS).map(([what, tags]) =>
          row(`${name}: ${what}`, tunnel(outer, wrapped), small, { tags })
        ),
        // 0 is none; the other is wrong, which nobody looks at.
        ...(isUdp ? [0, 0xbad] : []).map((checksum) =>
          row(
            `${name}: outer checksum ${checksum}`,
            tunnel(outer, within(kind, inner, small, { checksum })),
            small,
          )
        ),
      ];
    })
  );
}

/** What is for a VIP, and yet does not come through. */
function refused(): Row[] {
  return MIXES.flatMap(({ inner, outer }) =>
    KINDS.flatMap((kind): Row[] => {
      const name = `${kind}, IPv${inner} in IPv${outer}`;
      const whole = packet(inner);
      const wrapped = within(kind, inner, whole);
      const stranger = tunnel(outer, wrapped, { source: CLIENT[outer] });
      const elsewhere = within(kind, inner, ip(inner, { destination: HOST[inner] }, SEGMENT));
      const short = within(kind, inner, cut(whole, whole.encode().length - 1));
      return [
        { name, frame: ethernet({}, stranger), reason: "err_unknown_peer" },
        { name, frame: ethernet({}, tunnel(outer, elsewhere)), reason: "not_a_vip" },
        {
          name,
          frame: ethernet({}, tunnel(outer, wrapped)),
          reason: "not_local",
          options: { addresses: [PEER[outer]] },
        },
        {
          name: `${name}: the last byte missing`,
          frame: ethernet({}, tunnel(outer, short)),
          reason: "err_tot_len",
        },
        {
          name,
          frame: ethernet({}, tunnel(outer, wrapped, { tos: 3 })),
          reason: "err_congestion",
        },
      ];
    })
  );
}

function others(): Row[] {
  const inner = packet(4).encode();
  const all = (reason: Row["reason"], rows: Record<string, Layer>): Row[] =>
    FAMILIES.flatMap((outer) =>
      Object.entries(rows).map(([name, content]) => ({
        name: `${name} over IPv${outer}`,
        frame: ethernet({}, tunnel(outer, content)),
        reason,
      }))
    );
  const flagged = Object.fromEntries(
    Object.entries({
      "a checksum": [0x80, 0],
      "a key": [0x20, 0],
      "a sequence number": [0x10, 0],
      "a route": [0x40, 0],
      "a reserved bit": [0x00, 0x08],
      "version 1": [0x00, 0x01],
    }).map(([name, flags]) => [
      `GRE with ${name}`,
      gre([...flags, 8, 0, ...filler(name === "version 1" ? 0 : 4)], inner),
    ]),
  );
  const announced = Object.fromEntries(
    Object.entries({
      "options": [0x01, 4, 0, 0, 0, 0, 0, 0],
      "the control bit": [0x20, 4, 0, 0],
      "flags": [0x00, 4, 0x80, 0],
      "TCP inside": [0x00, 6, 0, 0],
      "variant 2": [0x80, 4, 0, 0],
      "variant 3": [0xc0, 4, 0, 0],
    }).map(([name, head]) => [`GUE with ${name}`, datagram(UDP_PORTS.gue, join(head, inner))]),
  );
  return [
    ...all("not_a_tunnel", {
      ...flagged,
      ...announced,
      "GRE with Ethernet inside": gre([0, 0, 0x65, 0x58], inner),
      "FOU with neither version of IP inside": datagram(UDP_PORTS.fou, filler(60).fill(0x55, 0, 1)),
      "GUE of variant 1 with neither version of IP inside": datagram(
        UDP_PORTS.gue,
        filler(60).fill(0x55, 0, 1),
      ),
      "IP in UDP to a port that is none of FOU": datagram(UDP_PORTS.fou + 1, inner),
      "IP in UDP from a port of FOU": datagram(53, inner, { sourcePort: UDP_PORTS.fou }),
    }),
    ...all("unreadable", {
      "a GRE header cut short": cut(gre([0, 0, 8, 0], inner), 3),
      "GRE with nothing inside": gre([0, 0, 8, 0], new Uint8Array(0)),
      "GRE with IPv6 where IPv4 is announced": gre([0, 0, 8, 0], packet(6).encode()),
      "a UDP header cut short": cut(datagram(UDP_PORTS.fou, inner), 7),
      "FOU with nothing inside": datagram(UDP_PORTS.fou, new Uint8Array(0)),
      "FOU with less than a header inside": datagram(UDP_PORTS.fou, inner.subarray(0, 19)),
      "FOU of one byte too few": datagram(UDP_PORTS.fou, inner, { length: inner.length + 7 }),
      "FOU of one byte too many": datagram(UDP_PORTS.fou, inner, { length: inner.length + 9 }),
      "a GUE header cut short": datagram(UDP_PORTS.gue, Uint8Array.of(0, 4, 0)),
      "GUE with nothing inside": datagram(UDP_PORTS.gue, Uint8Array.of(0, 4, 0, 0)),
      "GUE with IPv4 where IPv6 is announced": datagram(
        UDP_PORTS.gue,
        join([0, 41, 0, 0], inner),
      ),
    }),
    ...(["fou", "gue"] as const).map((kind): Row => ({
      name: `${kind} where no port is given`,
      frame: ethernet({}, tunnel(4, within(kind, 4, packet(4)))),
      reason: "not_a_tunnel",
      options: { fouPorts: [], guePorts: [] },
    })),
    // The first one tells the port; of a later one nobody knows.
    ...(["gre", "fou", "gue"] as const).flatMap((kind) => {
      const payload = within(kind, 4, packet(4));
      const fragments = (offset: number) => [
        ipv4(
          { source: PEER[4], destination: HOST[4], moreFragments: true, fragmentOffset: offset },
          payload,
        ),
        ipv6(
          {
            source: PEER[6],
            destination: HOST[6],
            extensions: [fragmentHeader(offset, true, 1)],
          },
          payload,
        ),
      ];
      return [0, 100].flatMap((offset) =>
        fragments(offset).map((outer): Row => ({
          name: `${kind} at offset ${offset} in ${outer.protocol === 4 ? "IPv4" : "IPv6"}`,
          frame: ethernet({}, outer),
          reason: offset > 0 && kind !== "gre" ? "not_a_tunnel" : "fragment",
        }))
      );
    }),
  ];
}

function tagged(): Row[] {
  const [tag] = TAGS["with a tag"]!;
  const whole = ethernet({ tags: [tag!, tag!] }, tunnel(4, packet(4)));
  const frames: [string, Row["reason"], Uint8Array, octets?: number][] = [
    ["a third tag", "not_ip", ethernet({ tags: [tag!, tag!, tag!] }, tunnel(4, packet(4)))],
    ["ARP with a tag", "not_ip", ethernet({ tags: [tag!], type: 0x0806 }, filler(46))],
    ["a tag cut short", "not_ip", whole.subarray(0, 17)],
    ["a second tag cut short", "not_ip", whole.subarray(0, 21)],
    ["an outer header behind tags, cut short", "unreadable", whole.subarray(0, 41)],
    ["TCP to a VIP with a tag", "not_a_tunnel", ethernet({ tags: [tag!] }, packet(6)), 160],
  ];
  return frames.map(([name, reason, frame, octets = frame.length]) => ({
    name,
    frame,
    reason,
    octets,
  }));
}

/** All rows. */
export const TUNNEL_ROWS: readonly Row[] = [
  ...decapsulated(),
  ...refused(),
  ...others(),
  ...tagged(),
];
