/**
 * The decapsulator, packet by packet: what goes in, what comes out, and the one reason that is counted.
 *
 * @module
 */
import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { type DecapOptions, Decapsulator } from "../../lib/lb/decap.ts";
import { DECAP_REASONS, type DecapReason } from "../../lib/lb/decap_abi.gen.ts";
import { InvalidValueError, TableFullError } from "../../lib/lb/errors.ts";
import { random } from "../unit/random.ts";
import { ethernet } from "./build.ts";
import { ip, MIXES, OPTIONS, packet, PEER, ROWS, SEGMENT, tunnel, VIP } from "./decap_rows.ts";
import { KINDS, TUNNEL_ROWS, within } from "./decap_tunnel_rows.ts";
import { parse } from "./parse.ts";

const XDP_DROP = 1;
const XDP_PASS = 2;

interface Outcome {
  action: number;
  reason: DecapReason;
  octets: number;
  frame: Uint8Array;
}

/** Sends a frame. Exactly one counter grows, by exactly one packet. */
function send(decapsulator: Decapsulator, frame: Uint8Array): Outcome {
  const before = decapsulator.counters();
  const { retval, data } = decapsulator.program.testRun({ data: frame });
  const after = decapsulator.counters();
  const grown = DECAP_REASONS.filter((reason) => after[reason].packets !== before[reason].packets);
  assertEquals(grown.length, 1, `one reason, not ${grown}`);
  const [reason] = grown as [DecapReason];
  assertEquals(after[reason].packets - before[reason].packets, 1n);
  const octets = Number(after[reason].octets - before[reason].octets);
  return { action: retval, reason, octets, frame: data.slice() };
}

/** One for all rows that have no options of their own. */
let shared: Decapsulator;

Deno.test.beforeAll(async () => {
  shared = await Decapsulator.create([], OPTIONS);
});

Deno.test.afterAll(() => {
  shared.close();
});

for (const row of [...ROWS, ...TUNNEL_ROWS]) {
  const { name, frame, reason, out = frame, octets = frame.length - 14, options } = row;
  Deno.test(`decap: ${reason}: ${name}`, async () => {
    using own = options && await Decapsulator.create([], { ...OPTIONS, ...options });
    assertEquals(send(own ?? shared, frame), {
      action: reason.startsWith("err_") ? XDP_DROP : XDP_PASS,
      reason,
      octets,
      frame: out,
    });
  });
}

Deno.test("decap: there is a row for every reason but the one that no packet provokes", () => {
  assertEquals(
    [...new Set(ROWS.map(({ reason }) => reason))].sort(),
    DECAP_REASONS.filter((reason) => reason !== "err_adjust_failed").toSorted(),
  );
});

for (const { inner, outer } of MIXES) {
  Deno.test(`decap: IPv${inner} in IPv${outer} takes over congestion as RFC 6040 has it`, () => {
    for (const kind of KINDS) {
      for (const outerEcn of [0, 1, 2, 3]) {
        for (const innerEcn of [1, 2, 3]) {
          const tos = 0xb8 | innerEcn;
          const payload = within(kind, inner, ip(inner, { tos }, SEGMENT));
          const frame = ethernet({}, tunnel(outer, payload, { tos: outerEcn }));
          const { reason, frame: out } = send(shared, frame);
          assertEquals(reason, "decapsulated");
          const wanted = ip(inner, { tos: outerEcn === 3 ? tos | 3 : tos }, SEGMENT);
          assertEquals(out, ethernet({}, wanted));
          parse(out);
        }
      }
    }
  });
}

Deno.test("decap: peers and VIPs change while it runs", async () => {
  using decapsulator = await Decapsulator.create([], { peers: [], vips: [] });
  const frame = ethernet({}, tunnel(6, packet(4)));
  const reason = () => send(decapsulator, frame).reason;
  assertEquals(reason(), "not_a_vip");
  decapsulator.setVips([VIP[4], VIP[6]]);
  assertEquals(reason(), "err_unknown_peer");
  decapsulator.setPeers([PEER[4]]);
  assertEquals(reason(), "err_unknown_peer");
  for (const peer of [PEER[6], "fd00:1::ffff/64", "fd00::/16", "::/0"]) {
    decapsulator.setPeers([PEER[4], peer, peer]);
    assertEquals(reason(), "decapsulated", peer);
  }
  decapsulator.setPeers([PEER[4]]);
  assertEquals(reason(), "err_unknown_peer");
  decapsulator.setPeers(["::/0"]);
  decapsulator.setVips([VIP[6]]);
  assertEquals(reason(), "not_a_vip");
});

Deno.test("decap: a wider peer stays when a narrower one within it goes", async () => {
  using decapsulator = await Decapsulator.create([], OPTIONS);
  const reason = (source: string) =>
    send(decapsulator, ethernet({}, tunnel(4, packet(4), { source }))).reason;
  decapsulator.setPeers(["10.0.0.0/8", "10.1.0.1"]);
  decapsulator.setPeers(["10.0.0.0/8"]);
  assertEquals(reason("10.1.0.1"), "decapsulated");
  decapsulator.setPeers(["10.1.0.1/32"]);
  assertEquals(reason("10.1.0.1"), "decapsulated");
  assertEquals(reason("10.1.0.2"), "err_unknown_peer");
});

Deno.test("decap: what cannot be is refused in a sentence, and changes nothing", async () => {
  using decapsulator = await Decapsulator.create([], { ...OPTIONS, maxEntries: 2 });
  const refused = (act: () => void, message: string) =>
    assertThrows(act, InvalidValueError, message);
  refused(
    () => decapsulator.setPeers(["10.0.0.0/33"]),
    'Peer "10.0.0.0/33" is neither a prefix nor an address',
  );
  refused(() => decapsulator.setPeers([PEER[4], "eth0"]), 'Peer "eth0" is neither');
  refused(() => decapsulator.setVips(["127.0.0.1"]), 'VIP "127.0.0.1" is a loopback address');
  assertThrows(
    () => decapsulator.setPeers(["10.0.0.1", "10.0.0.2", "10.0.0.3"]),
    TableFullError,
    'Cannot add peer "10.0.0.3": there is room for 2; the option "maxEntries" makes more',
  );
  for (const { inner, outer } of MIXES) {
    const { reason } = send(decapsulator, ethernet({}, tunnel(outer, packet(inner))));
    assertEquals(reason, "decapsulated");
  }
  // Full, and then full of others.
  decapsulator.setPeers(["10.2.0.1", "10.2.0.2"]);
  decapsulator.setPeers(["10.2.0.3", PEER[4]]);
  assertEquals(send(decapsulator, ethernet({}, tunnel(4, packet(4)))).reason, "decapsulated");
});

Deno.test("decap: a port that cannot be is refused in a sentence", async () => {
  const cases: [Partial<DecapOptions>, string][] = [
    [{ fouPorts: [0] }, "FOU port 0 is not a whole number from 1 to 65535"],
    [{ guePorts: [6080, 65536] }, "GUE port 65536 is not a whole number from 1 to 65535"],
    [{ fouPorts: [1, 2], guePorts: [3, 2] }, "Port 2 cannot be both FOU and GUE"],
  ];
  for (const [ports, message] of cases) {
    const refused = Decapsulator.create([], { ...OPTIONS, fouPorts: [], guePorts: [], ...ports });
    await assertRejects(() => refused, InvalidValueError, message);
  }
});

Deno.test("decap: whatever bytes come, they are cut right, passed untouched, or dropped", () => {
  const seeds = MIXES.flatMap(({ inner, outer }) =>
    KINDS.flatMap((kind) =>
      [[], [{ id: 100 }], [{ type: 0x88a8, id: 7 }, { id: 100 }]].map((tags) =>
        ethernet({ tags }, tunnel(outer, within(kind, inner, packet(inner))))
      )
    )
  );
  const next = random(20);
  const below = (limit: number) => next() % limit;
  const seen = new Set<DecapReason>();
  for (let round = 0; round < 10_000; round++) {
    const seed = seeds[below(seeds.length)]!;
    const sent = seed.slice(0, below(4) === 0 ? 14 + below(seed.length - 13) : undefined);
    // Mostly in the headers, where it matters.
    for (let flips = below(4); flips > 0; flips--) {
      sent[12 + below(sent.length - 12) % 110]! ^= 1 << below(8);
    }
    const { action, reason, frame } = send(shared, sent);
    seen.add(reason);
    assertEquals(action, reason.startsWith("err_") ? XDP_DROP : XDP_PASS);
    if (reason !== "decapsulated") {
      // A packet that is dropped is nobody's business any more.
      if (action === XDP_PASS) assertEquals(frame, sent);
      continue;
    }
    const surplus = sent.length - frame.length;
    assert(surplus >= 20 && surplus % 4 === 0, `${surplus} bytes were taken off`);
    const link = linkSize(sent);
    assertEquals(frame.subarray(0, link - 2), sent.subarray(0, link - 2));
    const version = frame[link]! >> 4;
    assertEquals(
      frame.subarray(link - 2, link),
      version === 4 ? Uint8Array.of(8, 0) : Uint8Array.of(0x86, 0xdd),
    );
    const expected = sent.slice(surplus);
    // ECN and the checksum over it may change: RFC 6040.
    const mutable = version === 4 ? [link + 1, link + 10, link + 11] : [link + 1];
    for (const at of [...Array(link).keys(), ...mutable]) expected[at] = frame[at]!;
    assertEquals(frame, expected);
  }
  assert(seen.size >= 8, `only ${[...seen]}`);
});

/** How many bytes the Ethernet header has, with up to two tags. */
function linkSize(frame: Uint8Array): number {
  const isTag = (at: number) => ["8100", "88a8"].includes(frame.subarray(at, at + 2).toHex());
  return !isTag(12) ? 14 : !isTag(16) ? 18 : 22;
}
