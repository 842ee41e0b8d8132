/** Network interfaces, as this thread's network namespace numbers them. */

import { libc } from "./ffi.ts";
import { cString, textOf } from "./memory.ts";

const IF_NAMESIZE = 16;

/** The name of an interface, or `undefined` if there is none with that number. */
export function interfaceName(ifindex: number): string | undefined {
  const name = new Uint8Array(IF_NAMESIZE);
  return libc().if_indextoname(ifindex, name) === null ? undefined : textOf(name);
}

/** The number of an interface, or `undefined` if there is none of that name. */
export function interfaceNumber(name: string): number | undefined {
  return libc().if_nametoindex(cString(name)) || undefined;
}
