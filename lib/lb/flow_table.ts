/**
 * The tables of flows, in the terms of services and destinations.
 *
 * @module
 */
import type { BpfMap } from "../bpf/mod.ts";
import { FLOW, FLOW_KEY4, FLOW_KEY6, FLOW_SEEN_SHIFT } from "./abi.gen.ts";
import { IPPROTO } from "./entries.ts";
import { addressWords, FlowHash, type HashValue } from "./flow_hash.ts";
import type { Instance } from "./instance.ts";
import type { Entry, Member } from "./model.ts";
import type { Registry } from "./registry.ts";

/** Where the fields of a flow's key are. */
export const FLOW_KEYS = {
  4: { ...FLOW_KEY4.offsets, size: FLOW_KEY4.size, addressSize: 4 },
  6: { ...FLOW_KEY6.offsets, size: FLOW_KEY6.size, addressSize: 16 },
} as const;

/** One flow of a sweep. */
export interface Seen {
  key: Uint8Array;
  /** The service that it belongs to, if there still is one. */
  entry: Entry | undefined;
  /** The destination that it was given to, if that is still there: a slot may have another owner since. */
  owner: Member | undefined;
  /** Less than 0 for one that another node has told of: it may have spoken since. */
  idleNs: bigint;
  /** A number of `FLOW_STATE`. */
  state: number;
}

/** Finds the service that a flow's key names. */
export type FindService = (vip: Uint8Array, port: number, protocol: number) => Entry | undefined;

/** Reads the flow tables of an instance. */
export class FlowTable {
  readonly #instance: Instance;
  readonly #registry: Registry;
  readonly #flowHash: FlowHash;

  constructor(instance: Instance, registry: Registry) {
    this.#instance = instance;
    this.#registry = registry;
    const { hashKey, hashFinal } = instance.settings;
    this.#flowHash = new FlowHash({ words: Uint32Array.from(hashKey), final: hashFinal });
  }

  /** The table of a family. */
  map(family: 4 | 6): BpfMap {
    return family === 4 ? this.#instance.flows4 : this.#instance.flows6;
  }

  /** The hash of a flow by its key. */
  hash(family: 4 | 6, key: Uint8Array, sticky: boolean): HashValue {
    const { source, destination, sourcePort, protocol } = FLOW_KEYS[family];
    const view = new DataView(key.buffer, key.byteOffset, key.byteLength);
    const word = (at: number) => view.getUint32(at, true);
    const ports = sticky ? 0 : word(sourcePort);
    const number = sticky ? 0 : key[protocol]!;
    if (family === 4) return this.#flowHash.hash4(word(source), word(destination), ports, number);
    const words = (at: number) => addressWords(key.subarray(at, at + 16));
    return this.#flowHash.hash6(words(source), words(destination), ports, number);
  }

  /** Finds services of a family, as they are now. */
  services(family: 4 | 6): FindService {
    const services = new Map<string, Entry>();
    for (const entry of this.#registry.services.values()) {
      const { address } = entry.vip;
      if (address.family !== family) continue;
      const { port, protocol } = entry.spec;
      services.set(nameOf(address.bytes, port, IPPROTO[protocol]), entry);
    }
    return (vip, port, protocol) =>
      services.get(nameOf(vip, port, protocol)) ?? services.get(nameOf(vip, 0, protocol));
  }

  /** Destinations by their slots. */
  owners(): Map<number, Member> {
    const owners = new Map<number, Member>();
    for (const { members } of this.#registry.services.values()) {
      for (const member of members.values()) owners.set(member.slot, member);
    }
    return owners;
  }

  /** All flows of a family. */
  *sweep(family: 4 | 6): Generator<Seen> {
    const layout = FLOW_KEYS[family];
    const { keys, values, count } = this.map(family).lookupBatch();
    const view = new DataView(keys.buffer, keys.byteOffset, keys.byteLength);
    const find = this.services(family);
    const owners = this.owners();
    const now = this.#instance.clock();
    for (let i = 0; i < count; i++) {
      const at = i * layout.size;
      const vip = at + layout.destination;
      const { slot, generation, seen, state } = FLOW.decode(values, i * FLOW.size);
      const owner = owners.get(slot);
      yield {
        key: keys.subarray(at, at + layout.size),
        entry: find(
          keys.subarray(vip, vip + layout.addressSize),
          view.getUint16(at + layout.destinationPort),
          keys[at + layout.protocol]!,
        ),
        owner: owner?.generation === generation ? owner : undefined,
        idleNs: now - (BigInt(seen) << BigInt(FLOW_SEEN_SHIFT)),
        state,
      };
    }
  }
}

function nameOf(address: Uint8Array, port: number, protocol: number): string {
  return `${String.fromCharCode(...address)}:${port}/${protocol}`;
}
