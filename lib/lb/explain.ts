/**
 * What the program would do with a packet, and why: by running it on that packet against the very tables, with
 * counters and flow tables of its own, so that nothing is sent, counted or remembered.
 *
 * @module
 */
import { type BpfMap, type BpfObject, possibleCpus } from "../bpf/mod.ts";
import { Address } from "../net/address.ts";
import { namespaceId } from "../net/namespace.ts";
import {
  FLOW,
  FLOW_KEY4,
  FLOW_KEY6,
  PREFIX4,
  PREFIX6,
  type Reason,
  REASON_TEXT,
  REASONS,
  SETTINGS,
} from "./abi.gen.ts";
import { isTracked, slotOf } from "./change.ts";
import { IPPROTO } from "./entries.ts";
import { addressWords, FlowHash, portsWord } from "./flow_hash.ts";
import type { Instance } from "./instance.ts";
import { openObject } from "./load.ts";
import { frameOf, type MadeUpPacket } from "./made_up_packet.ts";
import type { Entry, Member } from "./model.ts";
import type { Registry } from "./registry.ts";
import { CounterTable } from "./table.ts";
import { serviceName } from "./types.ts";

/** What would become of a packet. */
export interface Explanation {
  /** What the program tells the kernel to do. */
  action: "aborted" | "drop" | "pass" | "tx" | "redirect";
  reason: Reason;
  /** What that reason means. */
  text: string;
  /** The name of the service that the packet is for; undefined: for none. */
  service: string | undefined;
  /** The address of the destination that it would be sent to; undefined: to none. */
  destination: string | undefined;
  /** Why to this one. */
  why: string | undefined;
  /** The frame as it would leave, or as it stands. */
  frame: Uint8Array;
}

/** Tables that the program writes: the explainer has its own. It shares all others with the instance. */
const PRIVATE = /^(flows|fragments|denied|recent_services)[46]$|_(budgets|counters|looks|reasons)$/;
/** Of these one entry is needed. */
const SMALL = /^(flows|denied)[46]$/;
const ACTIONS = ["aborted", "drop", "pass", "tx", "redirect"] as const;
const LOOPBACK = 1;
const PACKETS = 0, ERRORS = 7;
const NS_PER_S = 1_000_000_000n;

/** A packet as the tables know it. */
interface Ends {
  family: 4 | 6;
  flowKey: Uint8Array;
  sourceKey: Uint8Array;
}

/** A second copy of the program, to be asked. */
export class Explainer implements Disposable {
  readonly #instance: Instance;
  readonly #registry: Registry;
  readonly #object: BpfObject;

  private constructor(instance: Instance, registry: Registry, object: BpfObject) {
    this.#instance = instance;
    this.#registry = registry;
    this.#object = object;
  }

  /** Loads the program; that takes some 100 ms. */
  static async load(instance: Instance, registry: Registry): Promise<Explainer> {
    using stack = new DisposableStack();
    const object = stack.use((await openObject()).object);
    for (const [name, map] of instance.maps) {
      if (SMALL.test(name)) object.setMaxEntries(name, 2 * possibleCpus());
      else if (PRIVATE.test(name)) object.setMaxEntries(name, map.maxEntries);
      else if (!name.startsWith(".") && name !== "settings") object.reuseMap(name, map);
    }
    object.load();
    stack.move();
    return new Explainer(instance, registry, object);
  }

  /**
   * Asks about a packet.
   *
   * @throws {InvalidValueError} when a field of the packet cannot be
   */
  ask(packet: MadeUpPacket): Explanation {
    const frame = frameOf(packet);
    const ends = endsOf(packet);
    this.#copySettings();
    const entry = this.#serviceOf(packet);
    const members = [...entry?.members.values() ?? []];
    this.#provide(ends);
    const ran = this.#object.program("xvs").testRun({
      data: frame,
      ingressIfindex: this.#interface(),
    });
    const reason = this.#reason();
    const member = members.find(({ slot }) => this.#wasCounted(slot));
    this.#takeBack(ends);
    return {
      action: ACTIONS[ran.retval] ?? "aborted",
      reason,
      text: REASON_TEXT[reason],
      service: entry && serviceName(entry.spec),
      destination: member?.spec.address,
      why: entry && member && this.#why(packet, ends, entry, member),
      frame: ran.data.slice(),
    };
  }

  [Symbol.dispose](): void {
    this.#object.close();
  }

  /** As they are, but for this: nothing is remembered or told to other nodes, and every answer is given. */
  #copySettings(): void {
    const differences = { flowBudget: 0, share: 0, icmpBudget: 0xffffffff };
    const settings = { ...this.#instance.settings, ...differences };
    SETTINGS.encode(settings, this.#object.variable("settings"));
  }

  /** What the instance remembers of the flow, and whether its source is blocked. */
  #provide({ family, flowKey, sourceKey }: Ends): void {
    const flow = this.#live("flows", family).lookup(flowKey);
    if (flow) this.#own("flows", family).update(flowKey, flow);
    const denied = this.#live("denied", family).lookup(sourceKey);
    if (denied) this.#own("denied", family).update(sourceKey, denied);
  }

  #takeBack({ family, flowKey, sourceKey }: Ends): void {
    this.#own("flows", family).delete(flowKey);
    this.#own("denied", family).delete(sourceKey);
  }

  #live(name: "flows" | "denied", family: 4 | 6): BpfMap {
    return this.#instance.map(`${name}${family}`);
  }

  #own(name: "flows" | "denied", family: 4 | 6): BpfMap {
    return this.#object.map(`${name}${family}`);
  }

  /** One that the instance is attached to, if it is there for this process. */
  #interface(): number {
    const { links } = this.#instance;
    const here = links.namespace === namespaceId();
    return here ? links.list().find(({ mode }) => mode)?.index ?? LOOPBACK : LOOPBACK;
  }

  #serviceOf({ vip, port, protocol = "tcp" }: MadeUpPacket): Entry | undefined {
    const address = Address.parse(vip).toString();
    const find = (port: number) =>
      this.#registry.services.get(serviceName({ address, port, protocol }));
    return find(port) ?? find(0);
  }

  #reason(): Reason {
    const counters = new CounterTable(this.#object.map("reason_counters"));
    const index = REASONS.findIndex((_, i) => counters.sum(i)[PACKETS]! > 0n);
    counters.clear([index]);
    return REASONS[index]!;
  }

  #wasCounted(slot: number): boolean {
    const counters = new CounterTable(this.#object.map("destination_counters"));
    const sum = counters.sum(slot);
    if (sum[PACKETS] === 0n && sum[ERRORS] === 0n) return false;
    counters.clear([slot]);
    return true;
  }

  #why(packet: MadeUpPacket, { family, flowKey }: Ends, entry: Entry, member: Member): string {
    const value = this.#live("flows", family).lookup(flowKey);
    const flow = value && FLOW.decode(value);
    if (flow?.slot === member.slot && flow.generation === member.generation) {
      return "the flow is remembered, since it is an exception of the ring or one of those counted";
    }
    const { ring } = entry;
    const index = this.#indexOf(packet, entry);
    const current = ring.current[index]!;
    const place = `entry ${index} of ${ring.size} of the service's ring`;
    if (slotOf(current) !== member.slot) {
      const left = Number((ring.windowEndNs - this.#instance.clock()) / NS_PER_S);
      return `the flow is not remembered, and the ring led there before its last change; ` +
        `that counts for ${left} s more`;
    }
    return isTracked(current)
      ? `${place} leads there; it has changed of late`
      : `${place} leads there`;
  }

  #indexOf(
    { client, clientPort, vip, port, protocol = "tcp" }: MadeUpPacket,
    entry: Entry,
  ): number {
    const { hashKey, hashFinal } = this.#instance.settings;
    const hash = new FlowHash({ words: Uint32Array.from(hashKey), final: hashFinal });
    const { sticky, size } = entry.ring;
    const ports = sticky ? 0 : portsWord(clientPort, port);
    const number = sticky ? 0 : IPPROTO[protocol];
    const [source, destination] = [client, vip].map((text) =>
      addressWords(Address.parse(text).bytes)
    ) as [Uint32Array, Uint32Array];
    const value = source.length === 1
      ? hash.hash4(source[0]!, destination[0]!, ports, number)
      : hash.hash6(source, destination, ports, number);
    return value.index(size);
  }
}

function endsOf({ client, clientPort, vip, port, protocol = "tcp" }: MadeUpPacket): Ends {
  const [source, destination] = [client, vip].map((text) => Address.parse(text).bytes) as [
    Uint8Array,
    Uint8Array,
  ];
  const rest = { sourcePort: clientPort, destinationPort: port, protocol: IPPROTO[protocol] };
  if (source.length === 16) {
    return {
      family: 6,
      flowKey: FLOW_KEY6.encode({ source, destination, ...rest }),
      sourceKey: PREFIX6.encode({ length: 128, address: source }),
    };
  }
  const word = (bytes: Uint8Array) => new DataView(bytes.buffer).getUint32(0);
  return {
    family: 4,
    flowKey: FLOW_KEY4.encode({ source: word(source), destination: word(destination), ...rest }),
    sourceKey: PREFIX4.encode({ length: 32, address: word(source) }),
  };
}
