import { assert, assertEquals, assertThrows } from "@std/assert";
import {
  BpfError,
  type BpfObject,
  BpfProgram,
  interfaceIndex,
  queryXdp,
  XdpBusyError,
  XdpLink,
  type XdpMode,
} from "../../lib/bpf/mod.ts";
import { BpfFs, loaded, Network, run } from "./support.ts";

/** Runs a test with a loaded object on an interface of its own. */
function test(name: string, body: (object: BpfObject, ifindex: number) => void): void {
  Deno.test(name, () => {
    using network = new Network();
    using object = loaded();
    body(object, network.ifindex);
  });
}

const NOTHING = { native: undefined, generic: undefined, offloaded: undefined };

for (const mode of ["native", "generic"] satisfies XdpMode[]) {
  test(`attachXdp() attaches in ${mode} mode until the link is closed`, (object, ifindex) => {
    const program = object.program("pass");
    assertEquals(queryXdp(ifindex), NOTHING);
    const link = program.attachXdp(ifindex, { mode });
    assertEquals([link.mode, link.ifindex, link.programId], [mode, ifindex, program.id]);
    assert(link.attached);
    assertEquals(queryXdp(ifindex), { ...NOTHING, [mode]: program.id });
    link.close();
    link.close();
    assertEquals(queryXdp(ifindex), NOTHING);
  });
}

test("attachXdp() is native where the driver takes the program", (object, ifindex) => {
  using link = object.program("pass").attachXdp(ifindex);
  assertEquals(link.mode, "native");
});

test("attachXdp() is generic where the driver does not", (object) => {
  // The loopback driver knows nothing of XDP.
  const program = object.program("pass");
  const refused = assertThrows(() => program.attachXdp(1, { mode: "native" }), BpfError);
  assertEquals(refused.code, "EOPNOTSUPP");
  using link = program.attachXdp(1);
  assertEquals([link.mode, queryXdp(1).generic], ["generic", program.id]);
});

test("attachXdp() falls back also where the frames are too large", (object, ifindex) => {
  run("ip", "link", "set", "left", "mtu", "9000");
  run("ip", "link", "set", "right", "mtu", "9000");
  using link = object.program("pass").attachXdp(ifindex);
  assertEquals(link.mode, "generic");
});

test("attachXdp() leaves another program alone and names it", (object, ifindex) => {
  using link = object.program("drop").attachXdp(ifindex);
  for (const mode of ["auto", "native", "generic"] as const) {
    const error = assertThrows(
      () => object.program("pass").attachXdp(ifindex, { mode }),
      XdpBusyError,
    );
    assertEquals(
      [error.ifindex, error.programId, error.programName],
      [ifindex, object.program("drop").id, "drop"],
    );
    assert(error.message.includes(`program ${error.programId} "drop"`), error.message);
  }
  assertEquals(queryXdp(ifindex).native, link.programId);
});

test("attachXdp() leaves programs alone that were attached without a link", (object, ifindex) => {
  using fs = new BpfFs();
  object.program("drop").pin(`${fs.path}/drop`);
  run("ip", "link", "set", "left", "xdpgeneric", "pinned", `${fs.path}/drop`);
  const error = assertThrows(() => object.program("pass").attachXdp(ifindex), XdpBusyError);
  assertEquals(error.programName, "drop");
});

test("interfaceIndex() finds an interface by name", (_object, ifindex) => {
  assertEquals(interfaceIndex("left"), ifindex);
  const error = assertThrows(() => interfaceIndex("middle"), BpfError, '"middle"');
  assertEquals(error.code, "ENODEV");
});

test("attachXdp() says what is wrong", (object, ifindex) => {
  const code = (program: BpfProgram, ifindex: number): string =>
    assertThrows(() => program.attachXdp(ifindex), BpfError).code;
  assertEquals(code(object.program("pass"), 0x7fff_ffff), "ENODEV");
  assertEquals(code(object.program("classify"), ifindex), "EINVAL");
});

test("update() replaces the program", (object, ifindex) => {
  const [pass, drop] = [object.program("pass"), object.program("drop")];
  using link = pass.attachXdp(ifindex);
  link.update(drop);
  assertEquals([link.programId, queryXdp(ifindex).native], [drop.id, drop.id]);
  link.update(pass, { expected: drop });
  assertEquals(link.programId, pass.id);
});

test("update() does not replace another program than expected", (object, ifindex) => {
  const [pass, drop] = [object.program("pass"), object.program("drop")];
  using link = pass.attachXdp(ifindex);
  const error = assertThrows(() => link.update(drop, { expected: drop }), BpfError);
  assertEquals(error.code, "EPERM");
  assert(error.message.includes(`program ${pass.id} is there instead of ${drop.id}`));
  assertEquals(link.programId, pass.id);
});

test("detach() detaches, whoever holds the link", (object, ifindex) => {
  using link = object.program("pass").attachXdp(ifindex);
  link.detach();
  assert(!link.attached);
  assertEquals(queryXdp(ifindex), NOTHING);
  assertEquals(assertThrows(() => link.update(object.program("drop")), BpfError).code, "ENOLINK");
});

test("a link outlives its interface as an empty one", (object, ifindex) => {
  using link = object.program("pass").attachXdp(ifindex);
  run("ip", "link", "del", "left");
  assert(!link.attached);
  assertEquals(assertThrows(() => queryXdp(ifindex), BpfError).code, "ENODEV");
});

test("pins keep a program attached", (object, ifindex) => {
  using fs = new BpfFs();
  const path = `${fs.path}/link`;
  const { id } = object.program("pass");
  const link = object.program("pass").attachXdp(ifindex);
  link.pin(path);
  link.close();
  object.close();
  assertEquals(queryXdp(ifindex).native, id);

  using again = XdpLink.openPinned(path);
  assertEquals(
    [again.id, again.ifindex, again.mode, again.programId],
    [link.id, ifindex, "native", id],
  );
  again.unpin(path);
  again.close();
  assertEquals(queryXdp(ifindex), NOTHING);
  assertEquals(assertThrows(() => XdpLink.openPinned(path), BpfError).code, "ENOENT");
});

test("a link from another network namespace does not tell its mode", (object, ifindex) => {
  using fs = new BpfFs();
  using link = object.program("pass").attachXdp(ifindex);
  link.pin(`${fs.path}/link`);
  using _ = new Network();
  using again = XdpLink.openPinned(`${fs.path}/link`);
  assertEquals([again.mode, again.programId], [undefined, link.programId]);
});

test("a program stays loaded while it is attached", (object, ifindex) => {
  const { id } = object.program("pass");
  const link = object.program("pass").attachXdp(ifindex);
  object.close();
  BpfProgram.fromId(id).close();
  link.close();
  assertEquals(assertThrows(() => BpfProgram.fromId(id), BpfError).code, "ENOENT");
});
