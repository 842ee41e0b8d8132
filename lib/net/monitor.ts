/**
 * Tells when interfaces, addresses, routes or neighbours change, by `ip monitor`.
 *
 * @module
 */
import { spawn } from "./command.ts";
import type { Namespace } from "./namespace.ts";

/** The kernel tells changes one by one: this long after the first, more may follow, in milliseconds. */
const SETTLE_MS = 60;
/** How long `ip` may take to listen, in milliseconds. */
const START_MS = 2000;
/** How long to wait before another `ip` is started where one ended, in milliseconds. */
const RESTART_MS = 1000;
const OBJECTS = ["link", "address", "route", "neigh"];

/** What is told of changes. */
export interface MonitorOptions {
  /** Lines of `ip monitor` for which it answers false are nothing. Default: every line counts. */
  matters?: (line: string) => boolean;
  /** Tells one without a change after so long, in milliseconds. */
  intervalMs: number;
  namespace?: Namespace | undefined;
}

/**
 * Yields once it listens, and from then on after each burst of changes, until the signal. What happens while
 * the consumer works is told afterwards; no change is lost.
 *
 * @throws {MissingProgramError} when there is no `ip`
 */
export async function* changes(
  signal: AbortSignal,
  { matters = (): boolean => true, intervalMs, namespace }: MonitorOptions,
): AsyncGenerator<void> {
  while (!signal.aborted) {
    const bell = new Bell(signal);
    const command = ["ip", "monitor", ...OBJECTS];
    const child = spawn(namespace?.argv(command) ?? command, {
      stdin: "null",
      stdout: "piped",
      stderr: "piped",
    });
    const ring = (line: string): void => {
      if (matters(line)) bell.ring();
    };
    // What it says on standard error is that the kernel had more to tell than it could take.
    const streams = [eachLine(child.stdout, ring), eachLine(child.stderr, () => bell.ring())];
    let ended = false;
    const end = Promise.all([child.status, ...streams]).then(() => {
      ended = true;
      bell.ring();
    });
    try {
      await listening(child.pid, () => ended || signal.aborted);
      while (!signal.aborted && !ended) {
        yield;
        await bell.wait(intervalMs);
        if (!signal.aborted) await delay(SETTLE_MS, signal);
        bell.reset();
      }
    } finally {
      if (!ended) child.kill();
      await end;
    }
    // It has no business ending. Another is started, but not in haste.
    if (!signal.aborted) await delay(RESTART_MS, signal);
  }
}

/** Something that is waited for, by one at a time. */
class Bell {
  readonly #signal: AbortSignal;
  #rung = false;
  #wake: () => void = () => {};

  constructor(signal: AbortSignal) {
    this.#signal = signal;
  }

  ring(): void {
    this.#rung = true;
    this.#wake();
  }

  reset(): void {
    this.#rung = false;
  }

  /** Until it is rung, was rung since the last reset, or the time is over, or the signal comes. */
  async wait(ms: number): Promise<void> {
    if (this.#rung) return;
    const woken = new AbortController();
    this.#wake = (): void => woken.abort();
    await delay(ms, AbortSignal.any([woken.signal, this.#signal]));
  }
}

/** A pause that a signal cuts short. */
export function delay(ms: number, signal: AbortSignal): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  if (signal.aborted) return Promise.resolve();
  const done = (): void => {
    clearTimeout(timer);
    signal.removeEventListener("abort", done);
    resolve();
  };
  const timer = setTimeout(done, ms);
  signal.addEventListener("abort", done);
  return promise;
}

async function eachLine(
  stream: ReadableStream<Uint8Array>,
  tell: (line: string) => void,
): Promise<void> {
  let rest = "";
  for await (const text of stream.pipeThrough(new TextDecoderStream())) {
    const lines = (rest + text).split("\n");
    rest = lines.pop() ?? "";
    for (const line of lines) tell(line);
  }
}

/** Waits until a process has joined the groups of a netlink socket: from then on it misses nothing. */
async function listening(pid: number, givenUp: () => boolean): Promise<void> {
  const deadline = performance.now() + START_MS;
  while (!givenUp() && performance.now() < deadline) {
    if (await joinedGroups(pid)) return;
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
}

async function joinedGroups(pid: number): Promise<boolean> {
  let table: string;
  try {
    table = await Deno.readTextFile(`/proc/${pid}/net/netlink`);
  } catch {
    return false; // It has ended; whoever waits for that will know.
  }
  // Columns: socket, protocol (0 is rtnetlink), port, groups... The port of a process's first socket is
  // its own number.
  return table.split("\n").some((row) => {
    const [, protocol, port, groups] = row.trim().split(/\s+/);
    return protocol === "0" && Number(port) === pid && Number(`0x${groups}`) !== 0;
  });
}
