/**
 * What a lab consists of, worked out from its options alone: names, addresses, and the lines for `ip` and
 * `sysctl` that make it. Nothing here touches the system.
 *
 * @module
 */
import { Address, Prefix } from "./address.ts";

/** What can be chosen about a lab. */
export interface LabOptions {
  /** Letters, digits and underscores, at most 32. Default: a new name that no other lab has. */
  name?: string;
  /** Destinations on the balancer's network. Default 3, at most 200. */
  destinations?: number;
  /** Destinations on a second network, behind a router. Default 0, at most 200. */
  routed?: number;
  /**
   * MTU of all links but the client's, in bytes. Default 1600: the client's packets of 1500 fit with any
   * outer header. With 1500 they do not.
   */
  mtu?: number;
  /** Addresses that every destination has on its loopback. Default: two of each family. */
  vips?: readonly string[];
  /** Whether destinations serve HTTP and echo. Default true. */
  servers?: boolean;
}

/** Options with nothing left open. */
export type LabSettings = Required<LabOptions>;

/** One interface of a node, and the port of the switch at its other end. */
export interface LabInterface {
  /** The name within the node. */
  name: string;
  /** The name of the port in the switch. */
  port: string;
  /** The bridge that the port belongs to. */
  bridge: string;
  /** Canonical MAC. */
  mac: string;
  /** In bytes. */
  mtu: number;
  /** Its IPv4 address. */
  address4: string;
  /** Its IPv6 address. */
  address6: string;
}

/** One node: a namespace with interfaces. */
export interface LabNodePlan {
  /** `client`, `balancer`, `router`, `d1`..., `r1`... (routed). */
  name: string;
  /** The name of the namespace. */
  namespace: string;
  /** The first is the one that everybody speaks of. */
  interfaces: [LabInterface, ...LabInterface[]];
  /** `KEY=VALUE` each. */
  sysctls: string[];
  /** Lines for `ip -batch` within the namespace. */
  commands: string[];
}

/** A lab to be. */
export interface LabPlan {
  settings: LabSettings;
  /** The namespace with the bridges. */
  switchNamespace: string;
  switchSysctls: string[];
  switchCommands: string[];
  client: LabNodePlan;
  balancer: LabNodePlan;
  /** Only where there are routed destinations. */
  router: LabNodePlan | undefined;
  destinations: LabNodePlan[];
  routed: LabNodePlan[];
  /** Lines for `ip -batch` outside, that make all namespaces. */
  namespaceCommands: string[];
  /** Lines for `ip -batch` outside, that connect them. */
  linkCommands: string[];
}

type Wiring = "namespaceCommands" | "linkCommands" | "switchCommands";

/** What every namespace of a lab begins its name with. */
export const LAB_PREFIX = "xvs-lab-";
/** The most destinations on one network. */
export const MOST_DESTINATIONS = 200;
/** The client's MTU, and that of what destinations send to it, in bytes. */
const CLIENT_MTU = 1500;
const DEFAULT_VIPS = ["192.168.101.1", "192.168.101.2", "fd00:101::1", "fd00:101::2"];

/** The number of the last address group, the same digits in both families. */
const HOST = { balancer: 1, client: 2, firstDestination: 10, router: 254 } as const;

const COMMON_SYSCTLS = [
  // Addresses are to be of use at once, and only those given.
  ...both((scope) => `net.ipv6.conf.${scope}.accept_dad=0`),
  ...both((scope) => `net.ipv6.conf.${scope}.accept_ra=0`),
  "net.ipv6.conf.default.dad_transmits=0",
  "net.ipv6.conf.default.router_solicitations=0",
  // A new MAC is announced, as whoever takes over an address does it.
  ...both((scope) => `net.ipv4.conf.${scope}.arp_notify=1`),
  ...both((scope) => `net.ipv6.conf.${scope}.ndisc_notify=1`),
  // Answers come from other places than questions go to: that is what DSR means.
  ...both((scope) => `net.ipv4.conf.${scope}.rp_filter=0`),
  ...both((scope) => `net.ipv4.conf.${scope}.send_redirects=0`),
  ...both((scope) => `net.ipv4.conf.${scope}.accept_redirects=0`),
  ...both((scope) => `net.ipv6.conf.${scope}.accept_redirects=0`),
];

/** A VIP on the loopback must be neither announced nor asked about on the network. */
const DESTINATION_SYSCTLS = [
  ...both((scope) => `net.ipv4.conf.${scope}.arp_ignore=1`),
  ...both((scope) => `net.ipv4.conf.${scope}.arp_announce=2`),
];

const ROUTER_SYSCTLS = ["net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1"];

const SWITCH_SYSCTLS = [
  ...both((scope) => `net.ipv6.conf.${scope}.disable_ipv6=1`),
  // Where the module br_netfilter is loaded it would show the host's idea of a firewall to frames.
  ...["arp", "ip", "ip6"].map((name) => `net.bridge.bridge-nf-call-${name}tables=0`),
];

/**
 * Plans a lab.
 *
 * @throws {RangeError} when an option is out of its range
 * @throws {AddressError} when a VIP is no address
 */
export function planLab(options: LabOptions): LabPlan {
  const settings = settle(options);
  const { name, mtu, vips } = settings;
  const space = (node: string): string => `${LAB_PREFIX}${name}-${node}`;
  const near = (port: string, host: number): LabInterface => link("eth0", port, 1, host, mtu);
  const far = (port: string, host: number): LabInterface => link("eth0", port, 2, host, mtu);
  const node = (
    nodeName: string,
    interfaces: LabNodePlan["interfaces"],
    sysctls: string[],
    commands: string[],
  ): LabNodePlan => ({
    name: nodeName,
    namespace: space(nodeName),
    interfaces,
    sysctls: [...COMMON_SYSCTLS, ...sysctls],
    commands: ["link set lo up", ...commands],
  });

  const router = near("router", HOST.router);
  const uplinkCommands = settings.routed > 0 ? networkRoutes(2, router) : [];
  const balancer = near("balancer", HOST.balancer);
  const client = { ...near("client", HOST.client), mtu: CLIENT_MTU };
  const vipCommands = vips.map((vip) => `addr add ${hostPrefix(vip)} dev lo${nodad(vip)}`);
  const destination = (nodeName: string, eth0: LabInterface, routes: string[]): LabNodePlan =>
    node(nodeName, [eth0], DESTINATION_SYSCTLS, [
      ...vipCommands,
      ...bringUpCapped(eth0),
      ...routes,
    ]);

  const plan: Omit<LabPlan, Wiring> = {
    settings,
    switchNamespace: space("switch"),
    switchSysctls: SWITCH_SYSCTLS,
    client: node("client", [client], [], [
      ...bringUp(client),
      ...uplinkCommands,
      ...vips.map((vip) => `route add ${hostPrefix(vip)} via ${sameFamily(vip, balancer)}`),
    ]),
    balancer: node("balancer", [balancer], [], [...bringUp(balancer), ...uplinkCommands]),
    router: undefined,
    destinations: numbered(
      settings.destinations,
      "d",
      (nodeName, host) => destination(nodeName, near(nodeName, host), uplinkCommands),
    ),
    routed: numbered(
      settings.routed,
      "r",
      (nodeName, host) =>
        destination(nodeName, far(nodeName, host), networkRoutes(1, inside(mtu), CLIENT_MTU)),
    ),
  };
  if (settings.routed > 0) {
    plan.router = node("router", [router, inside(mtu)], ROUTER_SYSCTLS, [
      ...bringUp(router),
      ...bringUp(inside(mtu)),
    ]);
  }
  return { ...plan, ...wiring(plan) };
}

/** The router's interface on the second network. */
function inside(mtu: number): LabInterface {
  return link("eth1", "router1", 2, HOST.router, mtu);
}

/** All nodes of a plan. */
export function planNodes(
  plan: Pick<LabPlan, "client" | "balancer" | "router" | "destinations" | "routed">,
): LabNodePlan[] {
  const { client, balancer, router, destinations, routed } = plan;
  return [client, balancer, ...(router ? [router] : []), ...destinations, ...routed];
}

/** @throws {RangeError} when it can be no lab's name */
export function checkLabName(name: string): void {
  if (!/^\w{1,32}$/.test(name)) {
    throw new RangeError(
      `Cannot name a lab "${name}": only up to 32 letters, digits and underscores will do`,
    );
  }
}

function settle(options: LabOptions): LabSettings {
  const {
    name = crypto.randomUUID().slice(0, 8),
    destinations = 3,
    routed = 0,
    mtu = 1600,
    vips = DEFAULT_VIPS,
    servers = true,
  } = options;
  checkLabName(name);
  for (const [what, count] of Object.entries({ destinations, routed })) {
    inRange(`${count} ${what}`, count, 0, MOST_DESTINATIONS);
  }
  inRange(`an MTU of ${mtu}`, mtu, 1280, 9000);
  const canonical = vips.map((vip) => Address.parse(vip).toString());
  return { name, destinations, routed, mtu, vips: canonical, servers };
}

function inRange(what: string, value: number, least: number, most: number): void {
  if (!Number.isInteger(value) || value < least || value > most) {
    throw new RangeError(`Cannot make a lab with ${what}: ${least} to ${most} will do`);
  }
}

function numbered(
  count: number,
  letter: string,
  make: (name: string, host: number) => LabNodePlan,
): LabNodePlan[] {
  return Array.from(
    { length: count },
    (_, at) => make(`${letter}${at + 1}`, HOST.firstDestination + at),
  );
}

function link(
  name: string,
  port: string,
  network: number,
  host: number,
  mtu: number,
): LabInterface {
  const octets = [2, 0, 10, network, 0, host];
  return {
    name,
    port,
    bridge: `br${network}`,
    mac: octets.map((octet) => octet.toString(16).padStart(2, "0")).join(":"),
    mtu,
    address4: `10.${network}.0.${host}`,
    address6: `fd00:${network}::${host}`,
  };
}

function bringUp({ name, address4, address6 }: LabInterface): string[] {
  return [
    `addr add ${address4}/24 dev ${name}`,
    `addr add ${address6}/64 dev ${name} nodad`,
    `link set ${name} up`,
  ];
}

/** As `bringUp()`, but sends no more than the client can take: larger packets are for outer headers. */
function bringUpCapped({ name, address4, address6 }: LabInterface): string[] {
  return [
    `addr add ${address4}/24 dev ${name} noprefixroute`,
    `addr add ${address6}/64 dev ${name} nodad noprefixroute`,
    `link set ${name} up`,
    `route add ${
      Prefix.parse(`${address4}/24`).network
    }/24 dev ${name} src ${address4} mtu ${CLIENT_MTU}`,
    `route add ${Prefix.parse(`${address6}/64`).network}/64 dev ${name} mtu ${CLIENT_MTU}`,
  ];
}

/** Routes to a network of the lab through a router. */
function networkRoutes(network: number, via: LabInterface, mtu?: number): string[] {
  const cap = mtu === undefined ? "" : ` mtu ${mtu}`;
  return [
    `route add 10.${network}.0.0/24 via ${via.address4}${cap}`,
    `route add fd00:${network}::/64 via ${via.address6}${cap}`,
  ];
}

/** The switch: bridges, and a port for each interface of each node. */
function wiring(
  plan: Omit<LabPlan, Wiring>,
): Pick<LabPlan, Wiring> {
  const { mtu } = plan.settings;
  const nodes = planNodes(plan);
  const bridges = plan.router ? ["br1", "br2"] : ["br1"];
  const pairs = nodes.flatMap((node) => node.interfaces.map((each) => ({ node, each })));
  return {
    namespaceCommands: [plan.switchNamespace, ...nodes.map(({ namespace }) => namespace)]
      .map((name) => `netns add ${name}`),
    linkCommands: pairs.map(({ node, each }) =>
      `link add ${each.name} mtu ${each.mtu} address ${each.mac} netns ${node.namespace}` +
      ` type veth peer name ${each.port} mtu ${mtu} netns ${plan.switchNamespace}`
    ),
    switchCommands: [
      // Without a querier on the network, snooping would in time withhold neighbour solicitations.
      ...bridges.map((name) => `link add ${name} up mtu ${mtu} type bridge mcast_snooping 0`),
      ...pairs.map(({ each }) => `link set ${each.port} up master ${each.bridge}`),
    ],
  };
}

function hostPrefix(address: string): string {
  return `${address}/${Address.parse(address).family === 4 ? 32 : 128}`;
}

function nodad(address: string): string {
  return Address.parse(address).family === 6 ? " nodad" : "";
}

function sameFamily(address: string, via: LabInterface): string {
  return Address.parse(address).family === 4 ? via.address4 : via.address6;
}

function both(make: (scope: string) => string): string[] {
  return ["all", "default"].map(make);
}
