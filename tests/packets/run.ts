/**
 * Runs the program on a frame that has bytes of no meaning before it, so that what the program forgets to
 * write in an outer header shows. The kernel calls such bytes metadata; they stay before the frame.
 *
 * @module
 */
import { BpfError, type BpfProgram } from "../../lib/bpf/mod.ts";
import { libbpf } from "../../lib/sys/ffi.ts";
import { addressOf } from "../../lib/sys/memory.ts";

/** What the program does with a packet: enum xdp_action. */
export const ACTIONS = ["aborted", "drop", "pass", "tx", "redirect"] as const;

export type Action = (typeof ACTIONS)[number];

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
  size: 80,
};

/** Offsets in `struct xdp_md`. */
const XDP_MD = { data: 0, dataEnd: 4, ingressIfindex: 12, size: 24 };

/** No frame of a test grows by more. */
const GROWTH = 256;

/** More than any header that the program puts before a frame. */
const POISON = 64;
/** The most that Linux before 6.8 takes. */
const POISON_BEFORE_6_8 = 32;

const opts = new DataView(new ArrayBuffer(OPTS.size));
const context = new DataView(new ArrayBuffer(XDP_MD.size));
let poisonSize = POISON;
let salt = 0;

/** How a frame comes in. */
export interface Arrival {
  /** The interface; default 1, the loopback. */
  ifindex?: number;
  /** Bytes of metadata; default as many as matter. */
  metadata?: number;
}

/** Runs the program once. */
export function run(
  program: BpfProgram,
  frame: Uint8Array,
  { ifindex = 1, metadata }: Arrival = {},
): { action: Action; frame: Uint8Array } {
  try {
    return tryRun(program, frame, ifindex, metadata ?? poisonSize);
  } catch (error) {
    if (metadata !== undefined || poisonSize === POISON_BEFORE_6_8) throw error;
    poisonSize = POISON_BEFORE_6_8;
    return run(program, frame, { ifindex });
  }
}

function tryRun(
  program: BpfProgram,
  frame: Uint8Array,
  ifindex: number,
  metadata: number,
): { action: Action; frame: Uint8Array } {
  const input = new Uint8Array(metadata + frame.length);
  const output = new Uint8Array(input.length + GROWTH);
  // Never the same bytes twice in the same place, and none that is zero.
  salt = (salt + 1) % 251;
  for (let i = 0; i < metadata; i++) input[i] = 1 + (i * 31 + salt) % 255;
  input.set(frame, metadata);
  context.setUint32(XDP_MD.data, metadata, true);
  context.setUint32(XDP_MD.dataEnd, input.length, true);
  context.setUint32(XDP_MD.ingressIfindex, ifindex, true);
  opts.setBigUint64(0, BigInt(OPTS.size), true);
  opts.setBigUint64(OPTS.dataIn, addressOf(input), true);
  opts.setBigUint64(OPTS.dataOut, addressOf(output), true);
  opts.setUint32(OPTS.dataSizeIn, input.length, true);
  opts.setUint32(OPTS.dataSizeOut, output.length, true);
  opts.setBigUint64(OPTS.contextIn, addressOf(new Uint8Array(context.buffer)), true);
  opts.setUint32(OPTS.contextSizeIn, XDP_MD.size, true);
  opts.setUint32(OPTS.repeat, 1, true);
  const error = libbpf().bpf_prog_test_run_opts(program.fd, new Uint8Array(opts.buffer));
  if (error < 0) throw new BpfError(`run ${program.label}`, error);
  const action = ACTIONS[opts.getUint32(OPTS.result, true)];
  if (!action) throw new Error(`The program returned ${opts.getUint32(OPTS.result, true)}`);
  return { action, frame: output.slice(metadata, opts.getUint32(OPTS.dataSizeOut, true)) };
}
