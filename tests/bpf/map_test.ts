import { assert, assertEquals, assertThrows } from "@std/assert";
import {
  BpfError,
  BpfMap,
  BpfProgram,
  type Bytes,
  type MapOptions,
  type MapType,
  possibleCpus,
  u32,
} from "../../lib/bpf/mod.ts";
import { BpfFs, frame, loaded, numbersIn, u64 } from "./support.ts";

function hash(options: Partial<MapOptions> = {}): BpfMap {
  return BpfMap.create({ type: "hash", keySize: 4, valueSize: 8, maxEntries: 100, ...options });
}

/** Packed keys 0 to `count` - 1. */
function keysUpTo(count: number): Bytes {
  return new Uint8Array(Uint32Array.from({ length: count }, (_, i) => i).buffer);
}

function valuesUpTo(count: number): Bytes {
  return new Uint8Array(BigUint64Array.from({ length: count }, (_, i) => BigInt(i * 3)).buffer);
}

Deno.test("create() makes a map that tells what it is", () => {
  using map = hash({ name: "a_name_of_more_than_15", flags: ["no_prealloc", "zero_seed"] });
  assertEquals(
    [map.type, map.keySize, map.valueSize, map.maxEntries, map.name, map.perCpu],
    ["hash", 4, 8, 100, "a_name_of_more_than_15", false],
  );
  assertEquals([...map.flags], ["no_prealloc", "zero_seed"]);
  using again = BpfMap.fromId(map.id);
  assertEquals(again.name, "a_name_of_more_");
  assertEquals(again.flags, map.flags);
});

Deno.test("create() says what the kernel refuses", () => {
  const error = assertThrows(() => hash({ valueSize: 0, name: "empty" }), BpfError);
  assertEquals(error.code, "EINVAL");
  assertEquals(error.operation, 'create hash map "empty" of 100 entries');
});

Deno.test("lookup(), update() and delete() work on one entry", () => {
  using map = hash();
  assertEquals(map.lookup(u32(1)), undefined);
  map.update(u32(1), u64(10));
  assertEquals(map.lookup(u32(1)), u64(10));
  assertEquals(map.delete(u32(1)), true);
  assertEquals(map.delete(u32(1)), false);
  assertEquals(map.lookup(u32(1)), undefined);
});

Deno.test("keys and values may be parts of larger buffers", () => {
  using map = hash();
  const buffer = Uint8Array.of(0, 0, 7, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 0);
  map.update(buffer.subarray(2, 6), buffer.subarray(6, 14));
  assertEquals(map.lookup(u32(7)), Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8));
});

Deno.test("update() obeys its mode", () => {
  using map = hash();
  const code = (mode: "exist" | "noexist"): string =>
    assertThrows(() => map.update(u32(1), u64(0), mode), BpfError).code;
  assertEquals(code("exist"), "ENOENT");
  map.update(u32(1), u64(1), "noexist");
  assertEquals(code("noexist"), "EEXIST");
  map.update(u32(1), u64(2), "exist");
  assertEquals(map.lookup(u32(1)), u64(2));
});

Deno.test("update() says that a map is full", () => {
  using map = hash({ maxEntries: 1, name: "small" });
  map.update(u32(1), u64(1));
  const error = assertThrows(() => map.update(u32(2), u64(1)), BpfError);
  assertEquals(error.code, "E2BIG");
  assert(error.message.endsWith("; it holds at most 1 entries"), error.message);
});

Deno.test("keys and values of a wrong size are refused", () => {
  using map = hash({ name: "sized" });
  const key = new Uint8Array(3);
  assertThrows(() => map.lookup(key), RangeError, 'key of 3 bytes in map "sized": it takes 4');
  assertThrows(() => map.delete(key), RangeError, "key of 3 bytes");
  assertThrows(() => map.update(key, u64(0)), RangeError, "key of 3 bytes");
  assertThrows(() => map.update(u32(0), u32(0)), RangeError, "value of 4 bytes");
  assertThrows(() => map.updateBatch(u32(0), u64(0), 2), RangeError, "keys of 4 bytes");
  assertThrows(() => map.updateBatch(u64(0), u64(0), 2), RangeError, "values of 8 bytes");
  assertThrows(() => map.deleteBatch(u64(0), 1), RangeError, "keys of 8 bytes");
});

Deno.test("per-CPU maps have a value for each processor", () => {
  using map = BpfMap.create({ type: "percpu_hash", keySize: 4, valueSize: 12, maxEntries: 5 });
  assertEquals(map.perCpu, true);
  assertEquals(map.valueStride, 16 * possibleCpus());
  const values = Array.from({ length: possibleCpus() }, (_, cpu) => new Uint8Array(12).fill(cpu));
  assertEquals(map.lookupPerCpu(u32(1)), undefined);
  map.updatePerCpu(u32(1), values);
  assertEquals(map.lookupPerCpu(u32(1)), values);
  const { count, values: packed } = map.lookupBatch();
  assertEquals([count, packed.length], [1, map.valueStride]);
  assertEquals(map.perCpuValues(packed), values);
  assertThrows(() => map.updatePerCpu(u32(1), []), RangeError, `it takes ${possibleCpus()}`);
});

Deno.test("per-CPU methods and others are not confused", () => {
  using single = hash();
  using many = BpfMap.create({ type: "percpu_array", keySize: 4, valueSize: 8, maxEntries: 1 });
  assertThrows(() => single.lookupPerCpu(u32(0)), TypeError, "use lookup()");
  assertThrows(() => single.updatePerCpu(u32(0), []), TypeError, "use update()");
  assertThrows(() => many.lookup(u32(0)), TypeError, "use lookupPerCpu()");
  assertThrows(() => many.update(u32(0), u64(0)), TypeError, "use updatePerCpu()");
});

Deno.test("per-CPU maps are filled in batches", () => {
  using map = BpfMap.create({ type: "percpu_hash", keySize: 4, valueSize: 8, maxEntries: 50 });
  const values = crypto.getRandomValues(new Uint8Array(50 * map.valueStride));
  map.updateBatch(keysUpTo(50), values, 50);
  const read = map.lookupBatch();
  assertEquals(read.count, 50);
  for (const [place, key] of numbersIn(read.keys).entries()) {
    const part = (of: Bytes, at: number): Bytes =>
      of.subarray(at * map.valueStride, (at + 1) * map.valueStride);
    assertEquals(part(read.values, place), part(values, key));
  }
});

for (const type of ["hash", "lru_hash", "array", "lpm_trie"] satisfies MapType[]) {
  Deno.test(`batches read what they wrote: ${type}`, () => {
    const count = 3000;
    const flags = type === "lpm_trie" ? ["no_prealloc"] as const : [];
    const keySize = type === "lpm_trie" ? 8 : 4;
    using map = BpfMap.create({ type, keySize, valueSize: 8, maxEntries: 3000, flags });
    let keys = keysUpTo(count);
    if (type === "lpm_trie") {
      const wide = new Uint32Array(count * 2);
      for (let i = 0; i < count; i++) wide.set([32, i], i * 2);
      keys = new Uint8Array(wide.buffer);
    }
    map.updateBatch(keys, valuesUpTo(count), count);
    const read = map.lookupBatch();
    // An LRU map may have evicted some of what fills it to the brim.
    if (type !== "lru_hash") assertEquals(read.count, count);
    assert(read.count > count / 2, `${read.count} entries`);
    const words = numbersIn(read.keys).filter((_, i) => type !== "lpm_trie" || i % 2 === 1);
    assertEquals(new Set(words).size, read.count);
    const values = new BigUint64Array(read.values.slice().buffer);
    assertEquals([...values], words.map((key) => BigInt(key * 3)));
  });
}

Deno.test("lookupBatch() reads a map of many pieces", () => {
  const count = 200_000;
  using map = hash({ maxEntries: count, valueSize: 8 });
  map.updateBatch(keysUpTo(count), valuesUpTo(count), count);
  const { keys, values, count: read } = map.lookupBatch();
  assertEquals([read, keys.length, values.length], [count, count * 4, count * 8]);
  assertEquals(new Set(numbersIn(keys)).size, count);
});

Deno.test("lookupBatch() reads an empty map", () => {
  using map = hash();
  assertEquals(map.lookupBatch(), {
    keys: new Uint8Array(0),
    values: new Uint8Array(0),
    count: 0,
  });
});

Deno.test("updateBatch() says how far it came", () => {
  using map = hash({ maxEntries: 4, name: "small" });
  const error = assertThrows(() => map.updateBatch(keysUpTo(9), valuesUpTo(9), 9), BpfError);
  assertEquals(error.operation, 'update map "small" after 4 of 9 entries');
  assertEquals(error.code, "E2BIG");
  map.updateBatch(new Uint8Array(0), new Uint8Array(0), 0);
});

Deno.test("deleteBatch() deletes what is there and counts it", () => {
  using map = hash();
  map.updateBatch(keysUpTo(10), valuesUpTo(10), 10);
  for (const missing of [0, 4, 5, 9]) map.delete(u32(missing));
  assertEquals(map.deleteBatch(keysUpTo(10), 10), 6);
  assertEquals([...map.keys()], []);
  assertEquals(map.deleteBatch(keysUpTo(10), 10), 0);
});

Deno.test("types without batches are read and written one by one", () => {
  const options = { keySize: 4, valueSize: 4, maxEntries: 8 } as const;
  using devices = BpfMap.create({ type: "devmap_hash", ...options });
  devices.updateBatch(keysUpTo(3), new Uint8Array(Uint32Array.of(1, 1, 1).buffer), 3);
  assertEquals(numbersIn(devices.lookupBatch().values), [1, 1, 1]);
  assertEquals([...devices.keys()].flatMap(numbersIn).sort(), [0, 1, 2]);
  assertEquals(devices.deleteBatch(keysUpTo(8), 8), 3);
  const error = assertThrows(
    () => devices.updateBatch(keysUpTo(2), new Uint8Array(Uint32Array.of(1, 0xffffff).buffer), 2),
    BpfError,
  );
  assert(error.operation.endsWith("after 1 of 2 entries"), error.operation);
});

Deno.test("keys() and entries() let the present entry be deleted", () => {
  using map = hash();
  using devices = BpfMap.create({
    type: "devmap_hash",
    keySize: 4,
    valueSize: 4,
    maxEntries: 100,
  });
  for (let i = 0; i < 100; i++) map.update(u32(i), u64(i));
  for (let i = 0; i < 100; i++) devices.update(u32(i), u32(1));
  const seen = new Set<number>();
  for (const [key, value] of map.entries()) {
    assertEquals(value, u64(numbersIn(key)[0]!));
    seen.add(numbersIn(key)[0]!);
    assert(map.delete(key));
  }
  assertEquals(seen.size, 100);
  const keys = new Set<number>();
  for (const key of devices.keys()) {
    keys.add(numbersIn(key)[0]!);
    assert(devices.delete(key));
  }
  assertEquals(keys.size, 100);
});

Deno.test("delete() and deleteBatch() say what an array cannot do", () => {
  using map = BpfMap.create({ type: "array", keySize: 4, valueSize: 4, maxEntries: 2 });
  assertEquals(assertThrows(() => map.delete(u32(0)), BpfError).code, "EINVAL");
  assertEquals(assertThrows(() => map.deleteBatch(u32(0), 1), BpfError).code, "EINVAL");
});

Deno.test("maps of maps hold maps of several sizes", async () => {
  using object = loaded();
  using stack = new DisposableStack();
  const rings = object.map("rings");
  const inner = [1, 5, 500].map((maxEntries) =>
    stack.use(
      BpfMap.create({
        type: "array",
        keySize: 4,
        valueSize: rings.lookupBatch().count === 0 ? 32 : 0,
        maxEntries,
        flags: ["inner_map"],
      }),
    )
  );
  rings.updateInner(u32(7), inner[0]!);
  assertEquals(rings.lookup(u32(7)), u32(inner[0]!.id));
  await rings.updateInnerBatch(keysUpTo(3), inner);
  for (const [i, map] of inner.entries()) assertEquals(rings.lookup(u32(i)), u32(map.id));

  const run = (): number => object.program("maps").testRun({ data: frame() }).retval;
  inner[1]!.update(u32(1), new Uint8Array(32).fill(1));
  assertEquals(run(), 0x01010101);
  rings.updateInner(u32(1), inner[2]!);
  assertEquals(run(), 0);
});

Deno.test("maps of maps refuse a map of another shape", () => {
  using object = loaded();
  using other = BpfMap.create({ type: "array", keySize: 4, valueSize: 4, maxEntries: 1 });
  const update = (): void => object.map("rings").updateInner(u32(0), other);
  assertEquals(assertThrows(update, BpfError).code, "EINVAL");
});

Deno.test("create() makes maps of maps", () => {
  using inner = hash();
  using outer = BpfMap.create({
    type: "hash_of_maps",
    keySize: 4,
    valueSize: 4,
    maxEntries: 3,
    inner,
  });
  outer.updateInner(u32(5), inner);
  assertEquals([...outer.entries()], [[u32(5), u32(inner.id)]]);
});

Deno.test("memory() tells what the kernel counts", () => {
  using small = hash({ maxEntries: 10 });
  using large = hash({ maxEntries: 100_000 });
  assert(small.memory()! > 0);
  assert(large.memory()! > 100_000 * 8);
});

Deno.test("pins keep a map, and are opened by name", () => {
  using fs = new BpfFs();
  const path = `${fs.path}/numbers`;
  const map = hash({ name: "numbers" });
  map.pin(path);
  assertEquals(assertThrows(() => map.pin(path), BpfError).code, "EEXIST");
  map.update(u32(1), u64(5));
  map.close();
  using again = BpfMap.openPinned(path);
  assertEquals([again.id, again.name], [map.id, "numbers"]);
  assertEquals(again.lookup(u32(1)), u64(5));
  again.unpin(path);
  const error = assertThrows(() => BpfMap.openPinned(path), BpfError);
  assertEquals([error.code, error.operation], ["ENOENT", `open pinned map "${path}"`]);
  assertThrows(() => again.unpin(path), Deno.errors.NotFound);
});

Deno.test("a pin of another kind is refused, a place outside a bpffs too", () => {
  using fs = new BpfFs();
  using object = loaded();
  object.program("pass").pin(`${fs.path}/program`);
  assertThrows(() => BpfMap.openPinned(`${fs.path}/program`), TypeError, "it is a program");
  object.map("numbers").pin(`${fs.path}/map`);
  assertThrows(() => BpfProgram.openPinned(`${fs.path}/map`), TypeError, "it is a map");
  const error = assertThrows(() => object.map("numbers").pin("/tmp/no_bpffs"), BpfError);
  assertEquals(error.code, "EPERM");
  assert(error.message.includes("/sys/fs/bpf"), error.message);
});

Deno.test("a closed map refuses to work", () => {
  const map = hash();
  map.close();
  map.close();
  assertThrows(() => map.lookup(u32(1)), TypeError, "after closing");
  assertEquals(assertThrows(() => BpfMap.fromId(0xffff_fff0), BpfError).code, "ENOENT");
});

Deno.test("view() is the memory of an array, until it is closed", () => {
  const options = { type: "array", keySize: 4, valueSize: 12, maxEntries: 300 } as const;
  using map = BpfMap.create({ ...options, flags: ["mmapable"] });
  const view = map.view();
  assertEquals(view.length, 300 * 16);
  map.update(u32(299), new Uint8Array(12).fill(7));
  assertEquals(view.subarray(299 * 16), Uint8Array.from({ length: 16 }, (_, i) => i < 12 ? 7 : 0));
  map.view().fill(9, 16, 20);
  assertEquals(map.lookup(u32(1)), Uint8Array.from({ length: 12 }, (_, i) => i < 4 ? 9 : 0));
  map.close();
  assertEquals(view[299 * 16], 0);
  using other = BpfMap.create(options);
  assertThrows(() => other.view(), TypeError, "it is not mmapable");
});
