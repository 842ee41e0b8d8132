/**
 * Another program in the place of the present one, under traffic: the maps stay, and so do flows and counters.
 *
 * @module
 */
import type { Instance } from "./instance.ts";
import { openObject } from "./load.ts";

/** Where the object has another name for a map than its pin is called. */
const OBJECT_NAMES: Readonly<Record<string, string>> = { settings: ".data.settings" };

/**
 * Loads an object over the maps of an instance, and has each of its interfaces run that.
 *
 * @param elf another object than the embedded one
 * @throws {AbiError} when it is of another ABI
 * @throws {VerifierError} when the kernel refuses it; the present program stays
 */
export async function upgrade(instance: Instance, elf?: Uint8Array): Promise<void> {
  const { object, hash } = await openObject(elf);
  using opened = object;
  for (const [name, map] of instance.maps) {
    const known = OBJECT_NAMES[name] ?? name;
    // Other global variables belong to the program: constants, and what tests set.
    if (known === ".data.settings" || !known.startsWith(".")) opened.reuseMap(known, map);
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

/** Carries an upgrade through whose program is pinned beside the present one, or in its place already. */
export function completeUpgrade(instance: Instance, hash: string): void {
  instance.store!.adoptNewProgram();
  instance.adjust({ objectHash: Uint8Array.fromHex(hash) });
  instance.useProgram(instance.store!.openProgram());
  instance.links.update();
}
