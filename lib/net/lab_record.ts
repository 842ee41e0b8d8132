/**
 * Which labs are up, and with what options: a file for each.
 *
 * @module
 */
import { checkLabName, LAB_PREFIX, type LabSettings } from "./lab_plan.ts";

const DIRECTORY = "/run";

function recordPath(name: string): string {
  checkLabName(name);
  return `${DIRECTORY}/${LAB_PREFIX}${name}.json`;
}

/**
 * The options of a lab, if there is a record of it.
 *
 * @throws {RangeError} when it can be no lab's name
 */
export async function readRecord(name: string): Promise<LabSettings | undefined> {
  try {
    return JSON.parse(await Deno.readTextFile(recordPath(name)));
  } catch (error) {
    // Only half of it may have been written.
    if (error instanceof Deno.errors.NotFound || error instanceof SyntaxError) return undefined;
    throw error;
  }
}

/** The last act of making a lab: one with a record is complete. */
export async function writeRecord(settings: LabSettings): Promise<void> {
  await Deno.writeTextFile(recordPath(settings.name), JSON.stringify(settings));
}

/**
 * The first act of removing a lab.
 *
 * @returns whether there was a record
 * @throws {RangeError} when it can be no lab's name
 */
export async function removeRecord(name: string): Promise<boolean> {
  try {
    await Deno.remove(recordPath(name));
    return true;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return false;
    throw error;
  }
}

/** Names of all labs that have a record. */
export async function recordedNames(): Promise<string[]> {
  const names: string[] = [];
  for await (const { name } of Deno.readDir(DIRECTORY)) {
    const [, lab] = /^(.*)\.json$/.exec(name) ?? [];
    if (lab?.startsWith(LAB_PREFIX)) names.push(lab.slice(LAB_PREFIX.length));
  }
  return names;
}
