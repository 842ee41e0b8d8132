import { assert, assertEquals, assertThrows } from "@std/assert";
import { Btf, type BtfType, hasKernelBtf, resolve, sizeOf } from "../../lib/bpf/mod.ts";
import { parseElf } from "../../lib/bpf/elf.ts";
import { ELF } from "../bpf/support.ts";

const btf = Btf.fromElf(ELF);

Deno.test("a struct has its members where C puts them", () => {
  const { size, members } = btf.struct("pair");
  assertEquals(size, 32);
  assertEquals(
    members.map(({ name, offsetBits, bitfieldSize }) => [name, offsetBits, bitfieldSize]),
    [["current", 0, 0], ["previous", 32, 0], ["nested", 64, 0], ["next", 192, 0]],
  );
  assertEquals(members.map(({ type }) => sizeOf(type)), [4, 4, 16, 8]);
});

Deno.test("members of members are found through arrays and pointers", () => {
  const [, , nested, next] = btf.struct("pair").members;
  const array = nested!.type;
  assert(array.kind === "array" && array.length === 2);
  assert(array.type === btf.struct("inner"));
  assert(next!.type.kind === "pointer" && next!.type.type === btf.struct("pair"));
});

Deno.test("bit-fields have their width", () => {
  assertEquals(
    btf.struct("inner").members.map(({ name, offsetBits, bitfieldSize }) =>
      `${name} ${offsetBits} ${bitfieldSize}`
    ),
    ["id 0 0", "low 32 3", "high 35 5"],
  );
});

Deno.test("typedefs and qualifiers lead to numbers with size and sign", () => {
  const numberOf = (name: string): BtfType => {
    const variable = btf.dataSections.flatMap(({ variables }) => variables)
      .find((variable) => variable.name === name);
    return resolve(variable!.type);
  };
  const shapes = ["limit", "delta", "enabled", "counter"].map((name) => {
    const type = numberOf(name);
    return type.kind === "int" ? [type.size, type.bits, type.signed, type.bool] : type.kind;
  });
  assertEquals(shapes, [
    [4, 32, false, false],
    [2, 16, true, false],
    [1, 8, false, true],
    [8, 64, false, false],
  ]);
});

Deno.test("enums have their values, negative and of 64 bits", () => {
  const colour = btf.enum("colour");
  assertEquals(colour.values, [
    { name: "RED", value: 1 },
    { name: "GREEN", value: 2 },
    { name: "BLUE", value: -7 },
  ]);
  assertEquals([colour.size, colour.signed], [4, true]);
  const huge = btf.enum("huge");
  assertEquals(huge.kind, "enum64");
  assertEquals(huge.values, [{ name: "HUGE", value: 0x123456789abcdef0n }]);
  assertEquals(btf.enums.map(({ name }) => name).sort(), ["colour", "huge"]);
});

Deno.test("variables are at the places that the symbol table tells", () => {
  const elf = parseElf(ELF);
  const rodata = btf.dataSections.find(({ name }) => name === ".rodata")!;
  const section = elf.sections.find(({ name }) => name === ".rodata")!;
  assertEquals(rodata.size, section.size);
  const symbols = elf.symbols.filter((symbol) => symbol.section === section.index && symbol.name);
  assertEquals(
    rodata.variables.map(({ name, offset, size }) => [name, offset, size]).sort(),
    symbols.map(({ name, offset, size }) => [name, offset, size]).sort(),
  );
  assert(new Set(rodata.variables.map(({ offset }) => offset)).size === rodata.variables.length);
  const hidden = btf.dataSections.find(({ name }) => name === ".data.hidden")!.variables[0]!;
  assertEquals([hidden.name, hidden.linkage], ["hidden", "static"]);
});

Deno.test("functions have parameters and a result", () => {
  const pass = btf.find("function", "pass")!;
  assert(pass.kind === "function" && pass.type.kind === "function_prototype");
  const [ctx] = pass.type.parameters;
  assertEquals([ctx!.name, ctx!.type.kind], ["ctx", "pointer"]);
  assertEquals(resolve(pass.type.type), btf.find("int", "int"));
});

Deno.test("what is not there is an error, or undefined", () => {
  assertThrows(() => btf.struct("none"), RangeError, 'Cannot find struct "none" in BTF');
  assertThrows(() => btf.enum("none"), RangeError, 'Cannot find enum "none" in BTF');
  assertThrows(() => btf.type(btf.length), RangeError, `BTF type ${btf.length}`);
  assertEquals(btf.find("union", "pair"), undefined);
  assertEquals(btf.type(0), { id: 0, kind: "void" });
  assertThrows(() => sizeOf(btf.find("function", "pass")!), TypeError, "a function");
});

Deno.test("damaged BTF is refused, wherever it ends", () => {
  const whole = parseElf(ELF).sections.find(({ name }) => name === ".BTF")!.data;
  assertEquals(Btf.parse(whole).length, btf.length);
  assertThrows(() => Btf.parse(new Uint8Array(100)), TypeError, "does not begin as BTF");
  for (let length = 0; length < whole.length; length += 97) {
    assertThrows(() => Btf.parse(whole.subarray(0, length)), TypeError, "Cannot read BTF");
  }
});

Deno.test("a cut-off object file is refused, wherever it ends", () => {
  for (let length = 0; length < ELF.length; length += 97) {
    assertThrows(() => parseElf(ELF.subarray(0, length)), TypeError, "Cannot read BPF object");
  }
});

Deno.test({
  name: "the kernel's BTF is read as a whole",
  ignore: !hasKernelBtf(),
  fn(): void {
    const kernel = Btf.vmlinux();
    const header = kernel.struct("iphdr");
    assertEquals(header.size, 20);
    const address = header.members.find(({ offsetBits }) => offsetBits === 12 * 8);
    assert(address !== undefined && sizeOf(address.type) === (address.name === "saddr" ? 4 : 8));
    const action = kernel.enum("xdp_action");
    assertEquals(action.values.map(({ value }) => value), [0, 1, 2, 3, 4]);
    // Every type is decoded, so every kind that this kernel uses is known.
    assertEquals(kernel.types.length, kernel.length);
  },
});
