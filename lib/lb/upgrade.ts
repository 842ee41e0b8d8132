/**
 * Another program in the place of the present one, under traffic: the maps stay, and so do flows and counters.
 *
 * @module
 */
import { XvsError } from "./errors.ts";
import type { Instance } from "./instance.ts";
import { openObject } from "./load.ts";

/** Where the settings are, as the object calls it. Other global variables belong to the program. */
const SETTINGS = ".data.settings";

/**
 * Loads an object over the maps of an instance, and has each of its interfaces run that.
 *
 * @param elf another object than the embedded one
 * @throws {AbiError} when it is of another ABI
 * @throws {XvsError} when it has other maps all the same
 * @throws {VerifierError} when the kernel refuses it; the present program stays
 */
export async function upgrade(instance: Instance, elf?: Uint8Array): Promise<void> {
  const { object, hash } = await openObject(elf);
  using opened = object;
  for (const name of opened.mapNames) {
    if (name.startsWith(".") && name !== SETTINGS) continue;
    const map = instance.maps.get(name) ?? (name === SETTINGS && instance.maps.get("settings"));
    if (!map) throw unlike(`it has a map "${name}" that the instance lacks`);
    try {
      opened.reuseMap(name, map);
    } catch (error) {
      throw unlike((error as Error).message);
    }
  }
  opened.load();
  const { store } = instance;
  store?.pinNewProgram(opened.program("xvs"));
  await instance.transact(() => ({ upgrade: hash.toHex() }), () => {
    if (store) return completeUpgrade(instance, hash.toHex());
    instance.useProgram(opened.program("xvs").duplicate());
    instance.adjust({ objectHash: hash });
    instance.links.update();
  });
}

function unlike(why: string): XvsError {
  return new XvsError(
    `Cannot run the object over the maps of the instance, though both say the same ABI version: ${why}`,
  );
}

/** Carries an upgrade through whose program is pinned beside the present one, or in its place already. */
export function completeUpgrade(instance: Instance, hash: string): void {
  instance.store!.adoptNewProgram();
  instance.adjust({ objectHash: Uint8Array.fromHex(hash) });
  instance.useProgram(instance.store!.openProgram());
  instance.links.update();
}
