/**
 * balance.ts as a user runs it: a process in the namespace of a lab's balancer.
 *
 * @module
 */
import { assertEquals } from "@std/assert";
import { neighbours } from "../../lib/net/ip.ts";
import type { Lab, LabNode } from "../../lib/net/lab.ts";

const SCRIPT = new URL("../../scripts/balance.ts", import.meta.url).pathname;
const DEADLINE_MS = 60_000;

/** The words that run it. */
export function command(...args: string[]): string[] {
  return [Deno.execPath(), "run", "-A", "--no-check", SCRIPT, ...args];
}

/** What a process left. */
export interface Outcome {
  code: number;
  stdout: string;
  stderr: string;
}

/** A process of balance.ts that has said its first line. */
export class Balancer implements AsyncDisposable {
  readonly #child: Deno.ChildProcess;
  readonly #output: ReadableStreamDefaultReader<string>;
  readonly #stderr: Promise<string>;
  /** All that it has written to standard output. */
  stdout = "";

  private constructor(child: Deno.ChildProcess) {
    this.#child = child;
    this.#output = child.stdout.pipeThrough(new TextDecoderStream()).getReader();
    this.#stderr = new Response(child.stderr).text();
  }

  /** Starts it on a node; it is attached when this returns. */
  static async start(node: LabNode, ...args: string[]): Promise<Balancer> {
    const child = node.spawn(command(...args), {
      stdin: "null",
      stdout: "piped",
      stderr: "piped",
      env: { NO_COLOR: "1" },
    });
    const balancer = new Balancer(child);
    await balancer.until((text) => text.includes("\n"));
    return balancer;
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

  #kill(signal: Deno.Signal): void {
    try {
      this.#child.kill(signal);
    } catch {
      // It has ended.
    }
  }
}

/** XDP programs on a node's interfaces, by name. */
export async function xdpPrograms(node: LabNode): Promise<Record<string, string>> {
  const links: { ifname: string; xdp?: { prog?: { name: string } } }[] = JSON.parse(
    await node.run(["ip", "-j", "-d", "link", "show"]),
  );
  return Object.fromEntries(
    links.flatMap(({ ifname, xdp }) => xdp ? [[ifname, xdp.prog?.name ?? "nameless"]] : []),
  );
}

/** That nothing is attached, and the kernel has been left no neighbour to keep. */
export async function assertNothingLeft({ balancer }: Lab): Promise<void> {
  assertEquals(await xdpPrograms(balancer), {});
  const kept = (await neighbours(balancer.namespace)).filter((each) => each.managed);
  assertEquals(kept.map(({ address }) => address.toString()), []);
}
