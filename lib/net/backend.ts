/**
 * What a Linux server needs to be a destination: that it takes packets to the VIPs for its own, that it keeps
 * silent about them on the network, and that it takes outer headers off.
 *
 * The list is data: each {@linkcode Requirement} can tell whether it is met, and has the command that meets it.
 *
 * @module
 */
import { Address } from "./address.ts";
import { attempt, run } from "./command.ts";
import { type LinkInfo, links } from "./ip.ts";

/** How packets come to a destination; the names are those of the balancer's tunnels. */
export const BACKEND_TUNNELS = ["none", "ipip", "gre", "fou", "gue"] as const;

/** How packets come to a destination. */
export type BackendTunnel = typeof BACKEND_TUNNELS[number];

/** What a destination is to be ready for. */
export interface Backend {
  vips: readonly Address[];
  /** "none" is also right where `decap.ts` takes the outer headers off. */
  tunnel: BackendTunnel;
  /** UDP port of fou and gue. */
  port: number | undefined;
  /** Family of the address that the balancer has for this server: that of the outer header. */
  outerFamily: Family;
}

/** A server as it stands, in this process's network namespace. */
export interface BackendHost {
  links: readonly LinkInfo[];
  /** A key of `sysctl`, with slashes; undefined if this kernel does not have it. */
  sysctl(key: string): number | undefined;
  /** Interface that packets to elsewhere leave by, if there is a default route. */
  defaultInterface: string | undefined;
  /** UDP ports where the kernel takes headers off, as in `ip fou show`. */
  ports: readonly { port: number; family: Family; gue: boolean }[];
  /** Devices of type ip6tnl that take every inner protocol. */
  anyMode: ReadonlySet<string>;
}

/** One thing that a destination needs. */
export interface Requirement {
  /** What is so when it is met. */
  what: string;
  /** The command that brings it about. */
  command: string[];
  met(host: BackendHost): boolean;
}

/** Something that a server lacks. */
export interface Finding {
  /** What should be, but is not. */
  missing: string;
  /** The command that mends it, for a shell. */
  mend: string;
}

type Device = readonly [name: string, module: string];
type Family = 4 | 6;

const FAMILIES = [4, 6] as const;
const TUNL: Device = ["tunl0", "ipip"];
const SIT: Device = ["sit0", "sit"];
const IP6TNL: Device = ["ip6tnl0", "ip6_tunnel"];
const GRE: Device = ["gre0", "ip_gre"];
const IP6GRE: Device = ["ip6gre0", "ip6_gre"];

/** The device that takes an outer header off, by outer and inner family. */
const DEVICES: Record<"ipip" | "gre", Record<Family, Record<Family, Device>>> = {
  ipip: { 4: { 4: TUNL, 6: SIT }, 6: { 4: IP6TNL, 6: IP6TNL } },
  gre: { 4: { 4: GRE, 6: GRE }, 6: { 4: IP6GRE, 6: IP6GRE } },
};

/** Reads the state of this host. */
export async function readBackendHost(): Promise<BackendHost> {
  const [found, routes, tunnels] = await Promise.all([
    links(),
    run(["ip", "-j", "route", "show", "default"]),
    run(["ip", "-j", "-d", "link", "show", "type", "ip6tnl"]),
  ]);
  const [route]: { dev?: string }[] = JSON.parse(routes || "[]");
  const devices: { ifname?: string; linkinfo?: { info_data?: { proto?: string } } }[] = JSON.parse(
    tunnels || "[]",
  );
  return {
    links: found,
    defaultInterface: route?.dev,
    ports: [...await fouPorts(4), ...await fouPorts(6)],
    anyMode: new Set(
      devices.filter(({ linkinfo }) => linkinfo?.info_data?.proto === "any")
        .flatMap(({ ifname }) => ifname ?? []),
    ),
    sysctl(key): number | undefined {
      try {
        return Number(Deno.readTextFileSync(`/proc/sys/${key}`));
      } catch (error) {
        if (error instanceof Deno.errors.NotFound) return undefined;
        throw error;
      }
    },
  };
}

/** It fails on a kernel without the module: then there are none. */
async function fouPorts(family: Family): Promise<BackendHost["ports"]> {
  const { code, stdout } = await attempt(["ip", `-${family}`, "fou", "show"]);
  if (code !== 0) return [];
  return stdout.split("\n").flatMap((line) => {
    const [, port] = /\bport (\d+)/.exec(line) ?? [];
    if (port === undefined || line.includes("-6") !== (family === 6)) return [];
    return [{ port: Number(port), family, gue: /\bgue\b/.test(line) }];
  });
}

/** What a destination needs, in the order in which it is brought about. */
export function requirements(backend: Backend): Requirement[] {
  const { vips, tunnel } = backend;
  const has = (family: Family): boolean => vips.some((vip) => vip.family === family);
  return [
    {
      what: "the loopback is up",
      command: ["ip", "link", "set", "lo", "up"],
      met: (host): boolean => find(host, "lo")?.up ?? false,
    },
    ...(has(6) ? [ipv6Enabled("lo")] : []),
    ...vips.map(onLoopback),
    ...(has(4) ? silence() : []),
    ...(tunnel === "none" ? (has(4) ? [looseDefault()] : []) : tunnelRequirements(backend)),
  ];
}

/**
 * What of it this host lacks. A VIP on another interface than the loopback is announced on the network, and is
 * named too.
 */
export function findings(backend: Backend, host: BackendHost): Finding[] {
  const lacking = requirements(backend).filter((each) => !each.met(host))
    .map(({ what, command }) => ({ missing: what, mend: shellWords(command) }));
  const announced = backend.vips.flatMap((vip) =>
    host.links.filter(({ name }) => name !== "lo").flatMap(({ name, addresses }) =>
      addresses.filter(({ address }) => address.equals(vip)).map((prefix) => ({
        missing: `VIP ${vip} is not on interface ${name}, which answers for it on the network`,
        mend: shellWords(["ip", "address", "del", `${vip}/${prefix.length}`, "dev", name]),
      }))
    )
  );
  return [...announced, ...lacking];
}

/**
 * Brings about what this host lacks, one after the other; what is so already is left alone.
 *
 * @param done called with each command that was run
 * @throws {CommandError} when one fails
 */
export async function applyBackend(
  backend: Backend,
  done: (finding: Finding) => void,
): Promise<void> {
  for (const { what, command, met } of requirements(backend)) {
    // What one command brings may be what the next one needs: the host is looked at each time.
    if (met(await readBackendHost())) continue;
    await run(command);
    done({ missing: what, mend: shellWords(command) });
  }
}

/** Words as a shell reads them. */
export function shellWords(words: readonly string[]): string {
  return words.map((word) =>
    /^[\w.,:/=@%+-]+$/.test(word) ? word : `'${word.replaceAll("'", `'\\''`)}'`
  ).join(" ");
}

function find(host: BackendHost, name: string): LinkInfo | undefined {
  return host.links.find((link) => link.name === name);
}

function onLoopback(vip: Address): Requirement {
  const prefix = vip.family === 4 ? [`${vip}/32`] : [`${vip}/128`];
  // Nobody else can have it on the loopback: detecting duplicates would only delay it.
  const tail = vip.family === 4 ? [] : ["nodad"];
  return {
    what: `VIP ${vip} is on the loopback`,
    command: ["ip", "address", "replace", ...prefix, "dev", "lo", ...tail],
    met: (host): boolean =>
      find(host, "lo")?.addresses.some(({ address }) => address.equals(vip)) ?? false,
  };
}

function setKey(key: string, value: number): string[] {
  // A dot in an interface's name would be taken for one between names.
  return ["sysctl", "-w", `${key.includes(".") ? key : key.replaceAll("/", ".")}=${value}`];
}

/** The kernel takes the larger of what is set for all interfaces and for the one. */
function effective(host: BackendHost, name: string, key: string): number {
  return Math.max(
    host.sysctl(`net/ipv4/conf/all/${key}`) ?? 0,
    host.sysctl(`net/ipv4/conf/${name}/${key}`) ?? 0,
  );
}

/** IPv4 answers ARP for every address of the host on every interface, unless told otherwise. IPv6 does not. */
function silence(): Requirement[] {
  const least = (key: string, value: number, what: string): Requirement => ({
    what,
    command: setKey(`net/ipv4/conf/all/${key}`, value),
    met: (host): boolean =>
      host.links.filter(({ mac, name }) => mac !== undefined && name !== "lo")
        .every(({ name }) => effective(host, name, key) >= value),
  });
  return [
    least("arp_ignore", 1, "ARP requests for addresses of the loopback are not answered"),
    least("arp_announce", 2, "ARP requests are not sent from addresses of the loopback"),
  ];
}

/** Packets from clients are dropped where their answers would not leave by the same interface. */
function looseDefault(): Requirement {
  return {
    what: "sources are not checked strictly (rp_filter) where clients' packets come in",
    command: setKey("net/ipv4/conf/all/rp_filter", 2),
    met: (host): boolean =>
      host.links
        .filter(({ mac, name }) => mac !== undefined && name !== "lo")
        .every(({ name }) =>
          name === host.defaultInterface || effective(host, name, "rp_filter") !== 1
        ),
  };
}

function ipv6Enabled(name: string): Requirement {
  const key = `net/ipv6/conf/${name}/disable_ipv6`;
  return {
    what: `IPv6 is enabled on ${name}`,
    command: setKey(key, 0),
    met: (host): boolean => host.sysctl(key) === 0,
  };
}

function tunnelRequirements({ vips, tunnel, port, outerFamily }: Backend): Requirement[] {
  const inner = FAMILIES.filter((family) => vips.some((vip) => vip.family === family));
  // FOU and GUE take the UDP header off; what is inside is IP in IP again.
  const device = DEVICES[tunnel === "gre" ? "gre" : "ipip"][outerFamily];
  const devices = new Set(inner.map((family) => device[family]));
  return [
    ...[...devices].flatMap((each) =>
      deviceRequirements(each, inner.filter((family) => device[family] === each))
    ),
    ...(port === undefined ? [] : receiver(port, outerFamily)),
  ];
}

function deviceRequirements(
  [name, module]: Device,
  families: readonly Family[],
): Requirement[] {
  const device: Requirement[] = [{
    what: `tunnel device ${name} exists (it comes with module ${module})`,
    command: ["modprobe", module],
    met: (host): boolean => find(host, name) !== undefined,
  }];
  if (name === "ip6tnl0") {
    device.push({
      what: `tunnel device ${name} takes IPv4 and IPv6`,
      command: ["ip", "-6", "tunnel", "change", name, "mode", "any"],
      met: (host): boolean => host.anyMode.has(name),
    });
  }
  device.push({
    what: `tunnel device ${name} is up`,
    command: ["ip", "link", "set", name, "up"],
    met: (host): boolean => find(host, name)?.up ?? false,
  });
  if (families.includes(6)) device.push(ipv6Enabled(name));
  if (families.includes(4)) {
    // Not even a loose check lets packets pass that come by a device without an address.
    const unchecked = (scope: string): Requirement => ({
      what: `sources are not checked (rp_filter) on ${scope}`,
      command: setKey(`net/ipv4/conf/${scope}/rp_filter`, 0),
      met: (host): boolean => host.sysctl(`net/ipv4/conf/${scope}/rp_filter`) === 0,
    });
    device.push(unchecked("all"), unchecked(name));
  }
  return device;
}

/** A receiver of GUE takes off FOU as well: its variant 1 is IP in UDP, told apart by the version. */
function receiver(port: number, family: Family): Requirement[] {
  const module = family === 4 ? "fou" : "fou6";
  return [{
    what: `UDP port ${port} of IPv${family} takes off headers of FOU and GUE`,
    command: [
      "sh",
      "-c",
      `modprobe ${module}; ip ${family === 6 ? "-6 " : ""}fou add port ${port} gue`,
    ],
    met: (host): boolean =>
      host.ports.some((each) => each.port === port && each.family === family && each.gue),
  }];
}
