/**
 * Load from a lab's client: how connections spread, and whether open ones hold.
 *
 * @module
 */
import type { LabNode } from "./lab.ts";
import type { LabLoad, LabLoadResult } from "./lab_load.ts";

export type { LabLoadResult } from "./lab_load.ts";

const LOAD = new URL("./lab_load.ts", import.meta.url).href;
const DEFAULTS: Omit<LabLoad, "address" | "port" | "mode"> = {
  connections: 100,
  concurrency: 20,
  intervalMs: 100,
};

/** Where to, and how much; see {@linkcode LabLoad}. */
export type LoadOptions = Pick<LabLoad, "address" | "port"> & Partial<LabLoad>;

function command(load: LabLoad): string[] {
  const flags = ["--quiet", "--no-check", "--no-config", "--no-lock", "--allow-net"];
  return [Deno.execPath(), "run", ...flags, LOAD, JSON.stringify(load)];
}

/** Makes connections, one HTTP request each, and tells who answered. */
export async function spread(client: LabNode, options: LoadOptions): Promise<LabLoadResult> {
  const load: LabLoad = { ...DEFAULTS, ...options, mode: "spread" };
  return JSON.parse(await client.run(command(load)));
}

/** Connections that stay open, and are used, until they are ended. */
export class Held implements AsyncDisposable {
  readonly #child: Deno.ChildProcess;
  readonly #lines: ReadableStreamDefaultReader<string>;
  #rest = "";

  private constructor(child: Deno.ChildProcess) {
    this.#child = child;
    this.#lines = child.stdout.pipeThrough(new TextDecoderStream()).getReader();
  }

  /** Opens them, TCP ones unless mode is `talk`; returns when all are open. */
  static async open(client: LabNode, options: LoadOptions): Promise<Held> {
    const load: LabLoad = { ...DEFAULTS, mode: "hold", ...options };
    const child = client.spawn(command(load), { stdin: "piped", stdout: "piped" });
    const held = new Held(child);
    await held.#line();
    return held;
  }

  /** Ends them; tells what became of each. */
  async end(): Promise<LabLoadResult> {
    await this.#child.stdin.close();
    const result = JSON.parse(await this.#line());
    await this.#child.status;
    return result;
  }

  /** Ends them, whatever became of them. */
  async [Symbol.asyncDispose](): Promise<void> {
    try {
      this.#child.kill();
    } catch {
      // It has ended.
    }
    await this.#child.stdin.close().catch(() => {});
    await this.#lines.cancel();
    await this.#child.status;
  }

  async #line(): Promise<string> {
    while (!this.#rest.includes("\n")) {
      const { value, done } = await this.#lines.read();
      if (done) throw new Error("The load's process ended before it was done");
      this.#rest += value;
    }
    const [line, ...rest] = this.#rest.split("\n");
    this.#rest = rest.join("\n");
    return line!;
  }
}
