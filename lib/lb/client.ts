/**
 * The balancer's front door. Names and meanings are those of xvs. Longer than 400 lines, as one class is
 * what a user looks for; most of it is documentation, and what is done is done elsewhere.
 *
 * @module
 */
import { countRuns } from "../bpf/mod.ts";
import { NextHops } from "../net/next_hop.ts";
import { checkOptions, refuseTwice } from "./checks.ts";
import { Connections } from "./connections.ts";
import { type BlockedPrefix, DenyList } from "./deny_list.ts";
import {
  DestinationExistsError,
  DestinationNotFoundError,
  ServiceExistsError,
  ServiceNotFoundError,
  VipNotFoundError,
  XvsError,
} from "./errors.ts";
import { Instance } from "./instance.ts";
import { findInterfaces, modeFor } from "./interfaces.ts";
import type { Entry } from "./model.ts";
import { Planner, type Wish } from "./planner.ts";
import { Registry } from "./registry.ts";
import type { NextHopSource, Seams } from "./seams.ts";
import { Statistics } from "./statistics.ts";
import {
  completeDestination,
  completeService,
  type Destination,
  type DestinationExtended,
  type Info,
  type Mode,
  type Options,
  type Service,
  type ServiceExtended,
  serviceName,
  unicast,
  type VIP,
} from "./types.ts";
import { Watchdog } from "./watchdog.ts";

/** After a failure, or beyond the end of a window. */
const SETTLE_AGAIN_MS = 1000;
/** The longest that setTimeout() waits. */
const MAX_TIMER_MS = 2 ** 31 - 1;

/** Which service is meant; the other fields of a `Service` do not matter. */
export type ServiceId = Pick<Service, "address" | "port" | "protocol">;

/**
 * A load balancer on this host.
 *
 * ```ts
 * await using client = await Client.create(["eth0"]);
 * await client.setService({ address: "192.0.2.1", port: 80 }, { address: "10.0.0.2" });
 * console.log(client.info().metrics.forwarded);
 * ```
 *
 * Whatever changes something is asynchronous, since it may have to ask the network for a next hop; changes
 * are carried out one after the other, each all or nothing.
 */
export class Client implements AsyncDisposable {
  readonly #instance: Instance;
  readonly #registry: Registry;
  readonly #connections: Connections;
  readonly #statistics: Statistics;
  readonly #denyList: DenyList;
  readonly #watchdog: Watchdog;
  readonly #nextHops: NextHopSource;
  readonly #planner: Planner;
  readonly #mode: Mode | "auto";
  readonly #stop = new AbortController();
  readonly #following: Promise<void>;
  #settling: ReturnType<typeof setTimeout> | undefined;
  #closing: Promise<void> | undefined;
  /** The end of the change under way. */
  #last: Promise<unknown> = Promise.resolve();

  private constructor(instance: Instance, nextHops: NextHopSource, options: Options) {
    this.#instance = instance;
    this.#nextHops = nextHops;
    this.#mode = options.mode ?? "auto";
    this.#registry = new Registry(instance);
    const { neighbourTimeout = 1000 } = options;
    this.#planner = new Planner(nextHops, this.#registry.services, neighbourTimeout);
    this.#connections = new Connections(instance, this.#registry, options.trackMask);
    this.#statistics = new Statistics(instance, this.#registry, this.#connections);
    this.#denyList = new DenyList(instance);
    this.#watchdog = new Watchdog(instance, options.watchdog ?? 0);
    // It fails for want of `ip`, of which every change speaks.
    this.#following = this.#follow().catch(() => {});
  }

  /**
   * Loads the program and attaches it to interfaces; with none, nothing is attached. It lives as long
   * as the client, and is gone with it, however it ends.
   *
   * @throws {InvalidValueError} when an interface does not exist or an option cannot be
   * @throws {XdpBusyError} when an interface has an XDP program of somebody else's
   */
  static async create(
    interfaces: readonly string[],
    options: Options = {},
    seams: Seams = {},
  ): Promise<Client> {
    checkOptions(options);
    const { ipv4VLANs = {}, ipv6VLANs = {} } = options;
    const nextHops = seams.nextHops ?? new NextHops({ ipv4VLANs, ipv6VLANs });
    const client = new Client(seams.instance ?? await Instance.load(options), nextHops, options);
    try {
      await client.attach(...interfaces);
      return client;
    } catch (error) {
      await client.close();
      throw error;
    }
  }

  /**
   * Attaches the program to more interfaces, all or none. Where it is attached already it stays.
   *
   * @throws {InvalidValueError} when one does not exist
   * @throws {XdpBusyError} when one has an XDP program of somebody else's
   */
  attach(...interfaces: string[]): Promise<void> {
    return this.#change(async () => {
      const attached: string[] = [];
      try {
        for (const link of await findInterfaces(interfaces)) {
          const mode = modeFor(link, this.#mode);
          if (this.#instance.attach(link.name, link.ifindex, mode)) attached.push(link.name);
        }
      } catch (error) {
        for (const name of attached) this.#instance.detach(name);
        throw error;
      }
    });
  }

  /** Counters of the whole instance. */
  info(): Info {
    return {
      ...this.#statistics.total(),
      interfaces: this.#instance.interfaces,
      sampling: this.#connections.sampling,
    };
  }

  /**
   * How long the program takes for a packet, in nanoseconds: the mean over a while, by the kernel's own
   * clock, which itself takes some of it.
   *
   * @param ms how long to look on
   * @returns undefined if no packet came
   */
  async latency(ms = 100): Promise<number | undefined> {
    using _ = countRuns();
    const before = this.#instance.program.runs;
    await new Promise((resolve) => setTimeout(resolve, ms));
    const after = this.#instance.program.runs;
    if (after.count === before.count) return undefined;
    return Number(after.timeNs - before.timeNs) / Number(after.count - before.count);
  }

  /** All services. */
  services(): ServiceExtended[] {
    return [...this.#registry.services.values()].map((entry) => this.#extended(entry));
  }

  /**
   * One service.
   *
   * @throws {ServiceNotFoundError} when it does not exist
   */
  service(service: ServiceId): ServiceExtended {
    return this.#extended(this.#entry(service));
  }

  /**
   * Adds a service, as yet without destinations.
   *
   * @throws {ServiceExistsError} when it exists
   */
  async createService(service: Service): Promise<void> {
    const spec = completeService(service);
    await this.#change(async () => {
      const name = serviceName(spec);
      if (this.#registry.services.has(name)) throw new ServiceExistsError(name);
      await this.#commit([{ spec, destinations: [] }]);
    });
  }

  /**
   * Changes a service's `sticky` and `idleTimeout`, with defaults for what is left out. Established flows stay
   * where they are.
   *
   * @throws {ServiceNotFoundError} when it does not exist
   */
  async updateService(service: Service): Promise<void> {
    const spec = completeService(service);
    await this.#change(() =>
      this.#commit([{ spec, destinations: destinationsOf(this.#entry(spec)) }])
    );
  }

  /**
   * Removes a service with its destinations.
   *
   * @throws {ServiceNotFoundError} when it does not exist
   */
  removeService(service: ServiceId): Promise<void> {
    return this.#change(() =>
      this.#commit([{ spec: this.#entry(service).spec, destinations: undefined }])
    );
  }

  /**
   * The destinations of a service, in the order in which they were added.
   *
   * @throws {ServiceNotFoundError} when it does not exist
   */
  destinations(service: ServiceId): DestinationExtended[] {
    return [...this.#entry(service).members.values()].map((member) => {
      const { open, ...counted } = this.#statistics.destination(member);
      return {
        destination: { ...member.spec },
        activeConnections: open,
        mac: member.nextHop?.destinationMac,
        interface: member.nextHop?.interface,
        ...counted,
      };
    });
  }

  /**
   * Adds a destination to a service.
   *
   * @throws {ServiceNotFoundError} when the service does not exist
   * @throws {DestinationExistsError} when it has the destination
   * @throws {UnreachableError} when there is no way to it
   */
  async createDestination(service: ServiceId, destination: Destination): Promise<void> {
    const added = completeDestination(destination);
    await this.#change(async () => {
      const entry = this.#entry(service);
      if (entry.members.has(added.address)) {
        throw new DestinationExistsError(serviceName(entry.spec), added.address);
      }
      await this.#commit([{ spec: entry.spec, destinations: [...destinationsOf(entry), added] }]);
    });
  }

  /**
   * Makes a destination be as given: weight, tunnel, disabled or not, with defaults for what is left out.
   * Its flows stay.
   *
   * @throws {ServiceNotFoundError} when the service does not exist
   * @throws {DestinationNotFoundError} when it does not have the destination
   * @throws {UnreachableError} when there is no way to it by another tunnel
   */
  async updateDestination(service: ServiceId, destination: Destination): Promise<void> {
    const changed = completeDestination(destination);
    await this.#change(async () => {
      const entry = this.#entryWith(service, changed.address);
      const destinations = destinationsOf(entry)
        .map((spec) => spec.address === changed.address ? changed : spec);
      await this.#commit([{ spec: entry.spec, destinations }]);
    });
  }

  /**
   * Removes a destination. Its flows go to others; to let them end first, disable it.
   *
   * @throws {ServiceNotFoundError} when the service does not exist
   * @throws {DestinationNotFoundError} when it does not have the destination
   */
  async removeDestination(
    service: ServiceId,
    { address }: Pick<Destination, "address">,
  ): Promise<void> {
    const gone = completeDestination({ address }).address;
    await this.#change(async () => {
      const entry = this.#entryWith(service, gone);
      const destinations = destinationsOf(entry).filter((spec) => spec.address !== gone);
      await this.#commit([{ spec: entry.spec, destinations }]);
    });
  }

  /**
   * Makes a service be as given, with exactly these destinations, whatever there was before.
   *
   * @throws {InvalidValueError} when a field cannot be, or a destination is given twice
   * @throws {UnreachableError} when there is no way to a destination
   * @throws {TableFullError} when there are too many; the error names the option that makes more
   */
  setService(service: Service, ...destinations: Destination[]): Promise<void> {
    return this.setServices([{ service, destinations }]);
  }

  /** `setService()` for many at once, all or none. */
  async setServices(
    services: readonly { service: Service; destinations: Destination[] }[],
  ): Promise<void> {
    const plans = services.map(({ service, destinations }) => ({
      spec: completeService(service),
      destinations: destinations.map(completeDestination),
    }));
    refuseTwice(plans.map(({ spec }) => serviceName(spec)), "service");
    for (const { spec, destinations } of plans) {
      const ofService = ` of service "${serviceName(spec)}"`;
      refuseTwice(destinations.map(({ address }) => address), "destination", ofService);
    }
    await this.#change(() => this.#commit(plans));
  }

  /**
   * Drops what comes to VIPs from these prefixes or addresses. `blocked()` counts it.
   *
   * @throws {InvalidValueError} when one is neither; nothing was changed
   * @throws {TableFullError} when there is no room; nothing was changed
   */
  block(...prefixes: string[]): Promise<void> {
    return this.#change(() => Promise.resolve(this.#denyList.block(prefixes)));
  }

  /**
   * The opposite of `block()`.
   *
   * @throws {InvalidValueError} when one is neither prefix nor address; nothing was changed
   */
  unblock(...prefixes: string[]): Promise<void> {
    return this.#change(() => Promise.resolve(this.#denyList.unblock(prefixes)));
  }

  /** The prefixes that are blocked, with what each kept out. */
  blocked(): BlockedPrefix[] {
    return this.#denyList.list();
  }

  /** All VIPs. */
  vips(): VIP[] {
    return [...this.#registry.vips.keys()].map((address) => this.vip(address));
  }

  /**
   * One VIP.
   *
   * @throws {VipNotFoundError} when no service has the address
   */
  vip(address: string): VIP {
    const canonical = unicast(address, "address", "VIP").toString();
    const vip = this.#registry.vips.get(canonical);
    if (!vip) throw new VipNotFoundError(canonical);
    return { address: canonical, ...this.#statistics.vip(vip) };
  }

  /** Detaches everything and frees all that this client made. A change under way is waited for. */
  close(): Promise<void> {
    return this.#closing ??= this.#close();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async #close(): Promise<void> {
    this.#stop.abort(new XvsError("Cannot change anything: the client is closed"));
    await this.#last.catch(() => {});
    clearTimeout(this.#settling);
    this.#watchdog.stop();
    this.#instance.close();
    this.#registry.close();
    await this.#following;
    await this.#nextHops.close();
  }

  #extended(entry: Entry): ServiceExtended {
    return { service: { ...entry.spec }, ...this.#statistics.service(entry) };
  }

  #entry(service: ServiceId): Entry {
    const name = serviceName(completeService(service));
    const entry = this.#registry.services.get(name);
    if (!entry) throw new ServiceNotFoundError(name);
    return entry;
  }

  #entryWith(service: ServiceId, destination: string): Entry {
    const entry = this.#entry(service);
    if (!entry.members.has(destination)) {
      throw new DestinationNotFoundError(serviceName(entry.spec), destination);
    }
    return entry;
  }

  /** One change after the other. */
  #change(act: () => Promise<void>): Promise<void> {
    const turn = this.#last.then(async () => {
      this.#stop.signal.throwIfAborted();
      await act();
      await this.#settle();
    });
    this.#last = turn.catch(() => {});
    return turn;
  }

  async #commit(wishes: readonly Wish[]): Promise<void> {
    await this.#registry.commit(await this.#planner.plan(wishes));
  }

  /** Neighbours, routes and links change: destinations follow. */
  async #follow(): Promise<void> {
    for await (const _ of this.#nextHops.follow(this.#stop.signal)) {
      // Should it fail, the next event tries again; what stands goes on meanwhile.
      await this.#change(async () => this.#registry.commit(await this.#planner.renew()))
        .catch(() => {});
    }
  }

  /** Settles what is due, and comes back when the next is. Its failure is not that of the change before. */
  async #settle(): Promise<void> {
    clearTimeout(this.#settling);
    let waitMs = SETTLE_AGAIN_MS;
    try {
      const next = await this.#connections.settle();
      if (next === undefined) return;
      waitMs += Number((next - this.#instance.clock()) / 1_000_000n);
    } catch {
      // Rings that are not settled cost a lookup more for each packet, and nothing else.
    }
    this.#settling = setTimeout(
      () => this.#change(() => Promise.resolve()).catch(() => {}),
      Math.min(waitMs, MAX_TIMER_MS),
    );
    Deno.unrefTimer(Number(this.#settling));
  }
}

function destinationsOf(entry: Entry): Required<Destination>[] {
  return [...entry.members.values()].map(({ spec }) => spec);
}
