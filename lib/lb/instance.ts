/**
 * One load balancer on this host: the program, its maps, and its links to interfaces.
 *
 * @module
 */
import {
  BpfMap,
  BpfObject,
  type BpfProgram,
  elfOf,
  monotonicCoarseNs,
  possibleCpus,
  u32,
  type XdpLink,
} from "../bpf/mod.ts";
import { Prefix } from "../net/address.ts";
import {
  ABI_VERSION,
  DESTINATION,
  type Destination as DestinationEntry,
  DESTINATION_RECORD,
  type DestinationRecord,
  POLICY,
  type Policy,
  RING_ENTRY,
  SERVICE,
  type Service as ServiceEntry,
  SERVICE_RECORD,
  type ServiceRecord,
  SETTINGS,
  type Settings,
  VIP,
  type Vip as VipEntry,
} from "./abi.gen.ts";
import { type OuterSources, sourceMask } from "./entries.ts";
import { InvalidValueError } from "./errors.ts";
import { expandKey } from "./flow_hash.ts";
import { CounterTable, Table } from "./table.ts";
import type { AttachedInterface, Mode, Options } from "./types.ts";
import { OBJECT } from "./xvs.gen.ts";

/** New flows that one CPU may remember in a tick of 67 ms: 125,000 a second. */
const FLOW_BUDGET = 8192;
/** ICMP answers that one CPU may give in a tick of 16.8 ms: about 1,000 a second. */
const ICMP_BUDGET = 17;
/** A budget that is never spent. */
const NEVER = 0xffffffff;
/** Flows that are counted one by one: enough for 3 percent either way, few enough to stay in the cache. */
const SAMPLE = 4096;
const MAX_TABLE = 1 << 24;

/** The sizes of an instance's tables. */
export interface Sizes {
  maxServices: number;
  maxDestinations: number;
  maxFlows: number;
  maxBlocked: number;
}

/**
 * What the instance reads the time from, in nanoseconds: CLOCK_MONOTONIC_COARSE, as the program does. With a
 * finer clock a window would be over here and last there.
 */
export type Clock = () => bigint;

function size(options: Options, name: keyof Sizes, fallback: number): number {
  const value = options[name] ?? fallback;
  if (!Number.isInteger(value) || value < 1 || value > MAX_TABLE) {
    throw new InvalidValueError(
      name,
      value,
      `${name} ${value} is not a whole number from 1 to ${MAX_TABLE}`,
    );
  }
  return value;
}

/** Flows of the sample: a quarter of what a CPU may remember, should all come by the same one. */
export function sampleSize({ maxFlows }: Sizes): number {
  return Math.max(1, Math.min(SAMPLE, Math.floor(maxFlows / possibleCpus() / 4)));
}

function outerSource(options: Options, family: 4 | 6): Prefix | undefined {
  const field = family === 4 ? "outerSource4" : "outerSource6";
  const text = options[field];
  if (text === undefined) return undefined;
  try {
    const prefix = Prefix.parse(text);
    if (prefix.family === family) return prefix;
  } catch {
    // As below.
  }
  throw new InvalidValueError(field, text, `${field} "${text}" is not an IPv${family} prefix`);
}

function policy(
  options: Options,
  name: "unknownPort" | "expired",
  known: readonly Policy[],
  fallback: Policy,
): Policy {
  const value = options[name] ?? fallback;
  if (known.includes(value)) return value;
  throw new InvalidValueError(name, value, `${name} "${value}" is none of ${known.join(", ")}`);
}

/** The maps by name and type. */
export class Instance {
  readonly sizes: Sizes;
  readonly program: BpfProgram;
  readonly services4: Table<ServiceEntry>;
  readonly services6: Table<ServiceEntry>;
  readonly vips4: Table<VipEntry>;
  readonly vips6: Table<VipEntry>;
  readonly rings: BpfMap;
  readonly destinations: Table<DestinationEntry>;
  readonly denied4: BpfMap;
  readonly denied6: BpfMap;
  readonly flows4: BpfMap;
  readonly flows6: BpfMap;
  readonly reasonCounters: CounterTable;
  readonly serviceCounters: CounterTable;
  readonly vipCounters: CounterTable;
  readonly destinationCounters: CounterTable;
  readonly serviceRecords: Table<ServiceRecord>;
  readonly destinationRecords: Table<DestinationRecord>;
  readonly retiredCounters: BpfMap;
  /** Where the outer sources of tunnels without ports come from. */
  readonly outerSources: OuterSources;
  /** The program's clock; tests replace it together with the program's own. */
  clock: Clock = monotonicCoarseNs;
  readonly #object: BpfObject;
  readonly #settings: Uint8Array;
  readonly #interfaces: BpfMap;
  readonly #links = new Map<string, XdpLink>();

  private constructor(
    object: BpfObject,
    sizes: Sizes,
    settings: Settings,
    outerSources: OuterSources,
  ) {
    this.outerSources = outerSources;
    this.sizes = sizes;
    this.#object = object;
    this.program = object.program("xvs");
    const map = (name: string) => object.map(name);
    this.services4 = new Table(map("services4"), SERVICE);
    this.services6 = new Table(map("services6"), SERVICE);
    this.vips4 = new Table(map("vips4"), VIP);
    this.vips6 = new Table(map("vips6"), VIP);
    this.rings = map("rings");
    this.destinations = new Table(map("destinations"), DESTINATION);
    this.denied4 = map("denied4");
    this.denied6 = map("denied6");
    this.flows4 = map("flows4");
    this.flows6 = map("flows6");
    this.reasonCounters = new CounterTable(map("reason_counters"));
    this.serviceCounters = new CounterTable(map("service_counters"));
    this.vipCounters = new CounterTable(map("vip_counters"));
    this.destinationCounters = new CounterTable(map("destination_counters"));
    this.serviceRecords = new Table(map("service_records"), SERVICE_RECORD);
    this.destinationRecords = new Table(map("destination_records"), DESTINATION_RECORD);
    this.retiredCounters = map("retired_counters");
    this.#interfaces = map("interfaces");
    this.#settings = object.variable("settings");
    this.settings = settings;
  }

  /**
   * Loads the program with tables of the given sizes. Nothing is attached yet.
   *
   * @throws {InvalidValueError} when a size or the key cannot be
   */
  static async load(options: Options, globals: Record<string, number> = {}): Promise<Instance> {
    const sizes = {
      maxServices: size(options, "maxServices", 1024),
      maxDestinations: size(options, "maxDestinations", 16384),
      maxFlows: size(options, "maxFlows", 65536),
      maxBlocked: size(options, "maxBlocked", 65536),
    };
    const unknownPort = policy(options, "unknownPort", ["drop", "pass", "reject"], "drop");
    const expired = policy(options, "expired", ["drop", "reject"], "reject");
    const { hashKey = crypto.getRandomValues(new Uint8Array(16)), trackMask = 0 } = options;
    if (hashKey.length !== 16) {
      throw new InvalidValueError(
        "hashKey",
        hashKey,
        `hashKey has ${hashKey.length} bytes: it must have 16`,
      );
    }
    const outerSources = { 4: outerSource(options, 4), 6: outerSource(options, 6) };
    const elf = await elfOf(OBJECT);
    using stack = new DisposableStack();
    const object = stack.use(BpfObject.open(elf, { name: "xvs" }));
    const max = (entries: number, ...maps: string[]) => {
      for (const map of maps) object.setMaxEntries(map, entries);
    };
    max(sizes.maxServices, "services4", "services6", "vips4", "vips6", "rings");
    max(sizes.maxServices, "service_counters", "service_records", "vip_counters");
    max(sizes.maxServices + 1, "retired_counters");
    // Slot 0 is nobody.
    max(sizes.maxDestinations + 1, "destinations", "destination_counters", "destination_records");
    max(sizes.maxFlows, "flows4", "flows6");
    max(sizes.maxBlocked, "denied4", "denied6");
    for (const [name, value] of Object.entries(globals)) object.setVariable(name, value);
    object.load();
    const key = expandKey(hashKey);
    const instance = new Instance(object, sizes, {
      abiVersion: ABI_VERSION,
      sampleMask: trackMask >>> 0,
      flowBudget: FLOW_BUDGET,
      icmpBudget: ICMP_BUDGET,
      unknownPort: POLICY[unknownPort.toUpperCase() as Uppercase<Policy>],
      deny: 0,
      watchdogNs: 0n,
      expired: POLICY[expired.toUpperCase() as Uppercase<Policy>],
      // A sample that is given stays as it is.
      sampleBudget: options.trackMask === undefined ? sampleSize(sizes) : NEVER,
      hashKey: [...key.words],
      hashFinal: key.final,
      sourceMask4: sourceMask(outerSources[4]),
      sourceMask6: sourceMask(outerSources[6]),
    }, outerSources);
    stack.move();
    return instance;
  }

  /** A copy of the program's settings; setting it takes effect with the next packet. */
  get settings(): Settings {
    return SETTINGS.decode(this.#settings);
  }

  set settings(value: Settings) {
    SETTINGS.encode(value, this.#settings);
  }

  /** A map by its name in `bpf/maps.h`. */
  map(name: string): BpfMap {
    return this.#object.map(name);
  }

  /** A global variable of the program, live. */
  variable(name: string): Uint8Array {
    return this.#object.variable(name);
  }

  /** A new inner map for `rings`, filled. */
  createRing(values: Uint8Array): BpfMap {
    const count = values.length / RING_ENTRY.size;
    using stack = new DisposableStack();
    const ring = stack.use(BpfMap.create({
      type: "array",
      name: "ring",
      keySize: 4,
      valueSize: RING_ENTRY.size,
      maxEntries: count,
      flags: ["inner_map"],
    }));
    const keys = new Uint8Array(Uint32Array.from({ length: count }, (_, i) => i).buffer);
    ring.updateBatch(keys, values, count);
    stack.move();
    return ring;
  }

  /**
   * Attaches the program to an interface.
   *
   * @returns false if it was attached before
   * @throws {XdpBusyError} when it has an XDP program of somebody else's
   */
  attach(name: string, index: number, mode: Mode | "auto"): boolean {
    const link = this.#links.get(name);
    if (link?.attached && link.ifindex === index) return false;
    this.detach(name); // It has gone, and another one has its name.
    const key = u32(index);
    this.#interfaces.update(key, key);
    try {
      this.#links.set(name, this.program.attachXdp(index, { mode }));
      return true;
    } catch (error) {
      this.#interfaces.delete(key);
      throw error;
    }
  }

  /** Takes the program off an interface. */
  detach(name: string): void {
    const link = this.#links.get(name);
    if (!link) return;
    link.close();
    this.#links.delete(name);
    this.#interfaces.delete(u32(link.ifindex));
  }

  /** The interfaces attached. */
  get interfaces(): AttachedInterface[] {
    return [...this.#links].map(([name, link]) => ({
      name,
      index: link.ifindex,
      mode: link.attached ? link.mode : undefined,
    }));
  }

  /** Detaches what this instance attached, and frees its maps. */
  close(): void {
    for (const link of this.#links.values()) link.close();
    this.#links.clear();
    this.#object.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}
