/** What the scripts share, and how decap.ts takes its command line. */
import { assertEquals, assertMatch, assertStringIncludes, assertThrows } from "@std/assert";
import {
  parseMode,
  parseSeconds,
  siRate,
  sleep,
  table,
  toJson,
  UsageError,
  whole,
} from "../../scripts/common.ts";

const DECAP = new URL("../../scripts/decap.ts", import.meta.url).pathname;

Deno.test("siRate() keeps three digits, and never shows a thousand", () => {
  const cases = [[0, "0"], [7, "7"], [0.5, "0.500"], [999, "999"], [999.4, "999"]] as const;
  const scaled = [[1000, "1.00k"], [1234567, "1.23M"], [999999, "1.00M"], [3e12, "3.00T"]] as const;
  for (const [value, text] of [...cases, ...scaled]) assertEquals(siRate(value), text);
});

Deno.test("table() aligns numbers to the right, and addresses to the left", () => {
  const rows = [
    { server: "10.0.0.1", packets: 7, rate: "1.20k" },
    { server: "10.0.0.100", packets: 12345, rate: "0" },
  ];
  assertEquals(
    table(rows),
    `server      packets   rate
10.0.0.1          7  1.20k
10.0.0.100    12345      0`,
  );
});

Deno.test("toJson() writes counters as numbers", () => {
  assertEquals(toJson({ packets: 5n, name: "x" }), '{"packets":5,"name":"x"}');
});

Deno.test("whole() takes whole numbers up to a bound, and nothing else", () => {
  assertEquals([whole("0", 5, "Port"), whole("5", 5, "Port")], [0, 5]);
  for (const text of ["6", "-1", "1.5", "1e0", "0x1", "", " 1"]) {
    assertThrows(
      () => whole(text, 5, "Port"),
      UsageError,
      `Port "${text}" is not a whole number from 0 to 5`,
    );
  }
});

Deno.test("parseSeconds() refuses more than a timer can wait", () => {
  assertEquals(parseSeconds("2147483"), 2147483);
  assertThrows(() => parseSeconds("2147484"), UsageError, "from 0 to 2147483");
});

Deno.test("parseMode() knows three modes", () => {
  assertEquals(["native", "generic", "auto"].map(parseMode), ["native", "generic", "auto"]);
  assertThrows(() => parseMode("skb"), UsageError, 'Mode "skb" is none of native, generic, auto');
});

Deno.test("sleep() ends at once when it is told to", async () => {
  const began = performance.now();
  await sleep(60_000, AbortSignal.abort());
  const later = new AbortController();
  setTimeout(() => later.abort(), 10);
  await sleep(60_000, later.signal);
  await sleep(1, new AbortController().signal);
  assertEquals(performance.now() - began < 30_000, true);
});

async function decap(...args: string[]): Promise<{ code: number; stdout: string; stderr: string }> {
  const command = new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", "--no-check", DECAP, ...args],
    env: { NO_COLOR: "1" },
  });
  const { code, stdout, stderr } = await command.output();
  const decoder = new TextDecoder();
  return { code, stdout: decoder.decode(stdout), stderr: decoder.decode(stderr) };
}

Deno.test("decap.ts --help has an example", async () => {
  const { code, stdout, stderr } = await decap("--help");
  assertEquals({ code, stderr }, { code: 0, stderr: "" });
  assertMatch(stdout, /For example.*\n\n[^]*deno run -A scripts\/decap\.ts --peer/);
});

const GOOD = ["--peer=10.1.0.1", "--vip=192.0.2.1"];
const WRONG: [args: string[], says: string][] = [
  [[], "takes one list of interfaces, and at least one --peer and one --vip"],
  [["lo", "--vip=192.0.2.1"], "takes one list of interfaces"],
  [["lo", "--peer=10.1.0.1"], "takes one list of interfaces"],
  [["lo", "eth0", ...GOOD], "takes one list of interfaces"],
  [["nowhere0", ...GOOD], 'Interface "nowhere0" does not exist: there are '],
  [["lo", "--frobnicate", ...GOOD], 'Option "--frobnicate" is unknown'],
  [["lo", "--mode=skb", ...GOOD], 'Mode "skb" is none of'],
  [["lo", "-r", "soon", ...GOOD], 'Number of seconds "soon" is not a whole number'],
];

for (const [args, says] of WRONG) {
  Deno.test(`decap.ts ${args.join(" ")} is wrong usage: one sentence, code 2`, async () => {
    const { code, stdout, stderr } = await decap(...args);
    assertEquals({ code, stdout }, { code: 2, stdout: "" });
    assertStringIncludes(stderr, says);
    assertMatch(stderr, /^[^\n]+\n$/);
  });
}
