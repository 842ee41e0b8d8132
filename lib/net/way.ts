/**
 * Which interface and which neighbour lead to an address: by the kernel's routing, or by VLANs that are
 * given one by one. Nothing here runs anything.
 *
 * @module
 */
import { type Address, type Family, Prefix } from "./address.ts";
import { type Route, RouteError } from "./ip.ts";
import type { LinkInfo } from "./ip_json.ts";

/**
 * - `local`: the address is this host's own
 * - `unreachable`: no route, or no router
 * - `no-interface`: no interface that could be used
 * - `unresolved`: the neighbour has not answered; it may yet
 */
export type NextHopReason = "local" | "unreachable" | "no-interface" | "unresolved";

/** An address without a next hop. */
export class NextHopError extends Error {
  override readonly name = "NextHopError";
  /** The address asked for. */
  readonly address: string;
  /** Why, for a program. */
  readonly reason: NextHopReason;
  /** Why, for a person. */
  readonly why: string;
  /** Whether the address is on an interface's own network, where that is known all the same. */
  readonly onLink: boolean | undefined;

  constructor(address: string, reason: NextHopReason, why: string, onLink?: boolean) {
    super(`Cannot find the next hop of "${address}": ${why}`);
    this.address = address;
    this.reason = reason;
    this.why = why;
    this.onLink = onLink;
  }
}

/** The way to an address, but for the neighbour's MAC. */
export interface Way {
  /** The interface that the kernel would use; perhaps a VLAN device. */
  link: LinkInfo;
  /** The address itself, or the router's. */
  neighbour: Address;
  onLink: boolean;
  mtu: number;
  source4: Address | undefined;
  source6: Address | undefined;
}

/** VLANs and routes as given: what xvs calls `IPv4VLANs`, `IPv6VLANs` and `Routes`. */
export interface VlanOptions {
  /** VLAN ID to IPv4 prefix, whose host bits, if set, are the address of the router. */
  ipv4VLANs?: Readonly<Record<number, string>> | undefined;
  /** VLAN ID to IPv6 prefix, likewise. */
  ipv6VLANs?: Readonly<Record<number, string>> | undefined;
  /** Prefix to the ID of the VLAN whose router leads to it; the longest prefix counts. */
  routes?: Readonly<Record<string, number>> | undefined;
}

interface Network {
  id: number;
  prefix: Prefix;
}

/** VLANs and routes, checked and in order. A family of which none is given is the kernel's to route. */
export class VlanTable {
  readonly #networks: Readonly<Record<Family, readonly Network[]>>;
  readonly #routes: readonly Network[];

  /**
   * @throws {RangeError} when a VLAN ID is not 1 to 4094, a prefix is of the wrong family, or a route is
   *   to a VLAN without a router
   * @throws {AddressError} when a prefix is none
   */
  constructor(options: VlanOptions) {
    this.#networks = {
      4: readNetworks(options.ipv4VLANs ?? {}, 4),
      6: readNetworks(options.ipv6VLANs ?? {}, 6),
    };
    this.#routes = Object.entries(options.routes ?? {})
      .map(([text, id]) => ({ id, prefix: Prefix.parse(text) }))
      .sort((a, b) => b.prefix.length - a.prefix.length);
    for (const { id, prefix } of this.#routes) {
      if (!this.#networks[prefix.family].some((each) => each.id === id && hasRouter(each))) {
        const what = `IPv${prefix.family} VLAN ${id} has no router`;
        throw new RangeError(`Cannot route "${prefix}" to VLAN ${id}: ${what}`);
      }
    }
  }

  /** Whether it decides for addresses of this family. */
  decidesFor(family: Family): boolean {
    return this.#networks[family].length > 0;
  }

  /**
   * The way to an address: on the VLAN with the longest prefix that contains it; else by the longest
   * route; else through the router of the lowest VLAN ID that has one.
   */
  wayTo(address: Address, links: readonly LinkInfo[]): Way | NextHopError {
    if (links.some(({ addresses }) => addresses.some((own) => own.address.equals(address)))) {
      return ownAddressError(address);
    }
    const networks = this.#networks[address.family];
    const near = networks
      .filter(({ prefix }) => prefix.contains(address))
      .reduce<Network | undefined>(
        (best, each) => best && best.prefix.length >= each.prefix.length ? best : each,
        undefined,
      );
    if (near !== undefined) return this.#wayOver(near, address, address, links);
    const id = this.#routes.find(({ prefix }) => prefix.contains(address))?.id;
    const far = networks.find((each) => hasRouter(each) && (id === undefined || each.id === id));
    if (far !== undefined) return this.#wayOver(far, address, far.prefix.address, links);
    const why = `it is on none of the IPv${address.family} VLANs, and none of them has a router`;
    return new NextHopError(`${address}`, "unreachable", why);
  }

  #wayOver(
    network: Network,
    address: Address,
    neighbour: Address,
    links: readonly LinkInfo[],
  ): Way | NextHopError {
    const [best] = links
      .flatMap((link) => link.addresses.map((own) => ({ link, own })))
      .filter(({ own }) => network.prefix.contains(own.address))
      .sort((a, b) => nearness(b.own, neighbour) - nearness(a.own, neighbour));
    if (best === undefined) {
      const { id, prefix } = network;
      const why = `no interface has an address in ${prefix.network}/${prefix.length} (VLAN ${id})`;
      return new NextHopError(`${address}`, "no-interface", why);
    }
    const { link, own } = best;
    const source = (family: Family): Address | undefined => {
      if (family === address.family) return own.address;
      const within = this.#networks[family].find(({ id }) => id === network.id)?.prefix;
      return within
        ? link.addresses.find((each) => within.contains(each.address))?.address
        : anySource(link, family);
    };
    return {
      link,
      neighbour,
      onLink: neighbour.equals(address),
      mtu: link.mtu,
      source4: source(4),
      source6: source(6),
    };
  }
}

/** The way to an address as the kernel would take it. */
export function wayByRoute(
  address: Address,
  route: Route | RouteError,
  links: ReadonlyMap<string, LinkInfo>,
): Way | NextHopError {
  if (route instanceof RouteError) return new NextHopError(`${address}`, "unreachable", route.why);
  if (route.local) return ownAddressError(address);
  const link = links.get(route.interface);
  if (link === undefined) {
    const why = `interface "${route.interface}" has gone`;
    return new NextHopError(`${address}`, "no-interface", why);
  }
  const source = (family: Family): Address | undefined =>
    route.source?.family === family ? route.source : anySource(link, family);
  return {
    link,
    neighbour: route.gateway ?? address,
    onLink: route.gateway === undefined,
    mtu: Math.min(link.mtu, route.mtu ?? Infinity),
    source4: source(4),
    source6: source(6),
  };
}

/**
 * What frames of an interface leave by, and with which VLAN ID (0: untagged); undefined for a VLAN device on
 * another VLAN device, or on an interface of another namespace.
 */
export function egress(
  link: LinkInfo,
  links: ReadonlyMap<string, LinkInfo>,
): { ifindex: number; interface: string; vlan: number } | undefined {
  const base = link.vlan ? links.get(link.vlan.parent ?? "") : link;
  if (base === undefined || base.vlan !== undefined) return undefined;
  return { ifindex: base.ifindex, interface: base.name, vlan: link.vlan?.id ?? 0 };
}

function ownAddressError(address: Address): NextHopError {
  return new NextHopError(`${address}`, "local", "it is an address of this host");
}

function readNetworks(given: Readonly<Record<number, string>>, family: Family): Network[] {
  // Whole-number keys of an object come in ascending order.
  return Object.entries(given).map(([key, text]) => {
    const id = Number(key);
    if (!Number.isInteger(id) || id < 1 || id > 4094) {
      throw new RangeError(`Cannot use VLAN ID "${key}": 1 to 4094 will do`);
    }
    const prefix = Prefix.parse(text);
    if (prefix.family !== family) {
      throw new RangeError(
        `Cannot use "${text}" for IPv${family} VLAN ${id}: it is not IPv${family}`,
      );
    }
    return { id, prefix };
  });
}

function hasRouter({ prefix }: Network): boolean {
  return prefix.hostBitsSet;
}

/** How good an interface with this address is for a neighbour: the longest network with both is best. */
function nearness(own: Prefix, neighbour: Address): number {
  return own.contains(neighbour) ? own.length : -1;
}

/** An address of the interface that others can answer to. */
function anySource(link: LinkInfo, family: Family): Address | undefined {
  return link.addresses
    .map(({ address }) => address)
    .find((address) => address.family === family && !address.isLinkLocal && !address.isLoopback);
}
