/**
 * The flows that an instance remembers, one by one: exceptions of rings, and the sample that is counted.
 *
 * @module
 */
import type { BpfMap } from "../bpf/mod.ts";
import { Address, AddressError, Prefix } from "../net/address.ts";
import {
  FLOW,
  FLOW_KEY4,
  FLOW_KEY6,
  FLOW_SEEN_SHIFT,
  FLOW_STATES,
  type FlowState,
} from "./abi.gen.ts";
import { IPPROTO } from "./entries.ts";
import { InvalidValueError } from "./errors.ts";
import type { Instance } from "./instance.ts";
import type { Registry } from "./registry.ts";
import { type Protocol } from "./types.ts";
import { integer, unicast } from "./values.ts";

/** A flow that is remembered. */
export interface Flow {
  protocol: Protocol;
  /** Whose flow it is. */
  client: string;
  clientPort: number;
  vip: string;
  port: number;
  /** The address of its destination; undefined if that has gone. */
  destination: string | undefined;
  /** Seconds since its last packet. */
  idle: number;
  /** "syn": one packet so far; "closing": the client has sent FIN or RST. */
  state: FlowState;
}

/** Which flows are meant: those that everything holds for that is given. */
export interface FlowFilter {
  protocol?: Protocol;
  /** An address or a prefix. */
  client?: string;
  vip?: string;
  port?: number;
  destination?: string;
  state?: FlowState;
  /** Seconds that it has been silent, or more. */
  idle?: number;
}

type Test = (flow: Flow) => boolean;

const NS_PER_MS = 1_000_000n;
const FAMILIES = [4, 6] as const;
const CODECS = { 4: FLOW_KEY4, 6: FLOW_KEY6 };

/** The flow tables of an instance. */
export class Flows {
  readonly #instance: Instance;
  readonly #registry: Registry;

  constructor(instance: Instance, registry: Registry) {
    this.#instance = instance;
    this.#registry = registry;
  }

  /**
   * Flows, as they are read from the kernel.
   *
   * @throws {InvalidValueError} when a field of the filter cannot be
   */
  list(filter: FlowFilter): IterableIterator<Flow> {
    const matches = testOf(filter);
    return FAMILIES.values().flatMap((family) => this.#read(family))
      .map(({ flow }) => flow)
      .filter(matches);
  }

  /**
   * Forgets flows.
   *
   * @returns how many
   * @throws {InvalidValueError} when a field of the filter cannot be; none is forgotten
   */
  purge(filter: FlowFilter): number {
    const matches = testOf(filter);
    let count = 0;
    for (const family of FAMILIES) {
      const keys = [
        ...this.#read(family).filter(({ flow }) => matches(flow)).map(({ key }) => key),
      ];
      const packed = new Uint8Array(keys.length * CODECS[family].size);
      keys.forEach((key, i) => packed.set(key, i * key.length));
      if (keys.length > 0) count += this.#table(family).deleteBatch(packed, keys.length);
    }
    return count;
  }

  #table(family: 4 | 6): BpfMap {
    return family === 4 ? this.#instance.flows4 : this.#instance.flows6;
  }

  *#read(family: 4 | 6): Generator<{ key: Uint8Array; flow: Flow }> {
    const owners = this.#owners();
    const now = this.#instance.clock();
    for (const [key, value] of this.#table(family).entries()) {
      const { slot, generation, seen, state } = FLOW.decode(value);
      const idle = Number((now - (BigInt(seen) << BigInt(FLOW_SEEN_SHIFT))) / NS_PER_MS) / 1000;
      const flow = {
        ...endsOf(key, family),
        destination: owners.get(`${slot}.${generation}`),
        // The program's time is that of a tick ago, or of one ahead.
        idle: Math.max(0, idle),
        state: FLOW_STATES[state]!,
      };
      yield { key: key.slice(), flow };
    }
  }

  /** The addresses of destinations, by slot and generation. */
  #owners(): Map<string, string> {
    const entries = [...this.#registry.services.values()];
    return new Map(
      entries.flatMap(({ members }) =>
        [...members.values()].map(({ slot, generation, spec }) =>
          [`${slot}.${generation}`, spec.address] as const
        )
      ),
    );
  }
}

function endsOf(
  key: Uint8Array,
  family: 4 | 6,
): Pick<Flow, "protocol" | "client" | "clientPort" | "vip" | "port"> {
  const { offsets } = CODECS[family];
  const size = family === 4 ? 4 : 16;
  const address = (at: number) => Address.fromBytes(key.subarray(at, at + size)).toString();
  const port = (at: number) => (key[at]! << 8) | key[at + 1]!;
  return {
    protocol: key[offsets.protocol] === IPPROTO.udp ? "udp" : "tcp",
    client: address(offsets.source),
    clientPort: port(offsets.sourcePort),
    vip: address(offsets.destination),
    port: port(offsets.destinationPort),
  };
}

function testOf({ protocol, client, vip, port, destination, state, idle }: FlowFilter): Test {
  const tests: Test[] = [];
  if (protocol !== undefined) {
    oneOf(protocol, "protocol", ["tcp", "udp"]);
    tests.push((flow) => flow.protocol === protocol);
  }
  if (client !== undefined) {
    const prefix = prefixOf(client);
    tests.push((flow) => prefix.contains(Address.parse(flow.client)));
  }
  if (vip !== undefined) {
    const wanted = unicast(vip, "vip", "VIP").toString();
    tests.push((flow) => flow.vip === wanted);
  }
  if (port !== undefined) {
    integer(port, 0, 65535, "port", "Port");
    tests.push((flow) => flow.port === port);
  }
  if (destination !== undefined) {
    const wanted = unicast(destination, "destination", "Destination").toString();
    tests.push((flow) => flow.destination === wanted);
  }
  if (state !== undefined) {
    oneOf(state, "state", FLOW_STATES);
    tests.push((flow) => flow.state === state);
  }
  if (idle !== undefined) tests.push((flow) => flow.idle >= idle);
  return (flow) => tests.every((test) => test(flow));
}

function oneOf(value: string, field: string, known: readonly string[]): void {
  if (known.includes(value)) return;
  throw new InvalidValueError(field, value, `${field} "${value}" is none of ${known.join(", ")}`);
}

function prefixOf(text: string): Prefix {
  try {
    if (text.includes("/")) return Prefix.parse(text);
    return Prefix.parse(`${text}/${Address.parse(text).family === 4 ? 32 : 128}`);
  } catch (error) {
    if (!(error instanceof AddressError)) throw error;
    const message = `client "${text}" is neither a prefix nor an address`;
    throw new InvalidValueError("client", text, message);
  }
}
