/** XDP programs on interfaces: BPF links, which detach by themselves when nobody holds them. */

import { ERRNO } from "../sys/errno.ts";
import { Fd } from "../sys/fd.ts";
import { libbpf } from "../sys/ffi.ts";
import { interfaceName, interfaceNumber } from "../sys/interface.ts";
import { BpfError, check, NotSupportedError, XdpBusyError } from "./errors.ts";
import { linkInfo, programNameOf } from "./info.ts";
import { openPin, pin, unpin } from "./pins.ts";

/** Where the program runs: in the driver, or after it on the socket buffer. */
export type XdpMode = "native" | "generic";

/** How to attach an XDP program. */
export interface XdpAttachOptions {
  /**
   * `"auto"`, the default, is native where the driver takes the program, and generic elsewhere;
   * {@linkcode XdpLink.mode} tells which.
   */
  mode?: XdpMode | "auto";
  /** Detach the programs that are there, whosever they are. Default: throw. */
  replace?: boolean;
}

/** A program as far as links need to know it. */
interface Program {
  readonly fd: number;
  readonly id: number;
  readonly label: string;
}

const BPF_XDP = 37; // enum bpf_attach_type
const BPF_LINK_TYPE_XDP = 6; // enum bpf_link_type
const BPF_F_REPLACE = 1 << 2;
const XDP_FLAGS = { generic: 1 << 1, native: 1 << 2 } as const;

/** Errors that another mode cannot cure. */
const FINAL_ERRORS: readonly number[] = [ERRNO.EPERM, ERRNO.ENODEV, ERRNO.EBUSY];

/** Which XDP programs an interface has. */
export interface XdpPrograms {
  /** The id of the program in the driver. */
  readonly native: number | undefined;
  /** The id of the program on socket buffers. */
  readonly generic: number | undefined;
  /** The id of the program in the network card itself. */
  readonly offloaded: number | undefined;
}

/**
 * Tells which XDP programs are attached to an interface of this network namespace, by whomever.
 *
 * @throws {BpfError} when there is no such interface
 */
export function queryXdp(ifindex: number): XdpPrograms {
  const opts = new Uint32Array(8); // struct bpf_xdp_query_opts
  opts[0] = opts.byteLength;
  const result = libbpf().bpf_xdp_query(ifindex, 0, opts);
  const operation = `ask for the XDP programs of ${labelOf(ifindex)}`;
  check(result, () => operation);
  // libbpf finds nothing on an interface that is not there either.
  if (interfaceName(ifindex) === undefined) throw new BpfError(operation, ERRNO.ENODEV);
  return {
    native: opts[3] || undefined,
    offloaded: opts[4] || undefined,
    generic: opts[5] || undefined,
  };
}

/**
 * The number by which an interface of this network namespace goes here.
 *
 * @throws {BpfError} `ENODEV` when there is none of that name
 */
export function interfaceIndex(name: string): number {
  const index = interfaceNumber(name);
  if (index === undefined) throw new BpfError(`find interface "${name}"`, ERRNO.ENODEV);
  return index;
}

/** Attaches a program; see {@linkcode BpfProgram.attachXdp}. */
export function attachXdp(
  program: Program,
  ifindex: number,
  { mode = "auto", replace = false }: XdpAttachOptions,
): XdpLink {
  if (replace) detachXdp(ifindex);
  if (mode !== "auto") return attach(program, ifindex, mode);
  try {
    return attach(program, ifindex, "native");
  } catch (error) {
    if (!(error instanceof BpfError) || FINAL_ERRORS.includes(error.errno)) throw error;
    return attach(program, ifindex, "generic");
  }
}

function attach(program: Program, ifindex: number, mode: XdpMode): XdpLink {
  const opts = new Uint32Array(4); // struct bpf_link_create_opts
  opts[0] = opts.byteLength;
  opts[2] = XDP_FLAGS[mode];
  const result = libbpf().bpf_link_create(program.fd, ifindex, BPF_XDP, opts);
  if (result >= 0) return new XdpLink(result, mode);
  // Two programs in one mode are EBUSY; EEXIST is one in native and another in generic mode.
  if (-result === ERRNO.EBUSY || -result === ERRNO.EEXIST) throw busyError(ifindex);
  if (-result === ERRNO.EINVAL && !hasXdpLinks()) throw new NotSupportedError("XDP links", "5.9");
  const operation = `attach ${program.label} to ${labelOf(ifindex)} in ${mode} mode`;
  // The kernel calls a number without an interface "invalid", as it calls much else.
  const missing = interfaceName(ifindex) === undefined;
  throw new BpfError(operation, missing ? ERRNO.ENODEV : result);
}

/**
 * Takes all XDP programs off an interface of this network namespace, whosever they are.
 *
 * @throws {BpfError} when there is no such interface, or a program cannot be detached
 */
export function detachXdp(ifindex: number): void {
  const { native, generic } = queryXdp(ifindex);
  for (const [mode, program] of [["native", native], ["generic", generic]] as const) {
    if (program === undefined) continue;
    const result = libbpf().bpf_xdp_detach(ifindex, XDP_FLAGS[mode], null);
    // What a link holds only the link can let go.
    if (-result === ERRNO.EBUSY && detachLink(ifindex, program)) continue;
    check(result, () => `detach program ${program} from ${labelOf(ifindex)}`);
  }
}

/** Detaches the link that has a program on an interface. Returns whether there is one. */
function detachLink(ifindex: number, program: number): boolean {
  const id = new Uint32Array(1);
  while (libbpf().bpf_link_get_next_id(id[0]!, id) === 0) {
    const fd = libbpf().bpf_link_get_fd_by_id(id[0]!);
    if (fd < 0) continue; // It has gone meanwhile.
    using owned = new Fd(fd);
    const { type, programId, ifindex: there } = linkInfo(owned.value);
    if (type !== BPF_LINK_TYPE_XDP || programId !== program || there !== ifindex) continue;
    check(libbpf().bpf_link_detach(owned.value), () => `detach link ${id[0]}`);
    return true;
  }
  return false;
}

function labelOf(ifindex: number): string {
  const name = interfaceName(ifindex);
  return name === undefined ? `interface ${ifindex}` : `interface ${ifindex} "${name}"`;
}

function busyError(ifindex: number): XdpBusyError {
  const { native, generic, offloaded } = queryXdp(ifindex);
  const id = native ?? generic ?? offloaded;
  const name = id === undefined ? undefined : programNameOf(id);
  return new XdpBusyError(labelOf(ifindex), ifindex, id, name);
}

/** A kernel that knows links looks at the program before it looks at anything else. */
function hasXdpLinks(): boolean {
  return -libbpf().bpf_link_create(-1, 0, BPF_XDP, null) === ERRNO.EBADF;
}

/**
 * An XDP program on an interface. When the last handle of a link that is not pinned is closed, or
 * its process ends, the program is detached.
 *
 * @example
 * ```ts
 * import { BpfObject } from "./mod.ts";
 *
 * using object = BpfObject.open(Deno.readFileSync("count_packets.bpf.o")).load();
 * using link = object.program("count").attachXdp(2);
 * console.log(`attached in ${link.mode} mode`);
 * ```
 */
export class XdpLink implements Disposable {
  readonly #fd: Fd;
  /** The kernel's number for this link. */
  readonly id: number;
  /** The interface, by its number in the network namespace where it was attached. */
  readonly ifindex: number;
  /** Where the program runs; `undefined` for a link from another network namespace. */
  readonly mode: XdpMode | undefined;

  /**
   * Takes ownership of a link's file descriptor.
   *
   * @param mode Where the program runs, if known: otherwise the interface is asked
   * @throws {TypeError} when the link is not one of an XDP program
   */
  constructor(fd: number, mode?: XdpMode) {
    using owned = new DisposableStack();
    this.#fd = owned.use(new Fd(fd));
    const info = linkInfo(this.#fd.value);
    if (info.type !== BPF_LINK_TYPE_XDP) {
      throw new TypeError(`Cannot use link ${info.id}: it is not one of an XDP program`);
    }
    this.id = info.id;
    this.ifindex = info.ifindex;
    this.mode = mode ?? modeOf(info.ifindex, info.programId);
    owned.move();
  }

  /**
   * Opens a link by its name in a bpffs.
   *
   * @throws {BpfError} with code `"ENOENT"` when there is none
   */
  static openPinned(path: string): XdpLink {
    return new XdpLink(openPin(path, "link").release());
  }

  /** The file descriptor, which stays this object's. */
  get fd(): number {
    return this.#fd.value;
  }

  /** The id of the program that this link runs now. */
  get programId(): number {
    return linkInfo(this.fd).programId;
  }

  /** Whether the program is attached: false after `detach()`, or when the interface is gone. */
  get attached(): boolean {
    return linkInfo(this.fd).ifindex !== 0;
  }

  /**
   * Puts another program in the place of the present one. Every packet meets one or the other.
   *
   * @param options.expected Only replace this one
   * @throws {BpfError} `EPERM` when another program than `expected` is there, `ENOLINK` when the
   *   link is detached
   */
  update(program: Program, options: { expected?: Program } = {}): void {
    const opts = new Uint32Array(4); // struct bpf_link_update_opts
    opts[0] = opts.byteLength;
    if (options.expected !== undefined) {
      opts[2] = BPF_F_REPLACE;
      opts[3] = options.expected.fd;
    }
    const result = libbpf().bpf_link_update(this.fd, program.fd, opts);
    if (result === 0) return;
    const detail = options.expected !== undefined && -result === ERRNO.EPERM
      ? `program ${this.programId} is there instead of ${options.expected.id}`
      : undefined;
    const operation = `replace the program on ${labelOf(this.ifindex)} by ${program.label}`;
    throw new BpfError(operation, result, detail);
  }

  /**
   * Gives the link a name in a bpffs: the program stays attached when this process ends.
   *
   * @throws {BpfError} `EEXIST` when the name is taken, `EPERM` outside a bpffs
   */
  pin(path: string): void {
    pin(this.fd, path, `link ${this.id}`);
  }

  /** Removes a name that {@linkcode XdpLink.pin} gave. */
  unpin(path: string): void {
    unpin(path);
  }

  /** Detaches the program now, whoever else holds the link. */
  detach(): void {
    check(libbpf().bpf_link_detach(this.fd), () => `detach link ${this.id}`);
  }

  /** Closes this handle, which detaches the program if it was the last; again does nothing. */
  close(): void {
    this.#fd.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

function modeOf(ifindex: number, programId: number): XdpMode | undefined {
  try {
    const programs = queryXdp(ifindex);
    if (programs.native === programId) return "native";
    if (programs.generic === programId) return "generic";
  } catch (error) {
    // The interface may be in another network namespace, or gone.
    if (!(error instanceof BpfError)) throw error;
  }
  return undefined;
}
