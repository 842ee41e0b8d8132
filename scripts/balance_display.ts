/**
 * What balance.ts prints each second.
 *
 * @module
 */
import { type Client, type Metrics, serviceName, type Stats } from "../mod.ts";
import { print, siRate, table, toJson } from "./common.ts";

/** Counters of one thing, now and a moment ago. */
interface Sample {
  atMs: number;
  stats: Stats;
  metrics: Metrics;
}

/** Rates since the sample before, a second. */
function rates(now: Sample, before: Sample | undefined): (name: string) => number {
  const seconds = before ? (now.atMs - before.atMs) / 1000 : Infinity;
  return (name) => Number((now.metrics[name] ?? 0n) - (before?.metrics[name] ?? 0n)) / seconds;
}

/** Shows a client's services, for people or as JSON Lines. */
export class Display {
  readonly #client: Client;
  readonly #json: boolean;
  #before = new Map<string, Sample>();

  constructor(client: Client, json: boolean) {
    this.#client = client;
    this.#json = json;
  }

  /** How the interfaces were attached. */
  announce(): void {
    for (const { name, mode } of this.#client.info().interfaces) {
      if (!this.#json) print(`${name}: attached in ${mode} mode`);
    }
  }

  show(): void {
    const info = this.#client.info();
    const services = this.#client.services().map((service) => ({
      ...service,
      destinations: this.#client.destinations(service.service),
    }));
    if (this.#json) {
      print(toJson({ time: new Date().toISOString(), ...info, services }));
      return;
    }
    const now = new Map<string, Sample>();
    const rate = (key: string, counted: { stats: Stats; metrics: Metrics }) => {
      const sample = { atMs: performance.now(), ...counted };
      now.set(key, sample);
      return rates(sample, this.#before.get(key));
    };
    const total = rate("", info);
    const rows = services.flatMap(({ service, destinations }) =>
      destinations.map(({ destination, mac, activeConnections, ...counted }) => {
        const name = serviceName(service);
        const each = rate(`${name} ${destination.address}`, counted);
        return {
          service: name,
          server: destination.address,
          state: !mac ? "no neighbour" : destination.disable ? "draining" : "up",
          weight: destination.weight,
          open: activeConnections,
          "new/s": siRate(each("flows")),
          "packets/s": siRate(each("packets")),
          "bits/s": siRate(each("octets") * 8),
          packets: Number(counted.metrics.packets),
          errors: Number(counted.metrics.errors),
        };
      })
    );
    this.#before = now;
    const others = Object.keys(info.metrics)
      .filter((name) => /^(err_|too_big|icmp_|not_)/.test(name) && total(name) > 0)
      .map((name) => `${name} ${siRate(total(name))}/s`);
    const lines = [
      `${new Date().toISOString().slice(11, 19)}  ` +
      `in ${siRate(total("packets"))} packets/s, ${siRate(total("octets") * 8)} bits/s, ` +
      `forwarded ${siRate(total("forwarded"))}/s, open ${info.metrics.current} flows`,
      table(rows),
      ...(others.length > 0 ? [`also: ${others.join(", ")}`] : []),
    ];
    const clear = Deno.stdout.isTerminal() ? "\x1b[H\x1b[J" : "";
    print(`${clear}${lines.join("\n")}\n`);
  }
}
