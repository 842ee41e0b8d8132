/**
 * The interfaces that an instance is attached to.
 *
 * @module
 */
import { type BpfMap, u32, XdpLink } from "../bpf/mod.ts";
import { namespaceId, namespaceName } from "../net/namespace.ts";
import { interfaceName } from "../sys/interface.ts";
import { NamespaceError } from "./errors.ts";
import type { Instance } from "./instance.ts";
import { linkPin } from "./store.ts";
import type { AttachedInterface, Mode } from "./types.ts";

/** An interface that was attached, as the instance remembers it. */
export interface LinkRecord {
  name: string;
  ifindex: number;
  /** The inode of its network namespace. */
  namespace: number;
  mode: Mode;
}

/** An interface to attach to. */
export interface LinkWish {
  name: string;
  ifindex: number;
  mode: Mode | "auto";
}

/** How to attach. */
export interface AttachOptions {
  /** Detach what others have attached there. */
  replace: boolean;
  /** Seconds to wait after each interface. */
  delay: number;
}

/** Attaches the program of an instance, which lasts as its pins do; without pins as this object does. */
export class Links {
  readonly #instance: Instance;
  /** Interfaces that packets may leave by. */
  readonly #egress: BpfMap;
  /** Links that have no pin, by what it would be called. */
  readonly #unpinned = new Map<string, XdpLink>();

  constructor(instance: Instance, egress: BpfMap) {
    this.#instance = instance;
    this.#egress = egress;
  }

  /**
   * Attaches to interfaces, all or none. Where the program is attached already it stays.
   *
   * @throws {XdpBusyError} when one has an XDP program of somebody else's
   * @throws {NamespaceError} when the instance is attached in another network namespace
   */
  async attach(wishes: readonly LinkWish[], options: AttachOptions): Promise<void> {
    this.prune();
    const fresh = new Map(
      wishes.map((wish) => [pinOf({ ...wish, namespace: namespaceId() }), wish]),
    );
    for (const record of this.#records) fresh.delete(pinOf(record));
    if (fresh.size === 0) return;
    this.assertHere();
    await this.#instance.transact(() => ({ links: [...fresh.keys()] }), async () => {
      const records: LinkRecord[] = [];
      try {
        for (const [pin, wish] of fresh) records.push(await this.#attachOne(pin, wish, options));
        this.#remember([...this.#records, ...records]);
      } catch (error) {
        for (const pin of fresh.keys()) this.#drop(pin);
        throw error;
      }
    });
  }

  /** Takes the program off interfaces; that it is not there is no error. */
  async detach(names: readonly string[]): Promise<void> {
    this.prune();
    const gone = this.#records.filter((record) => names.includes(nameOf(record))).map(pinOf);
    if (gone.length === 0) return;
    await this.#instance.transact(() => ({ links: gone }), () => this.forget(gone));
  }

  /** Takes links away by their pins. */
  forget(pins: readonly string[]): void {
    for (const pin of pins) this.#drop(pin);
    const left = this.#records.filter((record) => !pins.includes(pinOf(record)));
    if (left.length < this.#records.length) this.#remember(left);
  }

  /** Forgets interfaces that have gone, or that somebody has detached. */
  prune(): void {
    const dead = this.#records.map(pinOf).filter((pin) => !this.#isAttached(pin));
    if (dead.length > 0) this.forget(dead);
  }

  /** The interfaces that were attached, and how. */
  list(): AttachedInterface[] {
    return this.#records.map((record) => ({
      name: nameOf(record),
      index: record.ifindex,
      mode: this.#isAttached(pinOf(record)) ? record.mode : undefined,
    }));
  }

  /** The network namespace that the instance is attached in; undefined if it is attached nowhere. */
  get namespace(): number | undefined {
    return this.#records.find((record) => this.#isAttached(pinOf(record)))?.namespace;
  }

  /**
   * Refuses to work with the wrong interfaces, neighbours and routes.
   *
   * @throws {NamespaceError} when the instance is attached in another network namespace
   */
  assertHere(): void {
    const there = this.namespace;
    if (there === undefined || there === namespaceId()) return;
    throw elsewhere(this.#instance.store?.name ?? "", there);
  }

  /** Has every interface run the program that the instance has now. */
  update(): void {
    for (const record of this.#records) {
      using opened = this.#open(pinOf(record));
      if (opened.link?.attached) opened.link.update(this.#instance.program);
    }
  }

  /** Detaches what has no pin. */
  close(): void {
    for (const link of this.#unpinned.values()) link.close();
    this.#unpinned.clear();
  }

  async #attachOne(pin: string, wish: LinkWish, options: AttachOptions): Promise<LinkRecord> {
    const { name, ifindex, mode } = wish;
    const { program, store } = this.#instance;
    this.#egress.update(u32(ifindex), u32(ifindex));
    const link = program.attachXdp(ifindex, { mode, replace: options.replace });
    try {
      store?.pinLink(pin, link);
    } finally {
      if (store) link.close();
      else this.#unpinned.set(pin, link);
    }
    if (options.delay > 0) await new Promise((done) => setTimeout(done, options.delay * 1000));
    return { name, ifindex, namespace: namespaceId(), mode: link.mode ?? "generic" };
  }

  #drop(pin: string): void {
    this.#unpinned.get(pin)?.close();
    this.#unpinned.delete(pin);
    this.#instance.store?.removeLink(pin);
    this.#egress.delete(u32(Number(pin.split("_").at(-1))));
  }

  #isAttached(pin: string): boolean {
    using opened = this.#open(pin);
    return opened.link?.attached ?? false;
  }

  /** A link, to be closed by the caller only if it is kept by a pin. */
  #open(pin: string): Disposable & { link: XdpLink | undefined } {
    const unpinned = this.#unpinned.get(pin);
    const link = unpinned ?? this.#instance.store?.openLink(pin);
    return { link, [Symbol.dispose]: () => unpinned ? undefined : link?.close() };
  }

  get #records(): readonly LinkRecord[] {
    return this.#instance.document.links;
  }

  #remember(links: LinkRecord[]): void {
    this.#instance.document = { ...this.#instance.document, links };
  }
}

/** The error of an instance whose interfaces are in another network namespace. */
export function elsewhere(instance: string, namespace: number): NamespaceError {
  const name = namespaceName(namespace);
  const where = name
    ? `"${name}"; run this by "nsenter --net=/run/netns/${name}"`
    : `${namespace}, which has no name`;
  return new NamespaceError(instance, where);
}

/** The name that an interface has now, where that can be seen. */
function nameOf({ name, ifindex, namespace }: LinkRecord): string {
  return namespace === namespaceId() ? interfaceName(ifindex) ?? name : name;
}

function pinOf({ namespace, ifindex }: Pick<LinkRecord, "namespace" | "ifindex">): string {
  return linkPin(namespace, ifindex);
}
