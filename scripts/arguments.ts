/**
 * Command lines of scripts: which options there are is said once, and whatever else comes is refused.
 *
 * @module
 */
import { parseArgs } from "@std/cli/parse-args";
import { main, print, UsageError } from "./common.ts";

/** The options that a script has, by their long names. `help` and `json` are always there. */
export interface ArgumentSpec<V extends string, L extends string, S extends string> {
  /** Options that take a value. */
  values?: readonly V[];
  /** Options that take a value and may be repeated. */
  lists?: readonly L[];
  /** Options that take none. */
  switches?: readonly S[];
  /** One-letter names of options. */
  letters?: Readonly<Record<string, string>>;
}

/** What a command line says. */
export interface Arguments<V extends string, L extends string, S extends string> {
  /** What is no option, in order. */
  words: string[];
  values: Partial<Record<V, string>>;
  lists: Record<L, string[]>;
  switches: Record<S | "help" | "json", boolean>;
}

/**
 * Reads a command line.
 *
 * @throws {UsageError} when an option is unknown, lacks its value, or has one that it does not take
 */
export function readArguments<
  V extends string = never,
  L extends string = never,
  S extends string = never,
>(argv: readonly string[], spec: ArgumentSpec<V, L, S>): Arguments<V, L, S> {
  const { values = [], lists = [], letters = {} } = spec;
  const switches = [...(spec.switches ?? []), "help", "json"] as const;
  const found: Record<string, unknown> = parseArgs([...argv], {
    string: [...values, ...lists, "_"] as string[],
    boolean: [...switches] as string[],
    collect: [...lists] as string[],
    alias: { help: "h", ...letters },
    unknown: (arg) => {
      // A lone "-" is a word: standard input.
      if (/^-./.test(arg)) throw new UsageError(`Option "${arg}" is unknown: see --help`);
    },
  });
  const given = (name: string, value: unknown): string => {
    if (typeof value === "string" && value !== "") return value;
    throw new UsageError(`Option "--${name}" takes a value: see --help`);
  };
  const result: Record<string, unknown> = {};
  const listed: Record<string, string[]> = {};
  const on: Record<string, boolean> = {};
  for (const name of values) {
    if (found[name] !== undefined) result[name] = given(name, found[name]);
  }
  for (const name of lists) {
    listed[name] = (found[name] as unknown[]).map((value) => given(name, value));
  }
  for (const name of switches) {
    if (typeof found[name] !== "boolean") {
      throw new UsageError(`Option "--${name}" takes no value, but "${found[name]}" is given`);
    }
    on[name] = found[name];
  }
  return {
    words: (found["_"] as unknown[]).map(String),
    values: result as Partial<Record<V, string>>,
    lists: listed as Record<L, string[]>,
    switches: on as Arguments<V, L, S>["switches"],
  };
}

/**
 * Runs a script: reads its command line, and shows the help if that is what is asked for. See
 * {@linkcode main} for how it ends.
 */
export function script<
  V extends string = never,
  L extends string = never,
  S extends string = never,
>(
  help: string,
  spec: ArgumentSpec<V, L, S>,
  run: (args: Arguments<V, L, S>) => Promise<void> | void,
): Promise<void> {
  return main(async () => {
    const args = readArguments(Deno.args, spec);
    if (args.switches.help) return print(help.trimEnd());
    await run(args);
  });
}
