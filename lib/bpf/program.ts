/** BPF programs that the kernel has accepted. */

import { Fd } from "../sys/fd.ts";
import { libbpf } from "../sys/ffi.ts";
import { PROGRAM_TYPES, type ProgramType } from "./constants.ts";
import { check } from "./errors.ts";
import { programInfo } from "./info.ts";
import { attachXdp, type XdpAttachOptions, type XdpLink } from "./link.ts";
import { openPin, pin, unpin } from "./pins.ts";
import { testRun, type TestRunOptions, type TestRunResult } from "./test_run.ts";

/**
 * Lets the kernel count runs of all programs on this host, and time them, until the result is disposed of.
 * It costs each run two readings of a clock.
 *
 * @throws {BpfError} when the process may not do so
 */
export function countRuns(): Disposable {
  const BPF_STATS_RUN_TIME = 0;
  return new Fd(check(libbpf().bpf_enable_stats(BPF_STATS_RUN_TIME), () => "count runs"));
}

/**
 * A loaded BPF program.
 *
 * @example
 * ```ts
 * import { BpfObject } from "./mod.ts";
 *
 * using object = BpfObject.open(Deno.readFileSync("count_packets.bpf.o")).load();
 * const { retval } = object.program("count").testRun({ data: new Uint8Array(64) });
 * ```
 */
export class BpfProgram implements Disposable {
  readonly #fd: Fd;
  /** The kernel's number for this program. */
  readonly id: number;
  readonly type: ProgramType;
  /** The function's name in C; 15 bytes of it when the program was opened by id or pin. */
  readonly name: string;
  /** A digest of its instructions, 16 hexadecimal digits. */
  readonly tag: string;
  /** How many instructions the verifier walked through; `undefined` before Linux 5.16. */
  readonly verifiedInstructions: number | undefined;

  /**
   * Takes ownership of a program's file descriptor.
   *
   * @param name The full name, where the kernel's 15 bytes are not enough
   * @throws {BpfError} when `fd` is no program
   */
  constructor(fd: number, name?: string) {
    using owned = new DisposableStack();
    this.#fd = owned.use(new Fd(fd));
    const info = programInfo(this.#fd.value);
    this.id = info.id;
    this.type = PROGRAM_TYPES[info.type] ?? "unspec";
    this.name = name ?? info.name;
    this.tag = info.tag;
    this.verifiedInstructions = info.verifiedInstructions;
    owned.move();
  }

  /**
   * Opens a program by its name in a bpffs.
   *
   * @throws {BpfError} with code `"ENOENT"` when there is none
   */
  static openPinned(path: string): BpfProgram {
    return new BpfProgram(openPin(path, "program").release());
  }

  /**
   * Opens a program by the kernel's number for it.
   *
   * @throws {BpfError} with code `"ENOENT"` when there is none
   */
  static fromId(id: number): BpfProgram {
    return new BpfProgram(check(libbpf().bpf_prog_get_fd_by_id(id), () => `open program ${id}`));
  }

  /** Another handle of the same program, to be closed on its own. */
  duplicate(): BpfProgram {
    return new BpfProgram(Fd.duplicateOf(this.fd).release(), this.name);
  }

  /** The file descriptor, which stays this object's. */
  get fd(): number {
    return this.#fd.value;
  }

  /**
   * Runs the program on a packet, without any interface. Takes a few microseconds.
   *
   * The result's `data` is a view that the next test run overwrites: copy it to keep it.
   *
   * @throws {BpfError} `ENOSPC` when the packet has outgrown `sizeOut`
   */
  testRun(options: TestRunOptions): TestRunResult {
    return testRun(this.fd, this.label, options);
  }

  /** How often it ran, and how long, while a {@linkcode countRuns} was open. */
  get runs(): { count: bigint; timeNs: bigint } {
    const { runs, runTimeNs } = programInfo(this.fd);
    return { count: runs, timeNs: runTimeNs };
  }

  /**
   * Attaches an XDP program to an interface, for as long as the link or a pin of it lives.
   *
   * @throws {XdpBusyError} when another program is there; it is left alone
   * @throws {BpfError} `ENODEV` when there is no such interface, `EOPNOTSUPP` when its driver does
   *   not take XDP programs and `mode` is `"native"`
   */
  attachXdp(ifindex: number, options: XdpAttachOptions = {}): XdpLink {
    return attachXdp(this, ifindex, options);
  }

  /**
   * Gives the program a name in a bpffs, which keeps it alive.
   *
   * @throws {BpfError} `EEXIST` when the name is taken, `EPERM` outside a bpffs
   */
  pin(path: string): void {
    pin(this.fd, path, this.label);
  }

  /** Removes a name that {@linkcode BpfProgram.pin} gave. */
  unpin(path: string): void {
    unpin(path);
  }

  /** Closes this handle; a second call does nothing. */
  close(): void {
    this.#fd.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  /** How messages call this program. */
  get label(): string {
    return this.name === "" ? `program ${this.id}` : `program "${this.name}"`;
  }
}
