/**
 * What `kernels.ts` runs within a kernel: `deno run -A --no-check tests/vm/guest.ts SET`. It asks the kernel what
 * it lacks, says so by name, and runs all tests of the set that do not need that.
 *
 * @module
 */
import { hasKernelBtf, NotSupportedError } from "../../lib/bpf/mod.ts";
import { Instance } from "../../lib/lb/instance.ts";

/** What is run, by set: files and folders. All but `anywhere` needs the balancer loaded. */
const SETS: Readonly<Record<string, { anywhere: string[]; balancer: string[] }>> = {
  full: {
    anywhere: ["tests/unit/sys_test.ts", "tests/abi", "tests/bpf", "tests/packets/decap_test.ts"],
    balancer: ["tests/packets", "tests/client", "tests/vm", "tests/lab", "tests/scripts"],
  },
  quick: {
    anywhere: ["tests/bpf", "tests/packets/decap_test.ts"],
    balancer: [
      ...[
        "answers",
        "checksum",
        "flow",
        "forward",
        "fragments",
        "icmp",
        "probe",
        "redirect",
        "state",
      ]
        .map((name) => `tests/packets/${name}_test.ts`),
      ...["attach", "instances", "rings"].map((name) => `tests/client/${name}_test.ts`),
      "tests/vm",
    ],
  },
};

/** Why the balancer cannot be loaded here, if the reason is that this kernel lacks something. */
async function lacking(): Promise<string | undefined> {
  if (!hasKernelBtf()) return "/sys/kernel/btf/vmlinux";
  try {
    (await Instance.load({})).close();
    return undefined;
  } catch (error) {
    if (error instanceof NotSupportedError) return error.message;
    throw error;
  }
}

if (import.meta.main) {
  const set = SETS[Deno.args[0] ?? ""];
  if (set === undefined) throw new RangeError(`Say one of ${Object.keys(SETS).join(", ")}`);
  const lack = await lacking();
  if (lack !== undefined) {
    console.log(`not supported: ${lack}; left out: ${set.balancer.join(" ")}`);
  }
  const paths = [...new Set([...set.anywhere, ...lack === undefined ? set.balancer : []])];
  const { code } = await new Deno.Command(Deno.execPath(), {
    args: ["test", "--allow-all", "--no-check", ...paths],
  }).spawn().status;
  Deno.exit(code);
}
