/** Error numbers of Linux (the generic ABI, as on x86-64 and arm64) and of libbpf, by name. */

/** Number and meaning by name. Those from 4000 on are libbpf's own, see `enum libbpf_errno`. */
const ERRORS = {
  EPERM: [1, "operation not permitted"],
  ENOENT: [2, "no such file or directory"],
  ESRCH: [3, "no such process"],
  EINTR: [4, "interrupted system call"],
  EIO: [5, "input/output error"],
  ENXIO: [6, "no such device or address"],
  E2BIG: [7, "argument list too long"],
  ENOEXEC: [8, "exec format error"],
  EBADF: [9, "bad file descriptor"],
  ECHILD: [10, "no child processes"],
  EAGAIN: [11, "resource temporarily unavailable"],
  ENOMEM: [12, "cannot allocate memory"],
  EACCES: [13, "permission denied"],
  EFAULT: [14, "bad address"],
  EBUSY: [16, "device or resource busy"],
  EEXIST: [17, "file exists"],
  EXDEV: [18, "invalid cross-device link"],
  ENODEV: [19, "no such device"],
  ENOTDIR: [20, "not a directory"],
  EISDIR: [21, "is a directory"],
  EINVAL: [22, "invalid argument"],
  ENFILE: [23, "too many open files in system"],
  EMFILE: [24, "too many open files"],
  ENOTTY: [25, "inappropriate ioctl for device"],
  ETXTBSY: [26, "text file busy"],
  EFBIG: [27, "file too large"],
  ENOSPC: [28, "no space left on device"],
  ESPIPE: [29, "illegal seek"],
  EROFS: [30, "read-only file system"],
  EMLINK: [31, "too many links"],
  EPIPE: [32, "broken pipe"],
  EDOM: [33, "numerical argument out of domain"],
  ERANGE: [34, "numerical result out of range"],
  EDEADLK: [35, "resource deadlock avoided"],
  ENAMETOOLONG: [36, "file name too long"],
  ENOLCK: [37, "no locks available"],
  ENOSYS: [38, "function not implemented"],
  ENOTEMPTY: [39, "directory not empty"],
  ELOOP: [40, "too many levels of symbolic links"],
  ENOMSG: [42, "no message of desired type"],
  EIDRM: [43, "identifier removed"],
  ENODATA: [61, "no data available"],
  ETIME: [62, "timer expired"],
  ENOLINK: [67, "link has been severed"],
  EPROTO: [71, "protocol error"],
  EBADMSG: [74, "bad message"],
  EOVERFLOW: [75, "value too large for defined data type"],
  ENOTUNIQ: [76, "name not unique on network"],
  EBADFD: [77, "file descriptor in bad state"],
  EILSEQ: [84, "invalid or incomplete multibyte or wide character"],
  EUSERS: [87, "too many users"],
  ENOTSOCK: [88, "socket operation on non-socket"],
  EDESTADDRREQ: [89, "destination address required"],
  EMSGSIZE: [90, "message too long"],
  EPROTOTYPE: [91, "protocol wrong type for socket"],
  ENOPROTOOPT: [92, "protocol not available"],
  EPROTONOSUPPORT: [93, "protocol not supported"],
  ESOCKTNOSUPPORT: [94, "socket type not supported"],
  EOPNOTSUPP: [95, "operation not supported"],
  EPFNOSUPPORT: [96, "protocol family not supported"],
  EAFNOSUPPORT: [97, "address family not supported by protocol"],
  EADDRINUSE: [98, "address already in use"],
  EADDRNOTAVAIL: [99, "cannot assign requested address"],
  ENETDOWN: [100, "network is down"],
  ENETUNREACH: [101, "network is unreachable"],
  ENETRESET: [102, "network dropped connection on reset"],
  ECONNABORTED: [103, "software caused connection abort"],
  ECONNRESET: [104, "connection reset by peer"],
  ENOBUFS: [105, "no buffer space available"],
  EISCONN: [106, "transport endpoint is already connected"],
  ENOTCONN: [107, "transport endpoint is not connected"],
  ESHUTDOWN: [108, "cannot send after transport endpoint shutdown"],
  ETIMEDOUT: [110, "connection timed out"],
  ECONNREFUSED: [111, "connection refused"],
  EHOSTDOWN: [112, "host is down"],
  EHOSTUNREACH: [113, "no route to host"],
  EALREADY: [114, "operation already in progress"],
  EINPROGRESS: [115, "operation now in progress"],
  ESTALE: [116, "stale file handle"],
  EUCLEAN: [117, "structure needs cleaning"],
  EDQUOT: [122, "disk quota exceeded"],
  ECANCELED: [125, "operation canceled"],
  ENOKEY: [126, "required key not available"],
  EKEYEXPIRED: [127, "key has expired"],
  EKEYREVOKED: [128, "key has been revoked"],
  EKEYREJECTED: [129, "key was rejected by service"],
  // Known to the kernel alone, which yet lets it out of bpf() and of netlink.
  ENOTSUPP: [524, "operation not supported"],
  LIBBPF_LIBELF: [4000, "libelf failed"],
  LIBBPF_FORMAT: [4001, "not a valid BPF object"],
  LIBBPF_KVERSION: [4002, "the kernel version in the object is wrong"],
  LIBBPF_ENDIAN: [4003, "the object is of the other byte order"],
  LIBBPF_INTERNAL: [4004, "internal error of libbpf"],
  LIBBPF_RELOC: [4005, "relocation failed"],
  LIBBPF_LOAD: [4006, "loading failed"],
  LIBBPF_VERIFY: [4007, "the verifier refused the program"],
  LIBBPF_PROG2BIG: [4008, "the program is too big"],
  LIBBPF_KVER: [4009, "wrong kernel version"],
  LIBBPF_PROGTYPE: [4010, "the kernel does not know this program type"],
  LIBBPF_WRNGPID: [4011, "netlink answer for another process"],
  LIBBPF_INVSEQ: [4012, "netlink answer out of sequence"],
  LIBBPF_NLPARSE: [4013, "netlink answer not understood"],
} as const satisfies Record<string, readonly [number, string]>;

/** The name of an error that this table knows, such as `"EPERM"`. */
export type ErrorName = keyof typeof ERRORS;

/** Error numbers by name: `ERRNO.EPERM === 1`. */
export const ERRNO: { readonly [name in ErrorName]: number } = Object.fromEntries(
  Object.entries(ERRORS).map(([name, [number]]) => [name, number]),
) as Record<ErrorName, number>;

const BY_NUMBER = new Map<number, readonly [name: string, meaning: string]>(
  Object.entries(ERRORS).map(([name, [number, meaning]]) => [number, [name, meaning]]),
);

/** The name of an error number, `"E57"` for one without a name here. */
export function errorName(errno: number): string {
  return BY_NUMBER.get(errno)?.[0] ?? `E${errno}`;
}

/** What an error number means, in a few words. */
export function errorMeaning(errno: number): string {
  return BY_NUMBER.get(errno)?.[1] ?? "unknown error";
}

/** The operating system refused something. */
export class SystemError extends Error {
  override readonly name: string = "SystemError";
  /** What was tried, such as `create map "flows"`. */
  readonly operation: string;
  /** The error number, positive. */
  readonly errno: number;
  /** The name of the error number, such as `"EPERM"`. */
  readonly code: string;

  /**
   * @param operation What was tried: the message says "Cannot" before it
   * @param errno The error number, of either sign
   * @param detail What is known beyond the number, or how to get out
   */
  constructor(operation: string, errno: number, detail?: string) {
    const number = Math.abs(errno);
    const reason = `${errorMeaning(number)} (${errorName(number)})`;
    super(`Cannot ${operation}: ${reason}${detail === undefined ? "" : `; ${detail}`}`);
    this.operation = operation;
    this.errno = number;
    this.code = errorName(number);
  }
}
