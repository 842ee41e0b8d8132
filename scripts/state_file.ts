/**
 * Files that say what an instance is to be: YAML, JSON, or services as JSON Lines.
 *
 * @module
 */
import { parse, stringify } from "@std/yaml";
import type { CompleteServiceSet, CompleteState, Config, ServiceSet, State } from "../mod.ts";
import { completeDestination, completeService } from "../lib/lb/types.ts";
import { completeConfig } from "../lib/lb/config.ts";
import { prefixName } from "../lib/lb/deny_list.ts";
import { UsageError } from "./common.ts";
import { misfit, type Path, SERVICE_SCHEMA, STATE_SCHEMA } from "./state_schema.ts";

/** A service as a file has it: its destinations among its fields. */
type FlatService = ServiceSet["service"] & {
  destinations?: (ServiceSet["destinations"][0] | string)[];
};

/** A whole file. */
interface FlatState {
  config?: Config;
  services?: FlatService[];
  block?: string[];
}

/**
 * Reads a file.
 *
 * @param name what errors call it
 * @throws {UsageError} that names file, line and key, when it cannot be
 */
export function parseState(text: string, name: string): State {
  const lines = jsonLines(text, name);
  if (lines) return { services: lines.map(setOf) };
  let value: unknown;
  try {
    value = parse(text);
  } catch (error) {
    const [says] = (error as Error).message.split("\n");
    throw new UsageError(`${name}: ${says}`);
  }
  const at = (path: Path, says: string): UsageError => {
    const line = lineOf(text, path);
    return new UsageError(
      `${name}${line === undefined ? "" : `:${line}`}: ${wordsOf(path)}${says}`,
    );
  };
  const wrong = misfit(value, STATE_SCHEMA);
  if (wrong) throw at(wrong.path, wrong.says);
  const flat = value as FlatState;
  check(flat, at);
  return {
    ...(flat.config && { config: flat.config }),
    ...(flat.services && { services: flat.services.map(setOf) }),
    ...(flat.block && { block: flat.block }),
  };
}

/** Services one a line, as services.ts writes them; undefined if the text is something else. */
function jsonLines(text: string, name: string): FlatService[] | undefined {
  const lines = text.split("\n");
  const services: FlatService[] = [];
  for (const [i, line] of lines.entries()) {
    if (line.trim() === "") continue;
    let value: unknown;
    try {
      value = JSON.parse(line);
    } catch {
      return undefined;
    }
    if (typeof value !== "object" || value === null || !("address" in value)) return undefined;
    const at = (path: Path, says: string) =>
      new UsageError(`${name}:${i + 1}: ${wordsOf(path)}${says}`);
    const wrong = misfit(value, SERVICE_SCHEMA);
    if (wrong) throw at(wrong.path, wrong.says);
    check({ services: [value as FlatService] }, (path, says) => at(path.slice(2), says));
    services.push(value as FlatService);
  }
  return services.length > 0 ? services : undefined;
}

function setOf({ destinations = [], ...service }: FlatService): ServiceSet {
  return {
    service,
    destinations: destinations.map((each) => typeof each === "string" ? { address: each } : each),
  };
}

/** What a schema cannot tell: addresses, tunnels and their ports. */
function check(
  { config, services = [], block = [] }: FlatState,
  at: (path: Path, says: string) => UsageError,
): void {
  const attempt = (path: Path, act: () => unknown): void => {
    try {
      act();
    } catch (error) {
      const { field, message } = error as { field?: string; message: string };
      throw at(
        field === undefined || typeof path.at(-1) === "string" ? path : [...path, field],
        message,
      );
    }
  };
  if (config) attempt(["config"], () => completeConfig(config));
  services.map(setOf).forEach(({ service, destinations }, i) => {
    const path = ["services", i];
    attempt(path, () => completeService(service));
    destinations.forEach((destination, j) =>
      attempt([...path, "destinations", j], () => completeDestination(destination))
    );
  });
  block.forEach((prefix, i) => attempt(["block", i, ""], () => prefixName(prefix)));
}

/** `services[0].destinations[1].weight: `; nothing for the whole. */
function wordsOf(path: Path): string {
  const words = path.filter((key) => key !== "")
    .map((key, i) => typeof key === "number" ? `[${key}]` : i === 0 ? key : `.${key}`).join("");
  return words === "" ? "" : `${words}: `;
}

/**
 * The line at which a key begins, from 1. It is the one without which the text, cut off, does not have the key
 * yet: whatever the style, a reader of YAML has then come to it.
 */
export function lineOf(text: string, path: Path): number | undefined {
  const lines = text.split("\n");
  const keys = path.filter((key) => key !== "");
  // What is there at one line is there at all later ones.
  let low = 0, high = lines.length;
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (has(lines.slice(0, middle).join("\n"), keys)) high = middle;
    else low = middle;
  }
  if (has(text, keys)) return high;
  return keys.length > 0 ? lineOf(text, keys.slice(0, -1)) : undefined;
}

/** Whether a text that may end in the middle has a key. */
function has(text: string, path: Path): boolean {
  for (const whole of [text, `${text}${closing(text)}`]) {
    try {
      let value: unknown = parse(whole);
      for (const key of path) {
        if (typeof value !== "object" || value === null || !Object.hasOwn(value, key)) return false;
        value = (value as Record<string | number, unknown>)[key];
      }
      return true;
    } catch {
      // It ends within a flow collection, as all of JSON is one.
    }
  }
  return false;
}

/** The brackets that a text leaves open. */
function closing(text: string): string {
  const open: string[] = [];
  for (const [token] of text.matchAll(/"(?:[^"\\]|\\.)*"|'[^']*'|#[^\n]*|[[\]{}]/g)) {
    if (token === "[") open.unshift("]");
    else if (token === "{") open.unshift("}");
    else if (token === "]" || token === "}") open.shift();
  }
  return open.join("");
}

/** Leaves out what is as usual. */
function compact<T extends object>(value: T, usual: object): Partial<T> {
  const known = usual as Record<string, unknown>;
  return Object.fromEntries(
    Object.entries(value).filter(([key, each]) =>
      JSON.stringify(known[key]) !== JSON.stringify(each)
    ),
  ) as Partial<T>;
}

function flatOf({ service, destinations }: CompleteServiceSet): FlatService {
  const { address, port, protocol, ...options } = service;
  const usual = completeService({ address, port, protocol });
  return {
    address,
    port,
    ...(protocol !== "tcp" && { protocol }),
    ...compact(options, usual),
    destinations: destinations.map((each) => {
      const rest = compact(each, {
        ...completeDestination({ address: each.address }),
        address: "",
      });
      return Object.keys(rest).length === 1 ? each.address : { ...rest, address: each.address };
    }),
  };
}

/** A state as a file has it, without what is as usual. */
export function flatState({ config, services, block }: CompleteState): FlatState {
  return {
    config: compact(config, completeConfig({})),
    services: services.map(flatOf),
    block,
  };
}

/** Writes what {@linkcode parseState} reads. */
export function stringifyState(state: CompleteState): string {
  return stringify(flatState(state));
}
