/**
 * Writes `lib/lb/abi.gen.ts` and the like: for each struct of a header an interface and a codec, for each
 * enum its names and numbers. Layouts come from the BTF of the built object, names and comments from the
 * header's text.
 *
 * @module
 */

import { Btf } from "../lib/bpf/btf.ts";
import type { BtfType } from "../lib/bpf/btf_types.ts";
import { type Definition, parseHeader } from "./abi_header.ts";

/** A number, whose bits say which view method reads it. */
interface NumberType {
  readonly bits: 8 | 16 | 32 | 64;
  readonly bigEndian: boolean;
}

/** A member of a struct: one number, or `count` of them. */
interface Field extends NumberType {
  /** As in C. */
  readonly name: string;
  readonly comment: string;
  readonly offset: number;
  readonly count: number | undefined;
}

const NUMBERS: Record<string, NumberType> = {
  __u8: { bits: 8, bigEndian: false },
  __u16: { bits: 16, bigEndian: false },
  __u32: { bits: 32, bigEndian: false },
  __u64: { bits: 64, bigEndian: false },
  __be16: { bits: 16, bigEndian: true },
  __be32: { bits: 32, bigEndian: true },
};
const PADDING = /^(pad|reserved)\d*$/;

const LINE_WIDTH = 100;

function preamble(path: string): string {
  return `
/**
 * The types of ${path}. Fields in network byte order (\`__be16\`, \`__be32\`) are plain numbers here; all
 * else is in the order of the host, which is little-endian on every architecture that Deno runs on.
 * \`decode\` copies what it reads. \`encode\` zeroes padding, and refuses what does not fit with a RangeError.
 *
 * @module
 */

import { exactly, unsigned, unsigned64, viewOf } from "./codec.ts";
`;
}

function camelCase(name: string): string {
  return name.replaceAll(/_(\w)/g, (_, letter) => letter.toUpperCase());
}

function pascalCase(name: string): string {
  return camelCase(`_${name}`);
}

/** A doc comment, or nothing if there is nothing to say. */
function doc(text: string, indent = ""): string {
  if (text === "") return "";
  const sentence = text[0]!.toUpperCase() + text.slice(1) + (/[.?!]$/.test(text) ? "" : ".");
  const short = `${indent}/** ${sentence} */\n`;
  if (short.length <= LINE_WIDTH) return short;
  const lines = sentence.match(new RegExp(`.{1,${LINE_WIDTH - 3 - indent.length}}(?: |$)`, "g"))!;
  const body = lines.map((line) => `${indent} * ${line.trimEnd()}\n`).join("");
  return `${indent}/**\n${body}${indent} */\n`;
}

function numberType(type: BtfType): NumberType | undefined {
  return type.kind === "typedef" ? NUMBERS[type.name] : undefined;
}

/** The members of a struct as their codec sees them; there must be no gap between them. */
function fieldsOf(btf: Btf, definition: Definition): { size: number; fields: Field[] } {
  const { size, members } = btf.struct(definition.name!);
  let end = 0;
  const fields = members.map((member, i): Field => {
    const where = `${definition.name}.${member.name}`;
    const count = member.type.kind === "array" ? member.type.length : undefined;
    const number = numberType(member.type.kind === "array" ? member.type.type : member.type);
    if (!number) throw new TypeError(`Cannot make a codec of ${where}: it is not a known number`);
    if (member.offsetBits !== end * 8) {
      throw new TypeError(`Cannot make a codec of ${where}: there is a gap before it`);
    }
    const offset = end;
    end += (number.bits / 8) * (count ?? 1);
    return { ...number, name: member.name, comment: definition.members[i]!.comment, offset, count };
  });
  if (end !== size) {
    throw new TypeError(`Cannot make a codec of ${definition.name}: there is a gap at its end`);
  }
  return { size, fields };
}

function typeOf({ bits, count }: Field): string {
  const one = bits === 64 ? "bigint" : "number";
  if (count === undefined) return one;
  return bits === 8 ? "Uint8Array" : `${one}[]`;
}

/** The end of the name of the view methods for a field, and their last argument. */
function access({ bits, bigEndian }: Field): [method: string, order: string] {
  const method = bits === 64 ? "BigUint64" : `Uint${bits}`;
  return [method, bits === 8 || bigEndian ? "" : ", true"];
}

/** Where element `i` of an array begins in the view. */
function elementAt({ offset, bits }: Field): string {
  return `${offset} + ${bits / 8} * i`;
}

function decoding(field: Field): string {
  const { bits, offset, count } = field;
  const [method, order] = access(field);
  if (count === undefined) return `view.get${method}(${offset}${order})`;
  if (bits === 8) return `bytes.slice(offset + ${offset}, offset + ${offset + count})`;
  const element = `view.get${method}(${elementAt(field)}${order})`;
  return `Array.from({ length: ${count} }, (_, i) => ${element})`;
}

function encoding(field: Field, struct: string): string {
  const { name, bits, offset, count } = field;
  const where = JSON.stringify(`${struct}.${name}`);
  const [method, order] = access(field);
  if (PADDING.test(name)) {
    return `into.fill(0, offset + ${offset}, offset + ${offset + (bits / 8) * (count ?? 1)})`;
  }
  const value = `value.${camelCase(name)}`;
  const checked = (one: string): string =>
    bits === 64 ? `unsigned64(${one}, ${where})` : `unsigned(${one}, ${bits}, ${where})`;
  if (count === undefined) return `view.set${method}(${offset}, ${checked(value)}${order})`;
  const list = `exactly(${value}, ${count}, ${where})`;
  if (bits === 8) return `into.set(${list}, offset + ${offset})`;
  const element = `view.set${method}(${elementAt(field)}, ${checked("each")}${order})`;
  return `${list}.forEach((each, i) => ${element})`;
}

function structModule(btf: Btf, definition: Definition): string {
  const struct = definition.name!;
  const { size, fields } = fieldsOf(btf, definition);
  const visible = fields.filter(({ name }) => !PADDING.test(name));
  const type = pascalCase(struct);
  const lines = (indent: string, each: string[]): string =>
    each.map((line) => `${indent}${line}\n`).join("");
  const members = visible.map((field) =>
    `${doc(field.comment, "  ")}  ${camelCase(field.name)}: ${typeOf(field)};\n`
  );
  const offsets = visible.map(({ name, offset }) => `${camelCase(name)}: ${offset},`);
  const decodings = visible.map((field) => `${camelCase(field.name)}: ${decoding(field)},`);
  const encodings = fields.map((field) => `${encoding(field, struct)};`);
  return `
${doc(definition.comment)}export interface ${type} {
${members.join("")}}

/** Size, offsets and codec of \`struct ${struct}\`. */
export const ${struct.toUpperCase()} = {
  size: ${size},
  offsets: {
${lines("    ", offsets)}  },
  decode(bytes: Uint8Array, offset = 0): ${type} {
    const view = viewOf(bytes, offset, ${size});
    return {
${lines("      ", decodings)}    };
  },
  encode(value: ${type}, into: Uint8Array = new Uint8Array(${size}), offset = 0): Uint8Array {
    const view = viewOf(into, offset, ${size});
${lines("    ", encodings)}    return into;
  },
} as const;
`;
}

/** The names of an enum without what they all begin with, and without a last one that only counts. */
function enumerators(btf: Btf, definition: Definition): { name: string; comment: string }[] {
  const names = definition.members.map(({ name }) => name);
  const words = names[0]!.split(/(?<=_)/);
  while (!names.every((name) => name.startsWith(words.join("")))) words.pop();
  const prefix = words.join("");
  btf.enum(definition.name!).values.forEach(({ name, value }, i) => {
    if (name === names[i] && Number(value) === i) return;
    throw new TypeError(`Cannot list enum ${definition.name}: ${name} is ${value} instead of ${i}`);
  });
  return definition.members
    .map(({ name, comment }) => ({ name: name.slice(prefix.length), comment }))
    .filter(({ name }, i) => !(name === "COUNT" && i === names.length - 1));
}

function enumModule(btf: Btf, definition: Definition): string {
  const all = enumerators(btf, definition);
  const constant = definition.name!.toUpperCase();
  const type = pascalCase(definition.name!);
  const members = all.map(({ name, comment }, i) => `${doc(comment, "  ")}  ${name}: ${i},\n`);
  const names = all.map(({ name }) => `  "${name.toLowerCase()}",\n`);
  return `
${doc(definition.comment)}export const ${constant} = {
${members.join("")}} as const;

/** The names of \`enum ${definition.name}\`, by number. */
export const ${constant}S = [
${names.join("")}] as const;

/** A name of \`enum ${definition.name}\`. */
export type ${type} = (typeof ${constant}S)[number];
`;
}

/** The constants of an enum without a name. BTF leaves such an enum out, so their values are literals. */
function constantsModule(definition: Definition): string {
  return definition.members.map(({ name, value, comment }) => {
    if (!/^(0x[0-9a-f]+|\d+)$/.test(value ?? "")) {
      throw new SyntaxError(`Cannot export ${name}: its value "${value}" is no literal`);
    }
    return `\n${doc(comment)}export const ${name} = ${value};\n`;
  }).join("");
}

/** The enum of a header whose enumerators say why a packet got its verdict. */
interface Reasons {
  /** As in C. */
  readonly name: string;
  readonly texts: readonly { name: string; comment: string }[];
}

function reasonsOf(btf: Btf, header: readonly Definition[]): Reasons {
  const reasons = header.find(({ kind, name }) =>
    kind === "enum" && /(^|_)reason$/.test(name ?? "")
  );
  if (!reasons) throw new TypeError("Cannot list the reasons: the header has no enum of them");
  const texts = enumerators(btf, reasons).map(({ name, comment }) => {
    if (comment === "") throw new TypeError(`Cannot describe reason ${name}: it has no comment`);
    return { name: name.toLowerCase(), comment };
  });
  return { name: reasons.name!, texts };
}

/**
 * The text of a generated module, but for its first line.
 *
 * @param path the header's, for people
 * @param header its text
 * @param elf an object built with it
 * @throws {SyntaxError} when the header is written in a way that is not understood
 * @throws {TypeError} when a type has no codec
 */
export function abiModule(path: string, header: string, elf: Uint8Array): string {
  const btf = Btf.fromElf(elf);
  const definitions = parseHeader(header);
  const parts = definitions.map((definition) => {
    if (definition.name === undefined) return constantsModule(definition);
    return definition.kind === "enum" ? enumModule(btf, definition) : structModule(btf, definition);
  });
  const { name, texts } = reasonsOf(btf, definitions);
  const entries = texts.map(({ name, comment }) => `  ${name}: ${JSON.stringify(comment)},\n`);
  return `${preamble(path)}${parts.join("")}
/** What each reason means. */
export const ${name.toUpperCase()}_TEXT: Readonly<Record<${pascalCase(name)}, string>> = {
${entries.join("")}};
`;
}

/**
 * A document with its table of a header's reasons renewed, in Markdown as `deno fmt` leaves it. It
 * stands between `<!-- NAMEs:begin -->` and `<!-- NAMEs:end -->`, NAME being the enum's.
 *
 * @throws {TypeError} when the document has no place for it
 */
export function withReasonTable(document: string, header: string, elf: Uint8Array): string {
  const { name, texts } = reasonsOf(Btf.fromElf(elf), parseHeader(header));
  const place = new RegExp(`(?<=<!-- ${name}s:begin -->\\n)[^]*(?=<!-- ${name}s:end -->)`);
  if (!place.test(document)) throw new TypeError(`Cannot find the place of the ${name}s`);
  const rows = [
    ["reason", "what it means"],
    ["-", "-"],
    ...texts.map(({ name, comment }) => [`\`${name}\``, comment.replaceAll("|", "\\|")]),
  ];
  const widths = [0, 1].map((i) => Math.max(...rows.map((row) => row[i]!.length)));
  const cells = (row: string[]): string[] =>
    row.map((cell, i) => cell.padEnd(widths[i]!, cell === "-" ? "-" : " "));
  const table = rows.map((row) => `| ${cells(row).join(" | ")} |\n`).join("");
  return document.replace(place, () => `\n${table}\n`);
}
