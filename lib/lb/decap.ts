/**
 * The other end of the tunnels: takes outer headers off, on the destinations.
 *
 * @module
 */
import { type BpfMap, BpfObject, type BpfProgram, elfOf, type XdpLink } from "../bpf/mod.ts";
import { Address, AddressError, Prefix } from "../net/address.ts";
import type { LinkInfo } from "../net/ip.ts";
import { TUNNEL } from "./abi.gen.ts";
import { OBJECT } from "./decap.gen.ts";
import { DECAP_REASONS, type DecapReason, PEER_KEY4, PEER_KEY6 } from "./decap_abi.gen.ts";
import { InvalidValueError } from "./errors.ts";
import { findInterfaces, modeFor } from "./interfaces.ts";
import { type Key, KeySet } from "./key_set.ts";
import { CounterTable } from "./table.ts";
import { type AttachedInterface, type Mode } from "./types.ts";
import { integer, unicast } from "./values.ts";

const MAX_ENTRIES = 1 << 24;

/** What a decapsulator is to do. */
export interface DecapOptions {
  /** Who may send through a tunnel: prefixes of outer source addresses, or single ones. */
  peers: readonly string[];
  /** The inner destination addresses that are served here. Tunnels with other packets are left alone. */
  vips: readonly string[];
  /** The outer destination addresses that are taken for this host's. Default: any. */
  addresses?: readonly string[];
  /** UDP ports of FOU: IP directly in UDP. Default: none. */
  fouPorts?: readonly number[];
  /** UDP ports of GUE: variant 0 without options, and variant 1. Default: none. */
  guePorts?: readonly number[];
  /** How to attach: "auto" is native if the driver has it, else generic. Default "auto". */
  mode?: Mode | "auto";
  /** How many peers, VIPs and addresses of each family there may be. Default 1024. */
  maxEntries?: number;
}

/** Packets that had the same fate. */
export interface DecapCounter {
  packets: bigint;
  /** Octets of these, as IP packets with their outer header. */
  octets: bigint;
}

/**
 * Takes the outer header off packets that a known peer sent to a VIP, through any tunnel that a balancer has
 * and in any mix of IPv4 and IPv6, and hands them to the host as if they had come without. All other packets
 * reach the host as they are, but for those that are for a VIP and do not come from a peer: these are dropped.
 *
 * ```ts
 * using decapsulator = await Decapsulator.create(["eth0"], {
 *   peers: ["10.1.0.0/24", "fd00:1::1"],
 *   vips: ["192.0.2.1"],
 * });
 * console.log(decapsulator.counters().decapsulated.packets);
 * ```
 */
export class Decapsulator implements Disposable {
  /** The loaded program. */
  readonly program: BpfProgram;
  readonly #owned: DisposableStack;
  readonly #links = new Map<string, XdpLink>();
  readonly #counters: CounterTable;
  readonly #peers: KeySet;
  readonly #vips: KeySet;
  readonly #addresses: KeySet;

  private constructor(object: BpfObject, maxEntries: number) {
    using owned = new DisposableStack();
    owned.use(object);
    const set = (what: string, maps: string) =>
      new KeySet(what, { 4: object.map(`${maps}4`), 6: object.map(`${maps}6`) }, maxEntries);
    this.program = object.program("decap");
    this.#counters = new CounterTable(object.map("reason_counters"));
    this.#peers = set("peer", "peers");
    this.#vips = set("VIP", "vips");
    this.#addresses = set("address", "addresses");
    this.#owned = owned.move();
  }

  /**
   * Loads the program and attaches it to interfaces, all or none; with none given, nothing is attached. It
   * lives as long as the decapsulator, and is gone with it, however it ends.
   *
   * @throws {InvalidValueError} when an interface does not exist or an option cannot be
   * @throws {TableFullError} when there are more peers, VIPs or addresses than `maxEntries`
   * @throws {XdpBusyError} when an interface has an XDP program of somebody else's
   */
  static async create(
    interfaces: readonly string[],
    options: DecapOptions,
  ): Promise<Decapsulator> {
    const { addresses, fouPorts = [], guePorts = [], mode = "auto", maxEntries = 1024 } = options;
    integer(maxEntries, 1, MAX_ENTRIES, "maxEntries", "maxEntries");
    const tunnels = udpTunnels(fouPorts, guePorts);
    const found = await findInterfaces([...new Set(interfaces)]);
    using owned = new DisposableStack();
    const object = owned.use(BpfObject.open(await elfOf(OBJECT), { name: "decap" }));
    for (const map of ["peers", "vips", "addresses"]) {
      for (const family of [4, 6]) object.setMaxEntries(`${map}${family}`, 2 * maxEntries);
    }
    object.setMaxEntries("udp_tunnels", Math.max(tunnels.size, 1));
    object.setVariable("only_addresses", addresses !== undefined).load();
    const decapsulator = owned.use(new Decapsulator(object, maxEntries));
    setUdpTunnels(object.map("udp_tunnels"), tunnels);
    decapsulator.setPeers(options.peers);
    decapsulator.setVips(options.vips);
    decapsulator.#addresses.replace(
      (addresses ?? []).map((text) => hostKey(text, "addresses", "Address")),
    );
    // Not before all is known to be right: packets meet everything or nothing.
    for (const link of found) decapsulator.#attach(link, modeFor(link, mode));
    owned.move();
    return decapsulator;
  }

  /** The interfaces attached, and how. */
  get interfaces(): AttachedInterface[] {
    return [...this.#links].map(([name, link]) => ({ name, index: link.ifindex, mode: link.mode }));
  }

  /** What became of packets since the start. Each packet counts once. */
  counters(): Record<DecapReason, DecapCounter> {
    const entries = DECAP_REASONS.map((reason, i): [DecapReason, DecapCounter] => {
      const [packets, octets] = this.#counters.sum(i);
      return [reason, { packets: packets!, octets: octets! }];
    });
    return Object.fromEntries(entries) as Record<DecapReason, DecapCounter>;
  }

  /**
   * Makes these the peers, and no others. Those that stay are peers throughout.
   *
   * @throws {InvalidValueError} when one is neither prefix nor address; nothing was changed
   * @throws {TableFullError} when there are more than `maxEntries`; nothing was changed
   */
  setPeers(peers: readonly string[]): void {
    this.#peers.replace(peers.map(peerKey));
  }

  /**
   * Makes these the VIPs, and no others. Those that stay are VIPs throughout.
   *
   * @throws {InvalidValueError} when one is no unicast address; nothing was changed
   * @throws {TableFullError} when there are more than `maxEntries`; nothing was changed
   */
  setVips(vips: readonly string[]): void {
    this.#vips.replace(vips.map((text) => hostKey(text, "vips", "VIP")));
  }

  /** Detaches everything and frees all that this decapsulator made. */
  close(): void {
    this.#owned.dispose();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #attach({ name, ifindex }: LinkInfo, mode: Mode | "auto"): void {
    this.#links.set(name, this.#owned.use(this.program.attachXdp(ifindex, { mode })));
  }
}

/** What each port is for. */
function udpTunnels(fouPorts: readonly number[], guePorts: readonly number[]): Map<number, number> {
  const tunnels = new Map<number, number>();
  for (const port of fouPorts) {
    tunnels.set(integer(port, 1, 65535, "fouPorts", "FOU port"), TUNNEL.FOU);
  }
  for (const port of guePorts) {
    integer(port, 1, 65535, "guePorts", "GUE port");
    if (tunnels.get(port) === TUNNEL.FOU) {
      throw new InvalidValueError("guePorts", port, `Port ${port} cannot be both FOU and GUE`);
    }
    tunnels.set(port, TUNNEL.GUE);
  }
  return tunnels;
}

function setUdpTunnels(map: BpfMap, tunnels: ReadonlyMap<number, number>): void {
  for (const [port, tunnel] of tunnels) {
    map.update(Uint8Array.of(port >> 8, port & 0xff), Uint8Array.of(tunnel));
  }
}

function hostKey(text: string, field: string, what: string): Key {
  const { family, bytes } = unicast(text, field, what);
  return { text, family, bytes };
}

function peerKey(text: string): Key {
  try {
    const prefix = Prefix.parse(text.includes("/") ? text : fullPrefix(Address.parse(text)));
    const { family, length, network } = prefix;
    const codec = family === 4 ? PEER_KEY4 : PEER_KEY6;
    return { text, family, bytes: codec.encode({ length, address: network.bytes }) };
  } catch (error) {
    if (!(error instanceof AddressError)) throw error;
    throw new InvalidValueError(
      "peers",
      text,
      `Peer "${text}" is neither a prefix nor an address: ${error.message}`,
    );
  }
}

function fullPrefix(address: Address): string {
  return `${address}/${address.family === 4 ? 32 : 128}`;
}
