/**
 * The client's methods for telling other nodes of flows. Longer stories are in `flow_sharing.ts` and
 * `shared_state.ts`.
 *
 * @module
 */
import { createHash } from "node:crypto";
import type { Core } from "./core.ts";
import type { RecordOutcome, RecordOutcomes } from "./flow_sharing.ts";
import { Services } from "./services.ts";
import type { ImportResult } from "./shared_state.ts";

/** What is counted of flows that the program tells of. */
export interface SharingCounters {
  /** Records that it made. */
  told: bigint;
  /** Records that it could not make, since `maxShared` of them waited for `readFlows()`. */
  lost: bigint;
}

/** Services whose flows may be shared. */
export class Sharing extends Services {
  readonly #core: Core;

  constructor(core: Core) {
    super(core);
    this.#core = core;
  }

  /**
   * Has the program tell of flows, or not: those that other nodes with the same sets and the same `hashKey` would
   * send elsewhere, once in 8.6 seconds while they speak. Until then it costs nothing; for flows that no change
   * concerns it never does.
   *
   * @throws {ReadOnlyError} when the client may only read
   */
  shareFlows(on: boolean): Promise<void> {
    return this.#core.change(() => {
      this.#core.sharing.on = on;
      return Promise.resolve();
    });
  }

  /**
   * The next flow that the program has told of; undefined if there is none. Each is read once, by whoever comes
   * first: there should be one reader.
   *
   * @returns a record for `writeFlow()` of other nodes, of any byte order and version of Linux
   */
  readFlow(): Uint8Array | undefined {
    return this.readFlows(1)[0];
  }

  /**
   * The next flows, at most so many.
   *
   * ```ts
   * import { Client } from "../../mod.ts";
   *
   * declare const here: Client, there: Client;
   * await here.shareFlows(true);
   * await there.writeFlows(here.readFlows(1000));
   * ```
   */
  readFlows(max = Infinity): Uint8Array[] {
    this.#core.registry.refresh();
    return this.#core.sharing.read(max);
  }

  /** Takes over what another node's `readFlow()` gave. A record that cannot be used changes nothing. */
  async writeFlow(record: Uint8Array): Promise<RecordOutcome> {
    const outcomes = await this.writeFlows([record]);
    return (Object.keys(outcomes) as RecordOutcome[]).find((outcome) => outcomes[outcome] > 0)!;
  }

  /**
   * `writeFlow()` for many: much faster than one by one.
   *
   * @returns how many had which outcome
   */
  writeFlows(records: Iterable<Uint8Array>): Promise<RecordOutcomes> {
    return this.#core.change(() => Promise.resolve(this.#core.sharing.write(records)));
  }

  /** The same on all nodes with the same `hashKey`, of which it tells nothing. */
  hashIdentity(): Uint8Array {
    const { hashKey, hashFinal } = this.#core.instance.settings;
    return createHash("sha256").update([...hashKey, hashFinal].join()).digest();
  }

  /** What is counted of flows that the program tells of. */
  sharingCounters(): SharingCounters {
    return this.#core.sharing.counters();
  }

  /** All that a node has to know to take this one's place, in parts for `importState()`. */
  exportState(): Iterable<Uint8Array> {
    this.#core.registry.refresh();
    return this.#core.sharedState.export();
  }

  /**
   * Takes over what another node knows. For services that have forwarded nothing here that is also what their
   * rings were before: so join before the first packet. What cannot be used changes nothing.
   */
  importState(parts: Iterable<Uint8Array>): Promise<ImportResult> {
    return this.#core.change(() => this.#core.sharedState.import(parts));
  }
}
