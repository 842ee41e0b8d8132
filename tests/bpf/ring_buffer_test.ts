import { assert, assertEquals, assertThrows } from "@std/assert";
import { type BpfObject, type Bytes, RingBuffer } from "../../lib/bpf/mod.ts";
import { frame, loaded } from "./support.ts";

/** Frames that begin with this byte are put into the ring buffer and thought better of. */
const DISCARDED = 0xdd;

/** Sends a record of 14 bytes; returns whether there was room. */
function send(object: BpfObject, byte: number): boolean {
  return object.program("emit").testRun({ data: frame(byte) }).retval === 2;
}

function later(body: () => void): void {
  setTimeout(body, 20);
}

Deno.test("consume() gives each record once, in order", () => {
  using object = loaded();
  const records: Bytes[] = [];
  using events = RingBuffer.create(object.map("events"), (record) => records.push(record));
  assertEquals(events.consume(), 0);
  for (const byte of [1, 2, DISCARDED, 3]) send(object, byte);
  assertEquals(events.consume(), 3);
  assertEquals(events.consume(), 0);
  assertEquals(records, [1, 2, 3].map((byte) => new Uint8Array(14).fill(byte)));
});

Deno.test("a full ring buffer refuses records until it is read", () => {
  using object = loaded();
  using events = RingBuffer.create(object.map("events"), () => {});
  let sent = 0;
  while (send(object, 1)) sent++;
  // 4096 bytes, of which a record of 14 takes 24; the kernel keeps the last few free.
  assert(sent >= 169 && sent <= 170, `${sent} records`);
  assertEquals(events.consume(), sent);
  assert(send(object, 1));
});

Deno.test("records come out whole over many rounds of the ring", () => {
  using object = loaded();
  let sum = 0;
  using events = RingBuffer.create(object.map("events"), (record) => {
    assert(record.length === 14 && record.every((byte) => byte === record[0]));
    sum += record[0]!;
  });
  let expected = 0;
  for (let i = 0; i < 5000; i++) {
    const byte = i % 200;
    assert(send(object, byte));
    expected += byte;
    if (i % 37 === 0) events.consume();
  }
  events.consume();
  assertEquals(sum, expected);
});

Deno.test("a callback that throws loses no other record", () => {
  using object = loaded();
  const seen: number[] = [];
  using events = RingBuffer.create(object.map("events"), (record) => {
    seen.push(record[0]!);
    if (record[0] === 1) throw new Error("enough");
  });
  for (const byte of [1, 2]) send(object, byte);
  assertThrows(() => events.consume(), Error, "enough");
  assertEquals(events.consume(), 1);
  assertEquals(seen, [1, 2]);
});

Deno.test("a callback may close the ring buffer", () => {
  using object = loaded();
  using events = RingBuffer.create(object.map("events"), () => events.close());
  for (const byte of [1, 2]) send(object, byte);
  assertEquals(events.consume(), 1);
  assertEquals(events.consume(), 0);
});

Deno.test("poll() waits no longer than it is told", () => {
  using object = loaded();
  using events = RingBuffer.create(object.map("events"), () => {});
  const start = performance.now();
  assertEquals(events.poll(50), 0);
  assert(performance.now() - start >= 49);
  send(object, 1);
  assertEquals(events.poll(60_000), 1);
  for (const timeout of [-1, Infinity, NaN]) {
    assertThrows(() => events.poll(timeout), RangeError, `Cannot wait ${timeout} ms`);
  }
});

Deno.test("records() gives records as they come, until the signal", async () => {
  using object = loaded();
  using events = RingBuffer.create(object.map("events"));
  const stop = new AbortController();
  send(object, 1);
  const seen: number[] = [];
  for await (const record of events.records({ signal: stop.signal })) {
    seen.push(record[0]!);
    if (seen.length < 3) later(() => send(object, seen.length + 1));
    else later(() => stop.abort());
  }
  assertEquals(seen, [1, 2, 3]);
});

Deno.test("records() leaves to the next reader what it has not given", async () => {
  using object = loaded();
  using events = RingBuffer.create(object.map("events"));
  for (const byte of [1, 2, 3]) send(object, byte);
  for await (const record of events) {
    assertEquals(record[0], 1);
    break;
  }
  const stop = new AbortController();
  for await (const record of events.records({ signal: stop.signal })) {
    assertEquals(record[0], 2);
    stop.abort();
  }
  for await (const _ of events.records({ signal: stop.signal })) {
    throw new Error("the signal is aborted already");
  }
  for await (const record of events) {
    assertEquals(record[0], 3);
    break;
  }
});

Deno.test("close() ends iterations that wait", async () => {
  using object = loaded();
  const events = RingBuffer.create(object.map("events"));
  later(() => events.close());
  for await (const _ of events) throw new Error("nobody has sent a record");
  events.close();
});

Deno.test("the event loop goes on while records() waits", async () => {
  using object = loaded();
  using events = RingBuffer.create(object.map("events"));
  let ticks = 0;
  const timer = setInterval(() => {
    if (++ticks < 5) return;
    clearInterval(timer);
    events.close();
  }, 1);
  for await (const _ of events) throw new Error("nobody has sent a record");
  assertEquals(ticks, 5);
});

Deno.test("create() wants a ring buffer, consume() a callback", () => {
  using object = loaded();
  assertThrows(() => RingBuffer.create(object.map("numbers")), TypeError, "it is a hash");
  using events = RingBuffer.create(object.map("events"));
  assertThrows(() => events.consume(), TypeError, "made without a callback");
  assertThrows(() => events.poll(0), TypeError, "made without a callback");
});
