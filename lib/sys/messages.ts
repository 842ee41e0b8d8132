/** What libbpf has to say about a call that failed. */

import { libbpf, libc } from "./ffi.ts";
import { readCString } from "./memory.ts";

const LIBBPF_WARN = 0;

/**
 * Runs a function and collects libbpf's warnings meanwhile, without their "libbpf: " in front.
 *
 * The hook is one for the whole process. It is set for no longer than `run` takes, and callers use
 * it only to repeat what has failed already, because a thread that warns while another thread's
 * JavaScript holds the hook has to wait for it.
 */
export function withMessages<T>(run: (messages: readonly string[]) => T): T {
  const messages: string[] = [];
  const callback = new Deno.UnsafeCallback(
    { parameters: ["i32", "pointer", "pointer"], result: "i32" },
    (level, format, args) => {
      if (level === LIBBPF_WARN) messages.push(formatted(format, args).replace(/^libbpf: /, ""));
      return 0;
    },
  );
  try {
    libbpf().libbpf_set_print(callback.pointer);
    return run(messages);
  } finally {
    libbpf().libbpf_set_print(null);
    callback.close();
  }
}

function formatted(format: Deno.PointerValue, args: Deno.PointerValue): string {
  const result = new BigUint64Array(1);
  const length = libc().vasprintf(new Uint8Array(result.buffer), format, args);
  if (length < 0) return readCString(format);
  const text = Deno.UnsafePointer.create(result[0] ?? 0n);
  try {
    return readCString(text);
  } finally {
    libc().free(text);
  }
}
