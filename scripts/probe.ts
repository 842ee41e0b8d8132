#!/usr/bin/env -S deno run -A
/**
 * One check of every destination, through its real tunnel.
 *
 * @module
 */
import { createSocket } from "node:dgram";
import type { Client, Protocol } from "../mod.ts";
import { type Arguments, script } from "./arguments.ts";
import { UsageError, whole } from "./common.ts";
import { INSTANCE, INSTANCE_HELP, nameOf, parseService, show, withInstance } from "./words.ts";

const HELP = `probe.ts [OPTIONS] [SERVICE...]

Checks every destination of these services, or of all, once: on the VIP, by the way that
clients' packets take, so that a tunnel that is not taken off or a VIP that is missing shows.
It connects by TCP, or sends a datagram and waits for an answer. It exits with 1 if any
destination does not answer.

  -H, --http PATH        asks for this by HTTP, and wants a status below 400
      --host NAME        for this host (default: the VIP)
  -p, --port PORT        at this port (default: the service's; needed if that is any)
      --send TEXT        what to send by UDP (default: nothing, an empty datagram)
  -t, --timeout SECONDS  how long to wait for each (default 2)
${INSTANCE_HELP}

For example:

  deno run -A scripts/probe.ts --http /health 192.168.101.1:80
`;

const SPEC = {
  values: [...INSTANCE.values, "http", "host", "port", "send", "timeout"],
  letters: { ...INSTANCE.letters, http: "H", port: "p", timeout: "t" },
} as const;

type Line = Arguments<(typeof SPEC.values)[number], never, never>;

/** What is probed. */
interface Target {
  service: string;
  destination: string;
  vip: string;
  /** Where to connect to. */
  address: string;
  port: number;
  protocol: Protocol;
}

/** What came of it. */
interface Result {
  service: string;
  destination: string;
  up: boolean;
  ms: number;
  error?: string;
}

function targetsOf(client: Client, { words, values }: Line): Target[] {
  const services = words.length > 0
    ? words.map((word) => client.service(parseService(word)).service)
    : client.services().map(({ service }) => service);
  return services.flatMap((service) => {
    const { port = `${service.port}` } = values;
    const at = whole(port, 65535, "Port");
    if (at === 0) {
      throw new UsageError(`Service "${nameOf(service)}" is of any port: give one with --port`);
    }
    return client.destinations(service).map(({ destination }) => ({
      service: nameOf(service),
      destination: destination.address,
      vip: service.address,
      address: client.nat(service.address, destination.address)!,
      port: at,
      protocol: service.protocol,
    }));
  });
}

async function tcp({ address, port }: Target, signal: AbortSignal): Promise<void> {
  (await Deno.connect({ hostname: address, port, signal })).close();
}

async function http(
  { vip, address, port }: Target,
  signal: AbortSignal,
  line: Line,
): Promise<void> {
  const hosts = (name: string) => name.includes(":") ? `[${name}]` : name;
  const { http: path = "/", host = hosts(vip) } = line.values;
  const url = new URL(path, `http://${hosts(address)}:${port}`);
  const response = await fetch(url, { headers: { host }, redirect: "manual", signal });
  await response.body?.cancel();
  if (response.status >= 400) throw new Error(`status ${response.status}`);
}

async function udp({ address, port }: Target, signal: AbortSignal, line: Line): Promise<void> {
  const socket = createSocket(address.includes(":") ? "udp6" : "udp4");
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  signal.addEventListener("abort", () => reject(signal.reason));
  socket.on("message", () => resolve()).on("error", reject);
  // A connected socket hears of ICMP errors.
  socket.connect(port, address, () => socket.send(line.values.send ?? ""));
  await promise.finally(() => socket.close());
}

async function probe(target: Target, line: Line): Promise<Result> {
  const { service, destination } = target;
  const seconds = whole(line.values.timeout ?? "2", 3600, "Timeout");
  const signal = AbortSignal.timeout(seconds * 1000);
  const check = target.protocol === "udp" ? udp : line.values.http === undefined ? tcp : http;
  const began = performance.now();
  const result = (up: boolean, rest = {}) => ({
    service,
    destination,
    up,
    ms: Math.round((performance.now() - began) * 10) / 10,
    ...rest,
  });
  try {
    await check(target, signal, line);
    return result(true);
  } catch (error) {
    const says = signal.aborted ? `no answer in ${seconds} s` : (error as Error).message;
    return result(false, { error: says });
  }
}

await script(HELP, SPEC, async (line) => {
  const results = await withInstance(line, async (client) => {
    await client.openProbes();
    return await Promise.all(targetsOf(client, line).map((target) => probe(target, line)));
  });
  const columns = ({ service, destination, up, ms, error = "" }: Result) => ({
    service,
    destination,
    state: up ? "up" : "down",
    ms: ms.toFixed(1),
    why: error,
  });
  show(results, line.switches.json, columns, "there is no destination");
  if (results.some(({ up }) => !up)) Deno.exitCode = 1;
});
