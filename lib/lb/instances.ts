/**
 * Which instances there are, and what becomes of those that a killed process has left half made or removed.
 *
 * @module
 */
import { namespaceName } from "../net/namespace.ts";
import { ABI_VERSION } from "./abi.gen.ts";
import { AbiError } from "./errors.ts";
import { Instance } from "./instance.ts";
import { InstanceLock } from "./lock.ts";
import { Store } from "./store.ts";
import type { AttachedInterface } from "./types.ts";
import { OBJECT } from "./xvs.gen.ts";

/** An instance as it stands. */
export interface InstanceInfo {
  name: string;
  /** Which version of the ABI it has; what follows is told of this client's alone. */
  abiVersion: number;
  /** Whether it runs the program that this version embeds: otherwise `upgrade()` makes it do so. */
  current: boolean;
  /** The interfaces attached, and how; no mode: the interface has gone, or somebody detached it. */
  interfaces: AttachedInterface[];
  /** The network namespace of these: its name, or its number if it has none. */
  namespace: string | number | undefined;
  services: number;
}

/** An instance, if it is still there. */
export function instanceInfo(name: string): InstanceInfo | undefined {
  try {
    using instance = Instance.open(name);
    const { namespace } = instance.links;
    return {
      name,
      abiVersion: ABI_VERSION,
      current: instance.settings.objectHash.toHex() === OBJECT.sha256,
      interfaces: instance.interfaces,
      namespace: namespace === undefined ? undefined : namespaceName(namespace) ?? namespace,
      services: [...instance.serviceRecords.written()]
        .filter(([, { protocol }]) => protocol !== 0).length,
    };
  } catch (error) {
    // Somebody has removed it meanwhile.
    if (!Store.names().includes(name)) return undefined;
    if (!(error instanceof AbiError)) throw error;
    const { found: abiVersion } = error;
    return {
      name,
      abiVersion,
      current: false,
      interfaces: [],
      namespace: undefined,
      services: 0,
    };
  }
}

/** Removes what killed processes have left of instances that were not there yet, or not any more. */
export async function sweepInstances(): Promise<void> {
  for (const name of Store.leftovers()) {
    using _ = await InstanceLock.take(name);
    Store.sweep(name);
  }
  const names = Store.names();
  for (const name of InstanceLock.names()) {
    if (names.includes(name)) continue;
    // Whoever holds it is about to make an instance.
    using lock = InstanceLock.takeNow(name);
    if (lock && !Store.names().includes(name)) lock.removeFile();
  }
}
