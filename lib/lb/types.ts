/**
 * What a user of the balancer says and hears. The names are those of xvs, in camelCase.
 *
 * @module
 */
import { type Tunnel, TUNNELS } from "./abi.gen.ts";
import type { Config } from "./config.ts";
import { InvalidValueError } from "./errors.ts";
import { fieldsOf, integer, policy, truth, unicast } from "./values.ts";

/** A layer-4 protocol. */
export type Protocol = "tcp" | "udp";

/** How packets travel to a destination: by MAC on a common network, or within an outer header. */
export type TunnelType = Tunnel;

/** Tunnels over UDP, which need a port. */
export const UDP_TUNNELS: readonly TunnelType[] = ["fou", "gue"];

/** A service: what clients connect to. Its identity is address, port and protocol. */
export interface Service {
  /** The VIP, IPv4 or IPv6. */
  address: string;
  /** 1 to 65535; 0 is any port that has no service of its own. */
  port: number;
  /** Default "tcp". */
  protocol?: Protocol;
  /** A client's address alone decides its destination. Default false. */
  sticky?: boolean;
  /**
   * Seconds that an established flow may be silent after a change of the destinations, and still be
   * told from a new one. Default 900 for TCP, 60 for UDP.
   */
  idleTimeout?: number;
  /** What becomes of packets whose TTL is used up. Default "default": as the instance's option says. */
  expired?: "default" | "drop" | "reject";
  /** What becomes of IPv4 packets that are too long and may be fragmented. Default as for `expired`. */
  fragmentable?: "default" | "drop" | "reject";
}

/** A real server of one service. Its identity is the address. */
export interface Destination {
  /** IPv4 or IPv6, whatever the family of the VIP. */
  address: string;
  /**
   * Default "none": the destination is on a network that the balancer is on too. "gue" is variant 0; its
   * variant 1 is the same bytes as "fou".
   */
  tunnelType?: TunnelType;
  /** UDP port of the tunnel: 1 to 65535 for "fou" and "gue", which alone have one. */
  tunnelPort?: number;
  /** Leave out the checksum of the tunnel's UDP header. Default false. */
  tunnelEncapNoChecksum?: boolean;
  /**
   * The longest IP packet on the way there, in bytes, if that is less than the interface's MTU. Default 0:
   * it is not.
   */
  mtu?: number;
  /** Share of new flows relative to the others', 0 to 65535. Default 1. */
  weight?: number;
  /** Drain: no new flows, old ones stay. Default false. */
  disable?: boolean;
}

/** What becomes of packets to a port of a VIP that has no service; "default": as the instance's option says. */
export type UnknownPort = "default" | "drop" | "pass" | "reject";

/** Counters in short. */
export interface Stats {
  /** Flows that began; by sample where they are many. */
  connections: bigint;
  /** Packets received: of a service or a destination those forwarded, of the instance all. */
  incomingPackets: bigint;
  /** Octets of these, as IP packets. */
  incomingBytes: bigint;
}

/** Counters by name, as in xvs; the reasons of `bpf/README.md` among them. */
export type Metrics = Record<string, bigint>;

/** A service as it stands. */
export interface ServiceExtended {
  service: Required<Service>;
  stats: Stats;
  metrics: Metrics;
}

/** A destination as it stands. */
export interface DestinationExtended {
  destination: Required<Destination>;
  /** Flows open now; by sample where they are many. */
  activeConnections: number;
  stats: Stats;
  metrics: Metrics;
  /** Where frames towards it are sent: its own MAC, or its router's. Undefined: not known (yet). */
  mac: string | undefined;
  /** The interface that they leave by, which the program must be attached to. Undefined: not known (yet). */
  interface: string | undefined;
}

/** A VIP: an address that at least one service has. */
export interface VIP {
  address: string;
  /** What becomes of packets to a port without a service: of the VIP, as no service has that port. */
  unknownPort: UnknownPort;
  stats: Stats;
  metrics: Metrics;
}

/** The XDP mode of an interface. */
export type Mode = "native" | "generic";

/** An interface that the program was attached to. */
export interface AttachedInterface {
  name: string;
  index: number;
  mode: Mode | undefined;
}

/** The instance as it stands. */
export interface Info {
  /** All packets that the interfaces received, VIP or not. */
  stats: Stats;
  metrics: Metrics;
  /** The interfaces attached, and how; no mode: the interface has gone, or somebody detached it. */
  interfaces: AttachedInterface[];
  /** One flow in how many is counted; 1 while they are few. */
  sampling: number;
  /** Where this host's programs probe from over IPv4; undefined: `openProbes()` was not called. */
  ipv4: string | undefined;
  /** As `ipv4`, over IPv6; undefined also if this host has none. */
  ipv6: string | undefined;
}

/** Who is told what happens; `console` is one. */
export interface Logger {
  /** What may help to find out what is wrong. */
  debug(message: string, ...data: unknown[]): void;
  /** What a person should know. Default: `debug`. */
  warn?(message: string, ...data: unknown[]): void;
}

/** How to open an instance. */
export interface OpenOptions {
  /**
   * Refuse to change anything; only what a process was killed in the middle of is completed, since without that
   * there is nothing to be read. Default false.
   */
  readOnly?: boolean;
  /** See `Options.follow`; here the default is false. */
  follow?: boolean;
  /** See `Options.replace`. */
  replace?: boolean;
  /** See `Options.logger`. */
  logger?: Logger;
}

/** Settings of an instance. */
export interface Options extends Config {
  /** How to attach: "auto" is native if the driver has it, else generic. Default "auto". */
  mode?: Mode | "auto";
  /**
   * A name: the instance is pinned under `/sys/fs/bpf/xvs/` and outlives this process, until
   * `Client.remove()`. Letters, digits, "_" and "-". Default: it is gone with the client.
   */
  instance?: string;
  /**
   * Follow neighbours, routes and links, and settle rings, as long as the client lives. Without it next hops
   * are found again for the services that a change is about. Default true.
   */
  follow?: boolean;
  /** Detach XDP programs of others from the interfaces. Default: refuse, and name them. */
  replace?: boolean;
  /** How many services there may be. Default 1024. */
  maxServices?: number;
  /** How many destinations all services may have together. Default 16384. */
  maxDestinations?: number;
  /**
   * How many flows of each family may be remembered, the same number on each CPU. One that is full forgets the
   * flow longest silent. Default 65536.
   */
  maxFlows?: number;
  /** The same for each CPU: `maxFlows` is that many times the number of CPUs. Not together with `maxFlows`. */
  flowsPerCPU?: number;
  /** How many prefixes of each family may be blocked. Default 65536. */
  maxBlocked?: number;
  /** How many flows may wait for `readFlows()`, once flows are shared. Default 16384. */
  maxShared?: number;
  /**
   * Seconds without a sign of life from this process after which the program passes everything to the
   * host; 0 is never. Default 0: when the process ends, the program is detached anyway. Not for an
   * instance with a name, which is to outlive the process.
   */
  watchdog?: number;
  /** 16 bytes, the same on all nodes that are to choose alike. Default random. */
  hashKey?: Uint8Array;
  /**
   * Which flows are counted one by one: those whose hash has none of these bits, which must be the lowest: 0
   * is all, 1 every other, 0xffffffff none. A packet of such a flow costs one lookup more. Default: all while
   * they are few, then about 4,096 of them, or fewer where the table is small.
   */
  trackMask?: number;
  /** Another object to run than the embedded one, as bytes of an ELF file; it must have the same ABI. */
  bpfProgram?: Uint8Array;
  /**
   * Seconds to wait after each interface that the program is attached to: some drivers take their link down
   * for a moment, which should not happen to all members of a bond at once. Default 0.
   */
  interfaceInitDelay?: number;
  /** Who is told what happens. Default: nobody. */
  logger?: Logger;
  /** Milliseconds to wait for a neighbour to answer. Default 1000. */
  neighbourTimeout?: number;
}

const DEFAULT_IDLE_TIMEOUT = { tcp: 900, udp: 60 };
/** What every IPv4 network carries: RFC 791. */
const MIN_MTU = 576;
const MAX_IDLE_TIMEOUT = 365 * 86400;

/** `192.0.2.1:80/tcp`, `[2001:db8::1]:53/udp`. */
export function serviceName(
  service: { address: string; port: number; protocol: Protocol },
): string {
  const host = service.address.includes(":") ? `[${service.address}]` : service.address;
  return `${host}:${service.port}/${service.protocol}`;
}

/**
 * A service with every field set and its address in canonical form.
 *
 * @throws {InvalidValueError} when a field cannot be
 */
export function completeService(service: Service): Required<Service> {
  const { protocol = "tcp", sticky = false } = fieldsOf(service, "service", "Service");
  const address = unicast(service.address, "address", "VIP").toString();
  integer(service.port, 0, 65535, "port", "Port");
  truth(sticky, "sticky");
  if (protocol !== "tcp" && protocol !== "udp") {
    throw new InvalidValueError(
      "protocol",
      protocol,
      `Protocol "${protocol}" is neither "tcp" nor "udp"`,
    );
  }
  const { idleTimeout = DEFAULT_IDLE_TIMEOUT[protocol] } = service;
  integer(idleTimeout, 1, MAX_IDLE_TIMEOUT, "idleTimeout", "Idle timeout in seconds");
  const { expired = "default", fragmentable = "default" } = service;
  policy(expired, ["default", "drop", "reject"], "expired");
  policy(fragmentable, ["default", "drop", "reject"], "fragmentable");
  return { address, port: service.port, protocol, sticky, idleTimeout, expired, fragmentable };
}

/**
 * A destination with every field set and its address in canonical form.
 *
 * @throws {InvalidValueError} when a field cannot be
 */
export function completeDestination(destination: Destination): Required<Destination> {
  fieldsOf(destination, "destination", "Destination");
  const { tunnelType = "none", tunnelPort = 0, weight = 1, disable = false } = destination;
  const { tunnelEncapNoChecksum = false, mtu = 0 } = destination;
  const address = unicast(destination.address, "address", "Destination").toString();
  if (!TUNNELS.includes(tunnelType)) {
    throw new InvalidValueError(
      "tunnelType",
      tunnelType,
      `Tunnel "${tunnelType}" of destination "${address}" is not one of ${TUNNELS.join(", ")}`,
    );
  }
  if (UDP_TUNNELS.includes(tunnelType)) {
    integer(tunnelPort, 1, 65535, "tunnelPort", `Port of the ${tunnelType} tunnel`);
  } else if (tunnelPort !== 0) {
    throw new InvalidValueError(
      "tunnelPort",
      tunnelPort,
      `Tunnel "${tunnelType}" of destination "${address}" has no port, but ${tunnelPort} is given`,
    );
  }
  if (mtu !== 0) integer(mtu, MIN_MTU, 65535, "mtu", "MTU");
  integer(weight, 0, 65535, "weight", "Weight");
  truth(disable, "disable");
  truth(tunnelEncapNoChecksum, "tunnelEncapNoChecksum");
  return { address, tunnelType, tunnelPort, tunnelEncapNoChecksum, mtu, weight, disable };
}
