/** Packets meet changes on other CPUs: whatever these keep of a service, nobody gets another one's packets. */

import { assert, assertEquals } from "@std/assert";
import { ethernet, ipv4, tcp } from "./build.ts";
import { Balancer, macOf } from "./harness.ts";
import type { Result, Task } from "./service_worker.ts";

/** As many at least, and more until every worker has had packets forwarded to either. */
const CHANGES = 100;
const MOST_CHANGES = 50 * CHANGES;
const WORKERS = 2;
const SERVICES = [
  { vip: "192.0.2.1", destination: "10.0.0.2" },
  { vip: "192.0.2.2", destination: "10.0.0.3" },
] as const;

function frame(vip: string): Uint8Array {
  const ends = { source: "198.51.100.7", destination: vip };
  return ethernet({}, ipv4(ends, tcp({ sourcePort: 40000, destinationPort: 80, ...ends })));
}

/** A worker, and what it will say when it is told to stop. */
function send(task: Task): { worker: Worker; result: Promise<Result> } {
  const worker = new Worker(import.meta.resolve("./service_worker.ts"), { type: "module" });
  const { promise, resolve, reject } = Promise.withResolvers<Result>();
  worker.onmessage = ({ data }) => resolve(data);
  worker.onerror = (event) => reject(new Error(event.message));
  worker.postMessage(task);
  return { worker, result: promise };
}

Deno.test("a service that takes over another one's id, ring and slot gets none of its packets", async () => {
  // There is room for one, so that each has what the other one had.
  await using balancer = await Balancer.create({ maxServices: 1, maxDestinations: 1 });
  const { client, instance } = balancer;
  const stop = new Int32Array(new SharedArrayBuffer(8));
  const targets = SERVICES.map(({ vip, destination }) => ({
    frame: frame(vip),
    mac: macOf(destination).replaceAll(":", ""),
  }));
  const workers = Array.from(
    { length: WORKERS },
    () => send({ programId: instance.program.id, targets, stop }),
  );
  try {
    const enough = (i: number) => i >= CHANGES && Atomics.load(stop, 1) === WORKERS;
    for (let i = 0; !enough(i) && i < MOST_CHANGES; i++) {
      const { vip, destination } = SERVICES[i % 2]!;
      const service = { address: vip, port: 80 };
      await client.setService(service, { address: destination });
      await client.removeService(service);
    }
  } finally {
    Atomics.store(stop, 0, 1);
  }
  for (const { worker, result } of workers) {
    const { forwarded, wrong } = await result;
    worker.terminate();
    assertEquals(wrong.slice(0, 5), []);
    for (const count of forwarded) assert(count > 0, `${forwarded} packets were forwarded`);
  }
});
