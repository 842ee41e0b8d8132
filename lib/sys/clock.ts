/** The kernel's clocks, in the unit and from the start that a BPF program sees. */

import { libc } from "./ffi.ts";

const CLOCK_MONOTONIC = 1;
const CLOCK_MONOTONIC_COARSE = 6;

const timespec = new BigInt64Array(2);
const timespecBytes = new Uint8Array(timespec.buffer);

/** Nanoseconds since boot without time asleep: what `bpf_ktime_get_ns()` returns. */
export function monotonicNs(): bigint {
  return read(CLOCK_MONOTONIC);
}

/** The same clock as of the last timer tick: what `bpf_ktime_get_coarse_ns()` returns. */
export function monotonicCoarseNs(): bigint {
  return read(CLOCK_MONOTONIC_COARSE);
}

function read(clock: number): bigint {
  libc().clock_gettime(clock, timespecBytes);
  const [seconds = 0n, nanoseconds = 0n] = timespec;
  return seconds * 1_000_000_000n + nanoseconds;
}
