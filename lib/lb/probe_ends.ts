/**
 * The programs on the two interfaces that probes come by.
 *
 * @module
 */
import { type BpfMap, u32, type XdpLink } from "../bpf/mod.ts";
import type { Instance } from "./instance.ts";
import { PROBE_PINS } from "./store.ts";
import type { Mode } from "./types.ts";

/** The numbers of a pair's interfaces. */
export interface Pair {
  /** The one that the host sends by. */
  readonly host: number;
  /** The other one. */
  readonly program: number;
}

/** They last as their pins do; without pins as this object does. */
export class ProbeEnds {
  readonly #instance: Instance;
  /** Interfaces that packets may leave by: replies go to the host by the second one. */
  readonly #egress: BpfMap;
  readonly #unpinned: XdpLink[] = [];

  constructor(instance: Instance, egress: BpfMap) {
    this.#instance = instance;
    this.#egress = egress;
  }

  /** Attaches to a pair. What is left of another one goes first. */
  attach({ host, program }: Pair): void {
    this.detach();
    // A pair has no driver, so that only generic mode hands on to any interface; and see probe() about the other.
    const ends: [pin: string, ifindex: number, mode: Mode][] = [
      [PROBE_PINS[0], program, "generic"],
      [PROBE_PINS[1], host, "native"],
    ];
    for (const [pin, ifindex, mode] of ends) {
      const link = this.#instance.programs.get("probe").attachXdp(ifindex, { mode });
      const { store } = this.#instance;
      try {
        store?.pinLink(pin, link);
      } finally {
        if (store) link.close();
        else this.#unpinned.push(link);
      }
    }
    this.#egress.update(u32(program), u32(program));
  }

  /** The opposite; that nothing is attached is no error. */
  detach(): void {
    this.close();
    for (const pin of PROBE_PINS) this.#instance.store?.removeLink(pin);
  }

  /** Has both run the program that the instance has now. */
  update(): void {
    const { store, programs } = this.#instance;
    const update = (link: XdpLink) => link.attached && link.update(programs.get("probe"));
    this.#unpinned.forEach(update);
    for (const pin of PROBE_PINS) {
      using link = store?.openLink(pin);
      if (link) update(link);
    }
  }

  /** Detaches what has no pin. */
  close(): void {
    for (const link of this.#unpinned.splice(0)) link.close();
  }
}
