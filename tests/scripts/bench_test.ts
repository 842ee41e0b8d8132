/** That bench.ts measures what it says. How fast anything is, no test says: hosts differ. */

import {
  assert,
  assertEquals,
  assertMatch,
  assertRejects,
  assertStringIncludes,
} from "@std/assert";
import { TUNNELS } from "../../lib/lb/abi.gen.ts";
import { Namespace } from "../../lib/net/namespace.ts";
import { attempt } from "../../lib/net/command.ts";
import { allCases, BALANCERS, type Case } from "../../scripts/bench/cases.ts";
import { BASE, type Measurement, measurePackets } from "../../scripts/bench/packets.ts";
import { Runner } from "../../scripts/bench/runner.ts";
import { type Packet, parse } from "../packets/parse.ts";

const SCRIPT = new URL("../../scripts/bench.ts", import.meta.url).pathname;
const QUICK = { rounds: 1, repeat: 1000, progress: () => {} };
const CASES = allCases();
const BASES = CASES.filter(({ name }) => Object.values(BASE).includes(name));
/** What stands before the inner packet. */
const BEFORE = { none: [], ipip: [], gre: ["gre"], fou: ["udp"], gue: ["udp", "gue"] } as const;

async function bench(...args: string[]): Promise<{ code: number; stdout: string; stderr: string }> {
  const { code, stdout, stderr } = await attempt([Deno.execPath(), "run", "-A", SCRIPT, ...args]);
  return { code, stdout, stderr };
}

/** The first frames of a case, as the program leaves them. */
async function frames(each: Case, count: number): Promise<Packet[]> {
  await using own = await BALANCERS[each.balancer]!();
  using runner = await Runner.create(own.instance);
  const { floor, traffic, growth, action } = each;
  const program = floor ? runner.program(floor) : own.instance.program;
  const course = runner.course({ program, traffic, growth, action });
  const tunnels = { 6080: each.name.startsWith("gue") ? "gue" : "fou" } as const;
  return Array.from({ length: count }, () => parse(runner.send(course), tunnels));
}

function named(name: string): Case {
  const found = CASES.find((each) => each.name === name);
  assert(found, name);
  return found;
}

Deno.test("bench: names of cases are all different", () => {
  const names = CASES.map(({ name }) => name);
  assertEquals(new Set(names).size, names.length);
});

Deno.test("bench: each tunnel is the one that its name says", async (t) => {
  for (const each of CASES.filter(({ group }) => group === "tunnels")) {
    await t.step(each.name, async () => {
      const [, tunnel, inner, outer = inner, length] =
        /^(\w+), IPv([46])(?: in IPv([46]))?, (\d+) bytes$/.exec(each.name)!;
      assert(TUNNELS.includes(tunnel as "gue"));
      const [{ headers, payload, padding }] = await frames(each, 1) as [Packet];
      const kinds = [`ipv${inner}`, "tcp"];
      if (tunnel !== "none") kinds.unshift(`ipv${outer}`, ...BEFORE[tunnel as keyof typeof BEFORE]);
      assertEquals(headers.map(({ kind }) => kind), kinds);
      const bytes = 14 + (inner === "4" ? 20 : 40) + 20 + payload.length;
      assertEquals([bytes, padding.length], [Number(length), 0]);
      // parse() has refused a wrong checksum; here is one that is right because it is there.
      for (const header of headers) if (header.kind === "udp") assert(header.checksum);
    });
  }
});

Deno.test("bench: so many flows are so many, to so many services", async () => {
  const ends = (packets: Packet[]) =>
    packets.map(({ headers }) => {
      const ip = headers.findLast(({ kind }) => kind === "ipv4")!;
      const tcp = headers.find(({ kind }) => kind === "tcp")!;
      assert(ip.kind === "ipv4" && tcp.kind === "tcp");
      return { flow: `${ip.source}:${tcp.sourcePort} ${ip.destination}`, vip: ip.destination };
    });
  const count = (all: readonly string[]) => new Set(all).size;
  const many = ends(await frames(named("untracked, 4,096 flows"), 4096 + 100));
  assertEquals(count(many.map(({ flow }) => flow)), 4096);
  const one = ends(await frames(named("untracked, 1 flow"), 10));
  assertEquals(count(one.map(({ flow }) => flow)), 1);
  const all = ends(await frames(named("100 services, packets to all"), 300));
  assertEquals(count(all.map(({ vip }) => vip)), 100);
  const single = ends(await frames(named("100 services, packets to one"), 300));
  assertEquals(count(single.map(({ vip }) => vip)), 1);
});

Deno.test("bench: what is said to be a SYN is one, and nothing else", async () => {
  for (const each of CASES.filter(({ floor, traffic }) => !floor && traffic.protocol === "tcp")) {
    assertEquals(each.traffic.flags, each.name.startsWith("SYN") ? 0x02 : 0x10, each.name);
  }
  const [{ headers }] = await frames(named("SYN, untracked"), 1) as [Packet];
  const tcp = headers.at(-1)!;
  assertEquals(tcp.kind === "tcp" && tcp.flags, ["syn"]);
});

Deno.test("bench: packets of 10,000 destinations go to as many as they can", async () => {
  const packets = await frames(named("10,000 destinations"), 5000);
  const reached = new Set(
    packets.map(({ headers: [outer] }) => outer?.kind === "ipv4" && outer.destination),
  );
  // Of 10,000 boxes 5,000 balls leave 6,065 empty.
  assert(reached.size > 3500 && reached.size < 4400, `${reached.size}`);
});

Deno.test("bench: a case that is not what it says is not measured", async () => {
  const forwarded = named("ipip, IPv4, 60 bytes");
  const lies: [Partial<Case>, string][] = [
    [{ reason: "not_a_vip" }, "is not what it says"],
    [{ growth: 0 }, "did otherwise"],
    [{ action: 2 }, "did otherwise"],
    [{ traffic: { ...forwarded.traffic, vip: "198.19.7.7" } }, "did otherwise"],
  ];
  for (const [lie, says] of lies) {
    const cases = [...BASES, { ...forwarded, name: "a lie", ...lie }];
    await assertRejects(() => measurePackets(cases, QUICK), Error, says);
  }
});

Deno.test("bench: all cases run, and count what they say", async () => {
  const file = await Deno.makeTempFile({ suffix: ".svg" });
  try {
    const args = ["--json", "--rounds", "1", "--repeat", "1000", "--plot", file];
    const { code, stdout, stderr } = await bench("--part", "packets", "--part", "memory", ...args);
    assertEquals([code, stderr], [0, ""]);
    const lines = stdout.trim().split("\n").map((line) => JSON.parse(line));
    const packets: Measurement[] = lines.filter(({ part }) => part === "packets");
    assertEquals(packets.map(({ name }) => name), CASES.map(({ name }) => name));
    for (const [i, { name, packets: sent, counted, leastNs, medianNs }] of packets.entries()) {
      const { reason } = CASES[i]!;
      assertEquals(counted, reason ? { [reason]: sent } : {}, name);
      assert(leastNs > 0 && leastNs <= medianNs, name);
    }
    const remembered = (name: string) => packets.find((each) => each.name === name)!.remembered;
    assertEquals(remembered("untracked, 1,048,576 flows"), 0);
    assertEquals(remembered("all tracked, 1,048,576 flows"), 1 << 20);
    const share = remembered("after a change, 1,048,576 flows") / (1 << 20);
    // An eleventh destination takes a part of eleven.
    assert(share > 0.07 && share < 0.13, `${share} of the flows are remembered after a change`);
    for (const { name, bytes } of lines.filter(({ part }) => part === "memory")) {
      assert(bytes === undefined || bytes > 0, name);
    }
    assert(lines.some(({ part }) => part === "targets"));
    const drawn = await Deno.readTextFile(file);
    assertEquals(drawn.match(/<g transform/g)?.length, 3);
    assert(drawn.match(/<circle/g)!.length > 20);
  } finally {
    await Deno.remove(file);
  }
});

Deno.test("bench: changes are timed, and what it prints is a table", async () => {
  const { code, stdout } = await bench("--part", "control", "--rounds", "2");
  assertEquals(code, 0);
  assertMatch(stdout, /^set 1,000 services of 10 destinations +\d/m);
  assertMatch(stdout, /^read 1,000 flow records +\d+\S* +\d+\S* +2$/m);
  assertMatch(stdout, /^build a ring of 65521 for 655 destinations +\d/m);
});

Deno.test("bench: throughput leaves no namespace behind", async () => {
  const { code, stdout } = await bench("--part", "throughput", "--rounds", "1", "--json");
  assertEquals(code, 0);
  const rates = stdout.trim().split("\n").map((line) => JSON.parse(line));
  assertEquals(rates.length, 8);
  for (const { way, mostPps, arrivedShare } of rates) {
    assert(mostPps > 0 && arrivedShare > 0.5 && arrivedShare <= 1, way);
  }
  assertEquals((await Namespace.list("xvs-bench-")).map(({ name }) => name), []);
});

Deno.test("bench: a command line that cannot be is one sentence", async () => {
  const wrong = [
    [["--part", "speed"], 'Part "speed" is none of packets, control, memory, throughput'],
    [["--rounds", "x"], 'Number of rounds "x" is not a whole number'],
    [["--fast"], 'bench.ts does not know "--fast"'],
    [["packets"], 'bench.ts does not know "packets"'],
  ] as const;
  for (const [args, says] of wrong) {
    const { code, stdout, stderr } = await bench(...args);
    assertEquals([code, stdout], [2, ""]);
    assertStringIncludes(stderr, says);
  }
});
