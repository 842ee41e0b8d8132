/**
 * What all methods of a client stand on: changes one after the other, each all or nothing, whatever other
 * processes do and whichever of them is killed.
 *
 * @module
 */
import { NextHops } from "../net/next_hop.ts";
import { Connections } from "./connections.ts";
import type { CompleteConfig } from "./config.ts";
import { DenyList } from "./deny_list.ts";
import { ReadOnlyError, XvsError } from "./errors.ts";
import { Explainer } from "./explain.ts";
import { FlowSharing } from "./flow_sharing.ts";
import { Flows } from "./flows.ts";
import type { Instance } from "./instance.ts";
import { type Journal, restorePlans, storePlans } from "./journal.ts";
import { InstanceLock } from "./lock.ts";
import type { Entry, Plan } from "./model.ts";
import { Planner, type Wish } from "./planner.ts";
import { closeProbeLink, openProbeLink } from "./probe_link.ts";
import { Probes } from "./probes.ts";
import { Registry } from "./registry.ts";
import type { NextHopSource, ProbeLinks } from "./seams.ts";
import type { CompleteServiceSet, CompleteState } from "./state.ts";
import { Store } from "./store.ts";
import { SharedState } from "./shared_state.ts";
import { Statistics } from "./statistics.ts";
import { type Destination, type Logger, serviceName } from "./types.ts";
import { completeUpgrade } from "./upgrade.ts";
import { Watchdog } from "./watchdog.ts";

/** After a failure, or beyond the end of a window. */
const SETTLE_AGAIN_MS = 1000;
/** The longest that setTimeout() waits. */
const MAX_TIMER_MS = 2 ** 31 - 1;

/** How a client behaves. */
export interface CoreOptions {
  readOnly?: boolean;
  /** Whether next hops are followed, and rings settled, as long as the client lives. */
  follow?: boolean;
  /** Seconds after which the program gives this process up; 0: never. */
  watchdog?: number;
  logger?: Logger | undefined;
  /** In the place of the kernel's tables. */
  nextHops?: NextHopSource | undefined;
  /** In the place of interfaces. */
  probeLinks?: ProbeLinks | undefined;
}

/** An instance that is open. */
export class Core {
  readonly instance: Instance;
  readonly registry: Registry;
  readonly connections: Connections;
  readonly statistics: Statistics;
  readonly denyList: DenyList;
  readonly flows: Flows;
  readonly sharing: FlowSharing;
  readonly sharedState: SharedState;
  readonly probes: Probes;
  readonly logger: Logger | undefined;
  readonly #options: CoreOptions;
  readonly #watchdog: Watchdog;
  readonly #stop = new AbortController();
  #nextHops: NextHopSource;
  /** The configuration that next hops are found by. */
  #config: CompleteConfig;
  #planner: Planner;
  #following: Promise<void> = Promise.resolve();
  #settling: ReturnType<typeof setTimeout> | undefined;
  #closing: Promise<void> | undefined;
  #explainer: Promise<Explainer> | undefined;
  /** The end of the change under way. */
  #last: Promise<unknown> = Promise.resolve();

  constructor(instance: Instance, options: CoreOptions) {
    this.instance = instance;
    this.#options = options;
    this.logger = options.logger;
    this.registry = new Registry(instance, () => this.probes.renew());
    const probeLinks = options.probeLinks ?? { open: openProbeLink, close: closeProbeLink };
    this.probes = new Probes(instance, () => this.registry.services, probeLinks);
    this.connections = new Connections(instance, this.registry);
    this.statistics = new Statistics(instance, this.registry, this.connections);
    this.denyList = new DenyList(instance);
    this.flows = new Flows(instance, this.registry);
    this.sharing = new FlowSharing(instance, this.registry);
    this.sharedState = new SharedState(instance, this.registry, this.sharing);
    this.#watchdog = new Watchdog(instance, options.watchdog ?? 0);
    this.#config = instance.document.config;
    this.#nextHops = this.#newNextHops(this.#config);
    this.#planner = this.#newPlanner(this.#nextHops);
  }

  /** Aborted when the client is closed. */
  get signal(): AbortSignal {
    return this.#stop.signal;
  }

  /** Begins to follow neighbours, routes and links. */
  follow(): void {
    if (!this.#options.follow) return;
    const nextHops = this.#nextHops;
    // It fails for want of `ip`, of which every change speaks.
    this.#following = this.#follow(nextHops).catch(() => {});
  }

  /** Makes what is known be what the instance holds, also if a process was killed while it changed something. */
  async catchUp(): Promise<void> {
    this.registry.refresh();
    for (let wait = 1; !this.registry.consistent; wait = Math.min(2 * wait, 50)) {
      // Somebody is changing something, or was killed meanwhile: whoever gets the lock finds out.
      const { store } = this.instance;
      if (store) (await this.#lock(store.name))[Symbol.dispose]();
      else await new Promise((resolve) => setTimeout(resolve, wait));
      this.registry.refresh();
    }
  }

  /** One change after the other. */
  change<Result>(act: () => Promise<Result>): Promise<Result> {
    const turn = this.#last.then(async () => {
      this.#stop.signal.throwIfAborted();
      const { store } = this.instance;
      if (this.#options.readOnly) throw new ReadOnlyError(store?.name ?? "");
      using _ = store && await this.#lock(store.name);
      if (store) await this.#catchUpNextHops();
      const result = await act();
      await this.#settle();
      return result;
    });
    this.#last = turn.catch(() => {});
    return turn;
  }

  /** Makes services what is wished. */
  async commit(wishes: readonly Wish[]): Promise<void> {
    if (this.instance.store) this.instance.links.assertHere();
    const before = this.registry.addresses();
    const plans = await this.#planner.plan(wishes);
    await this.registry.commit(plans);
    this.logger?.debug("services changed", plans.map(({ spec }) => serviceName(spec)));
    await this.#letGo(before);
  }

  /** All services with their destinations. */
  serviceSets(): CompleteServiceSet[] {
    return [...this.registry.services.values()].map((entry) => ({
      service: entry.spec,
      destinations: destinationsOf(entry),
    }));
  }

  /** All that the instance is. */
  state(): CompleteState {
    return {
      config: this.instance.document.config,
      services: this.serviceSets(),
      block: this.denyList.list().map(({ prefix }) => prefix).sort(),
    };
  }

  /**
   * Puts a configuration into force together with services, all or nothing. Services that are not wished for
   * otherwise stay.
   *
   * @param sources what is to be blocked instead of what is
   * @throws {UnreachableError} when there is no way to a destination any more
   */
  async configure(
    config: CompleteConfig,
    wishes: readonly Wish[] = [],
    sources?: readonly string[],
  ): Promise<void> {
    if (this.instance.store) this.instance.links.assertHere();
    const before = this.registry.addresses();
    const block = sources && this.denyList.changeTo(sources);
    const nextHops = sameNetworks(config, this.#config)
      ? this.#nextHops
      : this.#newNextHops(config);
    try {
      const plans = await this.#plansFor(config, wishes, nextHops);
      const journal = () => ({ plans: storePlans(plans), config, ...block?.journal });
      await this.instance.transact(journal, async () => {
        await this.registry.commit(plans, { config });
        block?.carryOut();
      });
    } catch (error) {
      if (nextHops !== this.#nextHops) await nextHops.close();
      throw error;
    }
    await this.#useConfig(config, nextHops);
    await this.#letGo(before);
  }

  /** Plans for all services: those wished for, and those that stay. */
  async #plansFor(
    config: CompleteConfig,
    wishes: readonly Wish[],
    nextHops: NextHopSource,
  ): Promise<Plan[]> {
    const wished = new Set(wishes.map(({ spec }) => serviceName(spec)));
    const kept = this.#planner.keep().filter(({ spec }) => !wished.has(serviceName(spec)));
    if (sameNetworks(config, this.#config)) return [...kept, ...await this.#planner.plan(wishes)];
    const stay = kept.map(({ spec, destinations }) => ({
      spec,
      destinations: destinations!.map(({ spec }) => spec),
    }));
    return await this.#newPlanner(nextHops).planAnew([...stay, ...wishes]);
  }

  /** Gives back what the instance has of the host: interfaces for probes, neighbours that are kept. */
  async letGoOfAll(): Promise<void> {
    await this.probes.close();
    this.instance.links.assertHere();
    await this.#planner.letGo([...this.registry.addresses()], []);
  }

  /** A copy of the program, to be asked; loaded once it is needed. */
  explainer(): Promise<Explainer> {
    return this.#explainer ??= Explainer.load(this.instance, this.registry);
  }

  /** Detaches and frees what is not pinned. A change under way is waited for. */
  close(): Promise<void> {
    return this.#closing ??= this.#close();
  }

  async #close(): Promise<void> {
    this.#stop.abort(new XvsError("Cannot change anything: the client is closed"));
    await this.#last.catch(() => {});
    clearTimeout(this.#settling);
    this.#watchdog.stop();
    (await this.#explainer?.catch(() => {}))?.[Symbol.dispose]();
    const pinned = this.instance.store !== undefined;
    try {
      if (!pinned) await this.probes.close();
    } finally {
      this.instance.close();
      this.registry.close();
      this.sharing.close();
      await this.#following;
      // What is pinned goes on sending to its neighbours.
      await this.#nextHops.close({ keep: pinned });
    }
  }

  /** Takes the lock, and completes what a killed process has left. */
  async #lock(name: string): Promise<InstanceLock> {
    using stack = new DisposableStack();
    const lock = stack.use(
      await InstanceLock.take(name, { logger: this.logger, signal: this.#stop.signal }),
    );
    const store = this.instance.store!;
    if (!store.holds(this.instance.map("settings"))) {
      if (!Store.names().includes(name)) lock.removeFile();
      throw new XvsError(`Cannot use instance "${name}": somebody has removed it`);
    }
    const journal = store.readJournal();
    // One that had not begun to replace anything.
    if (journal?.upgrade === undefined) store.discardNewPrograms();
    if (journal || this.instance.revision & 1n) await this.#complete(journal ?? {});
    this.registry.refresh();
    stack.move();
    return lock;
  }

  async #complete(journal: Journal): Promise<void> {
    this.logger?.debug("completing the change of a process that has ended", journal);
    const { plans, config, block, unblock, links, upgrade } = journal;
    // The journal stays until all of it is done.
    await this.instance.transact(() => journal, async () => {
      await this.registry.repair();
      if (links) this.instance.links.forget(links);
      if (upgrade !== undefined) completeUpgrade(this.instance, upgrade);
      const along = { again: true, ...(config && { config }) };
      await this.registry.commit(restorePlans(plans ?? []), along);
      if (block) await this.denyList.block(block);
      if (unblock) await this.denyList.unblock(unblock);
      this.denyList.tellProgram();
      this.probes.renew();
    });
  }

  /** Another process may have set another configuration. */
  async #catchUpNextHops(): Promise<void> {
    this.instance.links.prune();
    const { config } = this.instance.document;
    if (!sameNetworks(config, this.#config)) {
      await this.#useConfig(config, this.#newNextHops(config));
    }
    this.#config = config;
  }

  /** Finds next hops by another configuration from now on. */
  async #useConfig(config: CompleteConfig, nextHops: NextHopSource): Promise<void> {
    const before = this.#nextHops;
    this.#config = config;
    if (before === nextHops) return;
    this.#nextHops = nextHops;
    this.#planner = this.#newPlanner(nextHops);
    await before.close({ keep: this.instance.store !== undefined });
    const followed = this.#following;
    this.follow();
    this.#following = Promise.all([followed, this.#following]).then(() => {});
  }

  #newNextHops({ ipv4VLANs, ipv6VLANs, routes }: CompleteConfig): NextHopSource {
    return this.#options.nextHops ?? new NextHops({ ipv4VLANs, ipv6VLANs, routes });
  }

  #newPlanner(nextHops: NextHopSource): Planner {
    const { neighbourTimeout } = this.instance.document;
    return new Planner(nextHops, this.registry, {
      timeoutMs: neighbourTimeout,
      renew: !this.#options.follow,
    });
  }

  /** Lets go of the neighbours of destinations that have gone, where nobody else would. */
  async #letGo(before: ReadonlySet<string>): Promise<void> {
    if (this.#options.follow) return;
    const gone = before.difference(this.registry.addresses());
    // What is kept for nothing costs the kernel a question now and then.
    if (gone.size > 0) {
      await this.#planner.letGo([...gone], [...this.registry.addresses()]).catch(() => {});
    }
  }

  /** Neighbours, routes and links change: destinations follow. */
  async #follow(nextHops: NextHopSource): Promise<void> {
    for await (const _ of nextHops.follow(this.#stop.signal)) {
      // Should it fail, the next event tries again; what stands goes on meanwhile.
      await this.change(async () => {
        if (nextHops !== this.#nextHops) return;
        const plans = await this.#planner.renew();
        await this.registry.commit(plans);
        const names = plans.map(({ spec }) => serviceName(spec));
        if (names.length > 0) this.logger?.debug("next hops changed", names);
      }).catch((error) => this.logger?.debug("next hops could not be found", error));
    }
  }

  /** Settles what is due, and comes back when the next is. Its failure is not that of the change before. */
  async #settle(): Promise<void> {
    clearTimeout(this.#settling);
    let waitMs = SETTLE_AGAIN_MS;
    try {
      const next = await this.connections.settle();
      if (next === undefined) return;
      waitMs += Number((next - this.instance.clock()) / 1_000_000n);
    } catch (error) {
      // Rings that are not settled cost a lookup more for each packet, and nothing else.
      this.logger?.debug("rings could not be settled", error);
    }
    if (!this.#options.follow) return;
    this.#settling = setTimeout(
      () => this.change(() => Promise.resolve()).catch(() => {}),
      Math.min(waitMs, MAX_TIMER_MS),
    );
    Deno.unrefTimer(Number(this.#settling));
  }
}

/** Whether next hops are found in the same way. */
function sameNetworks(a: CompleteConfig, b: CompleteConfig): boolean {
  const networks = ({ ipv4VLANs, ipv6VLANs, routes }: CompleteConfig) =>
    JSON.stringify([ipv4VLANs, ipv6VLANs, routes]);
  return networks(a) === networks(b);
}

/** The destinations of a service. */
export function destinationsOf(entry: Entry): Required<Destination>[] {
  return [...entry.members.values()].map(({ spec }) => spec);
}
