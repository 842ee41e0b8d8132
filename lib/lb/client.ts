/**
 * The balancer's front door.
 *
 * @module
 */
import { countRuns } from "../bpf/mod.ts";
import { checkOptions } from "./checks.ts";
import { type CompleteConfig, completeConfig, type Config } from "./config.ts";
import { Core, type CoreOptions } from "./core.ts";
import type { BlockedPrefix } from "./deny_list.ts";
import { Instance } from "./instance.ts";
import { type InstanceInfo, instanceInfo, sweepInstances } from "./instances.ts";
import { type EventOptions, type InstanceEvent, Watcher } from "./events.ts";
import type { Explanation } from "./explain.ts";
import type { Flow, FlowFilter } from "./flows.ts";
import { findInterfaces, modeFor } from "./interfaces.ts";
import { InstanceLock } from "./lock.ts";
import type { MadeUpPacket } from "./made_up_packet.ts";
import type { ProbeOptions } from "./probes.ts";
import type { Seams } from "./seams.ts";
import { Sharing } from "./sharing.ts";
import {
  type CompleteState,
  completeState,
  type Difference,
  differences,
  type State,
  wishesFor,
} from "./state.ts";
import { checkInstanceName, Store } from "./store.ts";
import type { Info, OpenOptions, Options } from "./types.ts";
import { upgrade } from "./upgrade.ts";

/**
 * A load balancer on this host.
 *
 * ```ts
 * await using client = await Client.create(["eth0"]);
 * await client.setService({ address: "192.0.2.1", port: 80 }, { address: "10.0.0.2" });
 * console.log(client.info().metrics.forwarded);
 * ```
 *
 * With a name it outlives this process, and others may open it:
 *
 * ```ts
 * (await Client.create(["eth0"], { instance: "web" })).close();
 * await using client = await Client.open("web");
 * await client.setService({ address: "192.0.2.1", port: 80 }, { address: "10.0.0.2" });
 * ```
 *
 * Whatever changes something is asynchronous, since it may have to ask the network for a next hop; changes
 * are carried out one after the other, also those of several processes, each all or nothing.
 */
export class Client extends Sharing implements AsyncDisposable {
  readonly #core: Core;
  readonly #replace: boolean;

  private constructor(core: Core, replace = false) {
    super(core);
    this.#core = core;
    this.#replace = replace;
  }

  /**
   * Loads the program and attaches it to interfaces; with none, nothing is attached. Without the option
   * `instance` it lives as long as the client, and is gone with it, however it ends.
   *
   * @throws {InvalidValueError} when an interface does not exist or an option cannot be
   * @throws {XdpBusyError} when an interface has an XDP program of somebody else's
   * @throws {InstanceExistsError} when there is an instance of that name
   */
  static async create(
    interfaces: readonly string[],
    options: Options = {},
    seams: Seams = {},
  ): Promise<Client> {
    checkOptions(options);
    const { instance: name, follow = true, replace, logger } = options;
    const { nextHops, probeLinks } = seams;
    const core: CoreOptions = { follow, logger, nextHops, probeLinks };
    if (name === undefined) {
      const instance = seams.instance ?? await Instance.load(options);
      const { watchdog = 0 } = options;
      const client = new Client(new Core(instance, { ...core, watchdog }), replace);
      return await client.#begin(interfaces);
    }
    checkInstanceName(name);
    using lock = await InstanceLock.take(name, { logger });
    try {
      const store = Store.stage(name);
      const instance = await Instance.load(options, {}, store);
      const client = new Client(new Core(instance, core), replace);
      return await client.#begin(interfaces, store);
    } catch (error) {
      Store.sweep(name);
      if (!Store.names().includes(name)) lock.removeFile();
      throw error;
    }
  }

  /**
   * Opens an instance that was created with a name, by whichever process. `close()` leaves it as it is.
   *
   * @throws {InstanceNotFoundError} when there is none of that name
   * @throws {AbiError} when it was made by a version that keeps it in another way
   */
  static async open(name: string, options: OpenOptions = {}, seams: Seams = {}): Promise<Client> {
    const { readOnly = false, follow = false, logger, replace } = options;
    const { nextHops, probeLinks } = seams;
    const behaviour = { readOnly, follow, logger, nextHops, probeLinks };
    const core = new Core(Instance.open(name), behaviour);
    try {
      await core.catchUp();
      core.follow();
      return new Client(core, replace);
    } catch (error) {
      await core.close();
      throw error;
    }
  }

  /** All instances that have a name. */
  static async instances(): Promise<InstanceInfo[]> {
    await sweepInstances();
    return Store.names().flatMap((name) => instanceInfo(name) ?? []);
  }

  /**
   * Detaches an instance and removes all of it, whichever version made it. Clients that have it open can do no
   * more with it than close.
   *
   * @throws {InstanceNotFoundError} when there is none of that name
   */
  static async remove(name: string): Promise<void> {
    checkInstanceName(name);
    await sweepInstances();
    Store.open(name);
    using lock = await InstanceLock.take(name);
    const store = Store.open(name);
    await letGoOf(name);
    store.remove();
    lock.removeFile();
  }

  /**
   * Attaches the program to more interfaces, all or none. Where it is attached already it stays.
   *
   * @throws {InvalidValueError} when one does not exist
   * @throws {XdpBusyError} when one has an XDP program of somebody else's
   * @throws {NamespaceError} when the instance is attached in another network namespace
   */
  attach(...interfaces: string[]): Promise<void> {
    return this.#core.change(() => this.#attach(interfaces));
  }

  /** Takes the program off interfaces; where it is not attached nothing happens. */
  detach(...interfaces: string[]): Promise<void> {
    return this.#core.change(() => this.#core.instance.links.detach(interfaces));
  }

  /** The configuration as it stands, with its defaults. */
  config(): CompleteConfig {
    return structuredClone(this.#core.instance.document.config);
  }

  /**
   * Makes the configuration be as given, with defaults for what is left out. The next hops of all destinations
   * are found anew where networks or routes change.
   *
   * @throws {InvalidValueError} when a field cannot be, or a destination is behind a router and has no tunnel
   * @throws {UnreachableError} when there is no way to a destination any more; nothing was changed
   */
  async setConfig(config: Config): Promise<void> {
    const complete = completeConfig(config);
    await this.#core.change(() => this.#core.configure(complete));
  }

  /** All that the instance is, as `setState()` takes it. */
  state(): CompleteState {
    this.#core.registry.refresh();
    return structuredClone(this.#core.state());
  }

  /**
   * Makes the instance be as given, in one change; what is left out of the state stays as it is.
   *
   * @param dryRun only tells the difference
   * @returns what was otherwise
   * @throws what `setConfig()`, `setServices()` and `block()` do; nothing was changed
   */
  async setState(state: State, { dryRun = false } = {}): Promise<Difference[]> {
    const compare = () => {
      const before = this.state();
      const after = completeState(state, before);
      return { before, after, different: differences(before, after) };
    };
    if (dryRun) return compare().different;
    return await this.#core.change(async () => {
      const { before, after, different } = compare();
      const wishes = wishesFor(before.services, after.services);
      if (different.some(({ what }) => what === "config" || what === "block")) {
        await this.#core.configure(after.config, wishes, after.block);
      } else if (different.length > 0) {
        await this.#core.commit(wishes);
      }
      return different;
    });
  }

  /**
   * Replaces the program under traffic by the one that this version embeds, or by another of the same ABI.
   * Services, flows and counters stay; each packet meets the old program or the new one.
   *
   * @param bpfProgram the bytes of an ELF file
   * @throws {AbiError} when it is of another ABI
   * @throws {VerifierError} when the kernel refuses it; nothing was changed
   */
  upgrade(bpfProgram?: Uint8Array): Promise<void> {
    return this.#core.change(() => upgrade(this.#core.instance, bpfProgram));
  }

  /**
   * Makes it possible to probe each destination by itself: afterwards `nat()` has an address for each. It adds a
   * pair of virtual interfaces to the host, and routes to it; where that is done already nothing happens.
   *
   * @throws {InvalidValueError} when a prefix cannot be, or is too long for `maxDestinations`
   * @throws {NamespaceError} when the instance is in another network namespace
   * @throws {XvsError} when the system refuses; nothing is left then
   */
  openProbes(options: ProbeOptions = {}): Promise<void> {
    return this.#core.change(() => this.#core.probes.open(options));
  }

  /**
   * The opposite of `openProbes()`.
   *
   * @throws {NamespaceError} when the instance is in another network namespace
   */
  closeProbes(): Promise<void> {
    return this.#core.change(() => this.#core.probes.close());
  }

  /** Counters of the whole instance. */
  info(): Info {
    this.#core.registry.refresh();
    return {
      ...this.#core.statistics.total(),
      interfaces: this.#core.instance.interfaces,
      sampling: this.#core.connections.sampling,
      ipv4: this.#core.probes.sources[4],
      ipv6: this.#core.probes.sources[6],
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
    const before = this.#core.instance.program.runs;
    await new Promise((resolve) => setTimeout(resolve, ms));
    const after = this.#core.instance.program.runs;
    if (after.count === before.count) return undefined;
    return Number(after.timeNs - before.timeNs) / Number(after.count - before.count);
  }

  /**
   * Drops what comes to VIPs from these prefixes or addresses. `blocked()` counts it.
   *
   * @throws {InvalidValueError} when one is neither; nothing was changed
   * @throws {TableFullError} when there is no room; nothing was changed
   */
  block(...prefixes: string[]): Promise<void> {
    return this.#core.change(() => this.#core.denyList.block(prefixes));
  }

  /**
   * The opposite of `block()`.
   *
   * @throws {InvalidValueError} when one is neither prefix nor address; nothing was changed
   */
  unblock(...prefixes: string[]): Promise<void> {
    return this.#core.change(() => this.#core.denyList.unblock(prefixes));
  }

  /** The prefixes that are blocked, with what each kept out. */
  blocked(): BlockedPrefix[] {
    return this.#core.denyList.list();
  }

  /**
   * The flows that are remembered, as they are read: exceptions of rings, and those that are counted; all, if the
   * option `trackMask` is 0.
   *
   * @throws {InvalidValueError} when a field of the filter cannot be
   */
  flows(filter: FlowFilter = {}): IterableIterator<Flow> {
    this.#core.registry.refresh();
    return this.#core.flows.list(filter);
  }

  /**
   * Forgets flows: each goes where its ring sends it from now on.
   *
   * @returns how many
   * @throws {InvalidValueError} when a field of the filter cannot be; none is forgotten
   */
  purgeFlows(filter: FlowFilter = {}): Promise<number> {
    return this.#core.change(() => Promise.resolve(this.#core.flows.purge(filter)));
  }

  /**
   * What would become of a packet, and why: asked of the program that this version embeds, with the tables as
   * they are. Nothing is sent, counted or remembered.
   *
   * ```ts
   * await using client = await Client.open("web", { readOnly: true });
   * const packet = { client: "198.51.100.7", clientPort: 40000, vip: "192.0.2.1", port: 80 };
   * const { destination, why } = await client.explain(packet);
   * console.log(destination, why);
   * ```
   *
   * @throws {InvalidValueError} when a field of the packet cannot be
   */
  async explain(packet: MadeUpPacket): Promise<Explanation> {
    this.#core.registry.refresh();
    return (await this.#core.explainer()).ask(packet);
  }

  /**
   * What happens from now on, also by other processes, until the signal.
   *
   * ```ts
   * await using client = await Client.open("web");
   * for await (const event of client.events(AbortSignal.timeout(60_000), { types: ["neighbour"] })) {
   *   console.log(event);
   * }
   * ```
   */
  events(signal: AbortSignal, options: EventOptions = {}): AsyncIterable<InstanceEvent> {
    const { instance, registry, flows } = this.#core;
    const watcher = new Watcher(instance, registry, flows, options);
    return watcher.run(AbortSignal.any([signal, this.#core.signal]));
  }

  /** Detaches and frees all that this client made, but for what has a name. A change under way is waited for. */
  close(): Promise<void> {
    return this.#core.close();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  /** Attaches, and has packets and other processes find the instance. */
  async #begin(interfaces: readonly string[], store?: Store): Promise<Client> {
    try {
      await this.#attach(interfaces);
      store?.publish();
      this.#core.follow();
      return this;
    } catch (error) {
      await this.close();
      throw error;
    }
  }

  async #attach(interfaces: readonly string[]): Promise<void> {
    const { links, document: { mode, interfaceInitDelay } } = this.#core.instance;
    const found = await findInterfaces(interfaces);
    const wishes = found.map((link) => ({
      name: link.name,
      ifindex: link.ifindex,
      mode: modeFor(link, mode),
    }));
    await links.attach(wishes, { replace: this.#replace, delay: interfaceInitDelay });
    this.#core.logger?.debug("attached", this.#core.instance.interfaces);
  }
}

/** Takes interfaces for probes away, and has the kernel keep the neighbours of an instance no longer. */
async function letGoOf(name: string): Promise<void> {
  try {
    const core = new Core(Instance.open(name), {});
    await core.letGoOfAll().finally(() => core.close());
  } catch {
    // It is of another version, or of another namespace: neighbours cost the kernel a question now and then, and
    // the interfaces go when somebody makes others.
  }
}
