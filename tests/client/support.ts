/**
 * A client on an instance whose maps the test can see, with next hops of the test's making.
 *
 * @module
 */
import { u32 } from "../../lib/bpf/mod.ts";
import { Instance } from "../../lib/lb/instance.ts";
import type { NextHopSource } from "../../lib/lb/seams.ts";
import { Address } from "../../lib/net/address.ts";
import { type NextHop, NextHopError } from "../../lib/net/next_hop.ts";
import { Client, type Destination, type Options, type Service } from "../../mod.ts";

/** The interface that a test run's packets come from: the loopback. */
const IFINDEX = 1;

/** A next hop; `last` is the last byte of its MAC. */
export function hop(last = 1, rest: Partial<NextHop> = {}): NextHop {
  return {
    ifindex: IFINDEX,
    interface: "lo",
    sourceMac: "02:00:00:00:00:fe",
    destinationMac: `02:00:00:00:00:${last.toString(16).padStart(2, "0")}`,
    vlan: 0,
    mtu: 1500,
    source4: Address.parse("10.0.0.254"),
    source6: Address.parse("fd00::fe"),
    onLink: true,
    ...rest,
  };
}

/** Why an address has no next hop. */
export function unresolved(address: string): NextHopError {
  return new NextHopError(address, "unresolved", "it has not answered", true);
}

/** See {@linkcode unresolved}; there is no route, so that none is to be expected. */
export function unreachable(address: string): NextHopError {
  return new NextHopError(address, "unreachable", "there is no route");
}

/** Everybody is a neighbour, but for what a test says of some. */
export class FakeNextHops implements NextHopSource {
  readonly answers = new Map<string, NextHop | NextHopError>();
  /** How many were asked for each time. */
  readonly asked: number[] = [];
  /** What was to be kept at last. */
  retained: readonly string[] = [];
  closed = false;
  #change: PromiseWithResolvers<void> | undefined;

  resolve(addresses: readonly Address[]): Promise<Map<string, NextHop | NextHopError>> {
    this.asked.push(addresses.length);
    return Promise.resolve(
      new Map(addresses.map(String).map((text) => [text, this.answers.get(text) ?? hop()])),
    );
  }

  retain(addresses: readonly Address[]): Promise<void> {
    this.retained = addresses.map(String);
    return Promise.resolve();
  }

  /** Something may have changed: the client looks, and has done what follows from it when this is done. */
  async tell(): Promise<void> {
    const told = this.#change;
    told?.resolve();
    while (this.#change === told) await new Promise((resolve) => setTimeout(resolve, 1));
  }

  async *follow(signal: AbortSignal): AsyncIterable<void> {
    signal.addEventListener("abort", () => this.#change?.resolve());
    while (!signal.aborted) {
      this.#change = Promise.withResolvers();
      await this.#change.promise;
      if (!signal.aborted) yield;
    }
  }

  close(): Promise<void> {
    this.closed = true;
    return Promise.resolve();
  }
}

/** A client, and what lies beneath. */
export class Subject implements AsyncDisposable {
  readonly client: Client;
  readonly instance: Instance;
  readonly nextHops: FakeNextHops;

  private constructor(client: Client, instance: Instance, nextHops: FakeNextHops) {
    this.client = client;
    this.instance = instance;
    this.nextHops = nextHops;
  }

  static async create(options: Options = {}): Promise<Subject> {
    const instance = await Instance.load(options);
    const nextHops = new FakeNextHops();
    const client = await Client.create([], options, { instance, nextHops });
    return new Subject(client, instance, nextHops);
  }

  /** The id of the map that holds a service's ring. */
  ringId(service: Service): number {
    return this.#ringOf(this.entry(service).id);
  }

  /** The ids of the maps that hold rings, by the number of the service; 0 where there never was one. */
  rings(): number[] {
    return Array.from({ length: this.instance.sizes.maxServices }, (_, id) => this.#ringOf(id));
  }

  /** What packets find of a service. */
  entry(service: Service): { id: number; ringSize: number; vip: number; sticky: number } {
    const address = Address.parse(service.address);
    const table = address.family === 4 ? this.instance.services4 : this.instance.services6;
    for (const [key, entry] of table.entries()) {
      const port = new DataView(key.buffer, key.byteOffset).getUint16(address.bytes.length);
      const ours = address.bytes.every((byte, i) => key[i] === byte) && port === service.port &&
        key[address.bytes.length + 2] === (service.protocol === "udp" ? 17 : 6);
      if (ours) return entry;
    }
    throw new Error(`No packet finds service ${JSON.stringify(service)}`);
  }

  /** All that a packet or a user can see, in a form to compare. */
  state(): unknown {
    const { client, instance } = this;
    const { services4, services6, vips4, vips6, destinations } = instance;
    return {
      services: client.services().map((service) => ({
        ...service,
        destinations: client.destinations(service.service),
      })),
      vips: client.vips(),
      tables: [services4, services6, vips4, vips6].map((table) =>
        [...table.entries()].map(([key, value]) => [key.toHex(), value]).sort()
      ),
      destinations: [...destinations.entries()].filter(([, { generation }]) => generation !== 0),
      serviceRecords: [...instance.serviceRecords.entries()].filter(([, { protocol }]) =>
        protocol !== 0
      ),
      destinationRecords: [...instance.destinationRecords.entries()]
        .filter(([, { used }]) => used === 1),
      rings: this.rings(),
      files: openFiles(),
    };
  }

  /** As it was when new, but for counters and for which numbers come next. */
  async clear(): Promise<void> {
    for (const each of this.client.services()) await this.client.removeService(each.service);
    this.nextHops.answers.clear();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.client.close();
  }

  #ringOf(id: number): number {
    const value = this.instance.rings.lookup(u32(id));
    return value ? new Uint32Array(value.slice().buffer)[0]! : 0;
  }
}

/** How many file descriptors this process has. */
export function openFiles(): number {
  return [...Deno.readDirSync("/proc/self/fd")].length;
}

/** Destinations 10.`second`.0.1 and up. */
export function destinations(count: number, second = 0): Destination[] {
  return Array.from({ length: count }, (_, i) => ({
    address: `10.${second}.${(i + 1) >>> 8}.${(i + 1) & 0xff}`,
  }));
}

/** 192.0.2.`last`, port 80. */
export function service(last: number, rest: Partial<Service> = {}): Service {
  return { address: `192.0.2.${last}`, port: 80, ...rest };
}

/** Tests that share one instance, since it takes a while to load; each begins without services. */
export function clientTests(
  options: Options = {},
): (name: string, test: (subject: Subject) => Promise<void>) => void {
  let subject: Subject;
  Deno.test.beforeAll(async () => {
    subject = await Subject.create(options);
  });
  Deno.test.afterAll(() => subject[Symbol.asyncDispose]());
  return (name, test) =>
    Deno.test(name, async () => {
      try {
        await test(subject);
      } finally {
        await subject.clear();
      }
    });
}
