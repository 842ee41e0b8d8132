/**
 * A balancer that has something of everything: VIPs and destinations of both families, all tunnels, tags,
 * small MTUs, another interface to leave by, sticky and any-port services, some that have nobody, blocked
 * prefixes. What it is made of is kept as plain data, for the oracle to judge by.
 *
 * @module
 */
import { POLICY } from "../../lib/lb/abi.gen.ts";
import { Address, Mac, Prefix } from "../../lib/net/address.ts";
import type { Destination, ServiceId, TunnelType } from "../../mod.ts";
import { HASH_KEY, TUNNEL_PORTS } from "../packets/expect.ts";
import { Balancer, macOf, OUTER_SOURCE } from "../packets/harness.ts";
import { address, type Family } from "../packets/sample.ts";
import type { Choices } from "./random.ts";

/** A destination, as the oracle knows it. */
export interface SceneDestination {
  address: string;
  bytes: Uint8Array;
  family: Family;
  tunnel: TunnelType;
  checksum: boolean;
  mac: Uint8Array;
  vlan: number;
  /** Of its interface. */
  mtu: number;
  /** As asked for; 0: its interface's. */
  limit: number;
  /** Whether it is reached by another interface than packets come in by. */
  away: boolean;
  weight: number;
  disabled: boolean;
  /** Whether a next hop is known, be it the last one that there was. */
  resolved: boolean;
  /** Whether it does not answer (any more). */
  lost: boolean;
}

/** A service, as the oracle knows it. */
export interface SceneService {
  family: Family;
  vip: string;
  port: number;
  protocol: "tcp" | "udp";
  sticky: boolean;
  /** What it says of packets that have expired, or that are too long and may be fragmented. */
  expired: "default" | "drop" | "reject";
  fragmentable: "default" | "drop" | "reject";
  /** By the last two bytes of their MACs. */
  destinations: Map<number, SceneDestination>;
}

/** The VIPs, and addresses beside them that are none. */
export const VIPS = {
  4: ["192.0.2.1", "192.0.2.2", "192.0.2.3"],
  6: ["2001:db8::1", "2001:db8::2", "2001:db8::3"],
} as const;
/** Where tunnels without ports start from. */
export const SPREAD = { 4: "10.77.0.0/16", 6: "fd77::/96" } as const;
/** Blocked at times. */
export const BLOCKED = { 4: "198.51.100.128/25", 6: "2001:db8:1:8000::/49" } as const;
/** MTUs of small networks, and what every network carries. */
export const MTUS = [1500, 1400, 1280, 576] as const;

const KINDS: readonly [TunnelType, Family, boolean][] = [
  ["none", 4, true],
  ["none", 6, true],
  ...(["ipip", "gre", "fou", "gue"] as const).flatMap((tunnel) =>
    ([4, 6] as const).flatMap((family): [TunnelType, Family, boolean][] =>
      tunnel === "fou" || tunnel === "gue"
        ? [[tunnel, family, true], [tunnel, family, false]]
        : [[tunnel, family, true]]
    )
  ),
];
const NS_PER_S = 1_000_000_000n;

/** The longest packet on the way to a destination. */
export function mtuOf({ mtu, limit }: SceneDestination): number {
  return limit === 0 ? mtu : Math.min(mtu, limit);
}

/** Whether a destination is given new flows. */
export function takesFlows({ disabled, weight, resolved }: SceneDestination): boolean {
  return resolved && !disabled && weight > 0;
}

/** As the API has it. */
export function asDestination(d: SceneDestination): Destination {
  const tunnelPort = d.tunnel === "fou" || d.tunnel === "gue" ? TUNNEL_PORTS[d.tunnel] : 0;
  return {
    address: d.address,
    tunnelType: d.tunnel,
    tunnelPort,
    tunnelEncapNoChecksum: !d.checksum,
    mtu: d.limit,
    weight: d.weight,
    disable: d.disabled,
  };
}

/** The scene. */
export class Scene implements AsyncDisposable {
  readonly balancer: Balancer;
  readonly services: readonly SceneService[];
  /** The interface that packets come in by, and the other one. */
  readonly interfaces: readonly [number, number];
  unknownPort: "drop" | "pass" | "reject" = "drop";
  expired: "drop" | "reject" = "reject";
  fragmentable: "drop" | "reject" = "reject";
  /** By VIP, where that differs from what the instance says. */
  readonly unknownPorts: Map<string, "drop" | "pass" | "reject"> = new Map();
  /** Whether so many answers are asked for that some are not given. */
  frugal = false;
  /** Whether BLOCKED is. */
  blocked = false;
  /** Whether the watchdog has heard nothing for too long. */
  silent = false;
  /** How often it changed. */
  age = 0;

  private constructor(balancer: Balancer, interfaces: readonly [number, number]) {
    this.balancer = balancer;
    this.interfaces = interfaces;
    this.services = ([4, 6] as const).flatMap((family) => services(family));
  }

  /**
   * As it is at first.
   *
   * @param names of the interfaces, the first being that which packets come in by
   * @param indexes theirs
   */
  static async create(
    names: readonly [string, string],
    indexes: readonly [number, number],
  ): Promise<Scene> {
    const balancer = await Balancer.create({
      hashKey: HASH_KEY,
      trackMask: 7,
      outerSource4: SPREAD[4],
      outerSource6: SPREAD[6],
      maxBlocked: 8,
    });
    const scene = new Scene(balancer, indexes);
    await balancer.client.attach(...names);
    for (const service of scene.services) {
      for (const d of service.destinations.values()) scene.#tellHop(d);
      const { sticky, expired, fragmentable } = service;
      await balancer.client.setService(
        { ...nameOf(service), sticky, expired, fragmentable, idleTimeout: 5 },
        ...[...service.destinations.values()].map(asDestination),
      );
    }
    scene.#applySettings();
    return scene;
  }

  /** Lets time pass. */
  advance(seconds: number): void {
    this.balancer.advance(seconds);
  }

  /** Changes something, as users and networks do. */
  async change(choices: Choices): Promise<void> {
    this.age++;
    const changes = [
      () => this.#alter(choices),
      () => this.#alter(choices),
      () => this.#move(choices),
      () => this.#replace(choices),
      () => this.#block(),
      () => this.#decide(choices),
      () => this.#decide(choices),
      () => this.#ordain(choices),
      () => this.advance(choices.of([0.1, 2, 7])),
    ];
    this.silent = false;
    this.#applySettings();
    await choices.of(changes)();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.balancer[Symbol.asyncDispose]();
  }

  /** A weight, a limit, or new flows or none. */
  async #alter(choices: Choices): Promise<void> {
    const service = choices.of(this.services.filter(({ destinations }) => destinations.size > 1));
    const d = choices.of([...service.destinations.values()]);
    d.weight = choices.of([0, 1, 1, 2, 50]);
    d.disabled = choices.oneIn(4);
    d.limit = choices.of([0, 0, 576, 1300, 9000]);
    await this.balancer.client.updateDestination(nameOf(service), asDestination(d));
  }

  /** A next hop becomes another one, or none. */
  async #move(choices: Choices): Promise<void> {
    const service = choices.of(this.services.filter(({ destinations }) => destinations.size > 1));
    const d = choices.of([...service.destinations.values()]);
    d.lost = choices.oneIn(5);
    if (!d.lost) {
      d.vlan = choices.of([0, 0, 200, 4094]);
      d.mtu = choices.of(MTUS);
      d.away = choices.oneIn(3);
      d.resolved = true;
    }
    this.#tellHop(d);
    await this.balancer.nextHops.tell();
  }

  /** A destination goes and comes back, in another slot. */
  async #replace(choices: Choices): Promise<void> {
    const service = choices.of(this.services.filter(({ destinations }) => destinations.size > 1));
    const d = choices.of([...service.destinations.values()]);
    const { client } = this.balancer;
    await client.removeDestination(nameOf(service), { address: d.address });
    this.advance(choices.of([0, 6]));
    d.resolved = !d.lost;
    await client.createDestination(nameOf(service), asDestination(d));
  }

  async #block(): Promise<void> {
    const { client } = this.balancer;
    this.blocked = !this.blocked;
    const prefixes = Object.values(BLOCKED);
    await (this.blocked ? client.block(...prefixes) : client.unblock(...prefixes));
  }

  /** A service and a VIP get policies of their own. */
  async #ordain(choices: Choices): Promise<void> {
    const { client } = this.balancer;
    const service = choices.of(this.services);
    service.expired = choices.of(["default", "drop", "reject"]);
    service.fragmentable = choices.of(["default", "drop", "reject"]);
    const { sticky, expired, fragmentable } = service;
    await client.updateService({
      ...nameOf(service),
      ...{ sticky, expired, fragmentable, idleTimeout: 5 },
    });
    const vip = choices.of([...VIPS[4], ...VIPS[6]]);
    const policy = choices.of(["default", "drop", "pass", "reject"] as const);
    await client.updateVip({ address: vip, unknownPort: policy });
    if (policy === "default") this.unknownPorts.delete(vip);
    else this.unknownPorts.set(vip, policy);
  }

  #decide(choices: Choices): void {
    this.unknownPort = choices.of(["drop", "pass", "reject", "reject"]);
    this.expired = choices.of(["drop", "reject", "reject"]);
    this.fragmentable = choices.of(["drop", "reject", "reject"]);
    this.frugal = choices.oneIn(3);
    this.silent = choices.oneIn(3);
    this.#applySettings();
  }

  #applySettings(): void {
    const { instance, nowNs } = this.balancer;
    instance.settings = {
      ...instance.settings,
      unknownPort: POLICY[this.unknownPort.toUpperCase() as keyof typeof POLICY],
      expired: POLICY[this.expired.toUpperCase() as keyof typeof POLICY],
      fragmentable: POLICY[this.fragmentable.toUpperCase() as keyof typeof POLICY],
      icmpBudget: this.frugal ? 2 : 0x7fffffff,
      flowBudget: 0x7fffffff,
      watchdogNs: this.silent ? nowNs - NS_PER_S : 0n,
    };
  }

  #tellHop(d: SceneDestination): void {
    this.balancer.nextHops.set(
      d.address,
      d.lost ? undefined : { vlan: d.vlan, mtu: d.mtu, ifindex: this.interfaces[Number(d.away)]! },
    );
  }
}

function nameOf({ vip, port, protocol }: SceneService): ServiceId {
  return { address: vip, port, protocol };
}

function destination(
  number: number,
  [tunnel, family, checksum]: (typeof KINDS)[number],
  rest: Partial<SceneDestination>,
): SceneDestination {
  // Its MAC ends with two bytes of its own.
  const text = address(family, family === 4 ? number : number | 0x8000);
  return {
    address: text,
    bytes: Address.parse(text).bytes,
    family,
    tunnel,
    checksum,
    mac: Mac.parse(macOf(text)).bytes,
    vlan: 0,
    mtu: 1500,
    limit: 0,
    away: false,
    weight: 1,
    disabled: false,
    resolved: !rest.lost,
    lost: false,
    ...rest,
  };
}

/** One of each kind. */
export function destinationsOfAllKinds(
  first: number,
  rest: (i: number) => Partial<SceneDestination>,
): SceneDestination[] {
  return KINDS.map((kind, i) => destination(first + i, kind, rest(i)));
}

/** The services of a family. */
function services(family: Family): SceneService[] {
  const [first, second, third] = VIPS[family];
  let count = (family << 8) + 1;
  const make = (
    vip: string,
    protocol: "tcp" | "udp",
    port: number,
    destinations: SceneDestination[],
    sticky = false,
  ): SceneService => ({
    family,
    vip,
    port,
    protocol,
    sticky,
    expired: "default",
    fragmentable: "default",
    destinations: new Map(destinations.map((d) => [(d.mac[4]! << 8) | d.mac[5]!, d])),
  });
  const all = (rest: (i: number) => Partial<SceneDestination>) => {
    const made = destinationsOfAllKinds(count, rest);
    count += made.length;
    return made;
  };
  return [
    make(first, "tcp", 80, all(() => ({}))),
    make(first, "udp", 53, all((i) => ({ vlan: i % 2 ? 200 : 0 })), true),
    make(first, "tcp", 0, all((i) => ({ away: i % 2 === 0 }))),
    make(second, "udp", 443, all((i) => ({ mtu: MTUS[i % 4]! }))),
    make(second, "tcp", 443, all((i) => ({ vlan: i % 3 ? 100 + i : 0, away: i % 2 === 1 }))),
    make(third, "tcp", 80, []),
    make(third, "udp", 53, [destination(count, ["ipip", 4, true], { lost: true })]),
  ];
}

/** The outer source of a tunnel: all of it, or the prefix that it is taken from. */
export function outerSource({ tunnel, family }: SceneDestination): Prefix {
  if (tunnel === "ipip" || tunnel === "gre") return Prefix.parse(SPREAD[family]);
  return Prefix.parse(`${OUTER_SOURCE[family]}/${family === 4 ? 32 : 128}`);
}
