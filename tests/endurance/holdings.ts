/**
 * What this process holds of the kernel's.
 *
 * @module
 */
import { BpfError, BpfMap, BpfProgram } from "../../lib/bpf/mod.ts";

/** Numbers of kernel objects, and how many descriptors are open. */
export interface Holdings {
  descriptors: number;
  maps: Set<number>;
  programs: Set<number>;
  links: Set<number>;
}

const KINDS = [["map_id", "maps"], ["prog_id", "programs"], ["link_id", "links"]] as const;
const DEADLINE_MS = 10_000;

/** Looks into /proc, and into maps of maps for the maps that only these hold. */
export function holdings(): Holdings {
  const found: Holdings = {
    descriptors: 0,
    maps: new Set(),
    programs: new Set(),
    links: new Set(),
  };
  for (const { name } of Deno.readDirSync("/proc/self/fdinfo")) {
    let text: string;
    try {
      text = Deno.readTextFileSync(`/proc/self/fdinfo/${name}`);
    } catch {
      continue; // that by which the directory was read
    }
    found.descriptors++;
    for (const [field, kind] of KINDS) {
      const id = new RegExp(`^${field}:\\s*(\\d+)$`, "m").exec(text)?.[1];
      if (id) found[kind].add(Number(id));
    }
  }
  for (const id of [...found.maps]) {
    for (const inner of innerMaps(id)) found.maps.add(inner);
  }
  return found;
}

function innerMaps(id: number): number[] {
  using map = BpfMap.fromId(id);
  if (map.type !== "array_of_maps" && map.type !== "hash_of_maps") return [];
  return [...map.entries()].map(([, value]) => new Uint32Array(value.slice().buffer)[0]!)
    .filter((inner) => inner !== 0);
}

/** Those of the objects that are still there, after a while: the kernel frees them when nobody can see. */
export async function survivors({ maps, programs }: Holdings): Promise<string[]> {
  const alive = (open: (id: number) => Disposable, id: number): boolean => {
    try {
      open(id)[Symbol.dispose]();
      return true;
    } catch (error) {
      if (error instanceof BpfError && error.code === "ENOENT") return false;
      throw error;
    }
  };
  const look = (): string[] => [
    ...[...maps].filter((id) => alive((id) => BpfMap.fromId(id), id)).map((id) => `map ${id}`),
    ...[...programs].filter((id) => alive((id) => BpfProgram.fromId(id), id))
      .map((id) => `program ${id}`),
  ];
  const deadline = performance.now() + DEADLINE_MS;
  for (;;) {
    const left = look();
    if (left.length === 0 || performance.now() > deadline) return left;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}
