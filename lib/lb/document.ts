/**
 * What clients tell each other of an instance beside its tables.
 *
 * @module
 */
import { type BpfMap, u32 } from "../bpf/mod.ts";
import { DOCUMENT_INSTANCE, RING_ENTRY } from "./abi.gen.ts";
import { type CompleteConfig, outerSourcesOf } from "./config.ts";
import type { OuterSources } from "./entries.ts";
import { createInner, innerId, openInner } from "./inner_maps.ts";
import type { LinkRecord } from "./links.ts";
import type { Mode } from "./types.ts";

/** What is written down. */
export interface InstanceDocument {
  config: CompleteConfig;
  links: LinkRecord[];
  /** The pair of interfaces that probes come by: its name, and the inode of its network namespace. */
  probes?: { name: string; namespace: number };
  mode: Mode | "auto";
  neighbourTimeout: number;
  interfaceInitDelay: number;
}

/** The document, and the map that it was read from. */
interface Read {
  mapId: number;
  value: InstanceDocument;
  outerSources: OuterSources;
}

/** Where it is written down. */
export class DocumentMap {
  readonly #documents: BpfMap;
  #read: Read | undefined;

  /** @param documents the map of maps */
  constructor(documents: BpfMap) {
    this.#documents = documents;
  }

  /** As whoever was last has written it. */
  get value(): InstanceDocument {
    return this.#current().value;
  }

  set value(value: InstanceDocument) {
    const text = new TextEncoder().encode(JSON.stringify(value));
    const bytes = new Uint8Array(Math.ceil(text.length / RING_ENTRY.size) * RING_ENTRY.size);
    bytes.set(text);
    using map = createInner(bytes);
    this.#documents.updateInner(u32(DOCUMENT_INSTANCE), map);
  }

  /** Where the outer sources of tunnels without ports come from. */
  get outerSources(): OuterSources {
    return this.#current().outerSources;
  }

  #current(): Read {
    const mapId = innerId(this.#documents, DOCUMENT_INSTANCE);
    if (this.#read?.mapId !== mapId) {
      using map = openInner(this.#documents, DOCUMENT_INSTANCE);
      const text = new TextDecoder().decode(map.lookupBatch().values).replace(/\0+$/, "");
      const value: InstanceDocument = JSON.parse(text);
      this.#read = { mapId: map.id, value, outerSources: outerSourcesOf(value.config) };
    }
    return this.#read;
  }
}
