/**
 * Flows that nodes tell each other of. A node with the same sets chooses the same destinations by itself: only
 * exceptions need to travel, which a change of a set makes. Sent is what the program remembers while a change
 * needs it; kept is what the receiver's own ring would not give.
 *
 * @module
 */
import { joinBytes, RingBuffer } from "../bpf/mod.ts";
import { FLOW, FLOW_SEEN_SHIFT, FLOW_SHARE_SHIFT, FLOW_STATE, SHARED_FLOW } from "./abi.gen.ts";
import { answers } from "./change.ts";
import { Address } from "../net/address.ts";
import { decodeFlowRecord, encodeFlowRecord, type FlowRecord } from "./flow_record.ts";
import { FLOW_KEYS, FlowTable } from "./flow_table.ts";
import type { Instance } from "./instance.ts";
import type { Entry, Member } from "./model.ts";
import type { Registry } from "./registry.ts";
import { trackEntries } from "./told_rings.ts";

/**
 * What became of a record: remembered; not needed, as the ring gives the same; of a flow that has spoken here
 * since; or refused, as it cannot be read, names no service or destination of this node, or is of a flow that
 * has been silent for longer than its service's window.
 */
export type RecordOutcome =
  | "stored"
  | "answered"
  | "older"
  | "malformed"
  | "unknownService"
  | "unknownDestination"
  | "stale";

/** How many records had which outcome. */
export type RecordOutcomes = Record<RecordOutcome, number>;

const NS_PER_MS = 1_000_000n, NS_PER_S = 1_000_000_000n;
const SEEN_SHIFT = BigInt(FLOW_SEEN_SHIFT);
/** In units of `flow.seen`. */
const INTERVAL = 1 << FLOW_SHARE_SHIFT;
const FAMILIES = [4, 6] as const;

/** What records a table is to take. */
class Updates {
  readonly #keys: Uint8Array[] = [];
  readonly #values: Uint8Array[] = [];

  add(key: Uint8Array, value: Uint8Array): void {
    this.#keys.push(key);
    this.#values.push(value);
  }

  writeTo(table: FlowTable, family: 4 | 6): void {
    const count = this.#keys.length;
    if (count > 0) {
      table.map(family).updateBatch(joinBytes(this.#keys), joinBytes(this.#values), count);
    }
  }
}

/** No record yet. */
export function noOutcomes(): RecordOutcomes {
  return {
    stored: 0,
    answered: 0,
    older: 0,
    malformed: 0,
    unknownService: 0,
    unknownDestination: 0,
    stale: 0,
  };
}

/** Reads and writes records of an instance. */
export class FlowSharing {
  readonly #instance: Instance;
  readonly #registry: Registry;
  readonly #table: FlowTable;
  #ring: RingBuffer | undefined;
  #waiting: Uint8Array[] = [];

  constructor(instance: Instance, registry: Registry) {
    this.#instance = instance;
    this.#registry = registry;
    this.#table = new FlowTable(instance, registry);
  }

  /** Whether the program tells of flows. */
  get on(): boolean {
    return this.#instance.settings.share !== 0;
  }

  set on(on: boolean) {
    this.#instance.adjust({ share: Number(on) });
  }

  /** How many flows the program has told of, and how many it could not. */
  counters(): { told: bigint; lost: bigint } {
    const [told = 0n, lost = 0n] = this.#instance.sharingCounters.sum(0);
    return { told, lost };
  }

  /** Records of what the program has told since, at most so many. */
  read(max: number): Uint8Array[] {
    this.#ring ??= RingBuffer.create(this.#instance.sharedFlows, (bytes) => {
      this.#waiting.push(bytes);
    });
    if (this.#waiting.length === 0 && this.#ring.consume() === 0) return [];
    const now = this.#instance.clock(), owners = this.#table.owners();
    const records = this.#waiting.slice(0, max);
    this.#waiting = this.#waiting.slice(max);
    return records.flatMap((bytes) => this.#record(bytes, now, owners) ?? []);
  }

  #record(
    bytes: Uint8Array,
    now: bigint,
    owners: ReadonlyMap<number, Member>,
  ): Uint8Array | undefined {
    const told = SHARED_FLOW.decode(bytes);
    const owner = owners.get(told.slot);
    // It has gone, and with it what there was to tell.
    if (owner?.generation !== told.generation) return undefined;
    const size = told.ipv6 ? 16 : 4;
    return encodeFlowRecord({
      family: told.ipv6 ? 6 : 4,
      protocol: told.protocol,
      state: told.state,
      idleMs: milliseconds(now - (BigInt(told.seen) << SEEN_SHIFT)),
      clientPort: told.sourcePort,
      port: told.destinationPort,
      client: told.source.subarray(0, size),
      vip: told.destination.subarray(0, size),
      destination: addressOf(owner),
    });
  }

  /** Records of all flows in the table that the ring alone would not give. */
  *exceptions(): Generator<Uint8Array> {
    const now = this.#instance.clock();
    for (const family of FAMILIES) {
      const { source, destination, sourcePort, destinationPort, protocol, addressSize } =
        FLOW_KEYS[family];
      for (const { key, entry, owner, idleNs, state } of this.#table.sweep(family)) {
        if (!entry || !owner || idleNs > windowOf(entry)) continue;
        if (answers(entry.ring, this.#indexes(family, key, entry), owner.slot, now)) continue;
        const view = new DataView(key.buffer, key.byteOffset);
        yield encodeFlowRecord({
          family,
          protocol: key[protocol]!,
          state: state === FLOW_STATE.TOLD ? FLOW_STATE.OPEN : state,
          idleMs: milliseconds(idleNs),
          clientPort: view.getUint16(sourcePort),
          port: view.getUint16(destinationPort),
          client: key.subarray(source, source + addressSize),
          vip: key.subarray(destination, destination + addressSize),
          destination: addressOf(owner),
        });
      }
    }
  }

  /**
   * Takes over what another node tells. The caller holds the lock.
   *
   * A record vouches for the interval that it opens: the flow may speak again in it without another one. So it
   * is taken for that much younger.
   */
  write(records: Iterable<Uint8Array>): RecordOutcomes {
    const outcomes = noOutcomes();
    const find = { 4: this.#table.services(4), 6: this.#table.services(6) };
    const updates = { 4: new Updates(), 6: new Updates() };
    const marks = new Map<Entry, Set<number>>();
    const members = new Map<Entry, Map<string, Member>>();
    const owners = this.#table.owners(), now = this.#instance.clock();
    const consider = (bytes: Uint8Array): RecordOutcome => {
      const record = decodeFlowRecord(bytes);
      if (!record) return "malformed";
      const { family } = record;
      const entry = find[family](record.vip, record.port, record.protocol);
      if (!entry) return "unknownService";
      let byAddress = members.get(entry);
      if (!byAddress) members.set(entry, byAddress = membersOf(entry));
      const member = byAddress.get(nameOf(record.destination));
      if (!member) return "unknownDestination";
      if (BigInt(record.idleMs) * NS_PER_MS > windowOf(entry)) return "stale";
      const key = keyOf(record);
      const indexes = this.#indexes(family, key, entry);
      const answered = answers(entry.ring, indexes, member.slot, now);
      const seen = seenOf(record, now);
      const known = this.#table.map(family).lookup(key);
      // What is known may be of a connection before, but must not be of one that came since.
      if (known) {
        const { slot, generation, seen: knownSeen } = FLOW.decode(known);
        if (knownSeen > seen && owners.get(slot)?.generation === generation) return "older";
      } else if (answered) return "answered";
      const { slot, generation } = member;
      const { CLOSING, TOLD } = FLOW_STATE;
      const state = record.state === CLOSING ? CLOSING : TOLD;
      updates[family].add(key, FLOW.encode({ slot, generation, seen, state }));
      if (answered) return "answered";
      const marked = marks.get(entry);
      if (marked) marked.add(indexes.current);
      else marks.set(entry, new Set([indexes.current]));
      return "stored";
    };
    for (const bytes of records) outcomes[consider(bytes)]++;
    for (const family of FAMILIES) updates[family].writeTo(this.#table, family);
    trackEntries(this.#instance, this.#registry, marks);
    return outcomes;
  }

  close(): void {
    this.#ring?.close();
  }

  /** Where a flow is in the rings of its service. */
  #indexes(
    family: 4 | 6,
    key: Uint8Array,
    { ring }: Entry,
  ): { current: number; previous: number } {
    const { sticky, size, previousSticky, previousSize } = ring;
    const hash = this.#table.hash(family, key, sticky);
    const past = previousSticky === sticky ? hash : this.#table.hash(family, key, previousSticky);
    return { current: hash.index(size), previous: past.index(previousSize) };
  }
}

function windowOf({ spec }: Entry): bigint {
  return BigInt(spec.idleTimeout) * NS_PER_S;
}

function milliseconds(ns: bigint): number {
  return ns > 0n ? Number(ns / NS_PER_MS) : 0;
}

/** When the flow will have been seen last, in the program's units. */
function seenOf({ idleMs }: FlowRecord, now: bigint): number {
  const at = now - BigInt(idleMs) * NS_PER_MS;
  return Math.max(0, Number(at >> SEEN_SHIFT)) + INTERVAL;
}

function addressOf({ spec }: Member): Uint8Array {
  return Address.parse(spec.address).bytes;
}

function nameOf(address: Uint8Array): string {
  return String.fromCharCode(...address);
}

function membersOf(entry: Entry): Map<string, Member> {
  return new Map([...entry.members.values()].map((member) => [nameOf(addressOf(member)), member]));
}

function keyOf(record: FlowRecord): Uint8Array<ArrayBuffer> {
  const { family, client, vip, clientPort, port, protocol } = record;
  const layout = FLOW_KEYS[family];
  const key = new Uint8Array(layout.size);
  const view = new DataView(key.buffer);
  key.set(client, layout.source);
  key.set(vip, layout.destination);
  view.setUint16(layout.sourcePort, clientPort);
  view.setUint16(layout.destinationPort, port);
  key[layout.protocol] = protocol;
  return key;
}
