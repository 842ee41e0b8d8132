/**
 * Traffic in a lab with a change every 100 ms: `deno run -A tests/endurance/traffic.ts --seconds N`. Connections
 * that stay open, datagrams, and short connections, all counted by the client.
 *
 * @module
 */
import { parseArgs } from "@std/cli/parse-args";
import { Lab, LAB_ECHO_PORT } from "../../lib/net/lab.ts";
import { Held, type LabLoadResult, spread } from "../../lib/net/lab_client.ts";
import type { Destination, Service } from "../../mod.ts";
import { Choices } from "../fuzz/random.ts";
import { Remote } from "../lab/remote.ts";

/** What came of it. */
export interface TrafficOutcome {
  changes: number;
  /** Connections that stayed open, and what was said on them; datagrams; short connections. */
  held: LabLoadResult;
  talked: LabLoadResult;
  short: LabLoadResult;
}

const SERVERS = 5;
const CHANGE_MS = 100;
/** Short connections made in one go. */
const ROUND = 400;
/** How long a server drains before it is removed, in changes: longer than a short connection lasts. */
const DRAIN = 30;

function add(into: Record<string, number>, more: Record<string, number>): void {
  for (const [name, count] of Object.entries(more)) into[name] = (into[name] ?? 0) + count;
}

/** Short connections, one round after the other. */
async function keepConnecting(
  lab: Lab,
  service: Service,
  signal: AbortSignal,
): Promise<LabLoadResult> {
  const total: LabLoadResult = {
    destinations: {},
    moves: {},
    answers: 0,
    slowestMs: 0,
    failures: {},
  };
  while (!signal.aborted) {
    const round = await spread(lab.client, { ...service, connections: ROUND, concurrency: 10 });
    add(total.destinations, round.destinations);
    add(total.failures, round.failures);
    total.answers += round.answers;
  }
  return total;
}

/** A change that may lose nothing. The last server is removed and comes back, once it has drained. */
async function change(
  remote: Remote,
  services: readonly Service[],
  all: readonly Destination[],
  turn: number,
  choices: Choices,
): Promise<void> {
  const [http, tcp, udp] = services as [Service, Service, Service];
  const last = all.at(-1)!;
  const phase = turn % (3 * DRAIN);
  if (phase === 0) return await remote.call("updateDestination", http, { ...last, disable: true });
  if (phase === DRAIN) return await remote.call("removeDestination", http, last);
  if (phase === 2 * DRAIN) return await remote.call("createDestination", http, last);
  const server = choices.below(SERVERS - 1);
  const spec = { ...all[server]!, weight: choices.between(0, 5), disable: choices.oneIn(3) };
  const other = { address: http.address, port: 9000 + choices.below(20) };
  switch (choices.below(8)) {
    case 0:
      return await remote.call("updateDestination", tcp, spec);
    case 1:
      return await remote.call("updateDestination", udp, spec);
    case 2:
      return await remote.call("setService", other, ...all);
    case 3:
      return await remote.call("setService", { ...other, sticky: true }, all[0]);
    case 4:
      return await remote.call("setConfig", {
        unknownPort: choices.of(["drop", "pass", "reject"]),
      });
    case 5:
      return turn % 5 === 0 ? await remote.call("upgrade") : undefined;
    default: // never the one that everybody falls back to
      return server === 0
        ? undefined
        : await remote.call("updateDestination", http, { ...spec, tunnelType: "none" });
  }
}

/** Makes a lab, and traffic and changes in it for so long. */
export async function run(seconds: number, seed = 1): Promise<TrafficOutcome> {
  await using lab = await Lab.create({ name: `traffic_${Deno.pid}`, destinations: SERVERS });
  await using remote = await Remote.create(lab);
  const address = lab.vips.find((vip) => !vip.includes(":"))!;
  const services: Service[] = [
    { address, port: 80 },
    { address, port: LAB_ECHO_PORT },
    { address, port: LAB_ECHO_PORT, protocol: "udp" },
  ];
  const all = lab.destinations.map(({ address4 }) => ({ address: address4 }));
  for (const service of services) await remote.call("setService", service, ...all);
  await using held = await Held.open(lab.client, {
    ...services[1]!,
    connections: 100,
    intervalMs: 50,
  });
  await using talking = await Held.open(lab.client, {
    ...services[2]!,
    mode: "talk",
    connections: 50,
    intervalMs: 50,
  });
  const stop = new AbortController();
  const connecting = keepConnecting(lab, services[0]!, stop.signal);
  const choices = new Choices(seed);
  const end = performance.now() + seconds * 1000;
  let changes = 0;
  for (let next = performance.now(); performance.now() < end; changes++) {
    await change(remote, services, all, changes, choices);
    next += CHANGE_MS;
    const rest = Math.max(0, next - performance.now());
    await new Promise((resolve) => setTimeout(resolve, rest));
  }
  stop.abort();
  return {
    changes,
    held: await held.end(),
    talked: await talking.end(),
    short: await connecting,
  };
}

/** What was lost; empty: nothing. */
export function losses({ held, talked, short }: TrafficOutcome): string[] {
  return Object.entries({ held, talked, short }).flatMap(([name, { failures, moves }]) => [
    ...Object.entries(failures).map(([what, count]) => `${name}: ${count} times ${what}`),
    ...Object.entries(moves).map(([move, count]) => `${name}: ${count} flows moved, ${move}`),
  ]);
}

if (import.meta.main) {
  const { seconds = "600" } = parseArgs(Deno.args, { string: ["seconds"] });
  const outcome = await run(Number(seconds));
  console.log(JSON.stringify(outcome, undefined, 2));
  for (const loss of losses(outcome)) console.error(loss);
  Deno.exit(losses(outcome).length > 0 ? 1 : 0);
}
