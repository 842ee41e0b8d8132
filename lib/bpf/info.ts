/** What the kernel tells about an open map, program or link: BPF_OBJ_GET_INFO_BY_FD. */

import { Fd } from "../sys/fd.ts";
import { libbpf } from "../sys/ffi.ts";
import { type Bytes, textOf } from "../sys/memory.ts";
import { check } from "./errors.ts";

/** Offsets in the info structs of <linux/bpf.h>, and how many bytes of each are asked for. */
const MAP_INFO = {
  type: 0,
  id: 4,
  keySize: 8,
  valueSize: 12,
  maxEntries: 16,
  flags: 20,
  name: 24,
  size: 40,
};
const PROGRAM_INFO = {
  type: 0,
  id: 4,
  tag: 8,
  name: 64,
  runTimeNs: 192,
  runs: 200,
  verifiedInstructions: 216,
  size: 220,
};
const LINK_INFO = { type: 0, id: 4, programId: 8, ifindex: 16, size: 32 };

const NAME_BYTES = 16;
const TAG_BYTES = 8;

/** `struct bpf_map_info`, the part every kernel has. */
export interface MapInfo {
  readonly type: number;
  readonly id: number;
  readonly keySize: number;
  readonly valueSize: number;
  readonly maxEntries: number;
  readonly flags: number;
  /** At most 15 bytes. */
  readonly name: string;
}

/** `struct bpf_prog_info`, the part that is told of every program. */
export interface ProgramInfo {
  readonly type: number;
  readonly id: number;
  /** At most 15 bytes. */
  readonly name: string;
  /** A digest of the instructions, 16 hexadecimal digits. */
  readonly tag: string;
  /** How many instructions the verifier walked through; since Linux 5.16. */
  readonly verifiedInstructions: number | undefined;
  /** Nanoseconds that it ran while runs were counted. */
  readonly runTimeNs: bigint;
  /** How often it ran while runs were counted. */
  readonly runs: bigint;
}

/** `struct bpf_link_info` of an XDP link. */
export interface LinkInfo {
  readonly type: number;
  readonly id: number;
  readonly programId: number;
  /** 0 once the interface is gone. */
  readonly ifindex: number;
}

/** Asks about an open map. */
export function mapInfo(fd: number): MapInfo {
  const { bytes, view } = info(fd, MAP_INFO.size, "map");
  return {
    type: view.getUint32(MAP_INFO.type, true),
    id: view.getUint32(MAP_INFO.id, true),
    keySize: view.getUint32(MAP_INFO.keySize, true),
    valueSize: view.getUint32(MAP_INFO.valueSize, true),
    maxEntries: view.getUint32(MAP_INFO.maxEntries, true),
    flags: view.getUint32(MAP_INFO.flags, true),
    name: textOf(bytes.subarray(MAP_INFO.name, MAP_INFO.name + NAME_BYTES)),
  };
}

/** Asks about a loaded program. */
export function programInfo(fd: number): ProgramInfo {
  const { bytes, view, length } = info(fd, PROGRAM_INFO.size, "program");
  const tag = bytes.subarray(PROGRAM_INFO.tag, PROGRAM_INFO.tag + TAG_BYTES);
  return {
    type: view.getUint32(PROGRAM_INFO.type, true),
    id: view.getUint32(PROGRAM_INFO.id, true),
    name: textOf(bytes.subarray(PROGRAM_INFO.name, PROGRAM_INFO.name + NAME_BYTES)),
    tag: Array.from(tag, (byte) => byte.toString(16).padStart(2, "0")).join(""),
    verifiedInstructions: length < PROGRAM_INFO.size
      ? undefined
      : view.getUint32(PROGRAM_INFO.verifiedInstructions, true),
    runTimeNs: view.getBigUint64(PROGRAM_INFO.runTimeNs, true),
    runs: view.getBigUint64(PROGRAM_INFO.runs, true),
  };
}

/** Asks about an XDP link. */
export function linkInfo(fd: number): LinkInfo {
  const { view } = info(fd, LINK_INFO.size, "link");
  return {
    type: view.getUint32(LINK_INFO.type, true),
    id: view.getUint32(LINK_INFO.id, true),
    programId: view.getUint32(LINK_INFO.programId, true),
    ifindex: view.getUint32(LINK_INFO.ifindex, true),
  };
}

/** The name of a program by its id; `undefined` if it has none or is gone. */
export function programNameOf(id: number): string | undefined {
  const fd = libbpf().bpf_prog_get_fd_by_id(id);
  if (fd < 0) return undefined;
  using owned = new Fd(fd);
  return programInfo(owned.value).name || undefined;
}

/**
 * Fills an info struct. A kernel that knows fewer bytes of it says so by `length`, and leaves the
 * others zero.
 */
function info(fd: number, size: number, what: string): Info {
  const bytes = new Uint8Array(size);
  const length = new Uint32Array([size]);
  check(libbpf().bpf_obj_get_info_by_fd(fd, bytes, length), () => `ask about ${what} ${fd}`);
  return { bytes, view: new DataView(bytes.buffer), length: length[0] ?? 0 };
}

interface Info {
  readonly bytes: Bytes;
  readonly view: DataView;
  readonly length: number;
}
