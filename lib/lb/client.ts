/**
 * The balancer's front door. Names and meanings are those of xvs.
 *
 * @module
 */
import { Address } from "../net/address.ts";
import { type NextHop, NextHopError, NextHops } from "../net/next_hop.ts";
import { passable, refuseTwice } from "./checks.ts";
import { Connections } from "./connections.ts";
import {
  DestinationExistsError,
  DestinationNotFoundError,
  ServiceExistsError,
  ServiceNotFoundError,
  VipNotFoundError,
} from "./errors.ts";
import { Instance } from "./instance.ts";
import { findInterfaces, modeFor } from "./interfaces.ts";
import type { Entry, Plan } from "./model.ts";
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
  type VIP,
} from "./types.ts";

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
  readonly #nextHops: NextHopSource;
  readonly #timeoutMs: number;
  readonly #mode: Mode | "auto";
  readonly #stop = new AbortController();
  readonly #following: Promise<void>;
  #settling: ReturnType<typeof setTimeout> | undefined;
  /** The end of the change under way. */
  #last: Promise<unknown> = Promise.resolve();

  private constructor(instance: Instance, nextHops: NextHopSource, options: Options) {
    this.#instance = instance;
    this.#nextHops = nextHops;
    this.#timeoutMs = options.neighbourTimeout ?? 1000;
    this.#mode = options.mode ?? "auto";
    this.#registry = new Registry(instance);
    this.#connections = new Connections(instance, this.#registry, options.trackMask);
    this.#statistics = new Statistics(instance, this.#registry, this.#connections);
    this.#following = this.#follow();
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
   * Attaches the program to more interfaces, all or none.
   *
   * @throws {InvalidValueError} when one does not exist
   * @throws {XdpBusyError} when one has an XDP program of somebody else's
   */
  attach(...interfaces: string[]): Promise<void> {
    return this.#change(async () => {
      const attached: string[] = [];
      try {
        for (const link of await findInterfaces(interfaces)) {
          this.#instance.attach(link.name, link.ifindex, modeFor(link, this.#mode));
          attached.push(link.name);
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
  createService(service: Service): Promise<void> {
    const spec = completeService(service);
    return this.#change(async () => {
      const name = serviceName(spec);
      if (this.#registry.services.has(name)) throw new ServiceExistsError(name);
      await this.#commit([{ spec, destinations: [] }]);
    });
  }

  /**
   * Changes a service's `sticky` and `idleTimeout`. Established flows stay where they are.
   *
   * @throws {ServiceNotFoundError} when it does not exist
   */
  updateService(service: Service): Promise<void> {
    const spec = completeService(service);
    return this.#change(() =>
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
  createDestination(service: ServiceId, destination: Destination): Promise<void> {
    const added = completeDestination(destination);
    return this.#change(async () => {
      const entry = this.#entry(service);
      if (entry.members.has(added.address)) {
        throw new DestinationExistsError(serviceName(entry.spec), added.address);
      }
      await this.#commit([{ spec: entry.spec, destinations: [...destinationsOf(entry), added] }]);
    });
  }

  /**
   * Changes the weight, the tunnel, or whether a destination is disabled. Its flows stay.
   *
   * @throws {ServiceNotFoundError} when the service does not exist
   * @throws {DestinationNotFoundError} when it does not have the destination
   */
  updateDestination(service: ServiceId, destination: Destination): Promise<void> {
    const changed = completeDestination(destination);
    return this.#change(async () => {
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
  removeDestination(service: ServiceId, { address }: Pick<Destination, "address">): Promise<void> {
    const gone = completeDestination({ address }).address;
    return this.#change(async () => {
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
   */
  setService(service: Service, ...destinations: Destination[]): Promise<void> {
    return this.setServices([{ service, destinations }]);
  }

  /** `setService()` for many at once, all or none. */
  setServices(
    services: readonly { service: Service; destinations: Destination[] }[],
  ): Promise<void> {
    const plans = services.map(({ service, destinations }) => ({
      spec: completeService(service),
      destinations: destinations.map(completeDestination),
    }));
    refuseTwice(plans.map(({ spec }) => serviceName(spec)), "service");
    for (const { spec, destinations } of plans) {
      refuseTwice(destinations.map(({ address }) => address), `${serviceName(spec)}: destination`);
    }
    return this.#change(() => this.#commit(plans));
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
    const canonical = Address.parse(address).toString();
    const vip = this.#registry.vips.get(canonical);
    if (!vip) throw new VipNotFoundError(canonical);
    return { address: canonical, ...this.#statistics.vip(vip) };
  }

  /** Detaches everything and frees all that this client made. */
  async close(): Promise<void> {
    if (this.#stop.signal.aborted) return;
    this.#stop.abort();
    clearTimeout(this.#settling);
    await this.#last.catch(() => {});
    this.#instance.close();
    this.#registry.close();
    await this.#following;
    await this.#nextHops.close();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
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
      this.#settle();
    });
    this.#last = turn.catch(() => {});
    return turn;
  }

  /** Finds the next hops, checks them, and hands the plans to the registry. */
  async #commit(
    plans: { spec: Required<Service>; destinations: Required<Destination>[] | undefined }[],
  ): Promise<void> {
    const all = plans.flatMap(({ destinations }) => destinations ?? []);
    const addresses = [...new Set(all.map(({ address }) => address))].map(Address.parse);
    const ways = addresses.length === 0
      ? new Map<string, NextHop | NextHopError>()
      : await this.#nextHops.resolve(addresses, { timeoutMs: this.#timeoutMs });
    this.#registry.commit(plans.map(({ spec, destinations }): Plan => ({
      spec,
      destinations: destinations?.map((destination) => ({
        spec: destination,
        nextHop: passable(destination, ways.get(destination.address)!),
      })),
    })));
  }

  /** Neighbours, routes and links change: destinations follow. */
  async #follow(): Promise<void> {
    for await (const _ of this.#nextHops.follow(this.#stop.signal)) {
      await this.#change(async () => {
        const specs = [...this.#registry.services.values()].flatMap(destinationsOf);
        const addresses = [...new Set(specs.map(({ address }) => address))].map(Address.parse);
        await this.#nextHops.retain(addresses);
        if (addresses.length === 0) return;
        const answers = await this.#nextHops.resolve(addresses, { timeoutMs: 0 });
        this.#registry.renewNextHops((address) => {
          const answer = answers.get(address);
          return answer instanceof NextHopError ? undefined : answer;
        });
      }).catch(() => {}); // The next event tries again; what stands goes on meanwhile.
    }
  }

  /** Settles what is due, and comes back when the next is. */
  #settle(): void {
    clearTimeout(this.#settling);
    const next = this.#connections.settle();
    if (next === undefined) return;
    const waitMs = Number((next - this.#instance.clock()) / 1_000_000n) + 1000;
    const timer = setTimeout(
      // Should it fail, the next change settles.
      () => this.#change(() => Promise.resolve()).catch(() => {}),
      Math.min(waitMs, MAX_TIMER_MS),
    );
    Deno.unrefTimer(Number(timer));
    this.#settling = timer;
  }
}

function destinationsOf(entry: Entry): Required<Destination>[] {
  return [...entry.members.values()].map(({ spec }) => spec);
}
