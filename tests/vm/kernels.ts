/**
 * Runs the tests within stock Debian kernels, each in a VM of its own: `make test-kernels`, or
 *
 *     deno run -A tests/vm/kernels.ts [--set full|quick] [--at-once N] [VERSION...]
 *
 * A line for each kernel, and a last one that counts. A kernel that cannot be fetched has failed.
 *
 * @module
 */
import { parseArgs } from "@std/cli/parse-args";

/** Releases that users run: Debian 11, 12, 13 (which is also 12's backport), and two later ones. */
const VERSIONS = ["5.10", "6.1", "6.12", "6.18", "7.3"];
/** How long one kernel may take, in seconds: 20 times what a host without emulation needs. */
const TIMEOUT_S = 3600;
/** Histories of the random test: each takes a second in a VM. */
const HISTORIES = "12";
const HERE = new URL(".", import.meta.url).pathname;
const CACHE = Deno.env.get("XVS_KERNELS") ?? `${Deno.env.get("HOME")}/.cache/xvs`;

/** What came of one kernel. */
interface Outcome {
  name: string;
  passed: number;
  failed: number;
  skipped: number;
  /** What the kernel lacks, in sentences. */
  lacks: string[];
  seconds: number;
}

/** Runs a program to its end; its output goes to a file. */
async function logged(argv: readonly string[], path: string): Promise<number> {
  // Not through a pipe of Deno's, which is a socket: the emulator says nothing into one.
  const { code } = await new Deno.Command("sh", {
    args: ["-c", 'log=$1; shift; exec "$@" >"$log"', "sh", path, ...argv],
    env: {
      NO_COLOR: "1",
      XVS_HISTORIES: Deno.env.get("XVS_HISTORIES") ?? HISTORIES,
      VMRUN_ENV: "NO_COLOR XVS_HISTORIES",
      VMRUN_CACHE: `${CACHE}/vmrun`,
      VMRUN_TIMEOUT: String(TIMEOUT_S),
    },
    stdin: "null",
    stdout: "null",
    stderr: "inherit",
  }).output();
  return code;
}

/** Reads what `deno test` and `guest.ts` say. */
function read(name: string, output: string, code: number, seconds: number): Outcome {
  const [summary] = output.matchAll(
    /^(?:ok|FAILED) \| (\d+) passed(?: \([^)]*\))? \| (\d+) failed(?: \([^)]*\))?(?: \| (\d+) ignored)?/gm,
  );
  const [passed = 0, failed = 0, skipped = 0] = (summary ?? []).slice(1).map((n) => Number(n ?? 0));
  return {
    name,
    passed,
    // A module that cannot be imported, or a VM that dies, fails without a count.
    failed: code !== 0 && failed === 0 ? 1 : failed,
    skipped,
    lacks: Array.from(output.matchAll(/^not supported: (.*)$/gm), ([, what]) => what!),
    seconds,
  };
}

async function fetchKernel(version: string): Promise<string | undefined> {
  const { code, stdout } = await new Deno.Command(`${HERE}getkernels`, {
    args: [`${CACHE}/kernels`, version],
    stderr: "inherit",
  }).output();
  return code === 0 ? new TextDecoder().decode(stdout).trim() : undefined;
}

async function test(version: string, set: string): Promise<Outcome> {
  const started = performance.now();
  const kernel = await fetchKernel(version);
  if (kernel === undefined) {
    const lacks = ["the kernel cannot be fetched; see above"];
    return { name: version, passed: 0, failed: 1, skipped: 0, lacks, seconds: 0 };
  }
  const name = kernel.split("/").at(-1)!;
  const log = `${CACHE}/log/${name}.log`;
  await Deno.mkdir(`${CACHE}/log`, { recursive: true });
  const guest = ["deno", "run", "--allow-all", "--no-check", `${HERE}guest.ts`, set];
  const code = await logged([`${HERE}vmrun`, kernel, "--", ...guest], log);
  const seconds = (performance.now() - started) / 1000;
  const output = await Deno.readTextFile(log);
  const outcome = read(name, output, code, seconds);
  if (outcome.failed > 0) {
    console.log(output.slice(Math.max(0, output.indexOf("\n ERRORS "))).slice(-20_000));
    console.log(`${name}: all of its output is in ${log}`);
  }
  return outcome;
}

function describe({ name, passed, failed, skipped, lacks, seconds }: Outcome): string {
  const counts = `${passed} passed, ${failed} failed, ${skipped} skipped`;
  return [`${name.padEnd(24)} ${counts} (${Math.round(seconds)} s)`, ...lacks].join("; ");
}

if (import.meta.main) {
  const args = parseArgs(Deno.args, {
    string: ["set", "at-once", "_"],
    default: { set: "full", "at-once": "2" },
  });
  const versions = args._.length > 0 ? args._.map(String) : [...VERSIONS];
  const atOnce = Number(args["at-once"]);
  if (!(atOnce >= 1) || !["full", "quick"].includes(args.set)) {
    console.error("kernels: say --set full|quick, --at-once N with N at least 1, and versions");
    Deno.exit(2);
  }
  // In the VM types are not checked: here it takes a tenth of the time.
  const check = new Deno.Command(Deno.execPath(), { args: ["check", "--quiet", "tests"] });
  if ((await check.spawn().status).code !== 0) Deno.exit(1);
  const outcomes: Outcome[] = [];
  const queue = versions.values();
  const worker = async (): Promise<void> => {
    for (const version of queue) {
      const outcome = await test(version, args.set);
      outcomes.push(outcome);
      console.log(describe(outcome));
    }
  };
  await Promise.all(Array.from({ length: Math.min(atOnce, versions.length) }, worker));
  const sum = (field: "passed" | "failed" | "skipped"): number =>
    outcomes.reduce((all, outcome) => all + outcome[field], 0);
  const lacking = outcomes.filter(({ lacks }) => lacks.length > 0).length;
  console.log(
    `${outcomes.length} kernels: ${sum("passed")} passed, ${sum("failed")} failed, ${
      sum("skipped")
    } skipped; ${lacking} lack something`,
  );
  Deno.exit(sum("failed") > 0 ? 1 : 0);
}
