/**
 * A client of the API in the balancer's namespace, driven from the test's: each call is one line of JSON on
 * standard input, each answer one on standard output.
 *
 * @module
 */
import type { Lab, LabNode } from "../../lib/net/lab.ts";
import { Client, type OpenOptions, type Options } from "../../mod.ts";

/** The methods that a test may call. */
type Method = Exclude<
  {
    [K in keyof Client]: Client[K] extends (...args: never[]) => unknown ? K : never;
  }[keyof Client],
  symbol
>;

function plain(value: unknown): string {
  return JSON.stringify(
    value ?? null,
    (_, field) => typeof field === "bigint" ? Number(field) : field,
  );
}

/** A {@linkcode Client} that lives in a namespace of the lab. */
export class Remote implements AsyncDisposable {
  readonly #child: Deno.ChildProcess;
  readonly #input: WritableStreamDefaultWriter<Uint8Array>;
  readonly #output: ReadableStreamDefaultReader<string>;
  #rest = "";

  private constructor(child: Deno.ChildProcess) {
    this.#child = child;
    this.#input = child.stdin.getWriter();
    this.#output = child.stdout.pipeThrough(new TextDecoderStream()).getReader();
  }

  /** Attached to the balancer's interface. */
  static create(lab: Lab, options: Options = {}, node: LabNode = lab.balancer): Promise<Remote> {
    return Remote.#start(node, "create", [node.interface], options);
  }

  /** Of an instance that exists. */
  static open(lab: Lab, instance: string, options: OpenOptions = {}): Promise<Remote> {
    return Remote.#start(lab.balancer, "open", instance, options);
  }

  static async #start(node: LabNode, how: "create" | "open", ...args: unknown[]): Promise<Remote> {
    const command = [Deno.execPath(), "run", "-A", "--no-check", import.meta.filename!];
    const child = node.spawn(
      [...command, plain([how, ...args])],
      { stdin: "piped", stdout: "piped" },
    );
    const remote = new Remote(child);
    await remote.#line();
    return remote;
  }

  /** The process. */
  get pid(): number {
    return this.#child.pid;
  }

  /** Calls a method; bigints come back as numbers. */
  async call<Result = unknown>(method: Method, ...args: unknown[]): Promise<Result> {
    await this.#input.write(new TextEncoder().encode(`${plain([method, args])}\n`));
    const { result, error } = JSON.parse(await this.#line());
    if (error !== undefined) throw new Error(error);
    return result;
  }

  /** Ends the process as a fault would. */
  async kill(): Promise<void> {
    this.#child.kill("SIGKILL");
    await this[Symbol.asyncDispose]();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#input.close().catch(() => {});
    await this.#output.cancel();
    await this.#child.status;
  }

  async #line(): Promise<string> {
    while (!this.#rest.includes("\n")) {
      const { value, done } = await this.#output.read();
      if (done) throw new Error("The client's process has ended");
      this.#rest += value;
    }
    const at = this.#rest.indexOf("\n");
    const line = this.#rest.slice(0, at);
    this.#rest = this.#rest.slice(at + 1);
    return line;
  }
}

async function serve(): Promise<void> {
  const [how, ...args] = JSON.parse(Deno.args[0]!);
  const begin = Client[how as "create"] as (...args: unknown[]) => Promise<Client>;
  await using client = await begin.apply(Client, args);
  console.log("ready");
  let rest = "";
  for await (const text of Deno.stdin.readable.pipeThrough(new TextDecoderStream())) {
    const lines = (rest + text).split("\n");
    rest = lines.pop()!;
    for (const line of lines) {
      const [method, args] = JSON.parse(line) as [Method, unknown[]];
      try {
        const call = client[method] as (...args: unknown[]) => unknown;
        console.log(plain({ result: await call.apply(client, args) }));
      } catch (error) {
        console.log(plain({ error: (error as Error).message }));
      }
    }
  }
}

if (import.meta.main) await serve();
