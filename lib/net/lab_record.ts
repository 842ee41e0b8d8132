/**
 * Which labs are up, and with what options: a file for each.
 *
 * @module
 */
import { checkLabName, type LabSettings } from "./lab_plan.ts";

const RECORDS = "/run/xvs-lab";

function recordPath(name: string): string {
  checkLabName(name);
  return `${RECORDS}/${name}.json`;
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
  await Deno.mkdir(RECORDS, { recursive: true });
  await Deno.writeTextFile(recordPath(settings.name), JSON.stringify(settings));
}

/**
 * The first act of removing a lab; returns whether there was a record.
 *
 * @throws {RangeError} when it can be no lab's name
 */
export async function removeRecord(name: string): Promise<boolean> {
  const removed = await removeIfThere(recordPath(name));
  if (removed && (await recordedNames()).length === 0) await removeIfThere(RECORDS);
  return removed;
}

/** Names of all labs that have a record. */
export async function recordedNames(): Promise<string[]> {
  try {
    return (await Array.fromAsync(Deno.readDir(RECORDS)))
      .map(({ name }) => name.replace(/\.json$/, ""));
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return [];
    throw error;
  }
}

async function removeIfThere(path: string): Promise<boolean> {
  try {
    await Deno.remove(path);
    return true;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return false;
    throw error;
  }
}
