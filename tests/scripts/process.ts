/**
 * Scripts as a user runs them: processes in the namespaces of a lab.
 *
 * @module
 */
import { assertEquals, assertMatch } from "@std/assert";
import { attempt, type RunOptions, spawn } from "../../lib/net/command.ts";
import type { LabNode } from "../../lib/net/lab.ts";

const SCRIPTS = new URL("../../scripts/", import.meta.url).pathname;
const DEADLINE_MS = 60_000;

/** The words that run a script. */
export function command(script: string, ...args: string[]): string[] {
  return [Deno.execPath(), "run", "-A", "--no-check", `${SCRIPTS}${script}`, ...args];
}

/** What a process left. */
export interface Outcome {
  code: number;
  stdout: string;
  stderr: string;
}

/** Runs a script to its end, on a node or, without one, on this host. */
export async function runScript(
  node: LabNode | undefined,
  script: string,
  args: readonly string[],
  options: RunOptions = {},
): Promise<Outcome> {
  const words = command(script, ...args);
  return await (node ? node.attempt(words, options) : attempt(words, options));
}

/** Runs a script that must succeed, and reads what it says with `--json`: an object a line. */
export async function jsonOf<T = Record<string, unknown>>(
  node: LabNode,
  script: string,
  ...args: string[]
): Promise<T[]> {
  const { code, stdout, stderr } = await runScript(node, script, [...args, "--json"]);
  assertEquals({ code, stderr }, { code: 0, stderr: "" }, `${script} ${args.join(" ")}`);
  return stdout.split("\n").filter((line) => line !== "").map((line) => JSON.parse(line));
}

/** That a script refuses a command line: one sentence that says so, code 2, and nothing else. */
export async function assertUsage(
  node: LabNode | undefined,
  script: string,
  args: readonly string[],
  says: string,
): Promise<void> {
  const { code, stdout, stderr } = await runScript(node, script, args);
  const line = `${script} ${args.join(" ")}`;
  assertEquals({ code, stdout }, { code: 2, stdout: "" }, `${line}: ${stderr}`);
  assertMatch(stderr, /^[^\n]+[^\n.]\n$/, line);
  if (!stderr.includes(says)) throw new Error(`${line} says "${stderr}", not "${says}"`);
}

/** That a script whose reader has gone away ends in silence, and well. */
export async function assertClosedPipe(
  node: LabNode | undefined,
  script: string,
  args: readonly string[],
): Promise<void> {
  const words = ["bash", "-c", '"$@" | true; exit "${PIPESTATUS[0]}"', "bash"];
  const argv = [...words, ...command(script, ...args)];
  const { code, stderr } = await (node ? node.attempt(argv) : attempt(argv));
  assertEquals({ code, stderr }, { code: 0, stderr: "" }, `${script} ${args.join(" ")} | true`);
}

/** That `--help` tells each option, with an example, in lines that fit a terminal. */
export async function assertHelp(script: string, options: string): Promise<void> {
  const { code, stdout, stderr } = await runScript(undefined, script, ["--help"]);
  assertEquals({ code, stderr }, { code: 0, stderr: "" });
  for (const name of options.split(" ")) {
    if (!stdout.includes(`--${name}`)) throw new Error(`${script} --help lacks --${name}`);
  }
  assertMatch(stdout, new RegExp(`For example[^]*deno run -A scripts/${script}`));
  const long = stdout.split("\n").filter((line) => line.length > 100);
  assertEquals(long, [], script);
}

/** A script that runs on. */
export class Script implements AsyncDisposable {
  readonly #child: Deno.ChildProcess;
  readonly #output: ReadableStreamDefaultReader<string>;
  readonly #stderr: Promise<string>;
  /** All that it has written to standard output. */
  stdout = "";
  /** All that it has written to standard error. */
  stderr = "";

  private constructor(child: Deno.ChildProcess) {
    this.#child = child;
    this.#output = child.stdout.pipeThrough(new TextDecoderStream()).getReader();
    this.#stderr = this.#listen(child.stderr);
  }

  /** Starts it, on a node or on this host, and returns when it has said its first line. */
  static async start(
    node: LabNode | undefined,
    script: string,
    ...args: string[]
  ): Promise<Script> {
    const started = Script.spawn(node, command(script, ...args));
    await started.until((text) => text.includes("\n"));
    return started;
  }

  /** Starts any command likewise, and does not wait. */
  static spawn(node: LabNode | undefined, argv: readonly string[]): Script {
    const options = {
      stdin: "null",
      stdout: "piped",
      stderr: "piped",
      env: { NO_COLOR: "1" },
    } as const;
    return new Script(node ? node.spawn(argv, options) : spawn(argv, options));
  }

  /** Reads on until what was written satisfies a condition. */
  async until(enough: (stdout: string) => boolean): Promise<void> {
    const timer = setTimeout(() => this.#kill("SIGKILL"), DEADLINE_MS);
    try {
      while (!enough(this.stdout)) {
        const { value, done } = await this.#output.read();
        if (done) throw new Error(`It ended: ${this.stdout}${await this.#stderr}`);
        this.stdout += value;
      }
    } finally {
      clearTimeout(timer);
    }
  }

  /** Waits until what was written to standard error contains a text. */
  async complains(text: string): Promise<void> {
    const deadline = performance.now() + DEADLINE_MS;
    while (!this.stderr.includes(text)) {
      if (performance.now() > deadline) throw new Error(`It says "${this.stderr}", not "${text}"`);
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
  }

  /** Waits until it ends, by a signal if one is given. */
  async end(signal?: Deno.Signal): Promise<Outcome> {
    if (signal) this.#kill(signal);
    const timer = setTimeout(() => this.#kill("SIGKILL"), DEADLINE_MS);
    try {
      for (let read; !(read = await this.#output.read()).done;) this.stdout += read.value;
      const { code } = await this.#child.status;
      return { code, stdout: this.stdout, stderr: await this.#stderr };
    } finally {
      clearTimeout(timer);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.end("SIGKILL");
  }

  async #listen(stderr: ReadableStream<Uint8Array<ArrayBuffer>>): Promise<string> {
    for await (const text of stderr.pipeThrough(new TextDecoderStream())) this.stderr += text;
    return this.stderr;
  }

  #kill(signal: Deno.Signal): void {
    try {
      this.#child.kill(signal);
    } catch {
      // It has ended.
    }
  }
}
