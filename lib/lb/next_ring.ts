/**
 * The ring of a service after a change of it.
 *
 * @module
 */
import { change, type RingState, sameRing } from "./change.ts";
import { buildRing, ringSizeFor } from "./ring.ts";
import type { Step } from "./table_writer.ts";

/** With fewer entries for each destination a ring grows; until then it stays as it is. */
const CROWDED = 25;
const NS_PER_S = 1_000_000_000n;

/** The ring as the plan wants it; undefined if it stays as it is. */
export function nextRing(
  { entry, plan, added, removed, isNew }: Step,
  nowNs: bigint,
): RingState | undefined {
  const slotOf = new Map(
    [...entry.members.values(), ...added].map((m) => [m.spec.address, m.slot]),
  );
  const alive = new Set(slotOf.values());
  for (const member of removed) alive.delete(member.slot);
  const count = plan.destinations!.length;
  const before = isNew ? undefined : entry.ring;
  const crowded = !before || before.size < count * CROWDED;
  const size = crowded ? ringSizeFor(count, before?.size) : before.size;
  const slots = buildRing(
    plan.destinations!
      .filter(({ spec, nextHop }) => !spec.disable && nextHop)
      .map(({ spec }) => ({
        id: spec.address,
        weight: spec.weight,
        slot: slotOf.get(spec.address)!,
      })),
    size,
  );
  const { sticky, idleTimeout } = plan.spec;
  if (before && removed.length === 0 && sameRing(before, slots, sticky)) return undefined;
  return change(before, {
    slots,
    sticky,
    alive: (slot: number) => alive.has(slot),
    nowNs,
    windowNs: BigInt(idleTimeout) * NS_PER_S,
  });
}
