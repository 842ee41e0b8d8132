/** What the running kernel has. */

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
