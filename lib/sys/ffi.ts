/**
 * The one door to native code: libbpf and libc, opened on first use.
 *
 * Everything else in this project reaches C through {@linkcode libbpf} and {@linkcode libc}, so
 * that a unit test can put fakes in their place with {@linkcode replaceLibraries}.
 */

import { LIBBPF_SYMBOLS, LIBC_SYMBOLS } from "./symbols.ts";

/** The functions of libbpf.so.1. */
export type Libbpf = Deno.DynamicLibrary<typeof LIBBPF_SYMBOLS>["symbols"];
/** The functions of libc.so.6. */
export type Libc = Deno.DynamicLibrary<typeof LIBC_SYMBOLS>["symbols"];

/** A native library is missing, or too old for what is asked of it. */
export class LibraryError extends Error {
  override readonly name = "LibraryError";
  /** The file that was looked for, such as `libbpf.so.1`. */
  readonly library: string;

  /** @param cause What `Deno.dlopen` said. */
  constructor(library: string, wayOut: string, cause: unknown) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    super(`Cannot open "${library}": ${reason}; ${wayOut}`, { cause });
    this.library = library;
  }
}

let currentLibbpf: Libbpf | undefined;
let currentLibc: Libc | undefined;

/**
 * The functions of libbpf. Its own messages on standard error are off: errors carry them.
 *
 * @throws {LibraryError} when libbpf 1.0 or later is not installed
 * @throws {Deno.errors.NotCapable} without `--allow-ffi`
 */
export function libbpf(): Libbpf {
  if (currentLibbpf === undefined) {
    const wayOut = "install libbpf 1.0 or later (Debian, Ubuntu: apt-get install libbpf1)";
    currentLibbpf = open("libbpf.so.1", LIBBPF_SYMBOLS, wayOut);
    currentLibbpf.libbpf_set_print(null);
  }
  return currentLibbpf;
}

/**
 * The functions of libc.
 *
 * @throws {LibraryError} when this is not a system with the GNU C library
 * @throws {Deno.errors.NotCapable} without `--allow-ffi`
 */
export function libc(): Libc {
  currentLibc ??= open(
    "libc.so.6",
    LIBC_SYMBOLS,
    "a Linux system with the GNU C library is needed",
  );
  return currentLibc;
}

/**
 * Puts fakes in the place of the libraries until disposed. A function that a fake lacks is
 * `undefined`, so that a test fails when the code under test calls more than the test expects.
 *
 * @example
 * ```ts ignore
 * using _ = replaceLibraries({ libbpf: { bpf_map_get_fd_by_id: () => -1 } });
 * assertThrows(() => BpfMap.fromId(7), BpfError, "EPERM");
 * ```
 */
export function replaceLibraries(
  fakes: { libbpf?: Partial<Libbpf>; libc?: Partial<Libc> },
): Disposable {
  const before = { libbpf: currentLibbpf, libc: currentLibc };
  if (fakes.libbpf) currentLibbpf = fakes.libbpf as Libbpf;
  if (fakes.libc) currentLibc = fakes.libc as Libc;
  return {
    [Symbol.dispose](): void {
      currentLibbpf = before.libbpf;
      currentLibc = before.libc;
    },
  };
}

function open<S extends Deno.ForeignLibraryInterface>(
  library: string,
  symbols: S,
  wayOut: string,
): Deno.DynamicLibrary<S>["symbols"] {
  try {
    return Deno.dlopen(library, symbols).symbols;
  } catch (error) {
    if (error instanceof Deno.errors.NotCapable) throw error;
    throw new LibraryError(library, wayOut, error);
  }
}
