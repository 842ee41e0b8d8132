/**
 * What happens to an instance, whoever does it. Changes are told by the instance's revision, which costs a look
 * into memory; flows by going through their tables.
 *
 * @module
 */
import { delay } from "../net/monitor.ts";
import type { Flow, Flows } from "./flows.ts";
import type { Instance } from "./instance.ts";
import type { Registry } from "./registry.ts";
import type { AttachedInterface, Destination, Service } from "./types.ts";

/** Something that has happened. */
export type InstanceEvent =
  | { type: "service"; change: Change; service: Required<Service> }
  | {
    type: "destination";
    change: Change;
    service: Required<Service>;
    destination: Required<Destination>;
  }
  /** Where frames to a destination are sent has become another; no MAC: not known. */
  | {
    type: "neighbour";
    service: Required<Service>;
    /** Its address. */
    destination: string;
    mac: string | undefined;
    interface: string | undefined;
  }
  | { type: "link"; change: "attached" | "detached"; interface: AttachedInterface }
  /** Of the flows that are remembered; see `Client.flows()`. */
  | { type: "flow"; change: "began" | "moved" | "ended"; flow: Flow };

/** What became of something. */
export type Change = "added" | "changed" | "removed";

/** Which events are told. */
export interface EventOptions {
  /** Default: all. Those of flows cost reading the flow tables once a second. */
  types?: readonly InstanceEvent["type"][];
}

/** How often to look for changes, in milliseconds. */
const POLL_MS = 100;
/** How many times as often as links and flows. */
const SELDOM = 10;

interface Hop {
  mac: string | undefined;
  interface: string | undefined;
}

interface ServiceView {
  spec: Required<Service>;
  destinations: Map<string, { spec: Required<Destination>; hop: Hop }>;
}

type Services = Map<string, ServiceView>;

/** Compares what is with what was. */
export class Watcher {
  readonly #instance: Instance;
  readonly #registry: Registry;
  readonly #flows: Flows;
  readonly #types: ReadonlySet<InstanceEvent["type"]>;
  #revision: bigint;
  #services: Services;
  #links: Map<string, AttachedInterface>;
  #known: Map<string, Flow>;

  /** From now on nothing that happens is missed. */
  constructor(instance: Instance, registry: Registry, flows: Flows, options: EventOptions) {
    const all = ["service", "destination", "neighbour", "link", "flow"] as const;
    this.#instance = instance;
    this.#registry = registry;
    this.#flows = flows;
    this.#types = new Set(options.types ?? all);
    this.#registry.refresh();
    this.#revision = instance.revision;
    this.#services = this.#lookAtServices();
    this.#links = this.#lookAtLinks();
    this.#known = this.#lookAtFlows();
  }

  /** Events as they happen, until the signal. */
  async *run(signal: AbortSignal): AsyncGenerator<InstanceEvent> {
    for (let turn = 1; !signal.aborted; turn++) {
      await delay(POLL_MS, signal);
      if (signal.aborted) return;
      const events = this.#changesOfServices();
      if (turn % SELDOM === 0) events.push(...this.#changesOfLinks(), ...this.#changesOfFlows());
      for (const event of events) {
        if (this.#types.has(event.type)) yield event;
      }
    }
  }

  #changesOfServices(): InstanceEvent[] {
    this.#registry.refresh();
    const { revision } = this.#instance;
    if (revision === this.#revision) return [];
    // Half of a change is not told of: there is another look after its end.
    if (!(revision & 1n)) this.#revision = revision;
    const before = this.#services;
    this.#services = this.#lookAtServices();
    return compareServices(before, this.#services);
  }

  #changesOfLinks(): InstanceEvent[] {
    const before = this.#links;
    this.#links = this.#lookAtLinks();
    const gone = [...before].filter(([key]) => !this.#links.has(key));
    const come = [...this.#links].filter(([key]) => !before.has(key));
    return [
      ...gone.map(([, link]) => ({ type: "link", change: "detached", interface: link } as const)),
      ...come.map(([, link]) => ({ type: "link", change: "attached", interface: link } as const)),
    ];
  }

  #changesOfFlows(): InstanceEvent[] {
    if (!this.#types.has("flow")) return [];
    const before = this.#known;
    this.#known = this.#lookAtFlows();
    const events: InstanceEvent[] = [];
    for (const [key, flow] of this.#known) {
      const old = before.get(key);
      if (!old) events.push({ type: "flow", change: "began", flow });
      else if (old.destination !== flow.destination) {
        events.push({ type: "flow", change: "moved", flow });
      }
    }
    for (const [key, flow] of before) {
      if (!this.#known.has(key)) events.push({ type: "flow", change: "ended", flow });
    }
    return events;
  }

  #lookAtServices(): Services {
    return new Map(
      [...this.#registry.services].map(([name, { spec, members }]) => [name, {
        spec,
        destinations: new Map(
          [...members].map(([address, { spec, nextHop }]) => [address, {
            spec,
            hop: { mac: nextHop?.destinationMac, interface: nextHop?.interface },
          }]),
        ),
      }]),
    );
  }

  #lookAtLinks(): Map<string, AttachedInterface> {
    const attached = this.#instance.interfaces.filter(({ mode }) => mode !== undefined);
    return new Map(attached.map((link) => [JSON.stringify(link), link]));
  }

  #lookAtFlows(): Map<string, Flow> {
    if (!this.#types.has("flow")) return new Map();
    return new Map(
      [...this.#flows.list({})].map((flow) => [
        JSON.stringify([flow.protocol, flow.client, flow.clientPort, flow.vip, flow.port]),
        flow,
      ]),
    );
  }
}

function compareServices(before: Services, after: Services): InstanceEvent[] {
  const events: InstanceEvent[] = [];
  for (const [name, { spec, destinations }] of before) {
    if (after.has(name)) continue;
    for (const { spec: destination } of destinations.values()) {
      events.push({ type: "destination", change: "removed", service: spec, destination });
    }
    events.push({ type: "service", change: "removed", service: spec });
  }
  for (const [name, view] of after) {
    const old = before.get(name);
    if (!old) events.push({ type: "service", change: "added", service: view.spec });
    else if (differ(old.spec, view.spec)) {
      events.push({ type: "service", change: "changed", service: view.spec });
    }
    events.push(...compareDestinations(view.spec, old?.destinations, view.destinations));
  }
  return events;
}

function compareDestinations(
  service: Required<Service>,
  before: ServiceView["destinations"] | undefined,
  after: ServiceView["destinations"],
): InstanceEvent[] {
  const events: InstanceEvent[] = [];
  const tell = (change: Change, destination: Required<Destination>) =>
    events.push({ type: "destination", change, service, destination });
  for (const [address, { spec }] of before ?? []) {
    if (!after.has(address)) tell("removed", spec);
  }
  for (const [address, { spec, hop }] of after) {
    const old = before?.get(address);
    if (!old) tell("added", spec);
    else if (differ(old.spec, spec)) tell("changed", spec);
    if (differ(old?.hop ?? { mac: undefined, interface: undefined }, hop)) {
      events.push({ type: "neighbour", service, destination: address, ...hop });
    }
  }
  return events;
}

function differ(a: unknown, b: unknown): boolean {
  return JSON.stringify(a) !== JSON.stringify(b);
}
