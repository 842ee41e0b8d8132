/**
 * What a state file may hold, as a JSON Schema, and a check against it. `xvs.schema.json` is the same for editors;
 * a test compares them.
 *
 * @module
 */

/** The part of JSON Schema (draft 2020-12) that is in use. */
export interface Schema {
  $schema?: string;
  $id?: string;
  title?: string;
  description?: string;
  type?: "object" | "array" | "string" | "integer" | "boolean";
  properties?: Record<string, Schema>;
  patternProperties?: Record<string, Schema>;
  additionalProperties?: false;
  required?: string[];
  items?: Schema;
  enum?: string[];
  minimum?: number;
  maximum?: number;
  /** The first is what people see in errors; the others are shorter ways to write it. */
  anyOf?: Schema[];
  default?: string | number | boolean;
}

const PORT: Schema = { type: "integer", minimum: 0, maximum: 65535 };
const FLAG: Schema = { type: "boolean", default: false };
const ADDRESS: Schema = { type: "string", description: "An IPv4 or IPv6 address" };

const DESTINATION: Schema = {
  type: "object",
  description: "A real server",
  properties: {
    address: ADDRESS,
    tunnelType: {
      type: "string",
      enum: ["none", "ipip", "gre", "fou", "gue"],
      description: "How packets travel there; none: by MAC, on a common network",
      default: "none",
    },
    tunnelPort: { ...PORT, description: "UDP port of fou and gue" },
    tunnelEncapNoChecksum: { ...FLAG, description: "Leave out the tunnel's UDP checksum" },
    mtu: {
      type: "integer",
      minimum: 0,
      maximum: 65535,
      description: "The longest IP packet on the way there; 0: what the interface takes",
      default: 0,
    },
    weight: {
      type: "integer",
      minimum: 0,
      maximum: 65535,
      description: "Share of new connections relative to the others'",
      default: 1,
    },
    disable: { ...FLAG, description: "Drain: no new connections, old ones stay" },
  },
  required: ["address"],
  additionalProperties: false,
};

/** "default" is what the configuration says. */
const END = {
  type: "string",
  enum: ["default", "drop", "reject"],
  default: "default",
} as const satisfies Omit<Schema, "description">;

const SERVICE: Schema = {
  type: "object",
  description: "What clients connect to",
  properties: {
    address: { ...ADDRESS, description: "The VIP" },
    port: { ...PORT, description: "0: any port that has no service of its own" },
    protocol: { type: "string", enum: ["tcp", "udp"], default: "tcp" },
    sticky: { ...FLAG, description: "A client's address alone decides its destination" },
    idleTimeout: {
      type: "integer",
      minimum: 1,
      description: "Seconds that a flow may be silent through a change; 900 for tcp, 60 for udp",
    },
    expired: { ...END, description: "What becomes of packets whose TTL is used up" },
    fragmentable: {
      ...END,
      description: "What becomes of IPv4 packets that are too long and came without DF",
    },
    destinations: {
      type: "array",
      items: { anyOf: [DESTINATION, ADDRESS] },
    },
  },
  required: ["address", "port"],
  additionalProperties: false,
};

const VLANS: Schema = {
  type: "object",
  description: "VLAN ID to prefix; host bits set are the router's address",
  patternProperties: { "^[0-9]+$": { type: "string" } },
  additionalProperties: false,
};

const CONFIG: Schema = {
  type: "object",
  description: "Networks and policies",
  properties: {
    ipv4VLANs: VLANS,
    ipv6VLANs: VLANS,
    routes: {
      type: "object",
      description: "Prefix to the ID of the VLAN whose router leads to it",
      patternProperties: { ".*": { type: "integer", minimum: 0, maximum: 4094 } },
      additionalProperties: false,
    },
    unknownPort: {
      type: "string",
      enum: ["drop", "pass", "reject"],
      description: "What becomes of packets to a port of a VIP without a service",
      default: "drop",
    },
    expired: {
      type: "string",
      enum: ["drop", "reject"],
      description: "What becomes of packets whose TTL is used up",
      default: "reject",
    },
    fragmentable: {
      type: "string",
      enum: ["drop", "reject"],
      description: "What becomes of IPv4 packets that are too long and came without DF",
      default: "reject",
    },
    outerSource4: { type: "string", description: "Prefix of outer IPv4 sources of ipip and gre" },
    outerSource6: { type: "string", description: "Prefix of outer IPv6 sources of ipip and gre" },
    bonding: { ...FLAG, description: "Packets leave by the interface that they came in by" },
  },
  additionalProperties: false,
};

/** Of a whole file. */
export const STATE_SCHEMA: Schema = {
  $schema: "https://json-schema.org/draft/2020-12/schema",
  title: "The state of an xvs instance, as scripts/apply.ts reads it",
  description: "What is left out stays as it is; what a list lacks is removed",
  type: "object",
  properties: {
    config: CONFIG,
    services: { type: "array", items: SERVICE },
    block: { type: "array", items: { type: "string", description: "A prefix or an address" } },
  },
  additionalProperties: false,
};

/** Of one line of JSON Lines. */
export const SERVICE_SCHEMA = SERVICE;

/** Where something stands, from the outside in. */
export type Path = readonly (string | number)[];

/** What does not fit. */
export interface Misfit {
  path: Path;
  /** A sentence. */
  says: string;
}

/** The first thing that does not fit; undefined: all does. */
export function misfit(value: unknown, schema: Schema, path: Path = []): Misfit | undefined {
  if (schema.anyOf) {
    const [main, ...others] = schema.anyOf;
    if (others.some((other) => !misfit(value, other, path))) return undefined;
    return misfit(value, main!, path);
  }
  const wrong = (says: string): Misfit => ({ path, says });
  const shown = JSON.stringify(value) ?? "nothing";
  switch (schema.type) {
    case "object":
      return objectMisfit(value, schema, path);
    case "array":
      if (!Array.isArray(value)) return wrong(`must be a list, and is ${shown}`);
      return firstOf(value.map((each, i) => () => misfit(each, schema.items!, [...path, i])));
    case "integer":
      if (typeof value !== "number" || !Number.isInteger(value)) {
        return wrong(`must be a whole number, and is ${shown}`);
      }
      if (value < (schema.minimum ?? value) || value > (schema.maximum ?? value)) {
        const { minimum = 0, maximum } = schema;
        const range = maximum === undefined ? `at least ${minimum}` : `${minimum} to ${maximum}`;
        return wrong(`must be ${range}, and is ${shown}`);
      }
      return undefined;
    case "string":
      if (typeof value !== "string") return wrong(`must be a text, and is ${shown}`);
      if (schema.enum && !schema.enum.includes(value)) {
        return wrong(`must be one of ${schema.enum.join(", ")}, and is ${shown}`);
      }
      return undefined;
    default:
      return typeof value === "boolean"
        ? undefined
        : wrong(`must be true or false, and is ${shown}`);
  }
}

function objectMisfit(value: unknown, schema: Schema, path: Path): Misfit | undefined {
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    const keys = Object.keys(schema.properties ?? {});
    const says = `must be an object${keys.length > 0 ? ` of ${keys.join(", ")}` : ""}`;
    return { path, says: `${says}, and is ${JSON.stringify(value) ?? "nothing"}` };
  }
  const missing = schema.required?.find((key) => !Object.hasOwn(value, key));
  if (missing !== undefined) return { path, says: `lacks "${missing}"` };
  return firstOf(
    Object.entries(value).map(([key, each]) => () => {
      const own = Object.hasOwn(schema.properties ?? {}, key) ? schema.properties![key] : undefined;
      const found = own ?? Object.entries(schema.patternProperties ?? {})
        .find(([pattern]) => new RegExp(pattern).test(key))?.[1];
      if (found) return misfit(each, found, [...path, key]);
      const known = Object.keys(schema.properties ?? {});
      const says = known.length > 0 ? `is none of ${known.join(", ")}` : "is not a number";
      return { path: [...path, key], says };
    }),
  );
}

function firstOf(checks: readonly (() => Misfit | undefined)[]): Misfit | undefined {
  for (const check of checks) {
    const found = check();
    if (found) return found;
  }
  return undefined;
}
