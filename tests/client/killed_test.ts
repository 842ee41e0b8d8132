/**
 * Whoever is killed in the middle of a change leaves the old state or the new one: tried at each step of each
 * kind of change, with packets under way.
 */

import { assert, assertEquals } from "@std/assert";
import { interfaceIndex, queryXdp } from "../../lib/bpf/mod.ts";
import { decodeRing, isTracked } from "../../lib/lb/change.ts";
import { Instance } from "../../lib/lb/instance.ts";
import { RUN_DIRECTORY } from "../../lib/lb/lock.ts";
import { Client, type Config, type Destination, type Service } from "../../mod.ts";
import { Network } from "../bpf/support.ts";
import { ethernet, ipv4, tcp } from "../packets/build.ts";
import { type Mortal, Neighbours } from "./mortal.ts";
import { service } from "./support.ts";

const SIZES = { maxServices: 6, maxDestinations: 12, maxFlows: 4096, maxBlocked: 8 };
const FLOWS = 150;
const IFINDEX = 1;
let instances = 0;

type Set = { service: Service; destinations: Destination[] }[];

const [A, B, C, D, E] = [1, 2, 3, 4, 5].map((last) => ({ address: `10.0.0.${last}` })) as [
  Destination,
  Destination,
  Destination,
  Destination,
  Destination,
];
const HTTP = service(1), HTTPS = service(1, { port: 443 }), OTHER = service(2), NEW = service(3);
/** What there is before each change. */
const BASE: Set = [
  { service: HTTP, destinations: [A, B, C] },
  { service: HTTPS, destinations: [A, { ...B, weight: 2 }] },
  { service: OTHER, destinations: [D] },
];

/** Each kind of change: what the process does that is killed. */
const CHANGES: Record<string, [method: string, ...args: unknown[]]> = {
  "destinations come, go and change": ["setService", HTTP, A, { ...B, weight: 3 }, D, {
    ...E,
    tunnelType: "ipip",
  }],
  "several services change, and one is new": ["setServices", [
    { service: { ...HTTP, sticky: true, idleTimeout: 60 }, destinations: [B, C, D] },
    { service: NEW, destinations: [A, E] },
    { service: OTHER, destinations: [] },
  ]],
  "a destination drains": ["updateDestination", HTTP, { ...A, disable: true }],
  "a service goes, and its VIP with it": ["removeService", OTHER],
  "a service goes, and its VIP stays": ["removeService", HTTPS],
  "a service comes": ["createService", NEW],
  "prefixes are blocked": ["block", "198.51.101.0/24", "203.0.113.0/24", "2001:db8:7::/48"],
  "prefixes are blocked no longer": ["unblock", "198.51.102.0/24", "198.51.103.0/24"],
  "the configuration changes": ["setConfig", {
    unknownPort: "reject",
    outerSource4: "10.9.0.0/16",
    ipv4VLANs: { 1: "10.0.0.254/24" },
  }],
  "all becomes something else": ["setState", {
    config: { unknownPort: "pass" },
    services: [
      { service: HTTP, destinations: [B, C, D] },
      { service: NEW, destinations: [A] },
    ],
    block: ["203.0.113.0/24"],
  }],
};

/** An instance whose changes are cut short. */
class Victim implements AsyncDisposable {
  readonly name = `killed${Deno.pid}_${++instances}`;

  open(): Promise<Client> {
    return Client.open(this.name, {}, { nextHops: new Neighbours() });
  }

  async create(): Promise<void> {
    const options = { ...SIZES, trackMask: 0xffffffff, instance: this.name, follow: false };
    await using client = await Client.create([], options, { nextHops: new Neighbours() });
    await reset(client);
  }

  /** Has a process make a change, and die at a point of it. Returns whether it died. */
  async attempt(point: number, method: string, args: unknown[]): Promise<boolean> {
    const mortal: Mortal = { instance: this.name, method, args, point };
    const script = new URL("mortal.ts", import.meta.url).pathname;
    const { code, stderr } = await new Deno.Command(Deno.execPath(), {
      args: ["run", "-A", "--no-check", script, JSON.stringify(mortal)],
    }).output();
    if (code === 0) return false;
    assertEquals(code, 137, new TextDecoder().decode(stderr));
    return true;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Client.remove(this.name).catch(() => {});
  }
}

/** As it was at first, but for which numbers come next. */
async function reset(client: Client, blocking = true): Promise<void> {
  const wanted = new globalThis.Set(
    BASE.map(({ service }) => JSON.stringify([service.address, service.port])),
  );
  for (const { service: { address, port, protocol } } of client.services()) {
    if (!wanted.has(JSON.stringify([address, port]))) {
      await client.removeService({ address, port, protocol });
    }
  }
  await client.setServices(BASE);
  const blocked = ["198.51.102.0/24", "198.51.103.0/24"];
  await client.unblock(...client.blocked().map(({ prefix }) => prefix));
  if (blocking) await client.block(...blocked);
  await client.setConfig({});
}

/** All that was asked for. */
function stateOf(client: Client): unknown {
  const services = client.services().map(({ service }) => ({
    service,
    destinations: client.destinations(service)
      .map(({ destination, mac }) => ({ destination, mac }))
      .sort((a, b) => a.destination.address < b.destination.address ? -1 : 1),
  })).sort((a, b) => a.service.address < b.service.address ? -1 : 1);
  const config: Config = client.config();
  const blocked = client.blocked().map(({ prefix }) => prefix).sort();
  return { services, config, blocked };
}

/** The flow that comes from a port, and its service. */
const frameOf = (to: Service, sourcePort: number, flags: ("syn" | "ack")[]) =>
  ethernet(
    {},
    ipv4(
      { source: "198.51.100.7", destination: to.address },
      tcp({ sourcePort, destinationPort: to.port, flags }),
    ),
  );

/** Where each flow of a service goes: the last byte of the MAC, which is that of the address; 0: nowhere. */
function sendAll(instance: Instance, to: Service, flags: ("syn" | "ack")[]): number[] {
  return Array.from({ length: FLOWS }, (_, i) => {
    const data = frameOf(to, 20000 + i, flags);
    const { retval, data: out } = instance.program.testRun({ data, ingressIfindex: IFINDEX });
    return retval === 3 ? out[5]! : 0;
  });
}

type Homes = Map<Service, number[]>;

/** Opens flows of all services, and says where they are. */
function establish(instance: Instance): Homes {
  return new Map(BASE.map(({ service }) => {
    sendAll(instance, service, ["syn"]);
    return [service, sendAll(instance, service, ["ack"])];
  }));
}

function lastBytes(state: unknown, service: Service): number[] {
  const { services } = state as {
    services: { service: Service; destinations: { destination: Destination }[] }[];
  };
  const found = services.find((each) =>
    each.service.address === service.address && each.service.port === service.port
  );
  return (found?.destinations ?? []).map(({ destination }) =>
    Number(destination.address.split(".")[3])
  );
}

/** Flows are where they were if their destination is there before and after; the others somewhere sensible. */
function assertFlows(
  instance: Instance,
  homes: Homes,
  before: unknown,
  after: unknown,
  when: string,
): void {
  for (const [service, home] of homes) {
    const old = lastBytes(before, service), next = lastBytes(after, service);
    const now = sendAll(instance, service, ["ack"]);
    now.forEach((at, i) => {
      if (next.includes(home[i]!)) assertEquals(at, home[i], `${when}: flow ${i} has moved`);
      else assert(at === 0 ? next.length === 0 : [...old, ...next].includes(at), `${when}: ${at}`);
    });
  }
}

/** What packets find of each service is what its ring and its record say. */
function assertTables(instance: Instance): void {
  const found = [...instance.services4.entries()].map(([, entry]) => entry);
  for (const { id, ringSize, sticky } of found) {
    using map = instance.openRing(id);
    const ring = decodeRing(map.lookupBatch().values);
    const { settleNs, ...record } = instance.serviceRecords.get(id)!;
    assertEquals([ringSize, sticky], [ring.size, Number(ring.sticky)]);
    assertEquals(record.sticky, sticky);
    assertEquals(settleNs, ring.current.some(isTracked) ? ring.windowEndNs : 0n);
  }
  const records = [...instance.serviceRecords.written()].filter(([, { protocol }]) => protocol);
  assertEquals(records.map(([id]) => id), found.map(({ id }) => id).sort((a, b) => a - b));
}

/** All numbers that nobody uses can be given out, and nobody has what another one has. */
async function assertRoom(victim: Victim): Promise<void> {
  await using client = await victim.open();
  using instance = Instance.open(victim.name);
  const members = client.services().flatMap(({ service }) => client.destinations(service));
  const used = [...instance.destinationRecords.written()].filter(([, record]) => record.used === 1);
  assertEquals(used.length, members.length);
  const entries = [...instance.destinations.written()].filter(([, { generation }]) => generation);
  assertEquals(entries.map(([slot]) => slot), used.map(([slot]) => slot));
  const free = SIZES.maxDestinations - members.length;
  const fillers = Array.from({ length: SIZES.maxServices - client.services().length }, (_, i) => ({
    service: service(100 + i),
    destinations: i > 0
      ? []
      : Array.from({ length: free }, (_, j) => ({ address: `10.0.1.${j + 1}` })),
  }));
  await client.setServices(fillers);
  for (const { service } of fillers) await client.removeService(service);
}

for (const [name, [method, ...args]] of Object.entries(CHANGES)) {
  Deno.test(`killed while ${name}: the old state or the new one`, async () => {
    await using victim = new Victim();
    await victim.create();
    const outcomes = { old: 0, new: 0 };
    let after: unknown;
    {
      await using client = await victim.open();
      await reset(client, method !== "block");
      await (client as unknown as Record<string, (...args: unknown[]) => Promise<void>>)[method]!(
        ...args,
      );
      after = stateOf(client);
    }
    for (let point = 0, died = true; died; point++) {
      let before: unknown, homes: Homes;
      using instance = Instance.open(victim.name);
      {
        await using client = await victim.open();
        await reset(client, method !== "block");
        before = stateOf(client);
        homes = establish(instance);
      }
      died = await victim.attempt(point, method, args);
      assertFlows(instance, homes, before, after, `killed at ${point}`);
      await using client = await victim.open();
      const state = stateOf(client);
      const isOld = JSON.stringify(state) === JSON.stringify(before);
      outcomes[isOld ? "old" : "new"]++;
      if (!isOld) assertEquals(state, after, `killed at ${point}`);
      if (!died) assertEquals(state, after, "not killed");
      assertFlows(instance, homes, before, state, `after ${point}`);
      assertEquals(instance.revision % 2n, 0n);
      assertTables(instance);
      assertEquals(instance.settings.deny, Number(client.blocked().length > 0));
      const files = [...Deno.readDirSync(RUN_DIRECTORY)].map((entry) => entry.name);
      assert(!files.includes(`${victim.name}.journal`), `journal left at ${point}`);
      await client.close();
      await assertRoom(victim);
    }
    if (Deno.env.has("XVS_VERBOSE")) console.log(outcomes);
    assert(outcomes.old > 2 && outcomes.new > 2, JSON.stringify(outcomes));
  });
}

/** The interfaces that have a program, and whether it is the same on all of them. */
function attached(): string[] {
  const names = ["left", "right"].filter((name) => queryXdp(interfaceIndex(name)).generic);
  const programs = new globalThis.Set(names.map((name) => queryXdp(interfaceIndex(name)).generic));
  assert(programs.size <= 1, "two programs at once");
  return names;
}

/** Each change of what is pinned: from which interfaces to which; undefined: there is no instance. */
const PINNED: [
  name: string,
  from?: string[],
  to?: string[],
  ...call: [method: string, ...unknown[]],
][] = [
  ["an instance is made", undefined, ["left", "right"], "create", ["left", "right"], SIZES],
  ["an instance is removed", ["left", "right"], undefined, "remove"],
  ["interfaces are attached", ["left"], ["left", "right"], "attach", "left", "right"],
  ["interfaces are detached", ["left", "right"], [], "detach", "left", "right"],
  ["the program is replaced", ["left", "right"], ["left", "right"], "upgrade"],
];

for (const [name, from, to, method, ...args] of PINNED) {
  Deno.test(`killed while ${name}: the old state or the new one`, async () => {
    using _ = new Network();
    await using victim = new Victim();
    const outcomes = { old: 0, new: 0 };
    for (let point = 0, died = true; died; point++) {
      await Client.remove(victim.name).catch(() => {});
      if (from) {
        const options = { ...SIZES, instance: victim.name, follow: false };
        await (await Client.create(from, options, { nextHops: new Neighbours() })).close();
      }
      died = await victim.attempt(point, method, args);
      const there = (await Client.instances()).find((each) => each.name === victim.name);
      if (there) {
        await using client = await victim.open();
        const named = client.info().interfaces.map((each) => each.name).sort();
        assertEquals(attached(), named, `killed at ${point}`);
        assert(client.info().interfaces.every(({ mode }) => mode), `killed at ${point}`);
        await client.unblock("192.0.2.0/24"); // whatever is changed next tidies up
      }
      const state = there && attached();
      if (!there) assertEquals(attached(), [], `killed at ${point}`);
      const isOld = JSON.stringify(state) === JSON.stringify(from);
      outcomes[isOld && died ? "old" : "new"]++;
      if (!isOld || !died) assertEquals(state, to, `killed at ${point}`);
      const files = [...Deno.readDirSync(RUN_DIRECTORY)].map((entry) => entry.name);
      assert(!files.includes(`${victim.name}.journal`), `journal left at ${point}`);
      const root = `/sys/fs/bpf/xvs/${victim.name}`;
      const pins = there ? [...Deno.readDirSync(root)].map((entry) => entry.name) : [];
      assertEquals(pins.filter((pin) => pin.startsWith("link_")).length, state?.length ?? 0);
      assert(!pins.some((pin) => pin.includes("+")), `pins left at ${point}`);
    }
    assert(outcomes.old > 1 && outcomes.new > 0, JSON.stringify(outcomes));
  });
}
