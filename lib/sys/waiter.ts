/** Waiting for a file descriptor. */

import { ERRNO, SystemError } from "./errno.ts";
import { Fd } from "./fd.ts";
import { libc } from "./ffi.ts";
import { type Bytes, lastErrno } from "./memory.ts";

const POLLIN = 1;
const EFD_CLOEXEC = 0o2000000;
const WAIT_FOREVER = -1;

/**
 * Waits, holding up this thread, until a descriptor can be read.
 *
 * @returns whether it can; not when the time is over, or a signal came
 */
export function waitReadable(fd: number, timeoutMs: number): boolean {
  const ready = libc().poll(pollFds(fd), 1n, timeoutMs);
  if (ready >= 0) return ready > 0;
  const errno = lastErrno();
  if (errno === ERRNO.EINTR) return false;
  throw new SystemError(`wait for file descriptor ${fd}`, errno);
}

/** Waits on a thread of its own, so that JavaScript goes on, until a descriptor can be read. */
export class Waiter implements Disposable {
  readonly #fd: Fd;
  /** Can be read from `stop()` on. */
  readonly #stopped: Fd;

  /** Waits for what `fd` refers to, even if `fd` itself is closed meanwhile. */
  constructor(fd: number) {
    using owned = new DisposableStack();
    this.#fd = owned.use(Fd.duplicateOf(fd));
    const eventFd = libc().eventfd(0, EFD_CLOEXEC);
    if (eventFd < 0) throw new SystemError("create an eventfd", lastErrno());
    this.#stopped = owned.use(new Fd(eventFd));
    owned.move();
  }

  /** Resolves when the descriptor can be read, or `stop()` was called. */
  async wait(): Promise<void> {
    const fds = pollFds(this.#fd.value, this.#stopped.value);
    await libc().poll_async(fds, 2n, WAIT_FOREVER);
  }

  /** Ends this and every later `wait()`. */
  stop(): void {
    const one = new Uint8Array(new BigUint64Array([1n]).buffer);
    libc().write(this.#stopped.value, one, BigInt(one.length));
  }

  /** Only to be called when no `wait()` is under way. */
  [Symbol.dispose](): void {
    this.#fd.close();
    this.#stopped.close();
  }
}

/** An array of `struct pollfd`. */
function pollFds(...fds: number[]): Bytes {
  const bytes = new Uint8Array(fds.length * 8);
  const view = new DataView(bytes.buffer);
  for (const [index, fd] of fds.entries()) {
    view.setInt32(index * 8, fd, true);
    view.setInt16(index * 8 + 4, POLLIN, true);
  }
  return bytes;
}
