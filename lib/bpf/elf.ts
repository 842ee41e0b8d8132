/** BPF object files: the parts of ELF that clang writes into them. */

/** A section of an object file. */
export interface ElfSection {
  readonly name: string;
  /** Its place in the section table, by which symbols refer to it. */
  readonly index: number;
  /** `sh_type`. */
  readonly type: number;
  /** In bytes; also of a section without contents, such as `.bss`. */
  readonly size: number;
  /** A view of the file; empty for a section without contents. */
  readonly data: Uint8Array;
}

/** A named place in a section. */
export interface ElfSymbol {
  readonly name: string;
  /** The index of its section; 0 if it is defined elsewhere. */
  readonly section: number;
  /** In bytes from the section's start. */
  readonly offset: number;
  /** In bytes. */
  readonly size: number;
}

/** What an object file holds. */
export interface ElfFile {
  readonly sections: readonly ElfSection[];
  readonly symbols: readonly ElfSymbol[];
}

const ELF_MAGIC = 0x7f454c46;
const ELFCLASS64 = 2;
const ELFDATA2LSB = 1;
const EM_BPF = 247;
const SHT_SYMTAB = 2;
const SHT_NOBITS = 8;
const SECTION_HEADER_BYTES = 64;
const SYMBOL_BYTES = 24;

/**
 * Reads an object file, checking every offset that it follows.
 *
 * @throws {TypeError} when it is no BPF object, for a host of this byte order, or is cut off
 */
export function parseElf(file: Uint8Array): ElfFile {
  try {
    return parse(file);
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    throw new TypeError("Cannot read BPF object: the file is cut off or damaged", { cause: error });
  }
}

function parse(file: Uint8Array): ElfFile {
  const view = new DataView(file.buffer, file.byteOffset, file.byteLength);
  if (file.length < 64 || view.getUint32(0) !== ELF_MAGIC) {
    throw new TypeError("Cannot read BPF object: it is not an ELF file");
  }
  if (file[4] !== ELFCLASS64 || file[5] !== ELFDATA2LSB || view.getUint16(18, true) !== EM_BPF) {
    throw new TypeError(
      'Cannot read BPF object: it is not for BPF in little-endian order; use "clang --target=bpf"',
    );
  }
  const table = Number(view.getBigUint64(40, true));
  const count = view.getUint16(60, true);
  const namesIndex = view.getUint16(62, true);
  const headers = Array.from({ length: count }, (_, index) => {
    const at = table + index * SECTION_HEADER_BYTES;
    const type = view.getUint32(at + 4, true);
    const offset = Number(view.getBigUint64(at + 24, true));
    const size = Number(view.getBigUint64(at + 32, true));
    const data = type === SHT_NOBITS ? new Uint8Array(0) : slice(file, offset, size);
    return {
      index,
      nameOffset: view.getUint32(at, true),
      type,
      size,
      data,
      link: view.getUint32(at + 40, true),
    };
  });
  const names = headers[namesIndex]?.data ?? new Uint8Array(0);
  const sections = headers.map(({ nameOffset, ...header }) => ({
    ...header,
    name: stringAt(names, nameOffset),
  }));
  const symbols = sections.filter(({ type }) => type === SHT_SYMTAB)
    .flatMap(({ data, link }) => parseSymbols(data, sections[link]?.data ?? new Uint8Array(0)));
  return { sections, symbols };
}

function parseSymbols(table: Uint8Array, names: Uint8Array): ElfSymbol[] {
  const view = new DataView(table.buffer, table.byteOffset, table.byteLength);
  return Array.from({ length: Math.floor(table.length / SYMBOL_BYTES) }, (_, index) => {
    const at = index * SYMBOL_BYTES;
    return {
      name: stringAt(names, view.getUint32(at, true)),
      section: view.getUint16(at + 6, true),
      offset: Number(view.getBigUint64(at + 8, true)),
      size: Number(view.getBigUint64(at + 16, true)),
    };
  });
}

function slice(file: Uint8Array, offset: number, size: number): Uint8Array {
  if (offset + size > file.length) throw new RangeError(`section ends at ${offset + size}`);
  return file.subarray(offset, offset + size);
}

/** The NUL-terminated string at an offset of a string table. */
export function stringAt(table: Uint8Array, offset: number): string {
  const end = table.indexOf(0, offset);
  return new TextDecoder().decode(table.subarray(offset, end < 0 ? undefined : end));
}
