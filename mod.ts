/**
 * xvs for Deno: a layer-4 load balancer with direct server return, an XDP program and its client.
 *
 * ```ts
 * import { Client } from "./mod.ts";
 *
 * await using client = await Client.create(["eth0"]);
 * await client.setService(
 *   { address: "192.0.2.1", port: 80 },
 *   { address: "10.0.0.2" },
 *   { address: "10.0.0.3", weight: 2 },
 * );
 * ```
 *
 * @module
 */
export { Client } from "./lib/lb/client.ts";
export type { CompleteConfig, Config } from "./lib/lb/config.ts";
export type { Change, EventOptions, InstanceEvent } from "./lib/lb/events.ts";
export type { Explanation } from "./lib/lb/explain.ts";
export type { MadeUpPacket, TcpFlag } from "./lib/lb/made_up_packet.ts";
export type { Flow, FlowFilter } from "./lib/lb/flows.ts";
export type { RecordOutcome, RecordOutcomes } from "./lib/lb/flow_sharing.ts";
export type { ImportResult } from "./lib/lb/shared_state.ts";
export { type SyncCounters, SyncNode, type SyncOptions } from "./lib/lb/sync.ts";
export type { FrameKind, Refusal } from "./lib/lb/sync_frame.ts";
export type { SharingCounters } from "./lib/lb/sharing.ts";
export type { InstanceInfo } from "./lib/lb/instances.ts";
export { type ServiceId, Services, type VipOptions } from "./lib/lb/services.ts";
export type {
  CompleteServiceSet,
  CompleteState,
  Difference,
  ServiceSet,
  State,
} from "./lib/lb/state.ts";
export { type DecapCounter, type DecapOptions, Decapsulator } from "./lib/lb/decap.ts";
export * from "./lib/lb/errors.ts";
export type {
  AttachedInterface,
  Destination,
  DestinationExtended,
  Info,
  Logger,
  Metrics,
  Mode,
  OpenOptions,
  Options,
  Protocol,
  Service,
  ServiceExtended,
  Stats,
  TunnelType,
  UnknownPort,
  VIP,
} from "./lib/lb/types.ts";
export { serviceName, UDP_TUNNELS } from "./lib/lb/types.ts";
export { REASON_TEXT, TUNNELS } from "./lib/lb/abi.gen.ts";
export type { ProbeOptions } from "./lib/lb/probes.ts";
export { DECAP_REASON_TEXT, type DecapReason } from "./lib/lb/decap_abi.gen.ts";
export { BpfError, NotSupportedError, VerifierError, XdpBusyError } from "./lib/bpf/mod.ts";
