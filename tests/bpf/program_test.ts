import { assert, assertEquals, assertMatch, assertThrows } from "@std/assert";
import { BpfError, BpfObject, BpfProgram, u32 } from "../../lib/bpf/mod.ts";
import { BpfFs, ELF, frame, loaded, Network } from "./support.ts";

Deno.test("a program tells what it is", () => {
  using object = loaded();
  const program = object.program("variables");
  assertEquals([program.name, program.type], ["variables", "xdp"]);
  assertEquals(object.program("classify").type, "sched_cls");
  assertMatch(program.tag, /^[0-9a-f]{16}$/);
  assert(program.tag !== object.program("pass").tag);
  assertEquals(object.program("pass").verifiedInstructions, 2);
  assert(program.verifiedInstructions! > 10);
  using again = BpfProgram.fromId(program.id);
  assertEquals([again.id, again.name, again.tag], [program.id, "variables", program.tag]);
});

Deno.test("testRun() gives verdict and packet", () => {
  using object = loaded();
  const { retval, data } = object.program("grow").testRun({ data: frame(0x11) });
  assertEquals(retval, 3);
  assertEquals([...data], [...Array(20).fill(0xee), ...Array(64).fill(0x11)]);
});

Deno.test("testRun() does not touch the packet it is given", () => {
  using object = loaded();
  const data = frame(0x22);
  object.program("grow").testRun({ data });
  assertEquals(data, frame(0x22));
});

Deno.test("testRun() puts metadata before the packet", () => {
  using object = loaded();
  const run = (metadata: Uint8Array) =>
    object.program("grow").testRun({ data: frame(0x11), metadata });
  const { retval, data } = run(new Uint8Array(32).fill(0xa5));
  assertEquals(retval, 3);
  assertEquals([...data], [...Array(20).fill(0xee), ...Array(64).fill(0x11)]);
  // The kernel has seen them: it wants words.
  assertEquals(assertThrows(() => run(new Uint8Array(3)), BpfError).code, "EINVAL");
});

Deno.test("testRun() repeats without putting the packet back", () => {
  using object = loaded();
  const { data } = object.program("grow").testRun({ data: frame(), repeat: 3 });
  assertEquals(data.length, 64 + 3 * 20);
});

Deno.test("testRun() tells how long a run takes", () => {
  using object = loaded();
  const { durationNs } = object.program("pass").testRun({ data: frame(), repeat: 1000 });
  assert(durationNs > 0 && durationNs < 1_000_000, `${durationNs} ns`);
});

/** How often the program "maps" ran. */
function mapsRuns(object: BpfObject): number {
  return object.map("per_cpu").lookupPerCpu(u32(1))!
    .reduce(
      (sum, { buffer, byteOffset }) => sum + new DataView(buffer, byteOffset).getUint32(0, true),
      0,
    );
}

Deno.test("testRun() makes as many live frames as it is told to, and hands none back", () => {
  using object = loaded();
  const live = { data: frame(0x11), liveFrames: true };
  const { data } = object.program("maps").testRun({ ...live, repeat: 1000, batchSize: 100 });
  assertEquals([mapsRuns(object), data.length], [1000, 0]);
  object.program("maps").testRun(live);
  assertEquals(mapsRuns(object), 1001);
  const tooMany = { ...live, repeat: 1000, batchSize: 257 };
  assertEquals(assertThrows(() => object.program("maps").testRun(tooMany), BpfError).code, "E2BIG");
  // An ordinary run after them is one again.
  assertEquals(object.program("grow").testRun({ data: frame(0x11) }).data.length, 84);
});

Deno.test("testRun() sends live frames where the program says", async () => {
  using network = new Network();
  using object = loaded();
  using _left = object.program("pass").attachXdp(network.ifindex, { mode: "native" });
  using _right = object.program("maps").attachXdp(network.peerIfindex, { mode: "native" });
  const sent = { data: frame(0x11), ingressIfindex: network.ifindex, repeat: 100 };
  object.program("grow").testRun(sent);
  assertEquals(mapsRuns(object), 0);
  object.program("grow").testRun({ ...sent, liveFrames: true });
  for (let i = 0; i < 100 && mapsRuns(object) < 100; i++) {
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  assertEquals(mapsRuns(object), 100);
});

Deno.test("testRun() takes packets of all sizes in turn", () => {
  using object = loaded();
  for (const size of [14, 3000, 64, 3500, 60]) {
    const { data } = object.program("pass").testRun({ data: new Uint8Array(size).fill(size) });
    assertEquals([data.length, data.at(-1)], [size, size & 0xff]);
  }
});

Deno.test("testRun() runs programs of other types", () => {
  using object = loaded();
  assertEquals(object.program("classify").testRun({ data: frame() }).retval, 64);
});

Deno.test("testRun() says what is wrong", () => {
  using object = BpfObject.open(ELF).setAutoload("untestable", true).load();
  const run = (name: string, size: number, sizeOut = 100): BpfError =>
    assertThrows(
      () => object.program(name).testRun({ data: new Uint8Array(size), sizeOut }),
      BpfError,
    );
  const small = run("grow", 90);
  assertEquals(small.code, "ENOSPC");
  assert(small.message.includes("has 110 bytes now: give a larger sizeOut"), small.message);
  assertEquals(run("pass", 13).code, "EINVAL");
  const untestable = run("untestable", 64);
  assertEquals(untestable.code, "ENOTSUPP");
  assert(untestable.message.includes("no test run for this type"), untestable.message);
});

Deno.test("testRun() seems to come from an interface", () => {
  using network = new Network();
  using object = loaded();
  // An interface has receive queues for XDP only once it has an XDP program.
  using _ = object.program("pass").attachXdp(network.ifindex, { mode: "native" });
  const program = object.program("ingress");
  const run = (rxQueueIndex?: number): number =>
    program.testRun({
      data: frame(),
      ingressIfindex: network.ifindex,
      ...(rxQueueIndex === undefined ? {} : { rxQueueIndex }),
    }).retval;
  assertEquals(run(), network.ifindex);
  assertEquals(run(0), network.ifindex);
  assertEquals(assertThrows(() => run(999), BpfError).code, "EINVAL");
  assert(program.testRun({ data: frame() }).retval !== network.ifindex);
});

Deno.test("pins keep a program", () => {
  using fs = new BpfFs();
  const path = `${fs.path}/pass`;
  const object = loaded();
  const { id } = object.program("pass");
  object.program("pass").pin(path);
  object.close();
  using program = BpfProgram.openPinned(path);
  assertEquals(program.id, id);
  assertEquals(program.testRun({ data: frame() }).retval, 2);
  program.unpin(path);
  program.close();
  assertEquals(assertThrows(() => BpfProgram.fromId(id), BpfError).code, "ENOENT");
});
