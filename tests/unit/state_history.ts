/**
 * Random histories of one service, and what must hold whoever carries them out: the model in
 * `state_model.ts`, or the loaded program.
 *
 * @module
 */

import { random } from "./random.ts";

/** The window of the service: how long a flow may be silent through a change. */
export const WINDOW_NS = 60_000_000_000n;

/** The service under test. */
export const VIP = { address: "192.0.2.1", port: 80 };

/** A destination as the service is to have it. */
export interface Target {
  /** Its address, which is also its name. */
  readonly id: string;
  readonly weight: number;
  readonly enabled: boolean;
}

/** All that a change may change: it takes the place of what was there. */
export interface Wish {
  readonly targets: readonly Target[];
  readonly sticky: boolean;
  /** Number of ring entries, a prime. */
  readonly size: number;
}

/** The client's side of a 5-tuple; the other is {@linkcode VIP}. */
export interface Flow {
  readonly address: string;
  readonly port: number;
}

/** `syn` is a TCP segment with SYN and without ACK, `data` any other packet. */
export type Kind = "syn" | "data";

export type Step =
  | { readonly op: "change"; readonly wish: Wish }
  | { readonly op: "settle" }
  | { readonly op: "packet"; readonly flow: Flow; readonly kind: Kind }
  | { readonly op: "advance"; readonly ns: bigint };

export interface History {
  readonly seed: number;
  readonly udp: boolean;
  /** Flows whose hash has none of these bits are tracked for accounting. */
  readonly sampleMask: number;
  /** The first is a change. */
  readonly steps: Iterable<Step>;
}

/** Carries out the steps of one history. */
export interface Executor {
  change(wish: Wish): void | Promise<void>;
  settle(): void | Promise<void>;
  /** @returns The id of the destination that the packet was sent to; undefined if to none */
  packet(flow: Flow, kind: Kind): string | undefined;
  advanceClock(ns: bigint): void;
}

/**
 * The history of a seed. Its steps are made as they are asked for, without regard to what comes of
 * them, and are the same every time.
 */
export function historyOf(seed: number): History {
  const next = random(seed);
  const udp = next() % 3 === 0;
  const sampleMask = [0, 3, 0xffffffff][next() % 3]!;
  const events = 300;
  return { seed, udp, sampleMask, steps: { [Symbol.iterator]: () => steps(seed, udp, events) } };
}

interface Talk {
  readonly flow: Flow;
  /** Speaks at least once per window, unlike one that may fall silent and come back. */
  steady: boolean;
  lastNs: bigint;
}

const IDS = Array.from({ length: 9 }, (_, i) => `10.0.0.${11 + i}`);
const SIZES = [53, 101, 211];
const MAX_TALKS = 60;

function* steps(seed: number, udp: boolean, events: number): Generator<Step, undefined> {
  const next = random(seed + 0x40000000);
  const below = (n: number): number => next() % n;
  const oneIn = (n: number): boolean => below(n) === 0;
  const pick = <T>(list: readonly T[]): T => list[below(list.length)]!;

  let nowNs = 0n;
  const talks: Talk[] = [];
  let wish: Wish = {
    targets: IDS.slice(0, 1 + below(5)).map((id) => ({ id, weight: 1 + below(3), enabled: true })),
    sticky: oneIn(4),
    size: pick(SIZES),
  };
  const changesIn = 8 + below(40);
  const pause = WINDOW_NS / BigInt(10 + below(90));

  function* say(talk: Talk, kind: Kind): Generator<Step> {
    talk.lastNs = nowNs;
    yield { op: "packet", flow: talk.flow, kind };
  }

  function* advance(ns: bigint): Generator<Step> {
    for (const talk of talks) {
      const silentNs = nowNs + ns - talk.lastNs;
      if (talk.steady && silentNs > WINDOW_NS * 9n / 10n) yield* say(talk, "data");
    }
    nowNs += ns;
    yield { op: "advance", ns };
  }

  function* begin(): Generator<Step> {
    const flow = { address: `198.51.100.${1 + below(12)}`, port: 40000 + below(30) };
    let talk = talks.find((t) => t.flow.address === flow.address && t.flow.port === flow.port);
    if (!talk) {
      if (talks.length >= MAX_TALKS) return;
      talks.push(talk = { flow, steady: true, lastNs: nowNs });
    }
    // Now and then a connection is first seen in its middle: it was another node's before.
    yield* say(talk, udp || oneIn(6) ? "data" : "syn");
  }

  yield { op: "change", wish };
  for (let event = 0; event < events; event++) {
    yield* advance(BigInt(below(Number(pause / 1000n))) * 2000n);
    if (oneIn(changesIn)) {
      // Changes often come in bursts.
      do {
        wish = changed(wish, below);
        yield { op: "change", wish };
        for (const talk of talks) if (oneIn(3)) yield* say(talk, "data");
      } while (oneIn(3));
    }
    const dice = below(100);
    if (dice < 4) yield { op: "settle" };
    else if (dice < 6) { // time enough for a window to end
      for (let i = 0; i < 6; i++) yield* advance(WINDOW_NS / 5n);
      if (oneIn(2)) yield { op: "settle" };
    } else if (dice < 40) yield* begin();
    else if (talks.length > 0) {
      const talk = pick(talks);
      if (dice < 44) talk.steady = !talk.steady;
      else if (dice < 48) talks.splice(talks.indexOf(talk), 1);
      else if (dice < 54 && !udp) yield* say(talk, "syn");
      else yield* say(talk, "data");
    }
  }
  return undefined;
}

/** One or a few things made different, as people and health checks do. */
function changed(wish: Wish, below: (n: number) => number): Wish {
  let { targets, sticky, size } = wish;
  do {
    const at = below(Math.max(1, targets.length));
    const edit = (edited: Partial<Target>): readonly Target[] =>
      targets.map((target, i) => i === at ? { ...target, ...edited } : target);
    const free = IDS.filter((id) => !targets.some((target) => target.id === id));
    const dice = below(100);
    if (dice < 22) targets = edit({ enabled: false });
    else if (dice < 42) targets = edit({ enabled: true });
    else if (dice < 60) targets = targets.toSpliced(at, 1);
    else if (dice < 78 && free.length > 0) {
      const id = free[below(free.length)]!;
      targets = [...targets, { id, weight: 1 + below(3), enabled: below(5) > 0 }];
    } else if (dice < 90) targets = edit({ weight: below(4) });
    else if (dice < 94) sticky = !sticky;
    else if (dice < 98) size = SIZES[below(SIZES.length)]!;
  } while (below(4) === 0);
  return { targets, sticky, size };
}

/** What came of a history. */
export interface Outcome {
  /** The first thing that must not be; undefined if all is well. */
  violation: string | undefined;
  changes: number;
  packets: number;
  /** Packets that had to go where their flow's last packet went, though the ring changed since. */
  kept: number;
}

/** A destination from when it is added until it is removed; one that returns is another. */
interface Member {
  target: Target;
  /** It has been open to new flows at some time. */
  taken: boolean;
}

/** The last packet of a flow, and who got it. */
interface Seen {
  readonly member: Member | undefined;
  readonly atNs: bigint;
  /** How many changes there had been. */
  readonly changes: number;
}

/**
 * Has the history carried out, and checks after each packet that:
 *
 * - a flow that has spoken within the window keeps its destination while that stays;
 * - it goes to a destination of the service, and to some if any takes new flows;
 * - a new connection goes to one that takes new flows, and so does an unknown flow once the window
 *   after the last change is over;
 * - nothing goes to a destination that has never taken new flows.
 */
export async function check(history: History, executor: Executor): Promise<Outcome> {
  const outcome: Outcome = { violation: undefined, changes: 0, packets: 0, kept: 0 };
  const members = new Map<string, Member>();
  const flows = new Map<string, Seen>();
  let nowNs = 0n;
  let changedNs = 0n;

  const change = async (wish: Wish): Promise<void> => {
    const wanted = new Map(wish.targets.map((target) => [target.id, target]));
    for (const id of members.keys()) if (!wanted.has(id)) members.delete(id);
    for (const [id, target] of wanted) {
      const member = members.get(id) ?? { target, taken: false };
      member.target = target;
      member.taken ||= takes(target);
      members.set(id, member);
    }
    outcome.changes++;
    changedNs = nowNs;
    await executor.change(wish);
  };

  const wrong = (flow: Flow, kind: Kind, id: string | undefined): string | undefined => {
    const known = flows.get(nameOf(flow));
    const member = id === undefined ? undefined : members.get(id);
    flows.set(nameOf(flow), { member, atNs: nowNs, changes: outcome.changes });
    if (id !== undefined && !member) return "to a destination that is gone";
    const last = known?.member;
    const stays = last !== undefined && members.get(last.target.id) === last;
    if (kind === "data" && stays && nowNs - known!.atNs < WINDOW_NS) {
      if (known!.changes !== outcome.changes) outcome.kept++;
      return member === last ? undefined : `not to "${last.target.id}" as before`;
    }
    const open = [...members.values()].some(({ target }) => takes(target));
    if (!member) return open ? "to none, though some take new flows" : undefined;
    if (!member.taken) return "to a destination that has never taken new flows";
    const unknown = kind === "syn" || (!known && nowNs >= changedNs + WINDOW_NS);
    if (unknown && !takes(member.target)) return "to a destination that takes no new flows";
    return undefined;
  };

  for (const step of history.steps) {
    if (step.op === "change") await change(step.wish);
    else if (step.op === "settle") await executor.settle();
    else if (step.op === "advance") {
      nowNs += step.ns;
      executor.advanceClock(step.ns);
    } else {
      outcome.packets++;
      const id = executor.packet(step.flow, step.kind);
      const fault = wrong(step.flow, step.kind, id);
      if (fault !== undefined) {
        outcome.violation = `Seed ${history.seed}, packet ${outcome.packets}: ${step.kind} of ` +
          `"${nameOf(step.flow)}" went to "${id}", ${fault}`;
        return outcome;
      }
    }
  }
  return outcome;
}

function takes(target: Target): boolean {
  return target.enabled && target.weight > 0;
}

function nameOf(flow: Flow): string {
  return `${flow.address}:${flow.port}`;
}
