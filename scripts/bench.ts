#!/usr/bin/env -S deno run -A
/**
 * What a packet, a change and a table cost. `make bench` runs it.
 *
 * @module
 */
import { parseArgs } from "@std/cli/parse-args";
import { allCases } from "./bench/cases.ts";
import { measureControlPlane } from "./bench/control_plane.ts";
import { measureMemory } from "./bench/memory.ts";
import { BASE, measurePackets } from "./bench/packets.ts";
import { plot } from "./bench/plot.ts";
import {
  host,
  memoryTable,
  packetTable,
  targets,
  targetTable,
  throughputTable,
  timingTable,
} from "./bench/report.ts";
import { measureThroughput } from "./bench/throughput.ts";
import { main, print, toJson, UsageError, whole } from "./common.ts";

const PARTS = ["packets", "control", "memory", "throughput"];
/** Of one run of throughput; and at most so many rounds of them. */
const THROUGHPUT = { ms: 500, rounds: 3 };

const HELP = `What a packet, a change and a table cost on this machine.

Usage: bench.ts [--part PART]... [--case TEXT] [--rounds N] [--repeat N] [--json] [--plot FILE.svg]

  packets  nanoseconds a packet: the balancer and floor programs, which do the least that forwarding
           could, run on packets in the kernel, in turns, without any network. "net" is less floor_tx:
           what a program itself takes. The hosts of others are noisy: compare within one run.
  control  milliseconds from a call to the maps that packets meet
  memory   bytes of kernel memory, by the kernel's own account
  throughput
           packets per second through a veth, in a network namespace of its own, beside what the
           kernel forwards between the same two interfaces

Options:
  --part PART  one of the above; may be repeated (default: all)
  --case TEXT  only packets whose group or name has this text
  --rounds N   how often each case runs (default: 25)
  --repeat N   packets of a run (default: 50000)
  --json       a line of JSON for each figure
  --plot FILE  draws cost against number of flows, services and destinations

Example:
  deno run -A scripts/bench.ts --part packets --case gue
`;

function progressOf(rounds: number): (done: number) => void {
  if (!Deno.stderr.isTerminal()) return () => {};
  return (done) => {
    const line = done < rounds ? `round ${done} of ${rounds}` : "";
    Deno.stderr.writeSync(new TextEncoder().encode(`\r\x1b[K${line}`));
  };
}

await main(async () => {
  const args = parseArgs(Deno.args, {
    string: ["part", "case", "rounds", "repeat", "plot"],
    boolean: ["json", "help"],
    collect: ["part"],
    default: { case: "", rounds: "25", repeat: "50000" },
    alias: { help: "h" },
    unknown: (name) => {
      throw new UsageError(`bench.ts does not know "${name}": see --help`);
    },
  });
  if (args.help) return print(HELP);
  const parts = args.part.length > 0 ? args.part : PARTS;
  for (const part of parts) {
    if (!PARTS.includes(part)) {
      throw new UsageError(`Part "${part}" is none of ${PARTS.join(", ")}`);
    }
  }
  const rounds = Math.max(1, whole(args.rounds, 1000, "Number of rounds"));
  const repeat = Math.max(1000, whole(args.repeat, 1e8, "Number of packets"));
  const bases: string[] = Object.values(BASE);
  const cases = allCases().filter(({ group, name }) =>
    bases.includes(name) || `${group}: ${name}`.includes(args.case)
  );
  const show = <Row extends object>(part: string, rows: Row[], table: (rows: Row[]) => string) => {
    if (args.json) { for (const row of rows) print(toJson({ part, ...row })); }
    else if (rows.length > 0) print(`${table(rows)}\n`);
  };
  if (!args.json) print(`${host()}\n`);
  const packets = parts.includes("packets")
    ? await measurePackets(cases, { rounds, repeat, progress: progressOf(rounds) })
    : [];
  show("packets", packets, packetTable);
  show("control", parts.includes("control") ? await measureControlPlane(rounds) : [], timingTable);
  const memory = parts.includes("memory") ? await measureMemory() : [];
  show("memory", memory, memoryTable);
  if (parts.includes("throughput")) {
    const rates = await measureThroughput(Math.min(rounds, THROUGHPUT.rounds), THROUGHPUT.ms);
    show("throughput", rates, throughputTable);
  }
  show("targets", targets(packets, memory), targetTable);
  if (args.plot) await Deno.writeTextFile(args.plot, plot(packets, host()));
});
