/**
 * The part of `@std/yaml` that this project uses, with its signatures and behaviour, for hosts that
 * cannot reach JSR. `deno.jsr.json` maps the name to the real package instead.
 *
 * The real package reads some scalars the YAML 1.1 way; so does this one, lest a file mean one thing here
 * and another there: `010` is octal, `1:20` counts in sixties, `1_000` is a number, a bare date a `Date`.
 *
 * @module
 */

import {
  parse as parseYaml,
  type ScalarTag,
  stringify as stringifyYaml,
  type Tags,
} from "npm:yaml@2.9.1";

/** How {@linkcode stringify} writes. */
export interface StringifyOptions {
  /** Spaces per level. Default 2. */
  indent?: number;
}

const INTEGER: ScalarTag = {
  tag: "tag:yaml.org,2002:int",
  default: true,
  test:
    /^[-+]?(?:0|0b[01_]*[01]|0x[\da-fA-F_]*[\da-fA-F]|0[0-7_]*[0-7]|[1-9](?:[\d_]*\d)?(?::[0-5]?\d)*)$/,
  resolve(text: string): number {
    const [, sign, digits = ""] = /^([-+]?)(.*)$/.exec(text.replaceAll("_", "")) ?? [];
    const size = /^0[0-7]+$/.test(digits)
      ? parseInt(digits, 8)
      : digits.split(":").reduce((sum, part) => sum * 60 + Number(part), 0);
    return sign === "-" ? -size : size;
  },
};

function tags(core: Tags): Tags {
  const others = core.filter((tag) => typeof tag === "string" || tag.tag !== INTEGER.tag);
  return [...others, INTEGER, "timestamp", "binary", "merge"];
}

/**
 * Reads one YAML document.
 *
 * @returns its value, `null` for an empty text
 * @throws {SyntaxError} when the text is not YAML, repeats a key or holds several documents
 */
export function parse(content: string): unknown {
  try {
    return parseYaml(content, { schema: "core", customTags: tags, logLevel: "error" });
  } catch (error) {
    throw new SyntaxError((error as Error).message, { cause: error });
  }
}

/**
 * Writes one value as a YAML document that {@linkcode parse} reads back the same.
 *
 * @throws {TypeError} when a value has no YAML form
 */
export function stringify(data: unknown, options: StringifyOptions = {}): string {
  return stringifyYaml(data, { schema: "core", customTags: tags, indent: options.indent ?? 2 });
}
