/**
 * The part of `@std/cli/parse-args` that this project uses, with its signature and behaviour, for hosts
 * that cannot reach JSR. `deno.jsr.json` maps the name to the real package instead.
 *
 * Left out: names with dots (nested results) and `boolean: true`.
 *
 * @module
 */

type Names<T extends string> = T | readonly T[];
type AliasMap = Record<string, string | readonly string[]>;

/** What {@linkcode parseArgs} is told of the flags it will meet. */
export interface ParseOptions<
  B extends string = string,
  S extends string = string,
  C extends string = string,
  N extends string = string,
  D extends Record<string, unknown> = Record<string, unknown>,
  A extends AliasMap = AliasMap,
  DD extends boolean = boolean,
> {
  /** Flags that take no value; `false` where not given. */
  boolean?: Names<B>;
  /** Flags whose value stays a string, even one that looks like a number; `_` for what is no flag. */
  string?: Names<S>;
  /** Flags that may be repeated: their values come as an array. Of any other the last value counts. */
  collect?: Names<C>;
  /** Flags that `--no-NAME` turns off. */
  negatable?: Names<N>;
  /** Values of flags that are not given. */
  default?: D;
  /** Other names of a flag; the result holds the value under each. */
  alias?: A;
  /** Whether everything behind the first word that is no flag is left alone. */
  stopEarly?: boolean;
  /** Whether what follows `--` comes in a list of its own instead of in `_`. */
  "--"?: DD;
  /** Called for each flag not named above and each word that is no flag; `false` leaves it out. */
  unknown?: (arg: string, key?: string, value?: unknown) => unknown;
}

type Aliases<K, A> = K extends keyof A ? (A[K] extends readonly (infer T)[] ? T : A[K]) : never;
type Type<K, B, S, C, N> =
  | (K extends C ? (K extends S ? string : K extends B ? boolean : unknown)[]
    : K extends B ? boolean
    : string)
  | (K extends B ? never : K extends N ? false : never);
/** Values under their names and the aliases of these. */
type Named<K extends string, A, V extends Record<K, unknown>> = {
  [P in K as P | (Aliases<P, A> & string)]: V[P];
};

/** The flags and words found. */
export type Args<
  B extends string,
  S extends string,
  C extends string,
  N extends string,
  D,
  A,
  DD,
> =
  & { _: (string | number)[] }
  & (true extends DD ? { "--": string[] } : unknown)
  & Named<
    Exclude<B | C, keyof D>,
    A,
    { [K in B | C]: Type<K, B, S, C, N> }
  >
  & Partial<Named<Exclude<S, B | C | keyof D | "_">, A, { [K in S]: Type<K, B, S, C, N> }>>
  & Named<
    keyof D & string,
    A,
    { [K in keyof D & string]: D[K] | (K extends B | S | C ? Type<K, B, S, C, N> : unknown) }
  >;

type Value = string | number | boolean;

const LONG_FLAG = /^--(?<negated>no-)?(?<name>.+?)(?:=(?<value>.+))?$/s;
const SHORT_FLAGS = /^-[^]/;

function isNumeric(text: string): boolean {
  return text.trim() !== "" && Number.isFinite(Number(text));
}

/** Each name with the other names of the same flag. */
function otherNames(alias: AliasMap): Map<string, string[]> {
  const others = new Map<string, string[]>();
  for (const [name, aliases] of Object.entries(alias)) {
    const group = [name, ...[aliases].flat()];
    for (const each of group) others.set(each, group.filter((one) => one !== each));
  }
  return others;
}

class Parser {
  readonly result: Record<string, unknown> & { _: (string | number)[] } = { _: [] };
  readonly #others: Map<string, string[]>;
  readonly #booleans: Set<string>;
  readonly #strings: Set<string>;
  readonly #collected: Set<string>;
  readonly #negatable: Set<string>;
  readonly #options: ParseOptions;

  constructor(options: ParseOptions) {
    this.#options = options;
    this.#others = otherNames(options.alias ?? {});
    this.#booleans = this.#closure(options.boolean);
    this.#strings = this.#closure(options.string);
    this.#collected = this.#closure(options.collect);
    this.#negatable = this.#closure(options.negatable);
  }

  /** Reads words that may be flags. */
  read(args: readonly string[]): void {
    for (let i = 0; i < args.length; i++) {
      const arg = args[i]!;
      const next = args[i + 1];
      if (LONG_FLAG.test(arg)) {
        if (this.#long(arg, next)) i++;
      } else if (SHORT_FLAGS.test(arg)) {
        if (this.#short(arg, next)) i++;
      } else {
        this.#word(arg);
        if (this.#options.stopEarly) {
          this.result._.push(...args.slice(i + 1));
          return;
        }
      }
    }
  }

  /** Fills in what was not given. */
  finish(): void {
    for (const [name, value] of Object.entries(this.#options.default ?? {})) {
      if (Object.hasOwn(this.result, name)) continue;
      for (const each of this.#allNames(name)) this.result[each] = value;
    }
    for (const name of this.#booleans) {
      if (!Object.hasOwn(this.result, name)) {
        this.result[name] = this.#collected.has(name) ? [] : false;
      }
    }
    for (const name of this.#strings) {
      if (!Object.hasOwn(this.result, name) && this.#collected.has(name)) this.result[name] = [];
    }
  }

  #allNames(name: string): string[] {
    return [name, ...(this.#others.get(name) ?? [])];
  }

  #closure(names: Names<string> | undefined): Set<string> {
    return new Set([names ?? []].flat().flatMap((name) => this.#allNames(name)));
  }

  /** What a flag without a value means. */
  #bare(name: string): Value {
    return this.#strings.has(name) ? "" : true;
  }

  /** Reads `--name`, `--name=value` or `--no-name`; true if `next` was its value. */
  #long(arg: string, next: string | undefined): boolean {
    const { negated, name: given = "", value } = LONG_FLAG.exec(arg)?.groups ?? {};
    if (value !== undefined) {
      this.#set(given, this.#booleans.has(given) ? value !== "false" : value, arg);
      return false;
    }
    if (negated !== undefined && this.#negatable.has(given)) {
      this.#set(given, false, arg, true);
      return false;
    }
    const name = (negated ?? "") + given;
    return this.#setFromNext(name, next, arg, /^-/);
  }

  /** Reads `-a`, `-abc`, `-n5`, `-n=5` or `-I/path`; true if `next` was the value of the last. */
  #short(arg: string, next: string | undefined): boolean {
    for (let i = 1; i < arg.length - 1; i++) {
      const letter = arg[i]!;
      const rest = arg.slice(i + 1);
      const value = this.#attached(letter, rest);
      this.#set(letter, value ?? this.#bare(letter), arg);
      if (value !== undefined && rest !== "-") return false;
    }
    const last = arg.at(-1)!;
    return last === "-" ? false : this.#setFromNext(last, next, arg, /^--?[^-]/);
  }

  /** The value that follows a letter without a space, if `rest` is one rather than more letters. */
  #attached(letter: string, rest: string): string | undefined {
    if (rest === "-") return rest;
    if (/[A-Za-z]/.test(letter)) {
      const assigned = /=(.+)/.exec(rest)?.[1];
      if (assigned !== undefined) return assigned;
      if (/-?\d+(\.\d*)?(e-?\d+)?$/.test(rest)) return rest;
    }
    return rest.length > 1 && /\W/.test(rest[0]!) ? rest : undefined;
  }

  /** Sets a flag that has no value attached; true if `next` was its value. */
  #setFromNext(name: string, next: string | undefined, arg: string, flagLike: RegExp): boolean {
    if (next && !flagLike.test(next) && !this.#booleans.has(name)) {
      this.#set(name, next, arg);
      return true;
    }
    if (next === "true" || next === "false") {
      this.#set(name, next === "true", arg);
      return true;
    }
    this.#set(name, this.#bare(name), arg);
    return false;
  }

  #set(name: string, given: Value, arg: string, replace = false): void {
    const known = this.#booleans.has(name) || this.#strings.has(name) || this.#others.has(name);
    if (!known && this.#options.unknown?.(arg, name, given) === false) return;
    const numeric = typeof given === "string" && !this.#strings.has(name) && isNumeric(given);
    const value = numeric ? Number(given) : given;
    const collect = !replace && this.#collected.has(name);
    for (const each of this.#allNames(name)) {
      const before = this.result[each];
      if (!collect) this.result[each] = value;
      else if (Array.isArray(before)) before.push(value);
      else this.result[each] = before ? [before, value] : [value];
    }
  }

  #word(arg: string): void {
    if (this.#options.unknown?.(arg) === false) return;
    this.result._.push(this.#strings.has("_") || !isNumeric(arg) ? arg : Number(arg));
  }
}

/**
 * Reads command-line arguments.
 *
 * @param args the words, as in `Deno.args`
 * @param options which flags there are
 * @returns each flag under its names, and under `_` the words that are no flags
 *
 * @example
 * ```ts
 * import { parseArgs } from "@std/cli/parse-args";
 *
 * const args = parseArgs(["--json", "--port=80", "eth0"], { boolean: ["json"], string: ["port"] });
 * // { _: ["eth0"], json: true, port: "80" }
 * ```
 */
export function parseArgs<
  B extends string = never,
  S extends string = never,
  C extends string = never,
  N extends string = never,
  D extends Record<string, unknown> = Record<never, never>,
  const A extends AliasMap = Record<never, never>,
  DD extends boolean = false,
>(
  args: string[],
  options: ParseOptions<B, S, C, N, D, A, DD> = {},
): Args<B, S, C, N, D, A, DD> {
  const end = args.indexOf("--");
  const rest = end === -1 ? [] : args.slice(end + 1);
  const parser = new Parser(options);
  parser.read(end === -1 ? args : args.slice(0, end));
  parser.finish();
  if (options["--"]) parser.result["--"] = rest;
  else parser.result._.push(...rest);
  return parser.result as Args<B, S, C, N, D, A, DD>;
}
