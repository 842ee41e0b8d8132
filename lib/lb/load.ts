/**
 * How an instance begins: the program loaded with tables of the sizes asked for, and its first settings.
 *
 * @module
 */
import {
  BpfError,
  BpfObject,
  elfOf,
  hasXdpHelper,
  NotSupportedError,
  possibleCpus,
  VerifierError,
} from "../bpf/mod.ts";
import { pageSize } from "../sys/mapping.ts";
import { ABI_VERSION, SETTINGS, type Settings, SHARED_FLOW } from "./abi.gen.ts";
import { completeConfig, settingsOf } from "./config.ts";
import { AbiError, InvalidValueError } from "./errors.ts";
import { expandKey } from "./flow_hash.ts";
import { type Options } from "./types.ts";
import { integer } from "./values.ts";
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
const BPF_FUNC_XDP_LOAD_BYTES = 189; // enum bpf_func_id

/** The sizes of an instance's tables. */
export interface Sizes {
  maxServices: number;
  maxDestinations: number;
  maxFlows: number;
  maxBlocked: number;
  maxShared: number;
}

/** A program that is loaded, and not yet set up. */
export interface Loaded {
  object: BpfObject;
  settings: Settings;
}

/** Flows of the sample: a quarter of what a CPU may remember, should all come by the same one. */
export function sampleSize({ maxFlows }: Pick<Sizes, "maxFlows">): number {
  return Math.max(1, Math.min(SAMPLE, Math.floor(maxFlows / possibleCpus() / 4)));
}

/** Whether the sample is one that was given, and stays as it is. */
export function isSampleFixed({ sampleBudget }: Settings): boolean {
  return sampleBudget === NEVER;
}

/**
 * Opens the object that an instance runs: the embedded one, or another of the same ABI.
 *
 * @throws {InvalidValueError} when it is no such object
 * @throws {AbiError} when it is of another ABI
 */
export async function openObject(
  program?: Uint8Array,
): Promise<{ object: BpfObject; hash: Uint8Array }> {
  const elf = program?.slice() ?? await elfOf(OBJECT);
  const { object, abiVersion } = open(elf);
  if (abiVersion !== ABI_VERSION) {
    throw new AbiError("The object", abiVersion, "give one that was built with this version");
  }
  return { object, hash: new Uint8Array(await crypto.subtle.digest("SHA-256", elf)) };
}

function open(elf: Uint8Array): { object: BpfObject; abiVersion: number } {
  try {
    const object = BpfObject.open(elf, { name: "xvs" });
    const settings = object.variable("settings");
    return {
      object,
      abiVersion: new DataView(settings.buffer, settings.byteOffset).getUint32(0, true),
    };
  } catch (error) {
    if (!(error instanceof TypeError || error instanceof RangeError || error instanceof BpfError)) {
      throw error;
    }
    const message = `bpfProgram is no object of this balancer: ${error.message}`;
    throw new InvalidValueError("bpfProgram", undefined, message);
  }
}

/** As `object.load()`; the refusal of a kernel that is too old says so. */
function loadObject(object: BpfObject): void {
  try {
    object.load();
  } catch (error) {
    // The program's newest helper: where it is missing, the refusal may be for that or for anything else as old.
    if (!(error instanceof VerifierError) || hasXdpHelper(BPF_FUNC_XDP_LOAD_BYTES)) throw error;
    throw new NotSupportedError("the balancer's program, which calls bpf_xdp_load_bytes()", "5.18");
  }
}

/**
 * Loads the program.
 *
 * @throws {InvalidValueError} when a size or the key cannot be
 * @throws {NotSupportedError} when the kernel is too old
 */
export async function load(
  options: Options,
  globals: Readonly<Record<string, number>>,
): Promise<Loaded> {
  const sizes = sizesOf(options);
  const config = completeConfig(options);
  const { hashKey = crypto.getRandomValues(new Uint8Array(16)), trackMask } = options;
  if (hashKey.length !== 16) {
    throw new InvalidValueError(
      "hashKey",
      hashKey,
      `hashKey has ${hashKey.length} bytes: it must have 16`,
    );
  }
  using stack = new DisposableStack();
  const { object, hash } = await openObject(options.bpfProgram);
  stack.use(object);
  setSizes(object, sizes);
  for (const [name, value] of Object.entries(globals)) object.setVariable(name, value);
  loadObject(object);
  const key = expandKey(hashKey);
  const settings: Settings = {
    ...SETTINGS.decode(object.variable("settings")),
    sampleMask: (trackMask ?? 0) >>> 0,
    flowBudget: FLOW_BUDGET,
    icmpBudget: ICMP_BUDGET,
    // A sample that is given stays as it is.
    sampleBudget: trackMask === undefined ? sampleSize(sizes) : NEVER,
    hashKey: [...key.words],
    hashFinal: key.final,
    objectHash: hash,
    ...settingsOf(config),
  };
  stack.move();
  return { object, settings };
}

function sizesOf(options: Options): Sizes {
  const size = (name: keyof Sizes, fallback: number) =>
    integer(options[name] ?? fallback, 1, MAX_TABLE, name, name);
  return {
    maxServices: size("maxServices", 1024),
    maxDestinations: size("maxDestinations", 16384),
    maxFlows: size("maxFlows", maxFlowsOf(options)),
    maxBlocked: size("maxBlocked", 65536),
    maxShared: size("maxShared", 16384),
  };
}

function maxFlowsOf({ flowsPerCPU, maxFlows }: Options): number {
  if (flowsPerCPU === undefined) return 65536;
  integer(flowsPerCPU, 1, MAX_TABLE, "flowsPerCPU", "flowsPerCPU");
  if (maxFlows !== undefined) {
    const message = "flowsPerCPU and maxFlows are both given: one says how large the tables are";
    throw new InvalidValueError("flowsPerCPU", flowsPerCPU, message);
  }
  return flowsPerCPU * possibleCpus();
}

function setSizes(object: BpfObject, sizes: Sizes): void {
  const max = (entries: number, ...maps: string[]) => {
    for (const map of maps) object.setMaxEntries(map, entries);
  };
  max(sizes.maxServices, "services4", "services6", "vips4", "vips6", "rings");
  max(sizes.maxServices, "service_counters", "service_records", "vip_counters");
  max(sizes.maxServices + 1, "retired_counters");
  // Slot 0 is nobody.
  max(sizes.maxDestinations + 1, "destinations", "destination_counters", "destination_records");
  max(sizes.maxDestinations + 1, "probes"); // and so is number 0
  max(sizes.maxFlows, "flows4", "flows6");
  max(sizes.maxBlocked, "denied4", "denied6");
  max(ringBufferBytes(sizes.maxShared), "shared_flows");
}

/** A ring buffer has a power of two of bytes, in whole pages; each record takes 8 more. */
function ringBufferBytes(records: number): number {
  const least = Math.max(pageSize(), records * (SHARED_FLOW.size + 8));
  return 2 ** Math.ceil(Math.log2(least));
}
