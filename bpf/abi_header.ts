/**
 * What the compiler does not tell of `abi.h`: which types it defines, in which order, and the comments
 * beside them. Layouts come from the BTF.
 *
 * @module
 */

/** A struct or enum of the header. */
export interface Definition {
  readonly kind: "struct" | "enum";
  /** As in C; `undefined` for an enum that only holds constants. */
  readonly name: string | undefined;
  /** The comment above it, on one line. */
  readonly comment: string;
  /** Its members or enumerators with the comment behind each, and the value where one is written. */
  readonly members: readonly { name: string; value: string | undefined; comment: string }[];
}

const OPENING = /^(struct|enum)\b.*\{$/gm;
const DEFINITION =
  /(?:\/\*(?<comment>(?:(?!\*\/)[^])*)\*\/\n)?^(?<kind>struct|enum)(?: (?<name>\w+))? \{\n(?<body>(?:\t.*\n)*)\};/gm;
const ENUMERATOR = /^\t(?<name>\w+)(?: = (?<value>[^,]+))?,(?:\s*\/\* (?<comment>.*) \*\/)?$/;
const FIELD = /^\t[\w ]+ (?<name>\w+)(?:\[\w+\])?;(?:\s*\/\* (?<comment>.*) \*\/)?$/;

function oneLine(comment: string | undefined): string {
  return (comment ?? "").replaceAll(/\s*\n\s*\*\s*/g, " ").trim();
}

/**
 * Reads the definitions of a header in the style of `abi.h`: one member a line, its comment behind it.
 *
 * @throws {SyntaxError} when a definition is written in another way
 */
export function parseHeader(text: string): Definition[] {
  const definitions = [...text.matchAll(DEFINITION)].map(({ groups = {} }) => {
    const kind = groups.kind as Definition["kind"];
    const form = kind === "enum" ? ENUMERATOR : FIELD;
    const body = groups.body!.trimEnd().replaceAll(/\/\*[^]*?\*\//g, oneLine);
    const members = body.split("\n").map((line) => {
      const found = form.exec(line)?.groups;
      if (!found) throw new SyntaxError(`Cannot read "${line.trim()}" as a member of a ${kind}`);
      return { name: found.name!, value: found.value, comment: found.comment ?? "" };
    });
    return { kind, name: groups.name, comment: oneLine(groups.comment), members };
  });
  const openings = text.match(OPENING)?.length ?? 0;
  if (definitions.length === openings) return definitions;
  throw new SyntaxError(`Cannot read ${openings - definitions.length} of ${openings} definitions`);
}
