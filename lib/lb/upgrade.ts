/**
 * Another program in the place of the present one, under traffic: the maps stay, and so do flows and counters.
 *
 * @module
 */
import { XvsError } from "./errors.ts";
import type { Instance } from "./instance.ts";
import { openObject } from "./load.ts";
import { Programs } from "./programs.ts";

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
  using stack = new DisposableStack();
  const programs = stack.use(Programs.of(opened));
  store?.pinNewPrograms(programs);
  await instance.transact(() => ({ upgrade: hash.toHex() }), () => {
    if (store) return completeUpgrade(instance, hash.toHex());
    stack.move();
    instance.usePrograms(programs);
    instance.adjust({ objectHash: hash });
    instance.updateLinks();
  });
}

function unlike(why: string): XvsError {
  return new XvsError(
    `Cannot run the object over the maps of the instance, though both say the same ABI version: ${why}`,
  );
}

/** Carries an upgrade through whose programs are pinned beside the present ones, or in their place already. */
export function completeUpgrade(instance: Instance, hash: string): void {
  instance.store!.adoptNewPrograms();
  instance.adjust({ objectHash: Uint8Array.fromHex(hash) });
  instance.usePrograms(instance.store!.openPrograms());
  instance.updateLinks();
}
