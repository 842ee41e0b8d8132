/** File descriptors with an owner. */

import { SystemError } from "./errno.ts";
import { libc } from "./ffi.ts";
import { lastErrno } from "./memory.ts";

/** From <linux/fcntl.h>. */
const F_DUPFD_CLOEXEC = 1030;

/** The lowest descriptor handed out: 0 to 2 are standard input, output and error. */
const LOWEST = 3;

/**
 * A file descriptor that this object owns: it is closed exactly once, by {@linkcode Fd.close} or
 * at the end of a `using` block, unless {@linkcode Fd.release} gives it away.
 */
export class Fd implements Disposable {
  #fd: number;

  /**
   * Takes ownership of an open descriptor. One of the first three, which the kernel gives out when
   * a standard stream is closed, is moved out of their way, so that nobody prints into it.
   *
   * @throws {RangeError} when `fd` is negative: the error code of a failed call is not a descriptor
   */
  constructor(fd: number) {
    if (!Number.isInteger(fd) || fd < 0) {
      throw new RangeError(`Cannot own file descriptor ${fd}: it is not open`);
    }
    this.#fd = fd < LOWEST ? moveUp(fd) : fd;
  }

  /** A new descriptor for what another one, owned by somebody else, refers to. */
  static duplicateOf(fd: number): Fd {
    return new Fd(duplicate(fd));
  }

  /**
   * The number, for as long as it is open.
   *
   * @throws {TypeError} when it was closed or released
   */
  get value(): number {
    if (this.#fd < 0) throw new TypeError("Cannot use a file descriptor after closing it");
    return this.#fd;
  }

  /** Whether {@linkcode Fd.close} or {@linkcode Fd.release} was called. */
  get closed(): boolean {
    return this.#fd < 0;
  }

  /** Gives the descriptor away: the caller owns it from now on. */
  release(): number {
    const fd = this.value;
    this.#fd = -1;
    return fd;
  }

  /** Closes the descriptor; a second call does nothing. */
  close(): void {
    if (this.#fd < 0) return;
    const fd = this.#fd;
    this.#fd = -1;
    // Linux frees the descriptor whatever close() reports, so an error leaves nothing to do.
    libc().close(fd);
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

function moveUp(fd: number): number {
  const moved = duplicate(fd);
  libc().close(fd);
  return moved;
}

function duplicate(fd: number): number {
  const copy = libc().fcntl(fd, F_DUPFD_CLOEXEC, LOWEST);
  if (copy < 0) throw new SystemError(`duplicate file descriptor ${fd}`, lastErrno());
  return copy;
}
