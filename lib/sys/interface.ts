/** Network interfaces, as this thread's network namespace numbers them. */

import { SystemError } from "./errno.ts";
import { Fd } from "./fd.ts";
import { libc } from "./ffi.ts";
import { addressOf, cString, lastErrno, textOf } from "./memory.ts";

const IF_NAMESIZE = 16;
/** Of struct ifreq. */
const IFREQ_SIZE = 40;
const AF_UNIX = 1;
const SOCK_DGRAM_CLOEXEC = 0o2000002;
const SIOCETHTOOL = 0x8946n;
const ETHTOOL_STXCSUM = 0x17;

/** The name of an interface, or `undefined` if there is none with that number. */
export function interfaceName(ifindex: number): string | undefined {
  const name = new Uint8Array(IF_NAMESIZE);
  return libc().if_indextoname(ifindex, name) === null ? undefined : textOf(name);
}

/** The number of an interface, or `undefined` if there is none of that name. */
export function interfaceNumber(name: string): number | undefined {
  return libc().if_nametoindex(cString(name)) || undefined;
}

/**
 * Has the kernel itself compute the checksums of what leaves by an interface, rather than leave that to hardware.
 *
 * @throws {SystemError} when it refuses
 */
export function computeChecksums(name: string): void {
  const off = new Uint8Array(Uint32Array.of(ETHTOOL_STXCSUM, 0).buffer); // struct ethtool_value
  const request = new Uint8Array(IFREQ_SIZE);
  request.set(cString(name));
  new DataView(request.buffer).setBigUint64(IF_NAMESIZE, addressOf(off), true);
  const socket = libc().socket(AF_UNIX, SOCK_DGRAM_CLOEXEC, 0);
  if (socket < 0) throw new SystemError("open a socket", lastErrno());
  using fd = new Fd(socket);
  if (libc().ioctl(fd.value, SIOCETHTOOL, request) >= 0) return;
  throw new SystemError(`compute the checksums of interface "${name}"`, lastErrno());
}
