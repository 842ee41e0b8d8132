/**
 * What a node that joins is told at once: of each service what its ring was before, and all flows that the ring
 * alone would not give. It is a stream of parts, each complete in itself:
 *
 * | first byte | then |
 * |---|---|
 * | 0 | the version of the format: 1. It comes first |
 * | 1 | four bytes with the length of a text, which is JSON; the text ({@linkcode RingHead}); two bytes for each entry of the ring: the number of an address in it plus 1, or 0 for none. All in network byte order |
 * | 2 | flow records, one after the other |
 *
 * @module
 */
import { joinBytes } from "../bpf/mod.ts";
import { SERVICE_COUNTER } from "./abi.gen.ts";
import { pastOf, type RingState, takeOver } from "./change.ts";
import { type FlowSharing, noOutcomes, type RecordOutcomes } from "./flow_sharing.ts";
import { splitFlowRecords } from "./flow_record.ts";
import type { Instance } from "./instance.ts";
import type { Entry } from "./model.ts";
import type { Registry } from "./registry.ts";
import { buildRing, RING_SIZES } from "./ring.ts";
import { replaceUnused } from "./told_rings.ts";
import { serviceName } from "./types.ts";

/** The version of the format. */
export const STATE_VERSION = 1;

const VERSION_PART = 0, RING_PART = 1, FLOWS_PART = 2;
const RECORDS_A_PART = 500;
const NS_PER_S = 1_000_000_000n, NS_PER_MS = 1_000_000n;

/** What is said of a ring before its entries. */
interface RingHead {
  service: string;
  /** Entries of the ring as it is; those that follow are of the one before. */
  size: number;
  sticky: boolean;
  pastSticky: boolean;
  /** Milliseconds that the window lasts; 0: it is over. */
  windowMs: number;
  /** Whether packets of the service have been forwarded. */
  served: boolean;
  addresses: string[];
}

/** What came of an import. */
export interface ImportResult {
  records: RecordOutcomes;
  /** Services whose past was taken over: they had served nobody here. */
  takenOver: string[];
  /** Sentences: what is different here in a way that moves connections at a failover. */
  differences: string[];
  /** Parts that could not be read, and changed nothing. */
  malformed: number;
}

/** Exports and imports what one node has to know of another. */
export class SharedState {
  readonly #instance: Instance;
  readonly #registry: Registry;
  readonly #sharing: FlowSharing;

  constructor(instance: Instance, registry: Registry, sharing: FlowSharing) {
    this.#instance = instance;
    this.#registry = registry;
    this.#sharing = sharing;
  }

  /** All parts. */
  *export(): Generator<Uint8Array> {
    yield Uint8Array.of(VERSION_PART, STATE_VERSION);
    for (const entry of this.#registry.services.values()) yield this.#ringPart(entry);
    let records: Uint8Array[] = [];
    for (const record of this.#sharing.exceptions()) {
      records.push(record);
      if (records.length < RECORDS_A_PART) continue;
      yield flowsPart(records);
      records = [];
    }
    if (records.length > 0) yield flowsPart(records);
  }

  /** Takes parts over. The caller holds the lock. */
  async import(parts: Iterable<Uint8Array>): Promise<ImportResult> {
    const result: ImportResult = {
      records: noOutcomes(),
      takenOver: [],
      differences: [],
      malformed: 0,
    };
    const rings = new Map<Entry, RingState>();
    const flows: Uint8Array[] = [];
    for (const part of parts) {
      if (!this.#read(part, rings, flows, result)) result.malformed++;
    }
    await replaceUnused(this.#instance, this.#registry, rings);
    // Only then, as it is the new ring that may give the answer.
    result.records = this.#sharing.write(flows);
    result.takenOver = [...rings.keys()].map(({ spec }) => serviceName(spec));
    return result;
  }

  #read(
    part: Uint8Array,
    rings: Map<Entry, RingState>,
    flows: Uint8Array[],
    result: ImportResult,
  ): boolean {
    const body = part.subarray(1);
    if (part[0] === VERSION_PART) return body.length === 1 && body[0] === STATE_VERSION;
    if (part[0] === FLOWS_PART) {
      const records = splitFlowRecords(body);
      records?.forEach((record) => flows.push(record));
      return records !== undefined;
    }
    const ring = part[0] === RING_PART ? readRingPart(body) : undefined;
    if (!ring) return false;
    const entry = this.#registry.services.get(ring.head.service);
    if (!entry) {
      result.differences.push(
        `Service "${ring.head.service}" of the other node is none of this one's`,
      );
      return true;
    }
    const next = this.#nextRing(entry, ring, result.differences);
    if (next) rings.set(entry, next);
    return true;
  }

  /** The ring that a service is to have; undefined if it keeps its own. */
  #nextRing(
    entry: Entry,
    { head, past }: RingPart,
    differences: string[],
  ): RingState | undefined {
    const { ring, members, spec } = entry;
    if (head.sticky !== ring.sticky) {
      const how = (sticky: boolean) => sticky ? "sticky" : "not sticky";
      differences.push(
        `Service "${head.service}" is ${how(ring.sticky)} here and ${how(head.sticky)} on the ` +
          `other node: make both the same`,
      );
      return undefined;
    }
    if (head.served && !this.#hasServed(entry)) {
      const slots = head.addresses.map((address) => members.get(address)?.slot ?? 0);
      return takeOver({
        slots: past.map((number) => number === 0 ? 0 : slots[number - 1]!),
        sticky: head.pastSticky,
        windowNs: BigInt(head.windowMs) * NS_PER_MS,
      }, {
        slots: ringOf(entry, head.size),
        sticky: ring.sticky,
        alive: () => true,
        nowNs: this.#instance.clock(),
        windowNs: BigInt(spec.idleTimeout) * NS_PER_S,
      });
    }
    if (head.size !== ring.size && this.#hasServed(entry)) {
      differences.push(
        `The ring of service "${head.service}" has ${ring.size} entries here and ${head.size} on ` +
          `the other node: on one of them, remove the service and set it anew`,
      );
    }
    return undefined;
  }

  #hasServed({ id }: Entry): boolean {
    const packets = SERVICE_COUNTER.offsets.packets / 8;
    return this.#instance.serviceCounters.sum(id)[packets]! > 0n;
  }

  #ringPart(entry: Entry): Uint8Array {
    const now = this.#instance.clock();
    const { ring, spec, members } = entry;
    const past = pastOf(ring, now);
    const lasts = now < ring.windowEndNs ? ring.windowEndNs - now : 0n;
    const numbers = new Map([...members.values()].map(({ slot }, i) => [slot, i + 1]));
    const head: RingHead = {
      service: serviceName(spec),
      size: ring.size,
      sticky: ring.sticky,
      pastSticky: past.sticky,
      windowMs: Number(lasts / NS_PER_MS),
      served: this.#hasServed(entry),
      addresses: [...members.keys()],
    };
    const text = new TextEncoder().encode(JSON.stringify(head));
    const part = new Uint8Array(5 + text.length + 2 * past.slots.length);
    const view = new DataView(part.buffer);
    part[0] = RING_PART;
    view.setUint32(1, text.length);
    part.set(text, 5);
    past.slots.forEach((slot, i) =>
      view.setUint16(5 + text.length + 2 * i, numbers.get(slot) ?? 0)
    );
    return part;
  }
}

/** The ring that the service has by its destinations alone. */
function ringOf({ members }: Entry, size: number): Uint32Array {
  const takers = [...members.values()].filter(({ spec, nextHop }) => !spec.disable && nextHop);
  return buildRing(
    takers.map(({ spec: { address, weight }, slot }) => ({ id: address, weight, slot })),
    size,
  );
}

function flowsPart(records: readonly Uint8Array[]): Uint8Array {
  return joinBytes([Uint8Array.of(FLOWS_PART), ...records]);
}

/** A ring as it is read. */
interface RingPart {
  head: RingHead;
  /** Numbers of addresses, from 1. */
  past: Uint32Array;
}

function readRingPart(body: Uint8Array): RingPart | undefined {
  if (body.length < 4) return undefined;
  const view = new DataView(body.buffer, body.byteOffset, body.byteLength);
  const length = view.getUint32(0), rest = body.length - 4 - length;
  if (rest < 2 || rest % 2 !== 0) return undefined;
  const head = readHead(body.subarray(4, 4 + length));
  if (!head) return undefined;
  const past = Uint32Array.from({ length: rest / 2 }, (_, i) => view.getUint16(4 + length + 2 * i));
  const known = past.every((number) => number <= head.addresses.length);
  return known && RING_SIZES.includes(past.length) ? { head, past } : undefined;
}

function readHead(bytes: Uint8Array): RingHead | undefined {
  let head: Partial<Record<keyof RingHead, unknown>>;
  try {
    head = JSON.parse(new TextDecoder().decode(bytes)) ?? {};
  } catch {
    return undefined;
  }
  const { service, size, sticky, pastSticky, windowMs, served, addresses } = head;
  const isRing = typeof service === "string" && typeof sticky === "boolean" &&
    typeof pastSticky === "boolean" && typeof served === "boolean" &&
    RING_SIZES.includes(size as number) && Number.isSafeInteger(windowMs) &&
    (windowMs as number) >= 0 && Array.isArray(addresses) &&
    addresses.every((address) => typeof address === "string");
  return isRing ? head as unknown as RingHead : undefined;
}
