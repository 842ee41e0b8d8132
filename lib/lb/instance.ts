/**
 * One load balancer on this host: the program, its maps, and its links to interfaces. With a store it is
 * pinned, and the same for every process that opens it.
 *
 * @module
 */
import { type BpfMap, type BpfObject, type BpfProgram, monotonicCoarseNs } from "../bpf/mod.ts";
import {
  ABI_VERSION,
  DESTINATION,
  type Destination as DestinationEntry,
  DESTINATION_RECORD,
  type DestinationRecord,
  PROBE,
  type Probe as ProbeEntry,
  SERVICE,
  type Service as ServiceEntry,
  SERVICE_RECORD,
  type ServiceRecord,
  SETTINGS,
  type Settings,
  SHARED_FLOW,
  VIP,
  type Vip as VipEntry,
} from "./abi.gen.ts";
import { type CompleteConfig, completeConfig, settingsOf } from "./config.ts";
import { DocumentMap, type InstanceDocument } from "./document.ts";
import type { OuterSources } from "./entries.ts";
import { AbiError } from "./errors.ts";
import type { Journal } from "./journal.ts";
import { createInner, innerId, openInner } from "./inner_maps.ts";
import { Links } from "./links.ts";
import { LiveSettings } from "./live_settings.ts";
import { load, type Sizes } from "./load.ts";
import { ProbeEnds } from "./probe_ends.ts";
import { Programs } from "./programs.ts";
import { Store } from "./store.ts";
import { CounterTable, Table } from "./table.ts";
import type { AttachedInterface, Options } from "./types.ts";

/**
 * What the instance reads the time from, in nanoseconds: CLOCK_MONOTONIC_COARSE, as the program does. With a
 * finer clock a window would be over here and last there.
 */
export type Clock = () => bigint;

/** What an instance is made of. */
interface Parts {
  maps: ReadonlyMap<string, BpfMap>;
  programs: Programs;
  settings: Uint8Array;
  /** The object, if this process loaded it. */
  object?: BpfObject;
  store?: Store;
}

/** The maps by name and type. */
export class Instance {
  readonly sizes: Sizes;
  readonly services4: Table<ServiceEntry>;
  readonly services6: Table<ServiceEntry>;
  readonly vips4: Table<VipEntry>;
  readonly vips6: Table<VipEntry>;
  readonly rings: BpfMap;
  readonly destinations: Table<DestinationEntry>;
  readonly probes: Table<ProbeEntry>;
  readonly denied4: BpfMap;
  readonly denied6: BpfMap;
  readonly flows4: BpfMap;
  readonly flows6: BpfMap;
  readonly sharedFlows: BpfMap;
  readonly sharingCounters: CounterTable;
  readonly reasonCounters: CounterTable;
  readonly serviceCounters: CounterTable;
  readonly vipCounters: CounterTable;
  readonly destinationCounters: CounterTable;
  readonly serviceRecords: Table<ServiceRecord>;
  readonly destinationRecords: Table<DestinationRecord>;
  readonly retiredCounters: BpfMap;
  readonly links: Links;
  /** Where this host's own probes come in. */
  readonly probeEnds: ProbeEnds;
  /** Where it is pinned; undefined if it is not. */
  readonly store: Store | undefined;
  /** The program's clock; tests replace it together with the program's own. */
  clock: Clock = monotonicCoarseNs;
  readonly #object: BpfObject | undefined;
  readonly #maps: ReadonlyMap<string, BpfMap>;
  readonly #settings: LiveSettings;
  readonly #document: DocumentMap;
  #inTransaction = false;
  #programs: Programs;
  #programsRevision = 0n;

  private constructor({ maps, programs, settings, object, store }: Parts) {
    this.#object = object;
    this.#maps = maps;
    this.#settings = new LiveSettings(settings);
    this.#programs = programs;
    this.store = store;
    const map = (name: string) => this.map(name);
    this.services4 = new Table(map("services4"), SERVICE);
    this.services6 = new Table(map("services6"), SERVICE);
    this.vips4 = new Table(map("vips4"), VIP);
    this.vips6 = new Table(map("vips6"), VIP);
    this.rings = map("rings");
    this.destinations = new Table(map("destinations"), DESTINATION);
    this.probes = new Table(map("probes"), PROBE);
    this.denied4 = map("denied4");
    this.denied6 = map("denied6");
    this.flows4 = map("flows4");
    this.flows6 = map("flows6");
    this.sharedFlows = map("shared_flows");
    this.sharingCounters = new CounterTable(map("sharing_counters"));
    this.reasonCounters = new CounterTable(map("reason_counters"));
    this.serviceCounters = new CounterTable(map("service_counters"));
    this.vipCounters = new CounterTable(map("vip_counters"));
    this.destinationCounters = new CounterTable(map("destination_counters"));
    this.serviceRecords = new Table(map("service_records"), SERVICE_RECORD);
    this.destinationRecords = new Table(map("destination_records"), DESTINATION_RECORD);
    this.retiredCounters = map("retired_counters");
    this.#document = new DocumentMap(map("documents"));
    this.links = new Links(this, map("interfaces"));
    this.probeEnds = new ProbeEnds(this, map("interfaces"));
    this.sizes = {
      maxServices: map("service_records").maxEntries,
      maxDestinations: map("destination_records").maxEntries - 1,
      maxFlows: this.flows4.maxEntries,
      maxBlocked: this.denied4.maxEntries,
      maxShared: this.sharedFlows.maxEntries / (SHARED_FLOW.size + 8),
    };
  }

  /**
   * Loads the program with tables of the given sizes. Nothing is attached yet.
   *
   * @param store where to pin everything
   * @throws {InvalidValueError} when a size or the key cannot be
   * @throws {AbiError} when the option `bpfProgram` is of another ABI
   */
  static async load(
    options: Options,
    globals: Readonly<Record<string, number>> = {},
    store?: Store,
  ): Promise<Instance> {
    using stack = new DisposableStack();
    const { object, settings } = await load(options, globals);
    stack.use(object);
    const instance = new Instance({
      maps: object.maps,
      programs: stack.use(Programs.of(object)),
      settings: object.variable("settings"),
      object,
      ...(store && { store }),
    });
    instance.settings = settings;
    instance.document = {
      config: completeConfig(options),
      links: [],
      mode: options.mode ?? "auto",
      neighbourTimeout: options.neighbourTimeout ?? 1000,
      interfaceInitDelay: options.interfaceInitDelay ?? 0,
    };
    if (store) {
      for (const [name, map] of object.maps) store.pinMap(name, map);
      store.pinPrograms(instance.programs);
    }
    stack.move();
    return instance;
  }

  /**
   * Opens a pinned instance.
   *
   * @throws {InstanceNotFoundError} when there is none of that name
   * @throws {AbiError} when it was made by a version with another ABI
   */
  static open(name: string): Instance {
    const store = Store.open(name);
    using stack = new DisposableStack();
    const maps = store.openMaps();
    for (const map of maps.values()) stack.use(map);
    const map = maps.get("settings");
    const settings = map?.view() ?? new Uint8Array(4);
    const version = abiVersionOf(settings);
    if (version !== ABI_VERSION) throw otherAbi(name, version);
    const programs = stack.use(store.openPrograms());
    try {
      if (map!.valueSize !== SETTINGS.size) throw new RangeError("Settings are of another size");
      const own = settings.subarray(0, SETTINGS.size);
      const instance = new Instance({ maps, programs, settings: own, store });
      stack.move();
      return instance;
    } catch (error) {
      // It says that it is of this version, and lacks a part: as while a version is made.
      if (error instanceof RangeError) throw otherAbi(name, 0);
      throw error;
    }
  }

  /** The program that packets from the network meet. */
  get program(): BpfProgram {
    return this.programs.get("xvs");
  }

  /** The programs that packets meet. */
  get programs(): Programs {
    // Another process may have replaced them.
    if (this.store && this.#programsRevision !== this.revision) {
      this.usePrograms(this.store.openPrograms());
    }
    return this.#programs;
  }

  /** Takes over the programs that are in the place of those before; interfaces are not told. */
  usePrograms(programs: Programs): void {
    this.#programs.close();
    this.#programs = programs;
    this.#programsRevision = this.revision;
  }

  /** Has every interface run the programs that there are now. */
  updateLinks(): void {
    this.links.update();
    this.probeEnds.update();
  }

  /** All maps, by their names in `bpf/maps.h`. */
  get maps(): ReadonlyMap<string, BpfMap> {
    return this.#maps;
  }

  /** A copy of the program's settings; setting it takes effect with the next packet. */
  get settings(): Settings {
    return this.#settings.all;
  }

  set settings(value: Settings) {
    this.#settings.all = value;
  }

  /** Sets some of the settings. What others write at the same time stays. */
  adjust(fields: Partial<Settings>): void {
    this.#settings.adjust(fields);
  }

  /** Grows with every change; odd while one is under way. */
  get revision(): bigint {
    return this.#settings.revision;
  }

  /** What clients tell each other. Setting it replaces it whole. */
  get document(): InstanceDocument {
    return this.#document.value;
  }

  set document(value: InstanceDocument) {
    this.#document.value = value;
  }

  /** Where the outer sources of tunnels without ports come from. */
  get outerSources(): OuterSources {
    return this.#document.outerSources;
  }

  /** Puts a configuration into force, but for next hops. */
  configure(config: CompleteConfig): void {
    this.document = { ...this.document, config };
    this.adjust(settingsOf(config));
  }

  /**
   * Makes a change that other processes see whole or not at all, and that another process completes if this
   * one is killed. Within another one it is a part of that.
   *
   * @param journal what it is going to be; all of it must be known, and have been checked
   */
  async transact(journal: () => Journal, act: () => Promise<void> | void): Promise<void> {
    if (this.#inTransaction) return await act();
    this.#inTransaction = true;
    // As long as there is a journal, whoever opens the instance sees that something is under way.
    this.adjust({ revision: this.revision | 1n });
    try {
      this.store?.writeJournal(journal());
      await act();
    } finally {
      this.store?.clearJournal();
      this.adjust({ revision: this.revision + 1n });
      this.#inTransaction = false;
    }
  }

  /** A map by its name in `bpf/maps.h`. */
  map(name: string): BpfMap {
    const map = this.#maps.get(name === "settings" && this.#object ? ".data.settings" : name);
    if (!map) throw new RangeError(`Cannot find map "${name}"`);
    return map;
  }

  /** A global variable of the program, live; only of one that this process has loaded. */
  variable(name: string): Uint8Array {
    if (!this.#object) throw new TypeError(`Cannot see variable "${name}" of a pinned program`);
    return this.#object.variable(name);
  }

  /** A new inner map for `rings`, filled. */
  createRing(values: Uint8Array): BpfMap {
    return createInner(values);
  }

  /** The number of the map that holds a service's ring; 0: it has none. */
  ringId(service: number): number {
    return innerId(this.rings, service);
  }

  /** A service's ring, to be closed by the caller. */
  openRing(service: number): BpfMap {
    return openInner(this.rings, service);
  }

  /** The interfaces attached. */
  get interfaces(): AttachedInterface[] {
    return this.links.list();
  }

  /** Detaches what is not pinned, and closes all maps. */
  close(): void {
    this.links.close();
    this.probeEnds.close();
    this.#object?.close();
    for (const map of this.#maps.values()) map.close();
    this.#programs.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

/** The version of the ABI that an instance has, whichever that is: it comes first in all of them. */
function abiVersionOf(settings: Uint8Array): number {
  return new DataView(settings.buffer, settings.byteOffset).getUint32(0, true);
}

function otherAbi(name: string, version: number): AbiError {
  const wayOut =
    `with the version that made it, "save" its services; then remove it, create it anew, and ` +
    `"apply" them`;
  return new AbiError(`Instance "${name}"`, version, wayOut);
}
