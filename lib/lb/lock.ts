/**
 * Who may change an instance: one process at a time. The kernel drops the lock with the process that held it.
 *
 * @module
 */
import { delay } from "../net/monitor.ts";
import { InstanceBusyError } from "./errors.ts";
import type { Logger } from "./types.ts";

/** Where locks and journals are, which last as long as what is pinned. */
export const RUN_DIRECTORY = "/run/xvs";

/** How often to try, in milliseconds. */
const FIRST_TRY_MS = 1, LONGEST_TRY_MS = 50;
/** After so long somebody is told, in milliseconds. */
const TELL_MS = 1000;

/** How to wait. */
export interface LockOptions {
  /** How long, in milliseconds. Default 30,000. */
  timeoutMs?: number;
  logger?: Logger | undefined;
  signal?: AbortSignal;
}

/** A lock that is held. */
export class InstanceLock implements Disposable {
  readonly #file: Deno.FsFile;
  readonly #path: string;

  private constructor(file: Deno.FsFile, path: string) {
    this.#file = file;
    this.#path = path;
  }

  /**
   * Waits until nobody else holds the lock.
   *
   * @throws {InstanceBusyError} when that takes too long
   */
  static async take(name: string, options: LockOptions = {}): Promise<InstanceLock> {
    const { timeoutMs = 30_000, logger, signal = new AbortController().signal } = options;
    const began = performance.now();
    let told = false;
    for (let wait = FIRST_TRY_MS;; wait = Math.min(2 * wait, LONGEST_TRY_MS)) {
      const lock = InstanceLock.takeNow(name);
      if (lock) return lock;
      const waited = performance.now() - began;
      if (waited > timeoutMs) throw busy(name, waited);
      if (!told && waited > TELL_MS) {
        told = true;
        (logger?.warn ?? logger?.debug)?.call(logger, busy(name, waited).message);
      }
      await delay(wait, signal);
      signal.throwIfAborted();
    }
  }

  /** The names that there are locks for, held or not. */
  static names(): string[] {
    const ends = /^([\w-]+)\.lock$/;
    try {
      return [...Deno.readDirSync(RUN_DIRECTORY)].flatMap(({ name }) => ends.exec(name)?.[1] ?? []);
    } catch (error) {
      if (error instanceof Deno.errors.NotFound) return [];
      throw error;
    }
  }

  /** The lock, if nobody else holds it. */
  static takeNow(name: string): InstanceLock | undefined {
    Deno.mkdirSync(RUN_DIRECTORY, { recursive: true, mode: 0o700 });
    const path = pathOf(name);
    using stack = new DisposableStack();
    const file = stack.use(
      Deno.openSync(path, { read: true, write: true, create: true, mode: 0o600 }),
    );
    if (!file.tryLockSync(true)) return undefined;
    // Whoever removed the instance took the file away while this one waited for it.
    if (file.statSync().ino !== inodeOf(path)) return undefined;
    file.truncateSync();
    file.writeSync(new TextEncoder().encode(`${Deno.pid}\n`));
    stack.move();
    return new InstanceLock(file, path);
  }

  /** Takes the file away: the instance is gone. Others that wait for it find that out. */
  removeFile(): void {
    Deno.removeSync(this.#path);
  }

  [Symbol.dispose](): void {
    this.#file.close();
  }
}

function pathOf(name: string): string {
  return `${RUN_DIRECTORY}/${name}.lock`;
}

function inodeOf(path: string): number | null {
  try {
    return Deno.statSync(path).ino;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return null;
    throw error;
  }
}

function busy(name: string, waitedMs: number): InstanceBusyError {
  let pid: number | undefined, command = "";
  try {
    pid = Number(Deno.readTextFileSync(pathOf(name))) || undefined;
    command = Deno.readTextFileSync(`/proc/${pid}/cmdline`).replaceAll("\0", " ").trim();
  } catch {
    // It has just ended.
  }
  const holder = pid === undefined ? "another process" : `process ${pid} "${command}"`;
  return new InstanceBusyError(name, pid, holder, waitedMs);
}
