/** The encoding of BTF: see "BPF Type Format" in the kernel's documentation. */

import type {
  BtfLinkage,
  BtfMember,
  BtfSectionVariable,
  BtfType,
  BtfVariable,
} from "./btf_types.ts";
import { type ElfFile, stringAt } from "./elf.ts";

const BTF_MAGIC = 0xeb9f;
const HEADER_BYTES = 24;

/** Every type begins with a name, a word of kind and count, and a size or the number of a type. */
const TYPE_BYTES = 12;

/** Kinds by number, and the bytes after the first 12: fixed ones, and those for each element. */
const KINDS = [
  { kind: "void", fixed: 0, each: 0 },
  { kind: "int", fixed: 4, each: 0 },
  { kind: "pointer", fixed: 0, each: 0 },
  { kind: "array", fixed: 12, each: 0 },
  { kind: "struct", fixed: 0, each: 12 },
  { kind: "union", fixed: 0, each: 12 },
  { kind: "enum", fixed: 0, each: 8 },
  { kind: "forward", fixed: 0, each: 0 },
  { kind: "typedef", fixed: 0, each: 0 },
  { kind: "volatile", fixed: 0, each: 0 },
  { kind: "const", fixed: 0, each: 0 },
  { kind: "restrict", fixed: 0, each: 0 },
  { kind: "function", fixed: 0, each: 0 },
  { kind: "function_prototype", fixed: 0, each: 8 },
  { kind: "variable", fixed: 4, each: 0 },
  { kind: "data_section", fixed: 0, each: 12 },
  { kind: "float", fixed: 0, each: 0 },
  { kind: "declaration_tag", fixed: 4, each: 0 },
  { kind: "type_tag", fixed: 0, each: 0 },
  { kind: "enum64", fixed: 0, each: 12 },
] as const satisfies readonly { kind: BtfType["kind"]; fixed: number; each: number }[];

const LINKAGES: readonly BtfLinkage[] = ["static", "global", "extern"];

const INT_SIGNED = 1;
const INT_BOOL = 4;

/** The raw bytes of BTF, and where in them each type starts. */
export interface RawBtf {
  readonly view: DataView;
  readonly strings: Uint8Array;
  /** By type number. That of void, which has no bytes, is a number never used. */
  readonly offsets: readonly number[];
}

/** What the first 12 bytes of a type say. */
interface TypeHeader {
  readonly name: string;
  readonly info: typeof KINDS[number];
  /** How many members, values or parameters follow. */
  readonly count: number;
  readonly flag: boolean;
  /** A size in bytes or the number of a type. */
  readonly sizeOrType: number;
}

/**
 * Finds the types in BTF.
 *
 * @throws {TypeError} when the bytes are not BTF, are cut off, or hold a kind that is unknown here
 */
export function indexBtf(bytes: Uint8Array): RawBtf {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (bytes.length < HEADER_BYTES || view.getUint16(0, true) !== BTF_MAGIC) {
    throw new TypeError("Cannot read BTF: it does not begin as BTF in little-endian order does");
  }
  const header = view.getUint32(4, true);
  const types = header + view.getUint32(8, true);
  const typesEnd = types + view.getUint32(12, true);
  const strings = header + view.getUint32(16, true);
  const stringsEnd = strings + view.getUint32(20, true);
  if (typesEnd > bytes.length || stringsEnd > bytes.length) throw cutOff();
  const offsets = [-1];
  for (let offset = types; offset < typesEnd;) {
    if (offset + TYPE_BYTES > typesEnd) throw cutOff();
    offsets.push(offset);
    const info = view.getUint32(offset + 4, true);
    const { fixed, each } = kindOf(info);
    offset += TYPE_BYTES + fixed + each * (info & 0xffff);
    if (offset > typesEnd) throw cutOff();
  }
  return { view, strings: bytes.subarray(strings, stringsEnd), offsets };
}

/** Reads the common part of a type. */
export function readHeader({ view, strings }: RawBtf, offset: number): TypeHeader {
  const info = view.getUint32(offset + 4, true);
  return {
    name: stringAt(strings, view.getUint32(offset, true)),
    info: kindOf(info),
    count: info & 0xffff,
    flag: info >>> 31 === 1,
    sizeOrType: view.getUint32(offset + 8, true),
  };
}

/**
 * Decodes one type.
 *
 * @param typeOf Gives the type of a number; it is called only when a decoded type is asked for the
 *   one that it refers to, because types refer to each other in circles
 * @param elf The object that the BTF is from, which knows where its variables are
 */
export function decodeType(
  raw: RawBtf,
  id: number,
  typeOf: (id: number) => BtfType,
  elf: ElfFile | undefined,
): BtfType {
  const offset = raw.offsets[id];
  if (offset === undefined) throw new RangeError(`Cannot find BTF type ${id}`);
  if (id === 0) return { id, kind: "void" };
  const { name, info: { kind }, count, flag, sizeOrType } = readHeader(raw, offset);
  const { view, strings } = raw;
  const extra = offset + TYPE_BYTES;
  const word = (index: number): number => view.getUint32(extra + index * 4, true);
  const nameAt = (index: number): string => stringAt(strings, word(index));
  const elements = <T>(words: number, decode: (at: number) => T): T[] =>
    Array.from({ length: count }, (_, index) => decode(index * words));
  const refersTo = sizeOrType;
  const size = sizeOrType;

  switch (kind) {
    case "int": {
      const encoding = (word(0) >>> 24) & 0xf;
      const signed = (encoding & INT_SIGNED) !== 0;
      const bool = (encoding & INT_BOOL) !== 0;
      return { id, kind, name, size, bits: word(0) & 0xff, signed, bool };
    }
    case "float":
      return { id, kind, name, size };
    case "pointer":
    case "const":
    case "volatile":
    case "restrict":
      return lazily({ id, kind }, () => typeOf(refersTo));
    case "typedef":
    case "type_tag":
      return lazily({ id, kind, name }, () => typeOf(refersTo));
    case "array": {
      const element = word(0);
      return lazily({ id, kind, length: word(2) }, () => typeOf(element));
    }
    case "struct":
    case "union": {
      const members = elements(3, (at): BtfMember => {
        const place = word(at + 2);
        const [offsetBits, bitfieldSize] = flag ? [place & 0xffffff, place >>> 24] : [place, 0];
        const type = word(at + 1);
        return lazily({ name: nameAt(at), offsetBits, bitfieldSize }, () => typeOf(type));
      });
      return { id, kind, name, size, members };
    }
    case "enum": {
      const values = elements(2, (at) => {
        return { name: nameAt(at), value: flag ? word(at + 1) | 0 : word(at + 1) };
      });
      return { id, kind, name, size, signed: flag, values };
    }
    case "enum64": {
      const values = elements(3, (at) => {
        const value = (BigInt(word(at + 2)) << 32n) | BigInt(word(at + 1));
        return { name: nameAt(at), value: flag ? BigInt.asIntN(64, value) : value };
      });
      return { id, kind, name, size, signed: flag, values };
    }
    case "forward":
      return { id, kind, name };
    case "function_prototype": {
      const parameters = elements(2, (at) => {
        const type = word(at + 1);
        return lazily({ name: nameAt(at) }, () => typeOf(type));
      });
      return lazily({ id, kind, parameters }, () => typeOf(refersTo));
    }
    case "function":
      return lazily({ id, kind, name, linkage: linkage(count) }, () => typeOf(refersTo));
    case "variable":
      return lazily({ id, kind, name, linkage: linkage(word(0)) }, () => typeOf(refersTo));
    case "declaration_tag":
      return lazily({ id, kind, name, component: word(0) | 0 }, () => typeOf(refersTo));
    case "data_section": {
      const section = elf?.sections.find((candidate) => candidate.name === name);
      const variables = elements(3, (at): BtfSectionVariable => {
        const variable = typeOf(word(at)) as BtfVariable;
        // clang leaves the offset zero: the symbol table has it.
        const symbol = elf?.symbols.find((candidate) =>
          candidate.name === variable.name && candidate.section === section?.index
        );
        return {
          name: variable.name,
          linkage: variable.linkage,
          offset: symbol?.offset ?? word(at + 1),
          size: word(at + 2),
          type: variable.type,
        };
      });
      return { id, kind, name, size: section?.size ?? size, variables };
    }
    case "void":
      throw new TypeError(`Cannot decode BTF type ${id}: it claims to be void`);
  }
}

/** Adds a `type` that is looked up when it is read. */
function lazily<T extends object>(fields: T, type: () => BtfType): T & { readonly type: BtfType } {
  return Object.defineProperty(fields, "type", { get: type, enumerable: true }) as
    & T
    & { readonly type: BtfType };
}

function linkage(number: number): BtfLinkage {
  return LINKAGES[number] ?? "extern";
}

function kindOf(info: number): typeof KINDS[number] {
  const number = (info >>> 24) & 0x1f;
  const kind = KINDS[number];
  if (kind === undefined || number === 0) {
    throw new TypeError(`Cannot read BTF: its kind ${number} is unknown to this version`);
  }
  return kind;
}

function cutOff(): TypeError {
  return new TypeError("Cannot read BTF: it is cut off or damaged");
}
