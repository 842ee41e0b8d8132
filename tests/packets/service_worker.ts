/**
 * A worker that sends packets to two VIPs in turns until it is told to stop, and posts how many were forwarded
 * and which of them to the wrong destination. It is sent a {@linkcode Task}.
 */

import { BpfProgram } from "../../lib/bpf/mod.ts";

/** What to send, and where it may go. */
export interface Task {
  programId: number;
  targets: { frame: Uint8Array; mac: string }[];
  /** Its first element is not zero any more: stop. The second counts workers that have sent to each target. */
  stop: Int32Array;
}

/** What came of it. */
export interface Result {
  forwarded: number[];
  wrong: string[];
}

const XDP_TX = 3;

const scope = globalThis as unknown as Worker;
scope.onmessage = ({ data: { programId, targets, stop } }: MessageEvent<Task>) => {
  using program = BpfProgram.fromId(programId);
  const result: Result = { forwarded: targets.map(() => 0), wrong: [] };
  let told = false;
  while (Atomics.load(stop, 0) === 0) {
    if (!told && result.forwarded.every((count) => count > 0)) {
      Atomics.add(stop, 1, 1);
      told = true;
    }
    targets.forEach(({ frame, mac }, i) => {
      const { retval, data } = program.testRun({ data: frame, ingressIfindex: 1 });
      if (retval !== XDP_TX) return;
      result.forwarded[i]!++;
      const got = data.slice(0, 6).toHex();
      if (got !== mac) result.wrong.push(`${i} to ${got}`);
    });
  }
  scope.postMessage(result);
};
