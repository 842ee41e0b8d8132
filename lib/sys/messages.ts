/** What libbpf has to say about a call that failed. */

import { libbpf, libc } from "./ffi.ts";
import { readCString } from "./memory.ts";

const LIBBPF_WARN = 0;

// int (*libbpf_print_fn_t)(enum libbpf_print_level level, const char *format, va_list args)
const PRINT = { parameters: ["i32", "pointer", "pointer"], result: "i32" } as const;

/** Where messages go, while somebody wants them. */
let sink: string[] | undefined;

/**
 * What libbpf calls with a message. It is never freed: a thread that warns while it is set waits in
 * it until JavaScript on the main thread has time, which may be long after it was unset.
 */
let hook: Deno.UnsafeCallback<typeof PRINT> | undefined;

/**
 * Runs a function and collects libbpf's warnings meanwhile, without their "libbpf: " in front.
 *
 * There is one hook for the whole process. It belongs to the main thread, which never ends before
 * the process; in a worker no messages are collected. Callers use it to repeat what has failed, and
 * not for what will likely succeed.
 */
export function withMessages<T>(run: (messages: readonly string[]) => T): T {
  if ("WorkerGlobalScope" in globalThis) return run([]);
  hook ??= new Deno.UnsafeCallback(PRINT, (level, format, args) => {
    if (level === LIBBPF_WARN) sink?.push(formatted(format, args).replace(/^libbpf: /, ""));
    return 0;
  });
  sink = [];
  libbpf().libbpf_set_print(hook.pointer);
  try {
    return run(sink);
  } finally {
    libbpf().libbpf_set_print(null);
    sink = undefined;
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
