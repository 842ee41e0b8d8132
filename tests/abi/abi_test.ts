// The generated codecs against bytes written by hand, and against the BTF of the embedded object.

import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { Btf } from "../../lib/bpf/btf.ts";
import { elfOf } from "../../lib/bpf/embedded.ts";
import * as abi from "../../lib/lb/abi.gen.ts";
import { OBJECT as DECAP_OBJECT } from "../../lib/lb/decap.gen.ts";
import * as decapAbi from "../../lib/lb/decap_abi.gen.ts";
import { OBJECT } from "../../lib/lb/xvs.gen.ts";
import { random } from "../unit/random.ts";

interface Codec {
  readonly size: number;
  readonly offsets: Readonly<Record<string, number>>;
  decode(bytes: Uint8Array, offset?: number): unknown;
  encode(value: unknown, into?: Uint8Array, offset?: number): Uint8Array;
}

interface Enum {
  readonly numbers: Readonly<Record<string, number>>;
  readonly names: readonly string[];
}

/** A header, what was generated from it, and the BTF of the object built with it. */
interface Abi {
  readonly header: string;
  readonly btf: Btf;
  /** By the name of the struct in C. */
  readonly codecs: readonly (readonly [name: string, codec: Codec])[];
  /** By the name in C. */
  readonly enums: readonly (readonly [name: string, numbered: Enum])[];
}

function abiOf(header: string, btf: Btf, exported: Record<string, unknown>): Abi {
  return {
    header,
    btf,
    codecs: Object.entries(exported)
      .filter(([, value]) => typeof value === "object" && value !== null && "decode" in value)
      .map(([name, value]) => [name.toLowerCase(), value as Codec]),
    enums: Object.entries(exported)
      .filter(([name]) => `${name}S` in exported)
      .map(([name, value]) => [
        name.toLowerCase(),
        { numbers: value as Enum["numbers"], names: exported[`${name}S`] as string[] },
      ]),
  };
}

const ABIS = [
  abiOf("abi.h", Btf.fromElf(await elfOf(OBJECT)), { ...abi }),
  abiOf("decap_abi.h", Btf.fromElf(await elfOf(DECAP_OBJECT)), { ...decapAbi }),
];

function hex(text: string): Uint8Array {
  return Uint8Array.fromHex(text.replaceAll(/[^0-9a-f]/g, ""));
}

function camelCase(name: string): string {
  return name.replaceAll(/_(\w)/g, (_, letter) => letter.toUpperCase());
}

/** Which bytes of a struct are padding. */
function isPadding(btf: Btf, struct: string): boolean[] {
  const { size, members } = btf.struct(struct);
  const ends = [...members.slice(1).map(({ offsetBits }) => offsetBits / 8), size];
  const padding = Array<boolean>(size).fill(false);
  members.forEach(({ name, offsetBits }, i) => {
    if (/^(pad|reserved)\d*$/.test(name)) padding.fill(true, offsetBits / 8, ends[i]);
  });
  return padding;
}

function randomBytes(length: number, next: () => number): Uint8Array {
  return Uint8Array.from({ length }, () => next() & 0xff);
}

Deno.test("service_key4 is the bytes that a packet carries", () => {
  const value = { address: 0xc0000201, port: 443, protocol: 6 };
  const bytes = hex("c0 00 02 01  01 bb  06  00");
  assertEquals(abi.SERVICE_KEY4.encode(value), bytes);
  assertEquals(abi.SERVICE_KEY4.decode(bytes), value);
});

Deno.test("flow_key6 is the bytes that a packet carries", () => {
  const value = {
    source: hex("20010db8 00000000 00000000 00000001"),
    destination: hex("20010db8 00000000 00000000 000000fe"),
    sourcePort: 0x1234,
    destinationPort: 53,
    protocol: 17,
  };
  const bytes = hex(`
    20010db8 00000000 00000000 00000001
    20010db8 00000000 00000000 000000fe
    1234 0035 11 000000`);
  assertEquals(abi.FLOW_KEY6.encode(value), bytes);
  assertEquals(abi.FLOW_KEY6.decode(bytes), value);
});

Deno.test("service is in the order of a little-endian host", () => {
  const policies = { expired: abi.POLICY.DROP, fragmentable: abi.POLICY.REJECT };
  const value = { id: 1, ringSize: 16381, vip: 0x01020304, sticky: 1, ...policies };
  const bytes = hex("01000000 fd3f0000 04030201 01 01 03 00");
  assertEquals(abi.SERVICE.encode(value), bytes);
  assertEquals(abi.SERVICE.decode(bytes), value);
});

Deno.test("destination mixes both orders", () => {
  const value: abi.Destination = {
    generation: 7,
    ifindex: 2,
    destinationMac: hex("020000000001"),
    sourceMac: hex("020000000002"),
    vlan: 100,
    mtu: 1500,
    tunnelPort: 6080,
    tunnel: abi.TUNNEL.IPIP,
    flags: abi.DESTINATION_IPV6,
    outerSum: 0xa1b2,
    udpSum: 0xc3d4,
    outerSource: hex("0a000001 00000000 00000000 00000000"),
    outerDestination: hex("0a000002 00000000 00000000 00000000"),
  };
  const bytes = hex(`
    07000000 02000000 020000000001 020000000002
    6400 dc05 17c0 01 01 b2a1 d4c3
    0a000001 00000000 00000000 00000000
    0a000002 00000000 00000000 00000000`);
  assertEquals(abi.DESTINATION.encode(value), bytes);
  assertEquals(abi.DESTINATION.decode(bytes), value);
});

Deno.test("settings holds numbers of 64 bits and lists", () => {
  const value: abi.Settings = {
    abiVersion: 2,
    sampleMask: 0xffffffff,
    flowBudget: 8192,
    sampleBudget: 2,
    icmpBudget: 3,
    unknownPort: 1,
    expired: 2,
    deny: 3,
    share: 4,
    hashKey: [1, 2, 3, 4, 5, 6, 7, 8, 9, 0x80000000],
    hashFinal: 0xfedcba9876543210n,
    sourceMask4: 0x0000ffff,
    sourceMask6: 0xffffffff,
    watchdogNs: 0x0102030405060708n,
    revision: 7n,
    objectHash: new Uint8Array(32).fill(0xab),
    probeIfindex: 5,
    probeNet4: 0xf0100000,
    probeMask4: 0x000fffff,
    probeMask6: 0xffffffff,
    probeNet6: new Uint8Array(16).fill(0xcd),
    probeMac: hex("020000000003"),
    bonding: 1,
    fragmentable: 2,
  };
  const bytes = hex(`
    02000000 ffffffff 00200000 02000000 03000000 01020304
    01000000 02000000 03000000 04000000 05000000
    06000000 07000000 08000000 09000000 00000080
    1032547698badcfe 0000ffff ffffffff 0807060504030201
    0700000000000000 ${"ab".repeat(32)}
    05000000 f0100000 ffff0f00 ffffffff ${"cd".repeat(16)} 020000000003 01 02`);
  assertEquals(abi.SETTINGS.encode(value), bytes);
  assertEquals(abi.SETTINGS.decode(bytes), value);
});

Deno.test("codecs read and write at an offset, and nothing beside it", () => {
  const table = new Uint8Array(24).fill(0xff);
  abi.RING_ENTRY.encode({ current: (abi.RING_TRACKED | 5) >>> 0, previous: 4 }, table, 8);
  assertEquals(table, hex("ffffffffffffffff 05000080 04000000 ffffffffffffffff"));
  assertEquals(abi.RING_ENTRY.decode(table.subarray(4), 4), { current: 0x80000005, previous: 4 });
});

Deno.test("what a codec returns does not change with the bytes it came from", () => {
  const bytes = new Uint8Array(abi.SERVICE_KEY6.size);
  const { address } = abi.SERVICE_KEY6.decode(bytes);
  bytes.fill(1);
  assertEquals(address, new Uint8Array(16));
});

Deno.test("codecs refuse what does not fit", () => {
  const key = { address: 1, port: 80, protocol: 6 };
  for (const port of [65536, -1, 1.5, NaN]) {
    assertThrows(
      () => abi.SERVICE_KEY4.encode({ ...key, port }),
      RangeError,
      `Cannot store ${port} in service_key4.port`,
    );
  }
  for (const packets of [-1n, 1n << 64n]) {
    assertThrows(
      () => abi.REASON_COUNTER.encode({ packets, octets: 0n }),
      RangeError,
      `Cannot store ${packets} in reason_counter.packets`,
    );
  }
  for (const length of [4, 17]) {
    assertThrows(
      () => abi.SERVICE_KEY6.encode({ ...key, address: new Uint8Array(length) }),
      RangeError,
      `Cannot store ${length} elements in service_key6.address: it holds 16`,
    );
  }
});

Deno.test("codecs refuse bytes that end too early, even within a longer buffer", () => {
  const short = new Uint8Array(64).subarray(0, 7);
  assertThrows(() => abi.SERVICE_KEY4.decode(short), RangeError, "Cannot access 8 bytes");
  assertThrows(() => abi.SERVICE_KEY4.decode(new Uint8Array(8), 1), RangeError, "at offset 1");
  const value = { address: 1, port: 80, protocol: 6 };
  assertThrows(() => abi.SERVICE_KEY4.encode(value, short), RangeError, "Cannot access 8 bytes");
});

for (const { header, codecs, enums } of ABIS) {
  Deno.test(`there is a codec for every struct of ${header}, and a list for every enum`, async () => {
    const text = await Deno.readTextFile(new URL(`../../bpf/${header}`, import.meta.url));
    const named = (kind: string): string[] =>
      [...text.matchAll(new RegExp(`^${kind} (\\w+) \\{`, "gm"))].map(([, name]) => name!).sort();
    assertEquals(codecs.map(([name]) => name).sort(), named("struct"));
    assertEquals(enums.map(([name]) => name).sort(), named("enum"));
  });
}

for (
  const { btf, struct, codec } of ABIS.flatMap(({ btf, codecs }) =>
    codecs.map(([struct, codec]) => ({ btf, struct, codec }))
  )
) {
  Deno.test(`struct ${struct} has the layout that the BTF of the object tells`, () => {
    const { size, members } = btf.struct(struct);
    const padding = isPadding(btf, struct);
    const visible = members.filter(({ offsetBits }) => !padding[offsetBits / 8]);
    assertEquals(codec.size, size);
    assertEquals(
      codec.offsets,
      Object.fromEntries(visible.map(({ name, offsetBits }) => [camelCase(name), offsetBits / 8])),
    );
  });

  Deno.test(`struct ${struct} survives a round trip, padding zeroed`, () => {
    const next = random(1);
    const padding = isPadding(btf, struct);
    for (let round = 0; round < 100; round++) {
      const bytes = randomBytes(codec.size, next);
      const value = codec.decode(bytes);
      const again = codec.encode(value, randomBytes(codec.size, next));
      assertEquals(again, bytes.map((byte, i) => padding[i] ? 0 : byte));
      assertEquals(codec.decode(again), value);
    }
  });
}

for (
  const { btf, name, numbers, names } of ABIS.flatMap(({ btf, enums }) =>
    enums.map(([name, numbered]) => ({ btf, name, ...numbered }))
  )
) {
  Deno.test(`enum ${name} has the numbers that the BTF of the object tells`, () => {
    const values = btf.enum(name).values.filter((value) => !value.name.endsWith("_COUNT"));
    assertEquals(Object.values(numbers), values.map(({ value }) => Number(value)));
    Object.keys(numbers).forEach((key, i) => {
      assert(values[i]!.name.endsWith(`_${key}`), `${values[i]!.name} ends with _${key}`);
      assertEquals(names[numbers[key]!], key.toLowerCase());
    });
    assertEquals(names.length, values.length);
  });
}

Deno.test("every reason has a text, and README lists it", async () => {
  const readme = await Deno.readTextFile(new URL("../../bpf/README.md", import.meta.url));
  const lists = { reasons: abi.REASON_TEXT, decap_reasons: decapAbi.DECAP_REASON_TEXT };
  for (const [list, texts] of Object.entries(lists)) {
    const rows = readme.split(`<!-- ${list}:begin -->`)[1]?.split(`<!-- ${list}:end -->`)[0] ?? "";
    const listed = [...rows.matchAll(/^\| `(\w+)`\s+\| (.*?)\s+\|$/gm)]
      .map(([, name, text]) => [name, text]);
    assertEquals(listed, Object.entries(texts));
  }
  assertEquals(Object.keys(abi.REASON_TEXT), [...abi.REASONS]);
  assertEquals(Object.keys(decapAbi.DECAP_REASON_TEXT), [...decapAbi.DECAP_REASONS]);
});

Deno.test("elfOf() unpacks what was embedded and refuses anything else", async () => {
  const elf = await elfOf(OBJECT);
  assertEquals(elf.subarray(0, 4), hex("7f454c46"));
  await assertRejects(
    () => elfOf({ ...OBJECT, sha256: "0".repeat(64) }),
    Error,
    'Cannot unpack BPF object "xvs": its SHA-256 is ',
  );
});
