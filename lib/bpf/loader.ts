/**
 * libbpf's object loader. A libbpf object lives only within one call here: what outlives it are
 * file descriptors, so that nothing can be used after it was freed.
 */

import { ERRNO } from "../sys/errno.ts";
import { Fd } from "../sys/fd.ts";
import { libbpf } from "../sys/ffi.ts";
import {
  addressOf,
  type Bytes,
  cString,
  type Handle,
  lastErrno,
  readCString,
  textOf,
} from "../sys/memory.ts";
import { withMessages } from "../sys/messages.ts";
import { MAP_TYPE_SINCE, MAP_TYPES, type MapType } from "./constants.ts";
import { BpfError, NotSupportedError, VerifierError } from "./errors.ts";

/** A map as the object file declares it. */
export interface MapSpec {
  readonly type: MapType;
  readonly keySize: number;
  readonly valueSize: number;
}

/** What an object file declares. */
export interface ObjectSpec {
  /** By name; global variables by their section, such as `.data`. */
  readonly maps: ReadonlyMap<string, MapSpec>;
  /** By name: whether the program is to be loaded. */
  readonly programs: ReadonlyMap<string, boolean>;
}

/** What is to differ from the declarations. Maps and programs go by name. */
export interface LoadSettings {
  readonly maxEntries: ReadonlyMap<string, number>;
  /** Descriptors of the maps to be used instead of new ones. */
  readonly reuse: ReadonlyMap<string, number>;
  readonly autoload: ReadonlyMap<string, boolean>;
  /** Initial contents of the sections of global variables. */
  readonly images: ReadonlyMap<string, Uint8Array>;
}

/** Open descriptors of what was loaded, which the caller owns. */
export interface Loaded {
  readonly maps: ReadonlyMap<string, Fd>;
  readonly programs: ReadonlyMap<string, Fd>;
}

/** A negative error number. */
type Failure = number;

/** For the verifier's log of one program: bytes at first, and the most that every kernel takes. */
const LOG_BYTES = 1 << 18;
const LOG_BYTES_LIMIT = (1 << 24) - 1;

/**
 * Reads what an object file declares.
 *
 * @throws {BpfError} when libbpf does not understand the file
 */
export function readSpec(file: Uint8Array, name: string): ObjectSpec {
  const read = (object: Handle): ObjectSpec => ({
    maps: new Map(mapsOf(object).map(([name, map]) => [name, specOf(map)])),
    programs: new Map(
      programsOf(object).map(([name, program]) => [name, libbpf().bpf_program__autoload(program)]),
    ),
  });
  const spec = withObject(file, name, read);
  if (typeof spec !== "number") return spec;
  return withMessages((messages) => {
    const again = withObject(file, name, read);
    if (typeof again !== "number") return again;
    throw new BpfError(`open BPF object "${name}"`, again, lastOf(messages));
  });
}

/**
 * Loads an object into the kernel. When that fails, it is tried again to find out why: with
 * libbpf's messages, and with buffers for the verifier's log that grow until it fits.
 *
 * @throws {VerifierError} when the kernel refuses a program
 * @throws {NotSupportedError} when this kernel lacks one of the types of maps
 * @throws {BpfError} when anything else fails
 */
export function loadObject(file: Uint8Array, name: string, settings: LoadSettings): Loaded {
  const loaded = withObject(file, name, (object) => load(object, settings));
  if (typeof loaded !== "number") return loaded;
  return withMessages((messages) => {
    for (let size = LOG_BYTES;; size = Math.min(size * 8, LOG_BYTES_LIMIT)) {
      const logs = new Map<string, Bytes>();
      const again = withObject(file, name, (object) => {
        provideLogs(object, logs, size);
        return load(object, settings);
      });
      if (typeof again !== "number") return again;
      const refused = refusedProgram(logs);
      if (refused === undefined) throw loadError(file, name, again, messages);
      if (refused.log.length < size - 1 || size === LOG_BYTES_LIMIT) {
        throw new VerifierError(refused.program, again, refused.log);
      }
    }
  });
}

/** Gives each program a buffer for what the verifier may have to say about it. */
function provideLogs(object: Handle, logs: Map<string, Bytes>, size: number): void {
  for (const [name, program] of programsOf(object)) {
    const log = new Uint8Array(size);
    logs.set(name, log);
    libbpf().bpf_program__set_log_buf(program, log, BigInt(size));
  }
}

/** The program that failed to load: libbpf asks for the log of no other. */
function refusedProgram(
  logs: ReadonlyMap<string, Bytes>,
): { program: string; log: string } | undefined {
  for (const [program, bytes] of logs) {
    const log = textOf(bytes);
    if (log !== "") return { program, log };
  }
  return undefined;
}

function withObject<T>(
  file: Uint8Array,
  name: string,
  use: (object: Handle) => T | Failure,
): T | Failure {
  const nameBytes = cString(name.replace(/\W/g, "_"));
  // struct bpf_object_open_opts as far as its second field, the name
  const opts = new BigUint64Array([16n, addressOf(nameBytes)]);
  const object = libbpf().bpf_object__open_mem(file, BigInt(file.length), opts);
  if (object === null) return -lastErrno();
  try {
    return use(object);
  } finally {
    libbpf().bpf_object__close(object);
  }
}

function load(object: Handle, settings: LoadSettings): Loaded | Failure {
  const declared = mapsOf(object); // libbpf gives a map that is reused the name that it has in the kernel
  const failure = adjust(object, settings) || libbpf().bpf_object__load(object);
  if (failure !== 0) return failure;
  using owned = new DisposableStack();
  const duplicate = (fd: number): Fd => owned.use(Fd.duplicateOf(fd));
  const maps = declared
    .map(([name, map]) => [name, libbpf().bpf_map__fd(map)] as const)
    .filter(([_, fd]) => fd >= 0)
    .map(([name, fd]) => [name, duplicate(fd)] as const);
  const programs = programsOf(object)
    .map(([name, program]) => [name, libbpf().bpf_program__fd(program)] as const)
    .filter(([_, fd]) => fd >= 0)
    .map(([name, fd]) => [name, duplicate(fd)] as const);
  owned.move();
  return { maps: new Map(maps), programs: new Map(programs) };
}

function adjust(object: Handle, { maxEntries, reuse, autoload, images }: LoadSettings): Failure {
  for (const [name, map] of mapsOf(object)) {
    const image = images.get(name);
    const size = maxEntries.get(name);
    const fd = reuse.get(name);
    let failure = 0;
    if (image !== undefined) {
      failure ||= libbpf().bpf_map__set_initial_value(map, image, BigInt(image.length));
    }
    if (size !== undefined) failure ||= libbpf().bpf_map__set_max_entries(map, size);
    if (fd !== undefined) failure ||= libbpf().bpf_map__reuse_fd(map, fd);
    if (failure !== 0) return failure;
  }
  for (const [name, program] of programsOf(object)) {
    const wanted = autoload.get(name);
    if (wanted === undefined) continue;
    const failure = libbpf().bpf_program__set_autoload(program, wanted);
    if (failure !== 0) return failure;
  }
  return 0;
}

function mapsOf(object: Handle): [name: string, map: Handle][] {
  const maps: [string, Handle][] = [];
  let map = libbpf().bpf_object__next_map(object, null);
  while (map !== null) {
    const name = readCString(libbpf().bpf_map__name(map));
    // libbpf puts the object's name before that of the standard sections.
    const internal = libbpf().bpf_map__is_internal(map);
    maps.push([internal ? name.slice(name.indexOf(".")) : name, map]);
    map = libbpf().bpf_object__next_map(object, map);
  }
  return maps;
}

function programsOf(object: Handle): [name: string, program: Handle][] {
  const programs: [string, Handle][] = [];
  let program = libbpf().bpf_object__next_program(object, null);
  while (program !== null) {
    programs.push([readCString(libbpf().bpf_program__name(program)), program]);
    program = libbpf().bpf_object__next_program(object, program);
  }
  return programs;
}

function specOf(map: Handle): MapSpec {
  return {
    type: MAP_TYPES[libbpf().bpf_map__type(map)] ?? "unspec",
    keySize: libbpf().bpf_map__key_size(map),
    valueSize: libbpf().bpf_map__value_size(map),
  };
}

function loadError(
  file: Uint8Array,
  name: string,
  errno: number,
  messages: readonly string[],
): Error {
  if (-errno !== ERRNO.EPERM) {
    for (const { type } of readSpec(file, name).maps.values()) {
      if (libbpf().libbpf_probe_bpf_map_type(MAP_TYPES.indexOf(type), null) === 0) {
        return new NotSupportedError(`map type "${type}"`, MAP_TYPE_SINCE[type] ?? "4.19");
      }
    }
  }
  return new BpfError(`load BPF object "${name}"`, errno, lastOf(messages));
}

/** The last message that says why; the very last one only says that it failed. */
function lastOf(messages: readonly string[]): string | undefined {
  const message = messages.findLast((message) => !message.startsWith("failed to load object"));
  return message?.trim();
}
