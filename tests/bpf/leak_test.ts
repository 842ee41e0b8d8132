import { assertEquals, assertThrows } from "@std/assert";
import {
  BpfError,
  BpfMap,
  BpfObject,
  BpfProgram,
  RingBuffer,
  u32,
  XdpBusyError,
} from "../../lib/bpf/mod.ts";
import { assertMapGone, BpfFs, ELF, frame, loaded, Network, openFds } from "./support.ts";

/** Uses all there is, also in ways that fail. Returns the ids of what it made. */
async function useEverything(): Promise<{ maps: number[]; programs: number[] }> {
  using network = new Network();
  using fs = new BpfFs();
  using object = loaded();
  object.setVariable("counter", 1);
  for (const name of ["pass", "variables"]) object.program(name).testRun({ data: frame() });

  using inner = BpfMap.create({
    type: "array",
    keySize: 4,
    valueSize: 32,
    maxEntries: 3,
    flags: ["inner_map"],
  });
  object.map("rings").updateInner(u32(0), inner);
  object.map("numbers").pin(`${fs.path}/numbers`);
  BpfMap.openPinned(`${fs.path}/numbers`).close();
  BpfProgram.fromId(object.program("drop").id).close();
  using _link = object.program("pass").attachXdp(network.ifindex);
  assertThrows(() => object.program("drop").attachXdp(network.ifindex), XdpBusyError);

  using events = RingBuffer.create(object.map("events"), () => {});
  events.poll(1);
  setTimeout(() => events.close(), 1);
  for await (const _ of events) break;

  assertThrows(() => BpfObject.open(ELF).setAutoload("refused", true).load(), BpfError);
  return {
    maps: [...object.maps.values(), inner].map(({ id }) => id),
    programs: [...object.programs.values()].map(({ id }) => id),
  };
}

Deno.test("nothing is left open, loaded or attached", async () => {
  await useEverything(); // what is opened once and kept, such as the libraries
  const before = openFds();
  const { maps, programs } = await useEverything();
  assertEquals(openFds(), before);
  for (const id of programs) {
    assertEquals(assertThrows(() => BpfProgram.fromId(id), BpfError).code, "ENOENT");
  }
  for (const id of maps) await assertMapGone(id);
});
