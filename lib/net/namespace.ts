/**
 * Network namespaces with names, as `ip netns` knows them.
 *
 * Programs are started in one by `nsenter --net`. `ip netns exec` would mount a fresh `/sys` as well, and so
 * hide what is pinned in bpffs.
 *
 * @module
 */
import { attempt, type CommandResult, run, type RunOptions, spawn } from "./command.ts";

const DIRECTORY = "/run/netns";
/** How long processes may take to end when asked, in milliseconds. */
const GRACE_MS = 1000;

/**
 * A network namespace by name.
 *
 * @example
 * ```ts
 * await using blue = await Namespace.create("blue");
 * await blue.run(["ip", "link", "set", "lo", "up"]);
 * ```
 */
export class Namespace implements AsyncDisposable {
  /** Its name. */
  readonly name: string;

  /**
   * A namespace that exists, or will.
   *
   * @throws {RangeError} when the name is not letters, digits, dots, underscores and hyphens
   */
  constructor(name: string) {
    if (!/^\w[\w.-]*$/.test(name)) {
      throw new RangeError(
        `Cannot name a namespace "${name}": only letters, digits, ".", "_" and "-" will do`,
      );
    }
    this.name = name;
  }

  /** The file that holds it. */
  get path(): string {
    return `${DIRECTORY}/${this.name}`;
  }

  /**
   * Makes a namespace.
   *
   * @throws {CommandError} when there is one of that name, or the caller is not root
   */
  static async create(name: string): Promise<Namespace> {
    const namespace = new Namespace(name);
    await run(["ip", "netns", "add", name]);
    return namespace;
  }

  /** All named namespaces whose names begin so, in the order of their names. */
  static async list(prefix = ""): Promise<Namespace[]> {
    const names: string[] = [];
    try {
      for await (const { name } of Deno.readDir(DIRECTORY)) names.push(name);
    } catch (error) {
      if (!(error instanceof Deno.errors.NotFound)) throw error;
    }
    return names.filter((name) => name.startsWith(prefix)).sort().map((name) =>
      new Namespace(name)
    );
  }

  /** Removes namespaces and ends what runs within them; such as do not exist are no error. */
  static async removeAll(namespaces: readonly Namespace[]): Promise<void> {
    await endProcesses(namespaces);
    const existing = await existingOf(namespaces);
    const lines = existing.map(({ name }) => `netns del ${name}\n`).join("");
    if (lines !== "") await run(["ip", "-batch", "-"], { stdin: lines });
  }

  /** Whether it exists. */
  async exists(): Promise<boolean> {
    return (await existingOf([this])).length === 1;
  }

  /** Ends what runs within it and removes it; that it does not exist is no error. */
  async remove(): Promise<void> {
    await Namespace.removeAll([this]);
  }

  /** As `remove()`. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.remove();
  }

  /** The argument vector that runs a command within the namespace. */
  argv(command: readonly string[]): string[] {
    return ["nsenter", `--net=${this.path}`, "--", ...command];
  }

  /**
   * Runs a command within the namespace and returns what it wrote to standard output.
   *
   * @throws {CommandError} when it ends with another code than 0
   */
  run(command: readonly string[], options: RunOptions = {}): Promise<string> {
    return run(this.argv(command), options);
  }

  /** Runs a command within the namespace to its end, whatever its code. */
  attempt(command: readonly string[], options: RunOptions = {}): Promise<CommandResult> {
    return attempt(this.argv(command), options);
  }

  /** Starts a command within the namespace. */
  spawn(
    command: readonly string[],
    options: Omit<Deno.CommandOptions, "args"> = {},
  ): Deno.ChildProcess {
    return spawn(this.argv(command), options);
  }

  /** The processes whose network namespace it is. */
  async processes(): Promise<number[]> {
    return await processesIn([this]);
  }
}

/** The number of the network namespace that this thread is in: the inode of its file. */
export function namespaceId(): number {
  return Deno.statSync("/proc/thread-self/ns/net").ino ?? 0;
}

/** The name of a network namespace by its number; undefined if it has none. */
export function namespaceName(id: number): string | undefined {
  try {
    for (const { name } of Deno.readDirSync(DIRECTORY)) {
      if (Deno.statSync(`${DIRECTORY}/${name}`).ino === id) return name;
    }
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  }
  return undefined;
}

async function existingOf(namespaces: readonly Namespace[]): Promise<Namespace[]> {
  const names = new Set((await Namespace.list()).map(({ name }) => name));
  return namespaces.filter(({ name }) => names.has(name));
}

/** What runs in any of the namespaces, this process excepted. */
async function processesIn(namespaces: readonly Namespace[]): Promise<number[]> {
  const links = new Set<string>();
  for (const { path } of await existingOf(namespaces)) {
    links.add(`net:[${(await Deno.stat(path)).ino}]`);
  }
  const found: number[] = [];
  if (links.size === 0) return found;
  for await (const { name } of Deno.readDir("/proc")) {
    const pid = Number(name);
    if (!Number.isInteger(pid) || pid === Deno.pid) continue;
    try {
      if (links.has(await Deno.readLink(`/proc/${pid}/ns/net`))) found.push(pid);
    } catch {
      // It has ended since, or is the kernel's.
    }
  }
  return found;
}

/** Asks processes to end, and ends them if they do not. */
async function endProcesses(namespaces: readonly Namespace[]): Promise<void> {
  const deadline = performance.now() + GRACE_MS;
  const asked = new Set<number>();
  for (;;) {
    const left = await processesIn(namespaces);
    if (left.length === 0) return;
    const patience = performance.now() < deadline;
    for (const pid of left) {
      if (patience && asked.has(pid)) continue;
      asked.add(pid);
      signalProcess(pid, patience ? "SIGTERM" : "SIGKILL");
    }
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

function signalProcess(pid: number, signal: Deno.Signal): void {
  try {
    Deno.kill(pid, signal);
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  }
}
