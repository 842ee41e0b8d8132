import { assert, assertEquals, assertThrows } from "@std/assert";
import {
  BpfError,
  BpfMap,
  BpfObject,
  hasXdpHelper,
  NotSupportedError,
  u32,
  VerifierError,
} from "../../lib/bpf/mod.ts";
import { ELF, frame, loaded, numbersIn, u64 } from "./support.ts";

Deno.test("open() reads the initial values of variables", () => {
  using object = BpfObject.open(ELF);
  assertEquals(object.variable("limit"), u32(7));
  assertEquals(object.variable("delta"), Uint8Array.of(0xfe, 0xff));
  assertEquals(object.variable("counter"), u64(40));
  assertEquals(object.variable("zeroed"), new Uint8Array(16));
  assertEquals(object.variable("threshold"), u32(5));
  assertEquals(object.variable("huge"), u64(0x123456789abcdef0n));
});

Deno.test("open() refuses what is no BPF object", () => {
  assertThrows(() => BpfObject.open(new Uint8Array(100)), TypeError, "not an ELF file");
  assertThrows(() => BpfObject.open(ELF.subarray(0, 4000)), TypeError, "cut off");
  const foreign = ELF.slice();
  foreign[18] = 62; // x86-64
  assertThrows(() => BpfObject.open(foreign), TypeError, "clang --target=bpf");
});

Deno.test("open() says what libbpf has against an object", () => {
  const legacy = ELF.slice();
  // The old name of the section of maps, in the last table of names.
  const name = new TextDecoder("latin1").decode(legacy).lastIndexOf(".maps\0");
  legacy.set(new TextEncoder().encode("maps\0"), name);
  const error = assertThrows(() => BpfObject.open(legacy, { name: "old" }), BpfError);
  assertEquals(error.operation, 'open BPF object "old"');
  assert(error.message.includes("legacy map definitions"), error.message);
});

Deno.test("load() makes maps and programs under the names that they have in C", () => {
  using object = loaded();
  assertEquals([...object.maps.keys()].sort(), [
    ".bss",
    ".data",
    ".data.hidden",
    ".data.settings",
    ".rodata",
    "events",
    "numbers",
    "per_cpu",
    "rings",
  ]);
  assertEquals([...object.programs.keys()].sort(), [
    "classify",
    "drop",
    "emit",
    "grow",
    "ingress",
    "maps",
    "pass",
    "variables",
  ]);
  assertThrows(() => object.map("none"), RangeError, 'Cannot find map "none": there are ');
  assertThrows(() => object.program("refused"), RangeError, "there are variables");
  assertThrows(() => object.load(), TypeError, "loaded already");
  assertThrows(() => object.setMaxEntries("numbers", 5), TypeError, "loaded already");
});

Deno.test("maps and programs are not there before load()", () => {
  using object = BpfObject.open(ELF);
  assertThrows(() => object.map("numbers"), TypeError, "call load() first");
  assertThrows(() => object.programs, TypeError, "call load() first");
});

Deno.test("setMaxEntries() sets the size of a map", () => {
  using object = BpfObject.open(ELF).setMaxEntries("numbers", 1234).load();
  assertEquals(object.map("numbers").maxEntries, 1234);
});

Deno.test("setMaxEntries() refuses unknown maps and impossible sizes", () => {
  using object = BpfObject.open(ELF);
  assertThrows(() => object.setMaxEntries("none", 1), RangeError, 'Cannot find map "none"');
  for (const size of [0, -1, 1.5, 2 ** 32, NaN]) {
    assertThrows(() => object.setMaxEntries("numbers", size), RangeError, `to ${size}:`);
  }
});

Deno.test("load() names the map that the kernel refuses", () => {
  using object = BpfObject.open(ELF).setMaxEntries("numbers", 0xffff_ffff);
  const error = assertThrows(() => object.load(), BpfError, "map 'numbers'");
  assertEquals(error.code, "E2BIG");
});

Deno.test("load() can be tried again after a failure", () => {
  using object = BpfObject.open(ELF).setMaxEntries("numbers", 0xffff_ffff);
  assertThrows(() => object.load(), BpfError);
  object.setMaxEntries("numbers", 8).load();
  assertEquals(object.map("numbers").maxEntries, 8);
});

Deno.test("load() tells why the verifier refuses a program", () => {
  using object = BpfObject.open(ELF).setAutoload("refused", true);
  const error = assertThrows(() => object.load(), VerifierError);
  assertEquals(error.program, "refused");
  assertEquals(error.code, "EACCES");
  assert(error.message.endsWith("; R1 offset is outside of the packet"), error.message);
  assert(error.log.includes("invalid access to packet"), error.log);
  assert(error.log.includes("processed "), error.log);
});

Deno.test("load() tells why in workers too, at the same time", async () => {
  const url = new URL("./load_worker.ts", import.meta.url);
  const workers = [1, 2].map(() => new Worker(url, { type: "module" }));
  const answers = workers.map((worker) =>
    new Promise<{ message: string; log: string }>((resolve, reject) => {
      worker.onmessage = (event) => resolve(event.data);
      worker.onerror = reject;
    })
  );
  for (let i = 0; i < 30; i++) {
    using object = BpfObject.open(ELF).setMaxEntries("numbers", 0xffff_ffff);
    assertThrows(() => object.load(), BpfError, "map 'numbers'");
    await new Promise((resolve) => setTimeout(resolve, 0));
  }
  for (const { message, log } of await Promise.all(answers)) {
    assert(message.endsWith("; R1 offset is outside of the packet"), message);
    assert(log.includes("processed "), log);
  }
  for (const worker of workers) worker.terminate();
});

Deno.test("setAutoload() leaves programs out", () => {
  using object = BpfObject.open(ELF).setAutoload("drop", false).load();
  assertThrows(() => object.program("drop"), RangeError);
  assertEquals(object.program("pass").testRun({ data: frame() }).retval, 2);
  using fresh = BpfObject.open(ELF);
  assertThrows(() => fresh.setAutoload("none", true), RangeError, 'program "none"');
});

Deno.test("setVariable() before load() sets what programs start with", () => {
  using object = BpfObject.open(ELF)
    .setVariable("limit", 30)
    .setVariable("delta", -20)
    .setVariable("threshold", 99)
    .setVariable("counter", 2n ** 63n)
    .load();
  assertEquals(object.program("variables").testRun({ data: frame() }).retval, 30 - 20 + 1);
  assertEquals(object.variable("counter"), u64(2n ** 63n + 1n));
  assertEquals(numbersIn(object.variable("zeroed")), [0, 99, 0, 0]);
});

Deno.test("variable() before load() is the initial value itself", () => {
  using object = BpfObject.open(ELF);
  const limit = object.variable("limit");
  limit.set(u32(12));
  object.load();
  assertEquals(object.program("variables").testRun({ data: frame() }).retval, 12 - 2 + 1);
  assertEquals(limit.length, 0);
});

Deno.test("variable() after load() is the memory that programs use", () => {
  using object = loaded();
  const counter = object.variable("counter");
  const zeroed = object.variable("zeroed");
  const run = (): number => object.program("variables").testRun({ data: frame() }).retval;
  run();
  assertEquals(counter, u64(41));
  object.setVariable("threshold", 1000).setVariable("counter", 7);
  run();
  assertEquals(counter, u64(8));
  assertEquals(numbersIn(zeroed), [0, 1000, 0, 0]);
});

Deno.test("variable() may be touched after close()", () => {
  const object = loaded();
  const counter = object.variable("counter");
  object.close();
  counter.fill(1);
  assertEquals(counter.length, 8);
});

Deno.test("constants cannot be set after load()", () => {
  using object = loaded();
  assertThrows(() => object.setVariable("limit", 8), TypeError, "it is a constant");
  object.variable("limit").set(u32(100));
  assertEquals(object.variable("limit"), u32(7));
});

Deno.test("variable() says why a section cannot be seen", () => {
  using object = loaded();
  assertThrows(() => object.variable("hidden"), TypeError, "it is not mmapable");
});

Deno.test("setVariable() checks numbers by type", () => {
  using object = BpfObject.open(ELF);
  const cases: [name: string, value: number | bigint | boolean, fits: boolean][] = [
    ["limit", 2 ** 32 - 1, true],
    ["limit", 2 ** 32, false],
    ["limit", -1, false],
    ["limit", 1.5, false],
    ["delta", 32767, true],
    ["delta", 32768, false],
    ["delta", -32768, true],
    ["delta", -32769, false],
    ["enabled", true, true],
    ["enabled", 2, false],
    ["colour", -7, true],
    ["huge", 2n ** 64n - 1n, true],
    ["huge", 2n ** 64n, false],
    ["counter", 2 ** 53, false],
  ];
  for (const [name, value, fits] of cases) {
    if (fits) object.setVariable(name, value);
    else assertThrows(() => object.setVariable(name, value), RangeError, `"${name}" to ${value}:`);
  }
  assertEquals(object.variable("colour"), Uint8Array.of(0xf9, 0xff, 0xff, 0xff));
});

Deno.test("setVariable() takes bytes for what is no number", () => {
  using object = BpfObject.open(ELF);
  assertThrows(() => object.setVariable("origin", 1), TypeError, "it is a struct; give its bytes");
  assertThrows(() => object.setVariable("origin", new Uint8Array(3)), RangeError, "it has 32");
  object.setVariable("origin", new Uint8Array(32).fill(9));
  assertEquals(object.variable("origin"), new Uint8Array(32).fill(9));
});

Deno.test("variable() names the variables that there are", () => {
  using object = BpfObject.open(ELF);
  assertThrows(() => object.variable("none"), RangeError, "counter");
});

Deno.test("reuseMap() makes two objects share a map and what it holds", () => {
  using first = loaded();
  first.setVariable("threshold", 31);
  using second = BpfObject.open(ELF)
    .reuseMap("numbers", first.map("numbers"))
    .reuseMap(".data.settings", first.map(".data.settings"))
    .load();
  assertEquals(second.map("numbers").id, first.map("numbers").id);
  assertEquals(second.variable("threshold"), u32(31));
  first.setVariable("threshold", 32);
  second.program("variables").testRun({ data: frame() });
  assertEquals(numbersIn(second.variable("zeroed")), [0, 32, 0, 0]);
});

Deno.test("reuseMap() takes an array for a percpu_array, and one for nothing else", () => {
  const options = { keySize: 4, valueSize: 4, maxEntries: 4 } as const;
  using array = BpfMap.create({ ...options, type: "array", flags: ["mmapable"] });
  using object = BpfObject.open(ELF).reuseMap("per_cpu", array).load();
  assertEquals(object.map("per_cpu").id, array.id);
  using other = BpfMap.create({ ...options, type: "array", valueSize: 8 });
  assertThrows(
    () => BpfObject.open(ELF).reuseMap("numbers", other),
    TypeError,
    "its type is array",
  );
});

Deno.test("reuseMap() refuses a map of another shape", () => {
  using object = BpfObject.open(ELF);
  using other = BpfMap.create({ type: "hash", keySize: 4, valueSize: 4, maxEntries: 1 });
  assertThrows(() => object.reuseMap("numbers", other), TypeError, "its valueSize is 4, not 8");
  assertThrows(() => object.reuseMap("none", other), RangeError, 'map "none"');
});

Deno.test("close() closes what the object has, more than once", () => {
  const object = loaded();
  const map = object.map("numbers");
  const program = object.program("pass");
  object.close();
  object.close();
  assertThrows(() => map.fd, TypeError, "after closing");
  assertThrows(() => program.testRun({ data: frame() }), TypeError, "after closing");
});

Deno.test("errors of a kind can be told apart by class", () => {
  const verifier = new VerifierError("p", -13, "first\nlast\nprocessed 2 insns (limit 5)\n");
  assert(verifier instanceof BpfError);
  assertEquals(verifier.message, 'Cannot load program "p": permission denied (EACCES); last');
  const missing = new NotSupportedError("batches", "5.6");
  assertEquals(missing.message, "This kernel does not support batches: Linux 5.6 or later does");
});

Deno.test("hasXdpHelper() tells what XDP programs may call", () => {
  const BPF_MAP_LOOKUP_ELEM = 1;
  assertEquals([BPF_MAP_LOOKUP_ELEM, 9999].map(hasXdpHelper), [true, false]);
});
