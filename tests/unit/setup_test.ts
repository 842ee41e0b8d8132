// scripts/setup.sh on machines made of stubs: PATH holds nothing but what a test puts there.

import { assertEquals, assertMatch, assertStringIncludes } from "@std/assert";

const SCRIPT = new URL("../../scripts/setup.sh", import.meta.url).pathname;
const TOOLS = ["cp", "expr", "grep", "head", "sh"];

/** A machine where all that is needed to run is there. */
const COMPLETE: Record<string, string> = {
  id: "echo 0",
  uname: "echo 6.1.0-18-amd64",
  ldconfig: "echo 'libbpf.so.1 (libc6,x86-64) => /lib/libbpf.so.1'",
  ip: "",
  ethtool: "",
  curl: "",
  ping: "",
  sysctl: "",
  jq: "",
  traceroute: "",
  deno: "echo 'deno 2.9.6 (stable, release)'",
  npm: 'echo "npm $*" >> $STUBS/log; cp $STUBS/new-deno $STUBS/deno',
  "new-deno": "echo 'deno 2.9.6'",
  "apt-get": 'echo "apt-get $*" >> $STUBS/log; cp $STUBS/curl $STUBS/ethtool',
};

interface Outcome {
  code: number;
  stdout: string;
  stderr: string;
  /** What apt-get and npm were asked for. */
  log: string[];
}

/** Runs the script on the complete machine with some commands replaced, or removed by `null`. */
class Machine implements Disposable {
  readonly #stubs = Deno.makeTempDirSync();

  constructor(changes: Record<string, string | null> = {}) {
    for (const tool of TOOLS) Deno.symlinkSync(`/bin/${tool}`, `${this.#stubs}/${tool}`);
    for (const [name, body] of Object.entries({ ...COMPLETE, ...changes })) {
      if (body === null) continue;
      Deno.writeTextFileSync(`${this.#stubs}/${name}`, `#!/bin/sh\n${body}\n`, { mode: 0o755 });
    }
  }

  setup(mode: string, btf = "/dev/null"): Outcome {
    const stubs = this.#stubs;
    const { code, stdout, stderr } = new Deno.Command("/bin/sh", {
      args: [SCRIPT, mode],
      env: { PATH: stubs, STUBS: stubs, BTF: btf },
      clearEnv: true,
    }).outputSync();
    const text = new TextDecoder();
    return {
      code,
      stdout: text.decode(stdout),
      stderr: text.decode(stderr),
      log: this.#takeLog(),
    };
  }

  #takeLog(): string[] {
    const path = `${this.#stubs}/log`;
    try {
      const lines = Deno.readTextFileSync(path).trim().split("\n");
      Deno.removeSync(path);
      return lines;
    } catch (error) {
      if (error instanceof Deno.errors.NotFound) return [];
      throw error;
    }
  }

  [Symbol.dispose](): void {
    Deno.removeSync(this.#stubs, { recursive: true });
  }
}

const NOTHING: Outcome = { code: 0, stdout: "", stderr: "", log: [] };

Deno.test("setup does and says nothing where all is there", () => {
  using machine = new Machine();
  assertEquals(machine.setup("run"), NOTHING);
  assertEquals(machine.setup("deno"), NOTHING);
});

Deno.test("setup compares versions as numbers", () => {
  for (const release of ["6.10.0", "10.0.1-custom", "6.1"]) {
    using machine = new Machine({ uname: `echo ${release}`, deno: "echo 'deno 2.10.0'" });
    assertEquals(machine.setup("run"), NOTHING, release);
  }
});

Deno.test("setup installs the packages that are missing, once", () => {
  using machine = new Machine({ ethtool: null });
  assertEquals(machine.setup("run"), {
    code: 0,
    stdout: "setup: installing ethtool with apt-get\n",
    stderr: "",
    log: ["apt-get update -q", "apt-get install -q -y --no-install-recommends ethtool"],
  });
  assertEquals(machine.setup("run"), NOTHING);
});

Deno.test("setup installs deno where it is missing or old, once", () => {
  for (const deno of [null, "echo 'deno 2.8.9'", "echo 'deno 1.46.3'"]) {
    using machine = new Machine({ deno });
    const outcome = machine.setup("deno");
    assertEquals(outcome.code, 0);
    assertEquals(outcome.stdout, "setup: installing deno 2.9.6 with npm\n");
    assertEquals(outcome.log, ["npm install --global --no-fund --no-audit deno@2.9.6"]);
    assertEquals(machine.setup("deno"), NOTHING);
  }
});

Deno.test("setup gets the compiler only to build", () => {
  using machine = new Machine({ "apt-get": COMPLETE["apt-get"] + "; exit 1" });
  const outcome = machine.setup("build");
  assertEquals(outcome.log, ["apt-get update -q"]);
  assertMatch(outcome.stdout, /^setup: installing clang-19 llvm-19/);
});

Deno.test("setup gets qemu and what else VMs take only for the kernels", () => {
  using machine = new Machine({ "apt-get": COMPLETE["apt-get"] + "; exit 1" });
  const { stdout } = machine.setup("kernels");
  const packages = "qemu-system-x86 busybox-static cpio xz-utils zstd ipvsadm";
  assertEquals(stdout, `setup: installing ${packages} with apt-get\n`);
});

/** What is amiss, and the one sentence about it. */
const FAILURES: {
  name: string;
  changes: Record<string, string | null>;
  mode: string;
  says: string;
}[] = [
  {
    name: "no root",
    changes: { id: "echo 1000" },
    mode: "run",
    says: "loading BPF programs and making network namespaces needs root; run it with sudo",
  },
  {
    name: "an old kernel",
    changes: { uname: "echo 5.10.0-28-amd64" },
    mode: "run",
    says: "this is kernel 5.10.0-28-amd64 and 6.1 is needed; boot a newer one",
  },
  {
    name: "no npm",
    changes: { deno: null, npm: null },
    mode: "run",
    says: 'deno 2.9.6 is missing and so is npm to get it; run "apt-get install npm"',
  },
  {
    name: "an npm that fails",
    changes: { deno: null, npm: "exit 1" },
    mode: "run",
    says: "npm could not install deno 2.9.6; install it by hand and put it into PATH",
  },
  {
    name: "an npm that installs out of PATH",
    changes: { deno: null, npm: "" },
    mode: "run",
    says: "npm could not install deno 2.9.6",
  },
  {
    name: "no libbpf and an apt-get that fails",
    changes: { ldconfig: "", "apt-get": "exit 100" },
    mode: "run",
    says: "apt-get could not install libbpf1; see its message above, then run this again",
  },
  {
    name: "no libbpf and no apt-get",
    changes: { ldconfig: "", "apt-get": null },
    mode: "run",
    says: "there is no apt-get here; install these packages, however they are called: libbpf1",
  },
  {
    name: "no compiler and no root",
    changes: { id: "echo 1000" },
    mode: "build",
    says: "installing packages needs root; run it with sudo, or install them: clang-19 llvm-19",
  },
  { name: "no mode", changes: {}, mode: "", says: 'say "deno", "run", "build" or "kernels"' },
];

for (const { name, changes, mode, says } of FAILURES) {
  Deno.test(`setup fails in one sentence on a machine with ${name}`, () => {
    using machine = new Machine(changes);
    const { code, stderr } = machine.setup(mode);
    assertEquals(code, 1);
    assertMatch(stderr, /^setup: [^\n]+\n$/);
    assertStringIncludes(stderr, says);
  });
}

Deno.test("setup fails in one sentence on a kernel without BTF", () => {
  using machine = new Machine();
  const { code, stderr } = machine.setup("run", "/nonexistent");
  assertEquals(code, 1);
  assertEquals(
    stderr,
    "setup: /nonexistent is missing; boot a kernel built with CONFIG_DEBUG_INFO_BTF, such as Debian's\n",
  );
});
