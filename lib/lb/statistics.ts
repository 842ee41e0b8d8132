/**
 * Counters by the names that xvs gives them.
 *
 * @module
 */
import {
  DESTINATION_REASON,
  DESTINATION_REASON_KEY,
  REASON,
  type Reason,
  REASONS,
} from "./abi.gen.ts";
import type { Connections } from "./connections.ts";
import type { Instance } from "./instance.ts";
import type { Entry, Member, Vip } from "./model.ts";
import type { Registry } from "./registry.ts";
import { addTo } from "./table.ts";
import type { Metrics, Stats } from "./types.ts";

/** The first fields of `struct service_counter` and of `struct destination_counter`. */
const COMMON = ["packets", "octets", "flows", "syn", "ack", "fin", "rst"] as const;
const PACKETS = 0, OCTETS = 1, FLOWS = 2;
/** What may become of a packet whose destination is chosen, but for `forwarded`. */
const EXCEPTIONS: readonly Reason[] = [
  "icmp_error",
  "too_big",
  "too_big_fragmentable",
  "icmp_limited",
  "err_backend_invalid",
  "err_adjust_failed",
  "err_tunnel_unsupported",
  "err_redirect",
  "err_internal",
];

/** Stats and metrics of one thing. */
export interface Counted {
  stats: Stats;
  metrics: Metrics;
}

/** Reads the counters of an instance. */
export class Statistics {
  readonly #instance: Instance;
  readonly #registry: Registry;
  readonly #connections: Connections;

  constructor(instance: Instance, registry: Registry, connections: Connections) {
    this.#instance = instance;
    this.#registry = registry;
    this.#connections = connections;
  }

  /** Of a destination. */
  destination(member: Member): Counted & { open: number } {
    const sum = this.#instance.destinationCounters.sum(member.slot);
    const open = this.#connections.open(member);
    const metrics: Metrics = { current: BigInt(open), errors: sum[COMMON.length]! };
    COMMON.forEach((name, i) => metrics[name] = sum[i]!);
    for (const name of EXCEPTIONS) {
      metrics[name.replace("err_", "")] = this.#exception(member, name);
    }
    return { stats: statsOf(sum), metrics, open };
  }

  #exception({ slot, generation }: Member, name: Reason): bigint {
    const reason = REASONS.indexOf(name);
    const key = DESTINATION_REASON_KEY.encode({ slot, generation, reason });
    const value = this.#instance.map("destination_reasons").lookup(key);
    return value ? DESTINATION_REASON.decode(value).packets : 0n;
  }

  /** Of a service. */
  service(entry: Entry): Counted {
    const sum = this.#instance.serviceCounters.sum(entry.id);
    sum[COMMON.length + REASON.FORWARDED] = sum[PACKETS]!;
    return this.#counted(sum, [entry]);
  }

  /** Of a VIP: its services, those it had, and what met none of them. */
  vip(vip: Vip): Counted {
    const entries = [...this.#registry.services.values()].filter((entry) => entry.vip === vip);
    const sum = this.#instance.vipCounters.sum(vip.id);
    addTo(sum, this.#registry.retired(vip.id + 1));
    for (const { id } of entries) addTo(sum, this.#instance.serviceCounters.sum(id));
    sum[COMMON.length + REASON.FORWARDED] = sum[PACKETS]!;
    return this.#counted(sum, entries);
  }

  /** Of the whole instance: every packet that the program has seen, VIP or not. */
  total(): Counted {
    const entries = [...this.#registry.services.values()];
    const sum = this.#registry.retired(0);
    for (const { id } of entries) addTo(sum, this.#instance.serviceCounters.sum(id));
    for (const vip of this.#registry.vips.values()) addTo(sum, this.#registry.retired(vip.id + 1));
    sum[PACKETS] = sum[OCTETS] = 0n;
    REASONS.forEach((_, reason) => {
      const [packets, octets] = this.#instance.reasonCounters.sum(reason);
      sum[PACKETS]! += packets!;
      sum[OCTETS]! += octets!;
      sum[COMMON.length + reason] = packets!;
    });
    return this.#counted(sum, entries);
  }

  /** `sum` has the layout of `struct service_counter`. */
  #counted(sum: BigUint64Array, entries: readonly Entry[]): Counted {
    const metrics: Metrics = { current: 0n, errors: 0n };
    COMMON.forEach((name, i) => metrics[name] = sum[i]!);
    REASONS.forEach((name, reason) => {
      const packets = sum[COMMON.length + reason]!;
      metrics[name] = packets;
      if (name.startsWith("err_")) metrics.errors! += packets;
    });
    for (const { members } of entries) {
      for (const member of members.values()) {
        metrics.current! += BigInt(this.#connections.open(member));
      }
    }
    return { stats: statsOf(sum), metrics };
  }
}

function statsOf(sum: BigUint64Array): Stats {
  return {
    connections: sum[FLOWS]!,
    incomingPackets: sum[PACKETS]!,
    incomingBytes: sum[OCTETS]!,
  };
}
