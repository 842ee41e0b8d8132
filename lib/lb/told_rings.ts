/**
 * Changes of rings that follow from what another node tells, and not from a change of a set. The caller holds
 * the lock.
 *
 * @module
 */
import { RING_ENTRY, RING_HEADER } from "./abi.gen.ts";
import { isTracked, type RingState, track } from "./change.ts";
import type { Instance } from "./instance.ts";
import type { Entry } from "./model.ts";
import { serviceRecord } from "./records.ts";
import type { Registry } from "./registry.ts";
import { TableWriter } from "./table_writer.ts";

/**
 * Has flows of ring entries looked up from now on, which the table holds already. The ring stays in its place:
 * of each entry one bit changes, so that no packet can meet half of it.
 */
export function trackEntries(
  instance: Instance,
  registry: Registry,
  entries: ReadonlyMap<Entry, ReadonlySet<number>>,
): void {
  const changed = [...entries].map(([entry, indexes]) => ({
    entry,
    indexes: [...indexes].filter((i) => !isTracked(entry.ring.current[i]!)),
  })).filter(({ indexes }) => indexes.length > 0);
  if (changed.length === 0) return;
  const underWay = instance.revision | 1n;
  instance.adjust({ revision: underWay });
  for (const { entry, indexes } of changed) {
    entry.marks = (entry.marks + 1) >>> 0;
    entry.markRing(track(entry.ring, indexes));
  }
  // First, so that whoever has the ring reads it again, even if this process is killed now.
  instance.serviceRecords.setAll(changed.map(({ entry }) => [entry.id, serviceRecord(entry)]));
  for (const { entry, indexes } of changed) writeEntries(instance, entry, indexes);
  instance.adjust({ revision: underWay + 1n });
  registry.keepUp();
}

/** Replaces rings of services that have served nobody yet, which may become rings of another size. */
export async function replaceUnused(
  instance: Instance,
  registry: Registry,
  rings: ReadonlyMap<Entry, RingState>,
): Promise<void> {
  if (rings.size === 0) return;
  // A process that is killed in the middle leaves rings that are right, if not those of another node.
  await instance.transact(() => ({}), async () => {
    await registry.replaceRings(rings);
    new TableWriter(instance).keys([...rings.keys()]);
  });
  registry.keepUp();
}

function writeEntries(instance: Instance, entry: Entry, indexes: readonly number[]): void {
  using ring = instance.openRing(entry.id);
  const { current, previous } = entry.ring;
  const values = new Uint8Array(indexes.length * RING_ENTRY.size);
  indexes.forEach((i, n) =>
    RING_ENTRY.encode(
      { current: current[i]!, previous: previous[i] ?? 0 },
      values,
      n * RING_ENTRY.size,
    )
  );
  const keys = Uint32Array.from(indexes, (i) => RING_HEADER + i);
  ring.updateBatch(new Uint8Array(keys.buffer), values, indexes.length);
}
