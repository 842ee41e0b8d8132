/**
 * What `ip -json` writes, read into values of ours. Nothing here runs anything.
 *
 * @module
 */
import { Address, Mac, Prefix } from "./address.ts";

/** An interface. */
export interface LinkInfo {
  ifindex: number;
  name: string;
  /** What kind of virtual device it is, such as `veth`, `bond` or `vlan`; undefined for hardware. */
  kind: string | undefined;
  /** Canonical; undefined where it is not Ethernet. */
  mac: string | undefined;
  /** In bytes. */
  mtu: number;
  /** Whether it is switched on and has a carrier. */
  up: boolean;
  /** Its own addresses, of use now, each with the length of its network. */
  addresses: Prefix[];
  /** Of a VLAN device only. */
  vlan: Vlan | undefined;
}

/** What makes a VLAN device. */
export interface Vlan {
  /** The tag's VLAN ID, 1 to 4094. */
  id: number;
  /** The name of the interface that the tagged frames travel on; undefined if in another namespace. */
  parent: string | undefined;
}

/** A way to an address, as the kernel would take it. */
export interface Route {
  /** The name of the interface. */
  interface: string;
  /** The router; undefined where the address is on the interface's own network. */
  gateway: Address | undefined;
  /** The host's own address that packets leave with. */
  source: Address | undefined;
  /** What the route, or what was learned of its path, allows, in bytes; undefined: as the interface. */
  mtu: number | undefined;
  /** Whether the address is the host's own. */
  local: boolean;
}

/** An entry of the tables of ARP and neighbour discovery. */
export interface Neighbour {
  address: Address;
  /** The name of the interface. */
  interface: string;
  /** Canonical; undefined while nobody has answered. */
  mac: string | undefined;
  /** One of the kernel's names: `REACHABLE`, `STALE`, `INCOMPLETE`, `FAILED`, `PERMANENT`... */
  state: string;
  /** Whether the kernel keeps it resolved by itself (`NTF_EXT_MANAGED`). */
  managed: boolean;
  /** Who made it, if they said (`NDA_PROTOCOL`): a number, or a name from `rt_protos`. */
  protocol: string | undefined;
}

interface JsonLink {
  ifindex: number;
  ifname: string;
  flags: string[];
  mtu: number;
  link?: string;
  link_type: string;
  address?: string;
  linkinfo?: { info_kind?: string; info_data?: { id?: number } };
  addr_info?: JsonAddress[];
}

interface JsonAddress {
  local?: string;
  prefixlen: number;
  tentative?: boolean;
  dadfailed?: boolean;
  deprecated?: boolean;
}

interface JsonRoute {
  type?: string;
  dev: string;
  gateway?: string;
  via?: { host: string };
  prefsrc?: string;
  metrics?: { mtu?: number }[];
}

interface JsonNeighbour {
  dst: string;
  dev: string;
  lladdr?: string;
  state: string[];
  // A flag is there with the value null, or not there.
  managed?: null;
  protocol?: string;
}

/** Reads what `ip -j -d address show` writes. */
export function parseLinks(json: JsonLink[]): LinkInfo[] {
  return json.map((each) => {
    const kind = each.linkinfo?.info_kind;
    const id = kind === "vlan" ? each.linkinfo?.info_data?.id : undefined;
    const ethernet = each.link_type === "ether" && each.address !== undefined;
    return {
      ifindex: each.ifindex,
      name: each.ifname,
      kind,
      mac: ethernet ? Mac.parse(each.address ?? "").toString() : undefined,
      mtu: each.mtu,
      up: each.flags.includes("UP") && each.flags.includes("LOWER_UP"),
      addresses: (each.addr_info ?? []).flatMap(ownPrefix),
      vlan: id === undefined ? undefined : { id, parent: each.link },
    };
  });
}

function ownPrefix(json: JsonAddress): Prefix[] {
  const { local, prefixlen, tentative, dadfailed, deprecated } = json;
  if (local === undefined || tentative || dadfailed || deprecated) return [];
  return [Prefix.parse(`${local}/${prefixlen}`)];
}

/** Reads what `ip -j route get` writes; undefined where the way ends in a refusal. */
export function parseRoute([json]: JsonRoute[]): Route | undefined {
  const local = json?.type === "local";
  if (json === undefined || (json.type !== undefined && json.type !== "unicast" && !local)) {
    return undefined;
  }
  const gateway = json.gateway ?? json.via?.host;
  return {
    interface: json.dev,
    gateway: gateway === undefined ? undefined : Address.parse(gateway),
    source: json.prefsrc === undefined ? undefined : Address.parse(json.prefsrc),
    mtu: json.metrics?.find(({ mtu }) => mtu !== undefined)?.mtu,
    local,
  };
}

/** Reads what `ip -j neighbour show` writes. */
export function parseNeighbours(json: JsonNeighbour[]): Neighbour[] {
  return json.map((each) => ({
    address: Address.parse(each.dst),
    interface: each.dev,
    mac: each.lladdr?.toLowerCase(),
    state: each.state[0] ?? "NONE",
    managed: each.managed !== undefined,
    protocol: each.protocol,
  }));
}
