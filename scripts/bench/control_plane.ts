/**
 * How long changes take, from the call to the maps that packets meet.
 *
 * @module
 */
import { buildRing, RING_SIZES } from "../../lib/lb/ring.ts";
import type { Destination, Service } from "../../mod.ts";
import { type Balancer, balancer, changed, NEVER, server, VIP } from "./balancers.ts";
import { Runner } from "./runner.ts";
import { ACK, type Traffic } from "./traffic.ts";

/** One thing that was timed. */
export interface Timing {
  readonly name: string;
  readonly leastMs: number;
  readonly medianMs: number;
  readonly times: number;
}

const SERVICES = 1000, DESTINATIONS = 10;
/** As many destinations as each size of a ring is meant for. */
const MEMBERS = [10, 40, 160, 655];

/** Flows that speak after a change, of which a part of eleven must be told of; and how many at once. */
const FLOWS = 65536, RECORDS = 1000;
const SPOKEN: Traffic = {
  vip: VIP[4],
  port: 80,
  protocol: "tcp",
  length: 60,
  flows: FLOWS,
  vips: 1,
  flags: ACK,
};
const XDP_TX = 3;

interface Wish {
  service: Service;
  destinations: Destination[];
}

function wish(i: number, weight = 1): Wish {
  const address = `198.18.${i >> 8}.${i & 0xff}`;
  return {
    service: { address, port: 80 },
    destinations: Array.from(
      { length: DESTINATIONS },
      (_, j) => ({ address: server(i * DESTINATIONS + j), tunnelType: "ipip", weight }),
    ),
  };
}

function timing(name: string, ms: readonly number[]): Timing {
  const sorted = ms.toSorted((a, b) => a - b);
  return { name, leastMs: sorted[0]!, medianMs: sorted[sorted.length >> 1]!, times: ms.length };
}

async function timed(act: () => Promise<unknown> | void): Promise<number> {
  const start = performance.now();
  await act();
  return performance.now() - start;
}

async function repeated(
  times: number,
  act: (i: number) => Promise<unknown> | void,
): Promise<number[]> {
  const ms: number[] = [];
  for (let i = 0; i < times; i++) ms.push(await timed(() => act(i)));
  return ms;
}

async function ringBuilds(rounds: number): Promise<Timing[]> {
  const timings: Timing[] = [];
  for (const [i, size] of RING_SIZES.entries()) {
    const members = Array.from(
      { length: MEMBERS[i]! },
      (_, j) => ({ id: server(j), weight: 1, slot: j + 1 }),
    );
    const ms = await repeated(rounds, () => void buildRing(members, size));
    timings.push(timing(`build a ring of ${size} for ${members.length} destinations`, ms));
  }
  return timings;
}

/** From the kernel's word that a neighbour has another MAC to the map that packets are sent by. */
async function nextHopChange({ instance, nextHops }: Balancer): Promise<void> {
  const mac = nextHops.mac = 4 + nextHops.mac % 100;
  nextHops.tell();
  while (instance.destinations.get(1)!.destinationMac[5] !== mac) {
    await new Promise((resolve) => setTimeout(resolve));
  }
}

/** How long flow records take, on the node that reads them and on the one that takes them over. */
async function flowRecords(rounds: number): Promise<Timing[]> {
  const hashKey = new Uint8Array(16).fill(7);
  await using here = await changed({ hashKey, trackMask: NEVER, maxFlows: FLOWS });
  await using there = await changed({ hashKey, trackMask: NEVER, maxFlows: FLOWS });
  using runner = await Runner.create(here.instance);
  await here.client.shareFlows(true);
  const { program } = here.instance;
  runner.introduce(runner.course({ program, traffic: SPOKEN, growth: 20, action: XDP_TX }));
  const read: number[] = [], written: number[] = [];
  for (let i = 0; i < rounds; i++) {
    let records: Uint8Array[] = [];
    const ms = await timed(() => void (records = here.client.readFlows(RECORDS)));
    if (records.length < RECORDS) break;
    read.push(ms);
    let stored = 0;
    written.push(await timed(async () => ({ stored } = await there.client.writeFlows(records))));
    if (stored !== RECORDS) throw new Error(`Of ${RECORDS} flow records ${stored} were stored`);
  }
  const many = RECORDS.toLocaleString("en");
  return [timing(`read ${many} flow records`, read), timing(`write ${many} flow records`, written)];
}

/**
 * Times changes of an instance of 1,000 services with ten destinations each.
 *
 * @param rounds how often each of the short ones
 */
export async function measureControlPlane(rounds: number): Promise<Timing[]> {
  const all = Array.from({ length: SERVICES }, (_, i) => wish(i));
  const what = `${SERVICES.toLocaleString("en")} services of ${DESTINATIONS} destinations`;
  const made: number[] = [];
  for (let i = 0; i < 2; i++) {
    await using fresh = await balancer({});
    made.push(await timed(() => fresh.client.setServices(all)));
  }
  await using standing = await balancer({ maxServices: SERVICES + 1 });
  const { client } = standing;
  await client.setServices(all);
  const same = await repeated(3, () => client.setServices(all));
  const change = await repeated(rounds, (i) => {
    const { service, destinations } = wish(7, 2 + i);
    return client.setService(service, { ...destinations[0]!, weight: 1 }, ...destinations.slice(1));
  });
  const { service, destinations } = wish(SERVICES);
  const pairs = await repeated(rounds, async () => {
    await client.setService(service, ...destinations);
    await client.removeService(service);
  });
  const hops = await repeated(rounds, () => nextHopChange(standing));
  return [
    timing(`set ${what}`, made),
    timing("set them again, nothing changed", same),
    timing("change the weights of one of them", change),
    timing("add one and remove it", pairs),
    timing(`next hop of all ${(SERVICES * DESTINATIONS).toLocaleString("en")} changed`, hops),
    ...await flowRecords(rounds),
    ...await ringBuilds(rounds),
  ];
}
