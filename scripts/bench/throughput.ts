/**
 * Packets per second from one veth through another to a third: what the balancer forwards, beside what the
 * kernel does. It takes a network namespace of its own, in which a process of its own measures.
 *
 * @module
 */
import { Namespace } from "../../lib/net/namespace.ts";

/** Who has the packets of the middle. */
export const WAYS = ["dropped as they arrive", "kernel forwarding", "native", "generic"] as const;

/** What was measured of one of them. */
export interface Throughput {
  readonly way: (typeof WAYS)[number];
  /** Queues of each interface, and CPUs that send. */
  readonly queues: number;
  /** The most, and the median, of the rounds. */
  readonly mostPps: number;
  readonly medianPps: number;
  /** Of those sent in the best round. */
  readonly arrivedShare: number;
  /** How many CPUs were busy in the best round, with whatever else the host did. */
  readonly busyCpus: number;
}

/**
 * Measures it.
 *
 * @param rounds how often each way runs, in turns
 * @param ms how long a run takes
 */
export async function measureThroughput(rounds: number, ms: number): Promise<Throughput[]> {
  await using stack = new AsyncDisposableStack();
  const space = stack.use(await Namespace.create(`xvs-bench-${Deno.pid}`));
  for (const signal of ["SIGINT", "SIGTERM"] as const) {
    const leave = () => void space.remove().finally(() => Deno.exit(1));
    Deno.addSignalListener(signal, leave);
    stack.defer(() => Deno.removeSignalListener(signal, leave));
  }
  const script = new URL("./throughput_lab.ts", import.meta.url).pathname;
  const command = [Deno.execPath(), "run", "-A", "--no-check", script, `${rounds}`, `${ms}`];
  const output = await space.run(command);
  return output.trim().split("\n").map((line) => JSON.parse(line));
}
