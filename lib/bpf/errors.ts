/** What can go wrong, as classes that carry the facts. */

import { ERRNO, SystemError } from "../sys/errno.ts";

export { LibraryError } from "../sys/ffi.ts";
export { SystemError };

/**
 * A BPF operation failed.
 *
 * @example
 * ```ts
 * import { BpfError, BpfMap } from "./mod.ts";
 *
 * try {
 *   BpfMap.openPinned("/sys/fs/bpf/flows");
 * } catch (error) {
 *   if (!(error instanceof BpfError && error.code === "ENOENT")) throw error;
 * }
 * ```
 */
export class BpfError extends SystemError {
  override readonly name: string = "BpfError";

  /**
   * @param operation What was tried: the message says "Cannot" before it
   * @param errno The error number, of either sign
   * @param detail What is known beyond the number, or how to get out
   */
  constructor(operation: string, errno: number, detail?: string) {
    super(operation, errno, detail ?? wayOut(Math.abs(errno)));
  }
}

/** This kernel lacks something. */
export class NotSupportedError extends Error {
  override readonly name = "NotSupportedError";
  /** What is missing, such as `map type "ringbuf"`. */
  readonly feature: string;
  /** The first Linux release that has it, such as `"5.8"`. */
  readonly minimumKernel: string;

  constructor(feature: string, minimumKernel: string) {
    super(`This kernel does not support ${feature}: Linux ${minimumKernel} or later does`);
    this.feature = feature;
    this.minimumKernel = minimumKernel;
  }
}

/** The kernel's verifier refused a program. */
export class VerifierError extends BpfError {
  override readonly name = "VerifierError";
  /** The program's name. */
  readonly program: string;
  /** All that the verifier said. */
  readonly log: string;

  constructor(program: string, errno: number, log: string) {
    super(`load program "${program}"`, errno, lastUsefulLine(log));
    this.program = program;
    this.log = log;
  }
}

/** An interface has an XDP program already, which stays where it is. */
export class XdpBusyError extends BpfError {
  override readonly name = "XdpBusyError";
  /** The interface. */
  readonly ifindex: number;
  /** The program found there; `undefined` if it has gone meanwhile. */
  readonly programId: number | undefined;
  /** Its name; `undefined` if it has none. */
  readonly programName: string | undefined;

  /** @param label What messages call the interface */
  constructor(
    label: string,
    ifindex: number,
    programId: number | undefined,
    programName: string | undefined,
  ) {
    const found = programId === undefined
      ? "another XDP program"
      : `XDP program ${programId}${programName === undefined ? "" : ` "${programName}"`}`;
    super(
      `attach to ${label}`,
      ERRNO.EBUSY,
      `${found} is attached there; detach it first, or give the option "replace"`,
    );
    this.ifindex = ifindex;
    this.programId = programId;
    this.programName = programName;
  }
}

/** Throws if a libbpf call returned a negative error number; returns its result otherwise. */
export function check(result: number, operation: () => string): number {
  if (result < 0) throw new BpfError(operation(), result);
  return result;
}

function wayOut(errno: number): string | undefined {
  if (errno === ERRNO.EPERM) return "run as root, or with CAP_BPF and CAP_NET_ADMIN";
  return undefined;
}

/** Lines that end a verifier log with statistics. */
const STATISTICS = /^(processed \d+ insns|verification time|stack depth|max_states|peak_states|--)/;

function lastUsefulLine(log: string): string | undefined {
  return log.split("\n").map((line) => line.trim())
    .findLast((line) => line !== "" && !STATISTICS.test(line));
}
