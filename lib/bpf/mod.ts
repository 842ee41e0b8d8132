/**
 * libbpf for Deno: load BPF objects, use their maps, run and attach their programs.
 *
 * It needs Linux 5.9 or later, libbpf 1.0 or later (`apt-get install libbpf1`), and a process that
 * may do so: `deno run -A` as root.
 *
 * @example
 * ```ts
 * import { BpfObject, u32 } from "./mod.ts";
 *
 * using object = BpfObject.open(Deno.readFileSync("count_packets.bpf.o")).load();
 * using link = object.program("count").attachXdp(2);
 * console.log(link.mode, object.map("packets").lookupPerCpu(u32(6)));
 * ```
 *
 * @module
 */

export { monotonicCoarseNs, monotonicNs } from "../sys/clock.ts";
export { possibleCpus } from "../sys/cpu.ts";
export { Btf } from "./btf.ts";
export * from "./btf_types.ts";
export { type Bytes, joinBytes, u32 } from "./bytes.ts";
export type { MapFlag, MapType, ProgramType } from "./constants.ts";
export { elfOf, type EmbeddedObject } from "./embedded.ts";
export {
  BpfError,
  LibraryError,
  NotSupportedError,
  SystemError,
  VerifierError,
  XdpBusyError,
} from "./errors.ts";
export { hasKernelBtf, hasXdpHelper, kernelRelease } from "./features.ts";
export {
  detachXdp,
  interfaceIndex,
  queryXdp,
  type XdpAttachOptions,
  XdpLink,
  type XdpMode,
  type XdpPrograms,
} from "./link.ts";
export { BpfMap, type MapOptions, type UpdateMode } from "./map.ts";
export type { MapEntries } from "./map_batch.ts";
export { BpfObject } from "./object.ts";
export { isBpffs } from "./pins.ts";
export { BpfProgram, countRuns } from "./program.ts";
export { type RecordCallback, RingBuffer } from "./ring_buffer.ts";
export type { TestRunOptions, TestRunResult } from "./test_run.ts";
