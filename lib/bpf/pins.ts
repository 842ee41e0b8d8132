/** Names for maps, programs and links in a bpffs, which keep them alive without a process. */

import { statfsSync } from "node:fs";
import { ERRNO } from "../sys/errno.ts";
import { Fd } from "../sys/fd.ts";
import { libbpf } from "../sys/ffi.ts";
import { cString } from "../sys/memory.ts";
import { BpfError } from "./errors.ts";

/** What a pin can hold, by what it is called in the names that descriptors have in /proc. */
const KINDS = { map: "map", prog: "program", link: "link" } as const;

/** What a pin can hold. */
export type PinKind = typeof KINDS[keyof typeof KINDS];

/**
 * Gives an object a name in a bpffs.
 *
 * @throws {BpfError} `EEXIST` when the name is taken, `EPERM` outside a bpffs, `ENOENT` when the
 *   directory is missing
 */
export function pin(fd: number, path: string, label: string): void {
  const result = libbpf().bpf_obj_pin(fd, cString(path));
  if (result === 0) return;
  const hint = -result === ERRNO.EPERM
    ? "is the directory in a bpffs, such as /sys/fs/bpf, and writable?"
    : undefined;
  throw new BpfError(`pin ${label} as "${path}"`, result, hint);
}

/** From linux/magic.h. */
const BPF_FS_MAGIC = 0xcafe4a11;

/** Whether a bpffs is mounted at a directory, as this process sees it. */
export function isBpffs(directory: string): boolean {
  try {
    return statfsSync(directory).type === BPF_FS_MAGIC;
  } catch {
    return false;
  }
}

/**
 * Removes a name; the object lives on while something else holds it.
 *
 * @throws {Deno.errors.NotFound} when there is no such name
 */
export function unpin(path: string): void {
  Deno.removeSync(path);
}

/**
 * Opens what a name stands for.
 *
 * @throws {BpfError} `ENOENT` when there is no such name
 * @throws {TypeError} when it stands for something else than `kind`
 */
export function openPin(path: string, kind: PinKind): Fd {
  const result = libbpf().bpf_obj_get(cString(path));
  if (result < 0) throw new BpfError(`open pinned ${kind} "${path}"`, result);
  const fd = new Fd(result);
  const found = kindOf(fd.value);
  if (found === kind) return fd;
  fd.close();
  throw new TypeError(`Cannot open pinned ${kind} "${path}": it is a ${found}`);
}

function kindOf(fd: number): PinKind | "file" {
  // Such as "anon_inode:bpf-map"; a link has "-" or "_" depending on how it was opened.
  const match = /^anon_inode:bpf[-_](map|prog|link)$/.exec(
    Deno.readLinkSync(`/proc/self/fd/${fd}`),
  );
  return match === null ? "file" : KINDS[match[1] as keyof typeof KINDS];
}
