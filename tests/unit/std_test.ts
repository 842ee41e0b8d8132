// What scripts and tests rely on in @std, as its documentation has it. The same tests hold with the
// real packages: deno test -A --config deno.jsr.json tests/unit/std_test.ts

import {
  assert,
  assertAlmostEquals,
  assertArrayIncludes,
  assertEquals,
  assertExists,
  assertFalse,
  assertGreater,
  assertGreaterOrEqual,
  assertInstanceOf,
  AssertionError,
  assertLess,
  assertLessOrEqual,
  assertMatch,
  assertNotEquals,
  assertNotMatch,
  assertNotStrictEquals,
  assertRejects,
  assertStrictEquals,
  assertStringIncludes,
  assertThrows,
  fail,
} from "@std/assert";
import { parseArgs } from "@std/cli/parse-args";
import { parse, stringify } from "@std/yaml";

Deno.test("parseArgs() tells flags with a value from flags without one", () => {
  assertEquals(
    parseArgs(["--json", "a", "--port", "080", "b"], { boolean: ["json"], string: ["port"] }),
    { _: ["a", "b"], json: true, port: "080" },
  );
});

Deno.test("parseArgs() takes a value behind an equals sign, first one counting", () => {
  const args = parseArgs(["--set=a=b", "--json=false"], { boolean: ["json"], string: ["set"] });
  assertEquals(args, { _: [], set: "a=b", json: false });
});

Deno.test("parseArgs() leaves a string flag undefined and a boolean one false", () => {
  const args = parseArgs([], { boolean: ["json"], string: ["port"] });
  assertEquals(args, { _: [], json: false });
  assertStrictEquals(args.port, undefined);
});

Deno.test("parseArgs() never takes a word that begins with a hyphen as the value of a long flag", () => {
  assertEquals(
    parseArgs(["--file", "-", "--vip", "--json"], { boolean: ["json"], string: ["file", "vip"] }),
    { _: ["-"], file: "", vip: "", json: true },
  );
});

Deno.test("parseArgs() does not take an empty word as a value", () => {
  assertEquals(parseArgs(["--vip", ""], { string: ["vip"] }), { _: [""], vip: "" });
});

Deno.test("parseArgs() makes numbers of what looks like one, unless told that it is a string", () => {
  assertEquals(parseArgs(["7", "0x10", "10.1.2.3", " "]), { _: [7, 16, "10.1.2.3", " "] });
  assertEquals(parseArgs(["7"], { string: ["_"] }), { _: ["7"] });
  assertEquals<unknown>(parseArgs(["-n", "1e3"], { alias: { n: "number" } }), {
    _: [],
    n: 1000,
    number: 1000,
  });
});

Deno.test("parseArgs() keeps the last value, or all of a flag that collects", () => {
  const options = { string: ["port", "vip"], collect: ["vip"] } as const;
  assertEquals(parseArgs(["--port=1", "--port=2", "--vip=a", "--vip", "b"], options), {
    _: [],
    port: "2",
    vip: ["a", "b"],
  });
  assertEquals(parseArgs([], options), { _: [], vip: [] });
});

Deno.test("parseArgs() negates what is negatable and nothing else", () => {
  const unknown: (string | undefined)[] = [];
  const args = parseArgs(["--no-color", "--no-json"], {
    boolean: ["color", "json"],
    negatable: ["color"],
    default: { color: true, json: true },
    unknown: (_arg, key) => {
      unknown.push(key);
      return false;
    },
  });
  assertEquals(args, { _: [], color: false, json: true });
  assertEquals(unknown, ["no-json"]);
});

Deno.test("parseArgs() fills in defaults, under every name", () => {
  const args = parseArgs(["-s"], {
    boolean: ["sticky"],
    string: ["instance"],
    alias: { instance: "i", sticky: "s" },
    default: { instance: "xvs", rounds: 3 },
  });
  assertEquals(args, { _: [], instance: "xvs", i: "xvs", sticky: true, s: true, rounds: 3 });
});

Deno.test("parseArgs() reads short flags alone, together and with their value attached", () => {
  const options = { boolean: ["a", "b"], string: ["n", "p"] } as const;
  assertEquals(parseArgs(["-abn", "x"], options), { _: [], a: true, b: true, n: "x" });
  assertEquals(parseArgs(["-n5", "-p=6"], options), { _: [], a: false, b: false, n: "5", p: "6" });
  assertEquals(parseArgs(["-p/x"], options), { _: [], a: false, b: false, p: "/x" });
  assertEquals(parseArgs(["-p", "-"], options), { _: [], a: false, b: false, p: "-" });
});

Deno.test("parseArgs() leaves alone what follows two hyphens", () => {
  assertEquals(parseArgs(["a", "--", "--json", "7"], { boolean: ["json"] }), {
    _: ["a", "--json", "7"],
    json: false,
  });
  assertEquals(parseArgs(["a", "--", "--json"], { boolean: ["json"], "--": true }), {
    _: ["a"],
    json: false,
    "--": ["--json"],
  });
});

Deno.test("parseArgs() stops early if asked to", () => {
  assertEquals(
    parseArgs(["--json", "run", "--json=false", "7"], {
      boolean: ["json"],
      stopEarly: true,
    }),
    { _: ["run", "--json=false", "7"], json: true },
  );
});

Deno.test("parseArgs() shows unknown flags and words to a function that may refuse them", () => {
  const seen: unknown[][] = [];
  const args = parseArgs(["--json", "eth0", "--jsno", "x", "-q", "--empty="], {
    boolean: ["json"],
    unknown: (...call) => {
      seen.push(call);
      return call.length === 1;
    },
  });
  assertEquals(args, { _: ["eth0"], json: true });
  assertEquals(seen, [
    ["eth0"],
    ["--jsno", "jsno", "x"],
    ["-q", "q", true],
    ["--empty=", "empty=", true],
  ]);
});

Deno.test("parseArgs() reads true and false behind a boolean flag", () => {
  assertEquals(parseArgs(["--json", "false", "-q", "true"], { boolean: ["json", "q"] }), {
    _: [],
    json: false,
    q: true,
  });
});

Deno.test("yaml parse() reads mappings, lists, scalars and comments", () => {
  const text = `
# a service
services:
  - { vip: 192.0.2.1, port: 80, sticky: true }
  - vip: 2001:db8::1
    port: 443
    weight: 0.5
    tunnel: ~
    text: |
      two
      lines
`;
  assertEquals(parse(text), {
    services: [
      { vip: "192.0.2.1", port: 80, sticky: true },
      { vip: "2001:db8::1", port: 443, weight: 0.5, tunnel: null, text: "two\nlines\n" },
    ],
  });
});

Deno.test("yaml parse() reads an empty text as null", () => {
  assertStrictEquals(parse(""), null);
});

Deno.test("yaml parse() reads scalars the way @std/yaml does", () => {
  const scalars: [string, unknown][] = [
    ["yes", "yes"],
    ["True", true],
    ["010", 8],
    ["0o17", "0o17"],
    ["0b101", 5],
    ["-0x1F", -31],
    ["1_000", 1000],
    ["1:20", 80],
    ["1:2:3:4", 223384],
    ["10.1.2.254/24", "10.1.2.254/24"],
    ["::1", "::1"],
    ["02:00:00:00:00:01", "02:00:00:00:00:01"],
    ["1e3", 1000],
    ["2026-01-02", new Date(Date.UTC(2026, 0, 2))],
    ['"2026-01-02"', "2026-01-02"],
  ];
  for (const [text, value] of scalars) assertEquals(parse(text), value, text);
});

Deno.test("yaml parse() merges with << and follows anchors", () => {
  assertEquals(parse("base: &b { port: 80 }\nweb:\n  <<: *b\n  weight: 2\n"), {
    base: { port: 80 },
    web: { port: 80, weight: 2 },
  });
});

Deno.test("yaml parse() refuses what is not one well-formed document", () => {
  for (const text of ["a: [1", "a: 1\na: 2", "a: 1\n---\nb: 2\n", "a: *nobody"]) {
    assertThrows(() => parse(text), SyntaxError, "", text);
  }
});

Deno.test("yaml stringify() writes what parse() reads back", () => {
  const value = {
    vip: "2001:db8::1",
    ports: [80, 443],
    destinations: [{ address: "10.0.0.1", weight: 1.5, disabled: false }],
    strings: ["80", "1:20", "010", "true", "null", "", "2026-01-02", "a: b", "# c", "two\nlines"],
    none: null,
    empty: { list: [], map: {} },
    long: "word ".repeat(40),
  };
  assertEquals(parse(stringify(value)), value);
  assertEquals(stringify({ a: [1, { b: "c" }] }), "a:\n  - 1\n  - b: c\n");
  assertEquals(stringify({ a: { b: 1 } }, { indent: 4 }), "a:\n    b: 1\n");
});

/** Each assertion with arguments that it accepts, and with arguments that it must not. */
const ASSERTIONS: [string, () => unknown, () => unknown][] = [
  ["assert()", () => assert(1), () => assert(0)],
  ["assertFalse()", () => assertFalse(0), () => assertFalse(1)],
  ["assertEquals()", () => assertEquals({ a: [1n] }, { a: [1n] }), () => assertEquals([1], [2])],
  ["assertEquals() of types", () => assertEquals(NaN, NaN), () => assertEquals<unknown>(1, "1")],
  [
    "assertEquals() of properties",
    () => assertEquals<unknown>({ a: 1, b: 2 }, { b: 2, a: 1 }),
    () => assertEquals<unknown>({ a: undefined }, {}),
  ],
  [
    "assertEquals() of bytes",
    () => assertEquals(Uint8Array.of(1, 2), Uint8Array.of(1, 2)),
    () => assertEquals(Uint8Array.of(1, 2), Uint8Array.of(1, 3)),
  ],
  [
    "assertEquals() of maps",
    () => assertEquals(new Map([["a", [1]]]), new Map([["a", [1]]])),
    () => assertEquals(new Map([["a", [1]]]), new Map([["a", [2]]])),
  ],
  [
    "assertEquals() of classes",
    () => assertEquals(new Set([1]), new Set([1])),
    () => assertEquals<unknown>([1], { 0: 1 }),
  ],
  ["assertNotEquals()", () => assertNotEquals([1], [2]), () => assertNotEquals([1], [1])],
  ["assertStrictEquals()", () => assertStrictEquals("a", "a"), () => assertStrictEquals([], [])],
  [
    "assertNotStrictEquals()",
    () => assertNotStrictEquals([], []),
    () => assertNotStrictEquals(1, 1),
  ],
  ["assertExists()", () => assertExists(0), () => assertExists(null)],
  [
    "assertInstanceOf()",
    () => assertInstanceOf(new TypeError(), Error),
    () => assertInstanceOf({}, Error),
  ],
  ["assertMatch()", () => assertMatch("abc", /b/), () => assertMatch("abc", /d/)],
  ["assertNotMatch()", () => assertNotMatch("abc", /d/), () => assertNotMatch("abc", /b/)],
  [
    "assertStringIncludes()",
    () => assertStringIncludes("abc", "bc"),
    () => assertStringIncludes("abc", "d"),
  ],
  [
    "assertArrayIncludes()",
    () => assertArrayIncludes([{ a: 1 }, { a: 2 }], [{ a: 2 }]),
    () => assertArrayIncludes([1], [1, 2]),
  ],
  [
    "assertAlmostEquals()",
    () => assertAlmostEquals(100, 100.000005),
    () => assertAlmostEquals(100, 100.00002),
  ],
  [
    "assertAlmostEquals() with a tolerance",
    () => assertAlmostEquals(100, 101, 1),
    () => assertAlmostEquals(100, 101, 0.5),
  ],
  ["assertGreater()", () => assertGreater(2, 1), () => assertGreater(1, 1)],
  ["assertGreaterOrEqual()", () => assertGreaterOrEqual(1n, 1n), () => assertGreaterOrEqual(0, 1)],
  ["assertLess()", () => assertLess(1, 2), () => assertLess(1, 1)],
  ["assertLessOrEqual()", () => assertLessOrEqual(1, 1), () => assertLessOrEqual(2, 1)],
  [
    "assertThrows()",
    () => assertThrows(() => JSON.parse("{"), SyntaxError, "JSON"),
    () => assertThrows(() => JSON.parse("{"), RangeError),
  ],
  [
    "assertThrows() of a message",
    () => assertThrows(() => JSON.parse("{"), Error),
    () => assertThrows(() => JSON.parse("{"), SyntaxError, "no such text"),
  ],
  [
    "assertThrows() of anything",
    () =>
      assertThrows(() => {
        throw 1;
      }),
    () => assertThrows(() => 1),
  ],
  [
    "assertThrows() of errors only",
    () => assertThrows(() => fail()),
    () =>
      assertThrows(() => {
        throw 1;
      }, Error),
  ],
];

for (const [name, accepted, refused] of ASSERTIONS) {
  Deno.test(`${name} accepts what holds and refuses what does not`, () => {
    accepted();
    let thrown: unknown;
    try {
      refused();
    } catch (error) {
      thrown = error;
    }
    if (!(thrown instanceof AssertionError)) throw new Error(`${name} accepted it`);
  });
}

Deno.test("assertions put the caller's words into their message", () => {
  assertThrows(() => assert(false, "of x"), AssertionError, "of x");
  assertThrows(() => assertEquals(1, 2, "of x"), AssertionError, "of x");
  assertThrows(() => assertGreater(1, 2, "of x"), AssertionError, "of x");
  assertThrows(() => assertThrows(() => 1, "of x"), AssertionError, "of x");
  assertThrows(() => assertThrows(() => 1, Error, "", "of x"), AssertionError, "of x");
  assertThrows(() => fail("of x"), AssertionError, "of x");
});

Deno.test("assertThrows() returns what was thrown", () => {
  const error = assertThrows(() => JSON.parse("{"), SyntaxError);
  assertInstanceOf(error, SyntaxError);
});

Deno.test("assertRejects() takes a rejection, and neither a value nor a throw", async () => {
  const error = await assertRejects(
    () => Promise.reject(new RangeError("far off")),
    RangeError,
    "far",
  );
  assertStrictEquals(error.message, "far off");
  await assertRejects(
    () => assertRejects(() => Promise.resolve()),
    AssertionError,
    "Expected function to reject",
  );
  await assertRejects(
    () =>
      assertRejects(() => {
        throw new RangeError("at once");
      }),
    AssertionError,
    "Function throws when expected to reject",
  );
  await assertRejects(
    () => assertRejects(() => Promise.reject(new RangeError("far")), TypeError),
    AssertionError,
  );
});

Deno.test("deno.jsr.json is deno.json but for where the three names come from", async () => {
  const [ours, jsr] = await Promise.all(["deno.json", "deno.jsr.json"].map(async (name) => {
    const text = await Deno.readTextFile(new URL(`../../${name}`, import.meta.url));
    return JSON.parse(text);
  }));
  assertEquals(Object.keys(jsr.imports), Object.keys(ours.imports));
  assertEquals({ ...jsr, imports: ours.imports }, { ...ours, lock: false });
});
