/**
 * The interface by which this host's own packets to probe addresses come to the program, and replies come back: a
 * pair of virtual ones. The host routes to the first, and the program is on the second.
 *
 * @module
 */
import { computeChecksums, interfaceNumber } from "../sys/interface.ts";
import { type Family, Prefix } from "../net/address.ts";
import { attempt, run } from "../net/command.ts";
import { batch, lastReason, link } from "../net/ip.ts";
import { XvsError } from "./errors.ts";
import { InstanceLock } from "./lock.ts";
import type { Pair } from "./probe_ends.ts";

/** Networks of probe addresses; undefined: no such addresses. */
export type ProbeNetworks = Readonly<Record<Family, Prefix | undefined>>;

/** A pair of interfaces that is up. */
export interface ProbeLink {
  /** Its name: that of the interface that the host sends by. */
  readonly name: string;
  /** The number of the interface that the program is on. */
  readonly ifindex: number;
  /** The MAC of the one that the host sends by. */
  readonly mac: string;
  /** What the host routes there. Their first address is the host's own. */
  readonly networks: ProbeNetworks;
}

/** What tells our pairs from those of others who like the name. */
const ALIAS = "probes of xvs";
/** No instance's name has a "+". */
const LOCK = "+probes";
/** The last block of IPv4 has the broadcast address. */
const MOST_PAIRS = 255;
/** RFC 1112's class E: Linux routes it, and nobody else does. */
const CLASS_E = 240;
/** RFC 4193; the network's name in hexadecimal. */
const UNIQUE_LOCAL = "fd78:7673:7072:6f62";

/** The networks of pair number n: 2^20 IPv4 addresses, of which 2^20 - 1 are of use. */
export function defaultNetworks(n: number): Record<Family, Prefix> {
  return {
    4: Prefix.parse(`${CLASS_E + (n >> 4)}.${(n & 0xf) << 4}.0.0/12`),
    6: Prefix.parse(`${UNIQUE_LOCAL}:${n.toString(16)}::/80`),
  };
}

interface JsonLink {
  ifname: string;
  ifalias?: string;
  xdp?: unknown;
}

/**
 * Makes a pair, and has it found by what the host sends. Pairs that killed processes have left go first.
 *
 * @param given networks to take instead of those that go with the pair's number
 * @param attach puts the program on its interface, and whatever is needed on the other
 * @throws {XvsError} when the system refuses; nothing is left then
 */
export async function openProbeLink(
  given: ProbeNetworks,
  attach: (ends: Pair) => void,
): Promise<ProbeLink> {
  using _ = await lock();
  await clearAway();
  let number = 0;
  while ([nameOf(number), peerOf(number)].some((each) => interfaceNumber(each))) number++;
  if (number >= MOST_PAIRS) throw new XvsError("Cannot open probes: there are too many instances");
  const name = nameOf(number), peer = peerOf(number);
  // As close to the creation as can be: without an alias nobody knows whose it is.
  await ip([`link add ${name} type veth peer name ${peer}`, `link set ${name} alias "${ALIAS}"`]);
  try {
    // Generic XDP hands on what it gets, and what it gets must be whole.
    computeChecksums(name);
    const own = hasIpv6(name) ? [4, 6] as const : [4] as const;
    const defaults = defaultNetworks(number);
    const networks = { 4: given[4] ?? defaults[4], 6: own[1] && (given[6] ?? defaults[6]) };
    if (own[1]) await ip([name, peer].map((each) => `link set ${each} addrgenmode none`));
    await ip([`link set ${name} arp off up`, `link set ${peer} up`]);
    const { ifindex: host, mac } = await link(name);
    const program = interfaceNumber(peer)!;
    attach({ host, program });
    await ip(own.flatMap((family) => routeLines(networks[family]!, name)));
    return { name, ifindex: program, mac: mac!, networks };
  } catch (error) {
    await remove(name);
    throw error;
  }
}

/** Removes a pair; that it has gone is no error. */
export async function closeProbeLink(name: string): Promise<void> {
  if ((await pairs()).has(name)) await remove(name);
}

function nameOf(number: number): string {
  return `xvs${number}`;
}

function peerOf(number: number): string {
  return `xvs${number}p`;
}

function routeLines({ network, length, family }: Prefix, name: string): string[] {
  const own = family === 4 ? `${network}/32` : `${network}/128`;
  return [
    `address add ${own} dev ${name}${family === 6 ? " nodad" : ""}`,
    `route add ${network}/${length} dev ${name}`,
  ];
}

/** Whether an interface has IPv6; a host may be without. */
function hasIpv6(name: string): boolean {
  try {
    return Deno.readTextFileSync(`/proc/sys/net/ipv6/conf/${name}/disable_ipv6`).trim() === "0";
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return false;
    throw error;
  }
}

/** Removes pairs of which nobody's program is on the second interface. */
async function clearAway(): Promise<void> {
  for (const [name, isUsed] of await pairs()) if (!isUsed) await remove(name);
}

/** Our pairs, and whether each has a program. */
async function pairs(): Promise<Map<string, boolean>> {
  const links: JsonLink[] = JSON.parse(await run(["ip", "-j", "-d", "link"]));
  const used = new Set(links.filter(({ xdp }) => xdp !== undefined).map(({ ifname }) => ifname));
  return new Map(
    links.filter(({ ifalias }) => ifalias === ALIAS)
      .map(({ ifname }) => [ifname, used.has(`${ifname}p`)]),
  );
}

/** @throws {XvsError} when a line fails */
async function ip(lines: readonly string[]): Promise<void> {
  const { code, stderr } = await batch(lines);
  if (code !== 0) throw new XvsError(`Cannot open probes: ${lastReason(stderr)}`);
}

async function remove(name: string): Promise<void> {
  await attempt(["ip", "link", "delete", name]);
}

/** One process at a time; a lock goes with the process that has it. */
async function lock(): Promise<Disposable> {
  const lock = await InstanceLock.take(LOCK);
  return {
    [Symbol.dispose](): void {
      lock.removeFile();
      lock[Symbol.dispose]();
    },
  };
}
