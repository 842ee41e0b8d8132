/** What the running kernel has. */

import { libbpf } from "../sys/ffi.ts";
import { check } from "./errors.ts";

/** The kernel's release, such as `"6.1.0-18-amd64"`. */
export function kernelRelease(): string {
  return Deno.osRelease();
}

/** Whether the kernel tells its own types, which objects built for many kernels (CO-RE) need. */
export function hasKernelBtf(): boolean {
  try {
    return Deno.statSync("/sys/kernel/btf/vmlinux").isFile;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return false;
    throw error;
  }
}

const BPF_PROG_TYPE_XDP = 6; // enum bpf_prog_type

/**
 * Whether the kernel lets XDP programs call a helper.
 *
 * @param id Its number in `enum bpf_func_id`
 * @throws {BpfError} when the kernel could not be asked
 */
export function hasXdpHelper(id: number): boolean {
  const result = libbpf().libbpf_probe_bpf_helper(BPF_PROG_TYPE_XDP, id, null);
  return check(result, () => `ask for BPF helper ${id}`) === 1;
}
