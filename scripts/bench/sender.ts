/** A worker that lets a program send live frames until it is told to stop, and posts what it sent. */

import { BpfProgram } from "../../lib/bpf/mod.ts";

/** What it is sent. */
export interface Order {
  readonly programId: number;
  readonly frame: Uint8Array;
  /** Its first element is not zero any more: stop. */
  readonly stop: Int32Array;
}

/** What it posts in the end. */
export interface Sent {
  readonly frames: number;
  /** Without what it takes to begin and to end a test run: some 20 ms, for which nothing is sent. */
  readonly ms: number;
}

/** Of one test run: enough that it takes tenths of a second. */
const FRAMES = 1 << 18;

const scope = globalThis as unknown as Worker;
scope.onmessage = ({ data: { programId, frame, stop } }: MessageEvent<Order>) => {
  using program = BpfProgram.fromId(programId);
  let frames = 0, ms = 0;
  for (; Atomics.load(stop, 0) === 0; frames += FRAMES) {
    const { durationNs } = program.testRun({ data: frame, liveFrames: true, repeat: FRAMES });
    ms += durationNs * FRAMES / 1e6;
  }
  const sent: Sent = { frames, ms };
  scope.postMessage(sent);
};
scope.postMessage("ready");
