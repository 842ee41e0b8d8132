/** Running a program on a packet of one's own: BPF_PROG_TEST_RUN. */

import { ERRNO } from "../sys/errno.ts";
import { libbpf } from "../sys/ffi.ts";
import { addressOf, type Bytes } from "../sys/memory.ts";
import { BpfError } from "./errors.ts";

/** What {@linkcode BpfProgram.testRun} takes. */
export interface TestRunOptions {
  /** The packet, from its Ethernet header on; at least 14 bytes. */
  data: Uint8Array;
  /**
   * How often to run, 1 by default. The packet is **not** put back in between: the second run sees
   * what the first one left.
   */
  repeat?: number;
  /** Room for the packet afterwards, in bytes; by default that of `data` and 512 more. */
  sizeOut?: number;
  /** For XDP: the interface that the packet seems to come from; it must be up and do XDP. */
  ingressIfindex?: number;
  /** For XDP, with `ingressIfindex`: the receive queue. */
  rxQueueIndex?: number;
  /**
   * For XDP: what a driver has put before the packet, up to 32 bytes in steps of 4, or 252 since
   * Linux 6.6. A program that moves the packet's beginning forward finds it there, and must not
   * take it for its own.
   */
  metadata?: Uint8Array;
  /**
   * For XDP, since Linux 5.18: the verdicts come true. `repeat` frames are made of `data`, in the namespace's
   * loopback's or `ingressIfindex`'s name, and passed to the host, sent back or redirected as the program says.
   * The program meets each with its start and length put back, but may find in it what was written to it when it
   * was sent before. The result has no packet, and no verdict.
   */
  liveFrames?: boolean;
  /** With `liveFrames`: how many frames are processed together, 64 by default, 256 at most. */
  batchSize?: number;
}

/** What came of a test run. */
export interface TestRunResult {
  /** What the program returned, such as `2` for `XDP_PASS`. */
  readonly retval: number;
  /** The packet afterwards: a view of memory that the next test run of this thread overwrites. */
  readonly data: Bytes;
  /** Nanoseconds for one run, averaged over `repeat` runs. */
  readonly durationNs: number;
}

/** Offsets in `struct bpf_test_run_opts`. */
const OPTS = {
  dataIn: 8,
  dataOut: 16,
  dataSizeIn: 24,
  dataSizeOut: 28,
  contextIn: 32,
  contextSizeIn: 48,
  result: 56,
  repeat: 60,
  duration: 64,
  flags: 68,
  batchSize: 76,
  size: 80,
};

/** From <linux/bpf.h>. */
const BPF_F_TEST_XDP_LIVE_FRAMES = 1 << 1;

/** Offsets in `struct xdp_md`. */
const XDP_MD = { data: 0, dataEnd: 4, ingressIfindex: 12, rxQueueIndex: 16, size: 24 };

/** Programs may grow a packet by the headroom of 256 bytes, and somewhat at its end. */
const GROWTH = 512;

const NONE = new Uint8Array(0);

/** One runner serves a thread: its buffers keep their addresses from call to call. */
let runner: TestRunner | undefined;

/** Runs a program; see {@linkcode BpfProgram.testRun}. */
export function testRun(fd: number, label: string, options: TestRunOptions): TestRunResult {
  runner ??= new TestRunner();
  return runner.run(fd, label, options);
}

class TestRunner {
  readonly #opts = new Uint8Array(OPTS.size);
  readonly #view = new DataView(this.#opts.buffer);
  readonly #context = new Uint8Array(XDP_MD.size);
  readonly #contextView = new DataView(this.#context.buffer);
  #input: Bytes = new Uint8Array(0);
  #output: Bytes = new Uint8Array(0);

  constructor() {
    this.#view.setBigUint64(0, BigInt(OPTS.size), true);
    this.#reserve(4096, 4096);
  }

  run(fd: number, label: string, options: TestRunOptions): TestRunResult {
    const { data, repeat = 1, metadata = NONE, liveFrames = false, batchSize = 0 } = options;
    const before = metadata.length;
    const sizeIn = before + data.length;
    const sizeOut = before + (options.sizeOut ?? data.length + GROWTH);
    if (sizeIn > this.#input.length || sizeOut > this.#output.length) {
      this.#reserve(sizeIn, sizeOut);
    }
    this.#input.set(metadata);
    this.#input.set(data, before);
    const view = this.#view;
    view.setUint32(OPTS.dataSizeIn, sizeIn, true);
    // Frames that went their way do not come back.
    view.setBigUint64(OPTS.dataOut, liveFrames ? 0n : addressOf(this.#output), true);
    view.setUint32(OPTS.dataSizeOut, liveFrames ? 0 : sizeOut, true);
    view.setUint32(OPTS.repeat, repeat, true);
    view.setUint32(OPTS.flags, liveFrames ? BPF_F_TEST_XDP_LIVE_FRAMES : 0, true);
    view.setUint32(OPTS.batchSize, batchSize, true);
    this.#setContext(options);
    const result = libbpf().bpf_prog_test_run_opts(fd, this.#opts);
    if (result < 0) {
      throw testRunError(label, result, view.getUint32(OPTS.dataSizeOut, true) - before);
    }
    const end = liveFrames ? before : view.getUint32(OPTS.dataSizeOut, true);
    return {
      retval: view.getUint32(OPTS.result, true),
      data: this.#output.subarray(before, end),
      durationNs: view.getUint32(OPTS.duration, true),
    };
  }

  #reserve(input: number, output: number): void {
    if (input > this.#input.length) this.#input = new Uint8Array(input);
    if (output > this.#output.length) this.#output = new Uint8Array(output);
    this.#view.setBigUint64(OPTS.dataIn, addressOf(this.#input), true);
  }

  #setContext({ data, ingressIfindex, rxQueueIndex = 0, metadata = NONE }: TestRunOptions): void {
    const given = ingressIfindex !== undefined || metadata.length > 0;
    this.#view.setBigUint64(OPTS.contextIn, given ? addressOf(this.#context) : 0n, true);
    this.#view.setUint32(OPTS.contextSizeIn, given ? XDP_MD.size : 0, true);
    if (!given) return;
    this.#contextView.setUint32(XDP_MD.data, metadata.length, true);
    this.#contextView.setUint32(XDP_MD.dataEnd, metadata.length + data.length, true);
    this.#contextView.setUint32(XDP_MD.ingressIfindex, ingressIfindex ?? 0, true);
    this.#contextView.setUint32(XDP_MD.rxQueueIndex, rxQueueIndex, true);
  }
}

function testRunError(label: string, errno: number, sizeOut: number): BpfError {
  let detail: string | undefined;
  if (-errno === ERRNO.ENOSPC) {
    detail = `the packet has ${sizeOut} bytes now: give a larger sizeOut`;
  } else if (-errno === ERRNO.ENOTSUPP) {
    detail = "the kernel has no test run for this type of program";
  }
  return new BpfError(`run ${label}`, errno, detail);
}
