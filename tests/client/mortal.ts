/**
 * A process that makes one change to an instance and kills itself in the middle of it: right before the nth thing
 * that it writes, be it to a map, to memory, to a bpffs or to a file. Run with a {@linkcode Mortal} as JSON; it
 * ends with code 0 if it came to the end of the change alive.
 *
 * @module
 */
import { LiveSettings } from "../../lib/lb/live_settings.ts";
import type { NextHopSource } from "../../lib/lb/seams.ts";
import { Address } from "../../lib/net/address.ts";
import type { NextHop } from "../../lib/net/next_hop.ts";
import { type Libbpf, libbpf, replaceLibraries } from "../../lib/sys/ffi.ts";
import { Client } from "../../mod.ts";
import { hop } from "./support.ts";

/** What is to be done, and when to die. */
export interface Mortal {
  instance: string;
  /** "create" and "remove" are of the instance itself; others are methods of a client. */
  method: string;
  args: unknown[];
  /** Before which write, from 0. */
  point: number;
}

/** Everybody is a neighbour, with a MAC that ends as the address does. */
export class Neighbours implements NextHopSource {
  resolve(addresses: readonly Address[]): Promise<Map<string, NextHop>> {
    return Promise.resolve(
      new Map(addresses.map((address) => [address.toString(), hop(address.bytes.at(-1))])),
    );
  }

  retain(): Promise<void> {
    return Promise.resolve();
  }

  async *follow(): AsyncIterable<void> {}

  close(): Promise<void> {
    return Promise.resolve();
  }
}

/** Functions that write. */
const WRITES = [
  "bpf_map_update_elem",
  "bpf_map_update_batch",
  "bpf_map_update_batch_async",
  "bpf_map_delete_elem",
  "bpf_map_delete_batch",
  "bpf_obj_pin",
  "bpf_link_create",
  "bpf_link_update",
  "bpf_link_detach",
] as const satisfies (keyof Libbpf)[];
const FILE_WRITES = ["renameSync", "removeSync", "mkdirSync", "writeTextFileSync"] as const;

function dieAt(point: number): void {
  let step = 0;
  const tick = () => {
    if (step++ === point) Deno.kill(Deno.pid, "SIGKILL");
  };
  // deno-lint-ignore no-explicit-any
  const mortal = (write: (...args: any[]) => any) => (...args: unknown[]) => {
    tick();
    return write(...args);
  };
  const real = libbpf();
  const fakes = Object.fromEntries(WRITES.map((name) => [name, mortal(real[name])]));
  replaceLibraries({ libbpf: { ...real, ...fakes } });
  for (const name of FILE_WRITES) Object.assign(Deno, { [name]: mortal(Deno[name]) });
  // Settings are memory.
  const { adjust } = LiveSettings.prototype;
  LiveSettings.prototype.adjust = function (fields): void {
    tick();
    adjust.call(this, fields);
  };
}

async function main({ instance, method, args, point }: Mortal): Promise<void> {
  const seams = { nextHops: new Neighbours() };
  if (method === "create") {
    dieAt(point);
    const [interfaces, options] = args as [string[], object];
    await Client.create(interfaces, { ...options, instance, follow: false }, seams);
  } else if (method === "remove") {
    dieAt(point);
    await Client.remove(instance);
  } else {
    await using client = await Client.open(instance, {}, seams);
    dieAt(point);
    await (client as unknown as Record<string, (...args: unknown[]) => Promise<void>>)[method]!(
      ...args,
    );
  }
}

if (import.meta.main) {
  await main(JSON.parse(Deno.args[0]!));
  Deno.exit();
}
