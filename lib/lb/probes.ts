/**
 * Probe addresses: each stands for a VIP on one destination. What the host sends to one goes there as a client's
 * packets would.
 *
 * @module
 */
import { Address, type Family, Mac, Prefix } from "../net/address.ts";
import { namespaceId } from "../net/namespace.ts";
import { interfaceName } from "../sys/interface.ts";
import type { Probe, Settings } from "./abi.gen.ts";
import { field } from "./entries.ts";
import { InvalidValueError, ProbeError } from "./errors.ts";
import type { Instance } from "./instance.ts";
import type { Entry } from "./model.ts";
import { elsewhere } from "./links.ts";
import { defaultNetworks, type ProbeLink, type ProbeNetworks } from "./probe_link.ts";
import type { ProbeLinks } from "./seams.ts";

/** Which networks probe addresses are from. */
export interface ProbeOptions {
  /** An IPv4 prefix for this instance alone. Default: one of `240.0.0.0/4`, /12, that no other instance has. */
  ipv4?: string;
  /** An IPv6 prefix, likewise. Default: one of `fd78:7673:7072:6f62::/64`, /80. */
  ipv6?: string;
}

/** What the address of a pair stands for. */
interface Target {
  slot: number;
  generation: number;
  /** This host's, to which replies come; undefined: it has none. */
  source: Address | undefined;
}

/** A pair as its number has it. */
interface Known extends Target {
  readonly number: number;
}

/** A pair as it should be. */
interface Wanted extends Target {
  readonly vip: Address;
  /** The destination's address. */
  readonly destination: string;
}

const NOWHERE = new Uint8Array(16);
const NO_ADDRESS = Address.fromBytes(NOWHERE);
const NO_LINK: ProbeLink = {
  name: "",
  ifindex: 0,
  mac: "00:00:00:00:00:00",
  networks: { 4: undefined, 6: undefined },
};
const FREE: Probe = {
  slot: 0,
  generation: 0,
  vip: NOWHERE,
  source: NOWHERE,
  destination: NOWHERE,
  ipv6: 0,
  destinationIpv6: 0,
};

/** The probe addresses of an instance. The maps are the record; what is here follows from them. */
export class Probes {
  readonly #instance: Instance;
  readonly #services: () => ReadonlyMap<string, Entry>;
  readonly #links: ProbeLinks;
  readonly #known = new Map<string, Known>();
  /** Numbers that have an owner. */
  readonly #taken = new Set<number>();
  /** The number that was given out last: one that is freed is not given to the next who comes. */
  #last = 0;
  /** The change that what is known is from. */
  #change = -1n;

  constructor(
    instance: Instance,
    services: () => ReadonlyMap<string, Entry>,
    links: ProbeLinks,
  ) {
    this.#instance = instance;
    this.#services = services;
    this.#links = links;
  }

  /** Whether there are probe addresses. */
  get isOpen(): boolean {
    return this.#instance.settings.probeIfindex !== 0;
  }

  /** Where probes come from, as programs of this host see it: undefined while closed, or without the family. */
  get sources(): Readonly<Record<Family, string | undefined>> {
    const { settings } = this.#instance;
    return { 4: addressOf(settings, 4, 0), 6: addressOf(settings, 6, 0) };
  }

  /**
   * Makes probe addresses, if there are none.
   *
   * @throws {InvalidValueError} when a prefix cannot be, or is too long for `maxDestinations`
   * @throws {NamespaceError} when they are in another network namespace
   * @throws {XvsError} when the system refuses; nothing is left then
   */
  async open(options: ProbeOptions): Promise<void> {
    const given = {
      4: readNetwork(options.ipv4, "ipv4", 4),
      6: readNetwork(options.ipv6, "ipv6", 6),
    };
    this.#checkRoom({ 4: given[4] ?? defaultNetworks(0)[4], 6: given[6] });
    this.#instance.links.assertHere();
    if (this.isOpen) {
      this.#assertHere();
      if (interfaceName(this.#instance.settings.probeIfindex) !== undefined) return;
      await this.close(); // Somebody has removed the interfaces.
    }
    await this.#instance.transact(() => ({}), async () => {
      const { probeEnds } = this.#instance;
      probeEnds.detach(); // What a killed process has left goes with those interfaces.
      try {
        this.#begin(await this.#links.open(given, (pair) => probeEnds.attach(pair)));
      } catch (error) {
        probeEnds.detach();
        throw error;
      }
    });
  }

  /**
   * Ends it; that it has not begun is no error. Opened again with the same networks, the addresses are the same.
   *
   * @throws {NamespaceError} when they are in another network namespace
   */
  async close(): Promise<void> {
    const { probes, ...rest } = this.#instance.document;
    if (!this.isOpen || !probes) return;
    this.#assertHere();
    await this.#instance.transact(() => ({}), async () => {
      this.#instance.adjust(settingsFor(NO_LINK));
      this.#instance.probeEnds.detach();
      await this.#links.close(probes.name);
      this.#instance.document = rest;
    });
  }

  /**
   * The address of a pair; undefined if no service of the VIP has the destination.
   *
   * @throws {ProbeError} when there is none, though both are there
   */
  address(vip: Address, destination: Address): string | undefined {
    const { settings } = this.#instance;
    const fail = (why: string) => new ProbeError(`${vip}`, `${destination}`, why);
    if (settings.probeIfindex === 0) throw fail("openProbes() comes first");
    this.#refresh();
    const known = this.#known.get(keyOf(`${vip}`, `${destination}`));
    if (!known) return undefined;
    const address = addressOf(settings, vip.family, known.number);
    if (address === undefined) throw fail(`this host has no IPv${vip.family}`);
    if (!known.source) {
      const { ifindex = 0 } = this.#instance.destinations.get(known.slot) ?? {};
      const name = interfaceName(ifindex);
      // Without a next hop nobody knows what there will be.
      if (name !== undefined) {
        const what = `an IPv${vip.family} address for such probes to come from`;
        throw fail(`interface "${name}" does not have ${what}`);
      }
    }
    return address;
  }

  /** Follows services, destinations and next hops, within the change of them. */
  renew(): void {
    if (!this.isOpen) return;
    this.#refresh();
    // What others will see when the change is made is what is known here.
    this.#change = (this.#instance.revision >> 1n) + 1n;
    const wanted = this.#wanted();
    const entries: [number, Probe][] = [];
    for (const [key, { number }] of this.#known) {
      if (wanted.has(key)) continue;
      this.#known.delete(key);
      this.#taken.delete(number);
      entries.push([number, FREE]);
    }
    for (const [key, pair] of wanted) {
      const known = this.#known.get(key);
      if (known && isSame(known, pair)) continue;
      const number = known?.number ?? this.#take();
      const { slot, generation, source } = pair;
      this.#known.set(key, { number, slot, generation, source });
      entries.push([number, probeOf(pair)]);
    }
    if (entries.length === 0) return;
    this.#instance.probes.setAll([[0, { ...FREE, slot: this.#last }], ...entries]);
  }

  /** Reads what other processes have written. */
  #refresh(): void {
    const { revision } = this.#instance;
    if (this.#change === revision >> 1n) return;
    this.#change = revision >> 1n;
    this.#known.clear();
    this.#taken.clear();
    for (const [number, probe] of this.#instance.probes.written()) {
      if (number === 0) this.#last = probe.slot;
      else if (probe.slot !== 0) {
        this.#known.set(keyOfProbe(probe), { number, ...targetOf(probe) });
        this.#taken.add(number);
      }
    }
  }

  /** What there should be, by pairs. A destination of several services of a VIP keeps the one that it has. */
  #wanted(): Map<string, Wanted> {
    const wanted = new Map<string, Wanted>();
    for (const { vip: { address: vip }, spec, members } of this.#services().values()) {
      for (
        const { spec: { address: destination }, slot, generation, nextHop } of members.values()
      ) {
        const key = keyOf(spec.address, destination);
        if (wanted.has(key) && this.#known.get(key)?.slot !== slot) continue;
        const source = vip.family === 4 ? nextHop?.source4 : nextHop?.source6;
        wanted.set(key, { vip, destination, slot, generation, source });
      }
    }
    return wanted;
  }

  #begin(link: ProbeLink): void {
    const probes = { name: link.name, namespace: namespaceId() };
    this.#instance.document = { ...this.#instance.document, probes };
    this.#instance.adjust(settingsFor(link));
    this.renew();
  }

  #checkRoom(networks: ProbeNetworks): void {
    const { maxDestinations } = this.#instance.sizes;
    for (const network of [networks[4], networks[6]]) {
      if (!network || maskOf(network) >= maxDestinations) continue;
      const option = `ipv${network.family}`;
      throw new InvalidValueError(
        option,
        `${network}`,
        `Prefix "${network}" has too few addresses for ${maxDestinations} destinations: ` +
          `give a shorter one by the option "${option}"`,
      );
    }
  }

  /** Interfaces go by other numbers elsewhere. */
  #assertHere(): void {
    const { namespace } = this.#instance.document.probes ?? {};
    if (namespace === undefined || namespace === namespaceId()) return;
    throw elsewhere(this.#instance.store?.name ?? "", namespace);
  }

  #take(): number {
    const { maxDestinations } = this.#instance.sizes;
    // Never more pairs than destinations: there is one.
    do this.#last = this.#last % maxDestinations + 1; while (this.#taken.has(this.#last));
    this.#taken.add(this.#last);
    return this.#last;
  }
}

/** The address of a number; undefined if there are none of the family. */
function addressOf(settings: Settings, family: Family, number: number): string | undefined {
  const { probeNet4, probeMask4, probeNet6, probeMask6 } = settings;
  if ((family === 4 ? probeMask4 : probeMask6) === 0) return undefined;
  const bytes = family === 4 ? new Uint8Array(4) : probeNet6.slice();
  const view = new DataView(bytes.buffer);
  if (family === 4) view.setUint32(0, probeNet4);
  view.setUint32(bytes.length - 4, view.getUint32(bytes.length - 4) + number);
  return Address.fromBytes(bytes).toString();
}

function keyOf(vip: string, destination: string): string {
  return `${vip} ${destination}`;
}

function addressIn(bytes: Uint8Array, ipv6: number): Address {
  return Address.fromBytes(bytes.slice(0, ipv6 ? 16 : 4));
}

function keyOfProbe({ vip, ipv6, destination, destinationIpv6 }: Probe): string {
  return keyOf(`${addressIn(vip, ipv6)}`, `${addressIn(destination, destinationIpv6)}`);
}

function targetOf({ slot, generation, source, ipv6 }: Probe): Target {
  const has = source.some((byte) => byte !== 0);
  return { slot, generation, source: has ? addressIn(source, ipv6) : undefined };
}

function probeOf({ vip, destination, slot, generation, source }: Wanted): Probe {
  const server = Address.parse(destination);
  return {
    slot,
    generation,
    vip: field(vip.bytes),
    source: field(source?.bytes ?? NOWHERE),
    destination: field(server.bytes),
    ipv6: Number(vip.family === 6),
    destinationIpv6: Number(server.family === 6),
  };
}

function isSame(a: Target, b: Target): boolean {
  return a.slot === b.slot && a.generation === b.generation &&
    (a.source === b.source || a.source?.equals(b.source ?? NO_ADDRESS) === true);
}

/** The bits of an address that are its number: the last 32 at most. */
function maskOf({ family, length }: Prefix): number {
  return 2 ** Math.min(32, (family === 4 ? 32 : 128) - length) - 1;
}

function readNetwork(
  text: string | undefined,
  name: string,
  family: Family,
): Prefix | undefined {
  if (text === undefined) return undefined;
  try {
    const prefix = Prefix.parse(text);
    if (prefix.family === family) return prefix;
  } catch {
    // As below.
  }
  throw new InvalidValueError(name, text, `${name} "${text}" is not an IPv${family} prefix`);
}

/** What the program needs to know of a link. */
function settingsFor({ ifindex, mac, networks }: ProbeLink): Partial<Settings> {
  const [net4, net6] = [networks[4], networks[6]];
  return {
    probeIfindex: ifindex,
    probeMac: Mac.parse(mac).bytes,
    probeNet4: net4 ? new DataView(net4.network.bytes.buffer).getUint32(0) : 0,
    probeMask4: net4 ? maskOf(net4) : 0,
    probeNet6: net6?.network.bytes ?? NOWHERE,
    probeMask6: net6 ? maskOf(net6) : 0,
  };
}
