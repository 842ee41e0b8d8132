/**
 * What tables take by the kernel's own account: `memlock` in fdinfo, since Linux 6.4 what each type of map
 * reports of itself.
 *
 * @module
 */
import type { BpfMap } from "../../lib/bpf/mod.ts";
import { RING_SIZES } from "../../lib/lb/ring.ts";
import { RING_ENTRY, RING_HEADER } from "../../lib/lb/abi.gen.ts";
import type { Options } from "../../mod.ts";
import { type Balancer, balancer } from "./balancers.ts";

/** Kernel memory of one more of something. */
export interface Memory {
  readonly name: string;
  /** Undefined: the kernel does not tell. */
  readonly bytes: number | undefined;
}

/** Rounding to pages is spread over as many. */
const MANY = 1 << 16;
const SERVICE_MAPS = [
  "services4",
  "services6",
  "vips4",
  "vips6",
  "rings",
  "service_counters",
  "service_records",
  "vip_counters",
  "retired_counters",
];
const DESTINATION_MAPS = ["destinations", "destination_counters", "destination_records"];

function sizeOf({ instance }: Balancer, maps: readonly string[]): number | undefined {
  let total = 0;
  for (const name of maps) {
    const bytes = instance.map(name).memory();
    if (bytes === undefined) return undefined;
    total += bytes;
  }
  return total;
}

/** Bytes of one more entry in some maps, of which an option says how many they hold. */
async function perEntry(
  option: keyof Options,
  maps: readonly string[],
  counts: readonly [number, number] = [MANY, 2 * MANY],
): Promise<number | undefined> {
  const sizes: (number | undefined)[] = [];
  for (const count of counts) {
    await using made = await balancer({ maxServices: 1, maxDestinations: 1, [option]: count });
    sizes.push(sizeOf(made, maps));
  }
  const [small, large] = sizes;
  if (small === undefined || large === undefined) return undefined;
  return Math.round((large - small) / (counts[1] - counts[0]));
}

async function ringMemory(size: number): Promise<number | undefined> {
  await using made = await balancer({ maxServices: 1, maxDestinations: 1 });
  using ring: BpfMap = made.instance.createRing(
    new Uint8Array((RING_HEADER + size) * RING_ENTRY.size),
  );
  return ring.memory();
}

/** Measures it. */
export async function measureMemory(): Promise<Memory[]> {
  // Counters of services are large: fewer will do.
  const services = await perEntry("maxServices", SERVICE_MAPS, [4096, 8192]);
  return [
    { name: "tracked IPv4 flow", bytes: await perEntry("maxFlows", ["flows4"]) },
    { name: "tracked IPv6 flow", bytes: await perEntry("maxFlows", ["flows6"]) },
    {
      name: "destination that there is room for",
      bytes: await perEntry("maxDestinations", DESTINATION_MAPS),
    },
    { name: "service that there is room for, of either family", bytes: services },
    ...await Promise.all(RING_SIZES.map(async (size) => ({
      name: `ring of ${size}, of which each service has one`,
      bytes: await ringMemory(size),
    }))),
  ];
}
