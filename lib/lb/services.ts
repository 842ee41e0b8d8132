/**
 * What a client says and does of services, destinations and VIPs. Names and meanings are those of xvs.
 *
 * @module
 */
import { type Core, destinationsOf } from "./core.ts";
import {
  DestinationExistsError,
  DestinationNotFoundError,
  ServiceExistsError,
  ServiceNotFoundError,
  VipNotFoundError,
} from "./errors.ts";
import type { Entry, Vip } from "./model.ts";
import {
  type CompleteServiceSet,
  completeSets,
  type ServiceSet,
  wishesFor,
  wishOf,
} from "./state.ts";
import {
  completeDestination,
  completeService,
  type Destination,
  type DestinationExtended,
  type Service,
  type ServiceExtended,
  serviceName,
  type VIP,
} from "./types.ts";
import { policy, unicast } from "./values.ts";

/** Which service is meant; the other fields of a `Service` do not matter. */
export type ServiceId = Pick<Service, "address" | "port" | "protocol">;

/** A VIP, and what it shall do by itself. */
export type VipOptions = Pick<VIP, "address"> & Partial<Pick<VIP, "unknownPort">>;

/** The services of an instance. Whatever is asked, the answer includes what other processes have changed. */
export class Services {
  readonly #core: Core;

  /** @param core the instance that is open */
  constructor(core: Core) {
    this.#core = core;
  }

  /** All services. */
  services(): ServiceExtended[] {
    this.#core.registry.refresh();
    return [...this.#core.registry.services.values()].map((entry) => this.#extended(entry));
  }

  /**
   * One service.
   *
   * @throws {ServiceNotFoundError} when it does not exist
   */
  service(service: ServiceId): ServiceExtended {
    this.#core.registry.refresh();
    return this.#extended(this.#entry(service));
  }

  /**
   * Adds a service, as yet without destinations.
   *
   * @throws {ServiceExistsError} when it exists
   */
  async createService(service: Service): Promise<void> {
    const spec = completeService(service);
    await this.#core.change(async () => {
      const name = serviceName(spec);
      if (this.#core.registry.services.has(name)) throw new ServiceExistsError(name);
      await this.#core.commit([{ spec, destinations: [] }]);
    });
  }

  /**
   * Changes a service's `sticky`, `idleTimeout` and policies, with defaults for what is left out. Established
   * flows stay where they are.
   *
   * @throws {ServiceNotFoundError} when it does not exist
   */
  async updateService(service: Service): Promise<void> {
    const spec = completeService(service);
    await this.#core.change(() =>
      this.#core.commit([{ spec, destinations: destinationsOf(this.#entry(spec)) }])
    );
  }

  /**
   * Removes a service with its destinations.
   *
   * @throws {ServiceNotFoundError} when it does not exist
   */
  removeService(service: ServiceId): Promise<void> {
    return this.#core.change(() =>
      this.#core.commit([{ spec: this.#entry(service).spec, destinations: undefined }])
    );
  }

  /**
   * The destinations of a service, in the order in which they were added.
   *
   * @throws {ServiceNotFoundError} when it does not exist
   */
  destinations(service: ServiceId): DestinationExtended[] {
    this.#core.registry.refresh();
    return [...this.#entry(service).members.values()].map((member) => {
      const { open, ...counted } = this.#core.statistics.destination(member);
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
    await this.#core.change(async () => {
      const entry = this.#entry(service);
      if (entry.members.has(added.address)) {
        throw new DestinationExistsError(serviceName(entry.spec), added.address);
      }
      await this.#core.commit([{
        spec: entry.spec,
        destinations: [...destinationsOf(entry), added],
      }]);
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
    await this.#core.change(async () => {
      const entry = this.#entryWith(service, changed.address);
      const destinations = destinationsOf(entry)
        .map((spec) => spec.address === changed.address ? changed : spec);
      await this.#core.commit([{ spec: entry.spec, destinations }]);
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
    await this.#core.change(async () => {
      const entry = this.#entryWith(service, gone);
      const destinations = destinationsOf(entry).filter((spec) => spec.address !== gone);
      await this.#core.commit([{ spec: entry.spec, destinations }]);
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
  async setServices(services: readonly ServiceSet[]): Promise<void> {
    const sets = completeSets(services);
    await this.#core.change(() => this.#core.commit(sets.map(wishOf)));
  }

  /**
   * Changes services by what they are at that moment: no other change comes between, whoever makes it.
   *
   * ```ts
   * import { Client } from "../../mod.ts";
   *
   * await using client = await Client.open("web");
   * await client.editServices((services) =>
   *   services.map(({ service, destinations }) => ({
   *     service,
   *     destinations: destinations.filter(({ address }) => address !== "10.1.2.10"),
   *   }))
   * );
   * ```
   *
   * @param edit is given all services, and tells what shall be instead; those that it leaves out are removed
   * @throws what `setService()` does; nothing was changed. So it is if `edit` throws
   */
  editServices(edit: (services: CompleteServiceSet[]) => readonly ServiceSet[]): Promise<void> {
    return this.#core.change(() => {
      const before = this.#core.serviceSets();
      const after = completeSets(edit(structuredClone(before)));
      return this.#core.commit(wishesFor(before, after));
    });
  }

  /**
   * An address of the VIP's family by which programs of this host reach the VIP on that destination, by the way
   * that clients' packets take: any port, TCP and UDP, whether there is such a service or not, and also while the
   * destination is disabled. It stays the same as long as a service of the VIP has the destination.
   *
   * ```ts
   * import { Client } from "../../mod.ts";
   *
   * await using client = await Client.create(["eth0"]);
   * await client.setService({ address: "192.0.2.1", port: 80 }, { address: "10.0.0.2" });
   * await client.openProbes();
   * const response = await fetch(`http://${client.nat("192.0.2.1", "10.0.0.2")}/health`);
   * ```
   *
   * @returns undefined if no service of the VIP has the destination
   * @throws {ProbeError} when `openProbes()` was not called, or this host has no address of the VIP's family
   */
  nat(vip: string, destination: string): string | undefined {
    return this.#core.probes.address(
      unicast(vip, "address", "VIP"),
      unicast(destination, "address", "Destination"),
    );
  }

  /** All VIPs. */
  vips(): VIP[] {
    this.#core.registry.refresh();
    return [...this.#core.registry.vips.keys()].map((address) => this.vip(address));
  }

  /**
   * One VIP.
   *
   * @throws {VipNotFoundError} when no service has the address
   */
  vip(address: string): VIP {
    const canonical = unicast(address, "address", "VIP").toString();
    this.#core.registry.refresh();
    const vip = this.#vip(canonical);
    const unknownPort = this.#core.registry.vipPolicy(vip);
    return { address: canonical, unknownPort, ...this.#core.statistics.vip(vip) };
  }

  /**
   * Changes what a VIP does with packets to a port without a service; "default" if that is left out. It comes
   * with its first service and goes with its last, and so does what is said here.
   *
   * @throws {VipNotFoundError} when no service has the address
   */
  async updateVip({ address, unknownPort = "default" }: VipOptions): Promise<void> {
    policy(unknownPort, ["default", "drop", "pass", "reject"], "unknownPort");
    const name = unicast(address, "address", "VIP").toString();
    await this.#core.change(() => {
      this.#core.registry.setVipPolicy(this.#vip(name), unknownPort);
      return Promise.resolve();
    });
  }

  #extended(entry: Entry): ServiceExtended {
    return { service: { ...entry.spec }, ...this.#core.statistics.service(entry) };
  }

  #entry(service: ServiceId): Entry {
    const name = serviceName(completeService(service));
    const entry = this.#core.registry.services.get(name);
    if (!entry) throw new ServiceNotFoundError(name);
    return entry;
  }

  #vip(address: string): Vip {
    const vip = this.#core.registry.vips.get(address);
    if (!vip) throw new VipNotFoundError(address);
    return vip;
  }

  #entryWith(service: ServiceId, destination: string): Entry {
    const entry = this.#entry(service);
    if (!entry.members.has(destination)) {
      throw new DestinationNotFoundError(serviceName(entry.spec), destination);
    }
    return entry;
  }
}
