/** Messages between nodes: each is used once, and nothing that somebody has touched is used at all. */

import { assert, assertEquals, assertThrows } from "@std/assert";
import { FRAME_OVERHEAD, packRecords, type Refusal, Sealer } from "../../lib/lb/sync_frame.ts";
import { random } from "./random.ts";

const KEY = new Uint8Array(32).fill(7), BODY = Uint8Array.of(1, 2, 3);

function body(frame: ReturnType<Sealer["open"]>): number[] | Refusal {
  return typeof frame === "string" ? frame : [...frame.body];
}

Deno.test("a message is opened once, by whoever has the key", () => {
  const one = new Sealer(KEY), other = new Sealer(KEY), stranger = new Sealer(new Uint8Array(32));
  const frame = one.seal("records", BODY);
  assertEquals(frame.length, FRAME_OVERHEAD + 3);
  assertEquals(one.open(frame), "own");
  assertEquals(stranger.open(frame), "forged");
  assertEquals(body(other.open(frame)), [1, 2, 3]);
  assertEquals(other.open(frame), "replayed");
  assertEquals(body(other.open(one.seal("hello", new Uint8Array()))), []);
});

Deno.test("messages may come in another order, but not too late", () => {
  const one = new Sealer(KEY), other = new Sealer(KEY);
  const frames = Array.from({ length: 2000 }, () => one.seal("records", BODY));
  for (const frame of frames.slice(1000).reverse()) {
    assertEquals(body(other.open(frame)), [1, 2, 3]);
  }
  assertEquals(body(other.open(frames[999]!)), [1, 2, 3]);
  assertEquals(other.open(frames[0]!), "replayed");
  for (const frame of frames.slice(999)) assertEquals(other.open(frame), "replayed");
});

Deno.test("what is older than clocks may differ is refused", () => {
  let now = 1_000_000;
  const one = new Sealer(KEY), clock = { skewMs: 1000, now: () => now };
  const sender = new Sealer(KEY, clock), receiver = new Sealer(KEY, clock);
  const frame = sender.seal("records", BODY);
  now += 1001;
  assertEquals(receiver.open(frame), "stale");
  assertEquals(receiver.open(one.seal("records", BODY)), "stale");
  assertEquals(body(receiver.open(sender.seal("records", BODY))), [1, 2, 3]);
});

Deno.test("one bit more or less, and a message is refused", () => {
  const one = new Sealer(KEY), other = new Sealer(KEY), next = random(5);
  const frame = one.seal("records", new Uint8Array(40));
  for (let bit = 0; bit < frame.length * 8; bit++) {
    const spoilt = frame.slice();
    spoilt[bit >> 3]! ^= 1 << (bit & 7);
    assert(typeof other.open(spoilt) === "string", `bit ${bit}`);
  }
  for (let length = 0; length < frame.length; length++) {
    assert(typeof other.open(frame.subarray(0, length)) === "string", `${length} bytes`);
  }
  for (let i = 0; i < 2000; i++) {
    const noise = Uint8Array.from({ length: next() % 200 }, () => next());
    if (noise.length > 4 && i % 2) noise.set([0x78, 0x76, 0x73, 1]);
    assert(typeof other.open(noise) === "string");
  }
  assertEquals(body(other.open(frame)), Array(40).fill(0));
});

Deno.test("a key that is too short is refused, and two secrets have two fingerprints", () => {
  assertThrows(() => new Sealer(new Uint8Array(15)), RangeError, "at least 16 bytes");
  const sealer = new Sealer(KEY);
  const [one, other] = [BODY, KEY].map((secret) => sealer.fingerprint(secret).toHex());
  assert(one !== other);
  assertEquals(new Sealer(KEY).fingerprint(BODY).toHex(), one);
});

Deno.test("records are packed whole, as many as fit", () => {
  const records = [10, 20, 30, 40].map((length) => new Uint8Array(length).fill(length));
  const packed = [...packRecords(records, 60)];
  assertEquals(packed.map(({ body, count }) => [body.length, count]), [[60, 3], [40, 1]]);
  assertEquals([...packRecords([], 60)], []);
});
