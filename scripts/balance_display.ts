/**
 * What balance.ts prints each second.
 *
 * @module
 */
import {
  type AttachedInterface,
  type Client,
  type DestinationExtended,
  type Metrics,
  serviceName,
  type Stats,
} from "../mod.ts";
import { print, siRate, table, toJson } from "./common.ts";

/** By how much each of the stats grows a second. */
type Rates = Record<keyof Stats, number>;

/** Counters now and a moment ago. */
class Moments {
  /** How long ago that was; 0 at first. */
  seconds = 0;
  #before = new Map<string, Metrics>();
  #now = new Map<string, Metrics>();
  #nowMs: number | undefined;

  /** Begins another moment. */
  next(): void {
    const nowMs = performance.now();
    this.seconds = (nowMs - (this.#nowMs ?? nowMs)) / 1000;
    [this.#before, this.#now, this.#nowMs] = [this.#now, new Map(), nowMs];
  }

  /** What the counters of something have grown by since, a second; 0 where it is new. */
  rate(what: string, metrics: Metrics): (name: string) => number {
    const before = this.#before.get(what);
    this.#now.set(what, metrics);
    if (!before) return () => 0;
    return (name) => Math.round(Number(metrics[name]! - before[name]!) / this.seconds * 10) / 10;
  }

  rates(what: string, metrics: Metrics): Rates {
    const rate = this.rate(what, metrics);
    return {
      connections: rate("flows"),
      incomingPackets: rate("packets"),
      incomingBytes: rate("octets"),
    };
  }
}

function stateOf({ mac, destination }: DestinationExtended): string {
  if (destination.disable) return "draining";
  return mac === undefined ? "no neighbour" : "up";
}

/** As many lines as the terminal has, with the number of those that are not shown. */
function fitted(lines: string[]): string[] {
  const { rows } = Deno.consoleSize();
  if (lines.length < rows) return lines;
  const shown = lines.slice(0, rows - 2);
  return [...shown, `... and ${lines.length - shown.length} lines more`];
}

/** Shows a client's services, for people or as JSON Lines. */
export class Display {
  readonly #client: Client;
  readonly #json: boolean;
  readonly #moments = new Moments();

  constructor(client: Client, json: boolean) {
    this.#client = client;
    this.#json = json;
  }

  show(): void {
    this.#moments.next();
    const info = this.#client.info();
    const total = this.#moments.rate("", info.metrics);
    const services = this.#client.services().map((each) => {
      const name = serviceName(each.service);
      return {
        ...each,
        rates: this.#moments.rates(name, each.metrics),
        destinations: this.#client.destinations(each.service).map((destination) => ({
          ...destination,
          rates: this.#moments.rates(
            `${name} ${destination.destination.address}`,
            destination.metrics,
          ),
        })),
      };
    });
    if (this.#json) {
      const rates = this.#moments.rates("", info.metrics);
      const { seconds } = this.#moments;
      print(toJson({ time: new Date().toISOString(), seconds, ...info, rates, services }));
      return;
    }
    const rows = services.flatMap(({ service, destinations }) =>
      destinations.map((each) => ({
        service: serviceName(service),
        server: each.destination.address,
        state: stateOf(each),
        weight: each.destination.weight,
        "open flows": each.activeConnections,
        "new/s": siRate(each.rates.connections),
        "packets/s": siRate(each.rates.incomingPackets),
        "bits/s": siRate(each.rates.incomingBytes * 8),
        packets: siRate(Number(each.metrics.packets)),
        errors: siRate(Number(each.metrics.errors)),
      }))
    );
    const others = Object.keys(info.metrics)
      .filter((name) => /^(err_|too_big|icmp_|not_)/.test(name) && total(name) > 0)
      .map((name) => `${name} ${siRate(total(name))}/s`);
    const lines = [
      `${new Date().toISOString().slice(11, 19)}  ${info.interfaces.map(attachment).join(", ")}: ` +
      `in ${siRate(total("packets"))} packets/s, ${siRate(total("octets") * 8)} bits/s; ` +
      `forwarded ${siRate(total("forwarded"))} packets/s`,
      ...table(rows).split("\n"),
      ...(others.length > 0 ? [`also: ${others.join(", ")}`] : []),
    ];
    if (Deno.stdout.isTerminal()) print(`\x1b[H\x1b[J${fitted(lines).join("\n")}`);
    else print(`${lines.join("\n")}\n`);
  }
}

function attachment({ name, mode }: AttachedInterface): string {
  return `${name} (${mode ?? "gone"})`;
}
