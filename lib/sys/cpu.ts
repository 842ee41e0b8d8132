/** Processors, as BPF counts them. */

import { libbpf } from "./ffi.ts";

let count: number | undefined;

/**
 * How many values a per-CPU map holds for each key: the processors that this machine may ever
 * have, present or not.
 */
export function possibleCpus(): number {
  if (count === undefined) {
    const found = libbpf().libbpf_num_possible_cpus();
    if (found < 1) {
      throw new Error('Cannot count processors: "/sys/devices/system/cpu/possible" is unreadable');
    }
    count = found;
  }
  return count;
}
