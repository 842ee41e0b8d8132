/** A reader of BTF, the types in BPF objects and in the kernel. It needs no native code. */

import { decodeType, indexBtf, type RawBtf, readHeader } from "./btf_decode.ts";
import type { BtfDataSection, BtfEnum, BtfEnum64, BtfStruct, BtfType } from "./btf_types.ts";
import { type ElfFile, parseElf } from "./elf.ts";

/**
 * The types of a BPF object or of the kernel. Each is decoded when first asked for, so that the
 * kernel's hundred thousand cost nothing until then.
 *
 * @example
 * ```ts
 * import { Btf } from "./mod.ts";
 *
 * const skb = Btf.vmlinux().struct("sk_buff");
 * for (const { name, offsetBits } of skb.members) console.log(name, offsetBits / 8);
 * ```
 */
export class Btf {
  readonly #raw: RawBtf;
  readonly #elf: ElfFile | undefined;
  readonly #decoded: BtfType[] = [];
  #names: Map<string, number> | undefined;

  private constructor(bytes: Uint8Array, elf?: ElfFile) {
    this.#raw = indexBtf(bytes);
    this.#elf = elf;
  }

  /**
   * Reads BTF from its bytes.
   *
   * @throws {TypeError} when they are not BTF
   */
  static parse(bytes: Uint8Array): Btf {
    return new Btf(bytes);
  }

  /**
   * Reads the BTF of a BPF object file, and the places of its variables.
   *
   * @throws {TypeError} when the file has none: clang writes it with `-g`
   */
  static fromElf(file: Uint8Array): Btf {
    const elf = parseElf(file);
    const section = elf.sections.find(({ name }) => name === ".BTF");
    if (section === undefined) {
      throw new TypeError('Cannot read BTF: the object has none; compile it with "clang -g"');
    }
    return new Btf(section.data, elf);
  }

  /**
   * Reads the BTF of the running kernel.
   *
   * @throws {Deno.errors.NotFound} when the kernel was built without
   */
  static vmlinux(): Btf {
    return new Btf(Deno.readFileSync("/sys/kernel/btf/vmlinux"));
  }

  /** How many types there are, void included. */
  get length(): number {
    return this.#raw.offsets.length;
  }

  /** All types in the order of their numbers, from void on. */
  get types(): readonly BtfType[] {
    return Array.from({ length: this.length }, (_, id) => this.type(id));
  }

  /** Every enum, also those without a name. */
  get enums(): readonly (BtfEnum | BtfEnum64)[] {
    return this.types.filter((type) => type.kind === "enum" || type.kind === "enum64");
  }

  /** The sections of global variables, such as `.rodata`. */
  get dataSections(): readonly BtfDataSection[] {
    return this.types.filter((type) => type.kind === "data_section");
  }

  /**
   * A type by its number.
   *
   * @throws {RangeError} when there is none
   */
  type(id: number): BtfType {
    return this.#decoded[id] ??= decodeType(this.#raw, id, (id) => this.type(id), this.#elf);
  }

  /**
   * A struct or union by name.
   *
   * @throws {RangeError} when there is none
   */
  struct(name: string): BtfStruct {
    const type = this.find("struct", name) ?? this.find("union", name);
    if (type === undefined) throw new RangeError(`Cannot find struct "${name}" in BTF`);
    return type as BtfStruct;
  }

  /**
   * An enum by name.
   *
   * @throws {RangeError} when there is none
   */
  enum(name: string): BtfEnum | BtfEnum64 {
    const type = this.find("enum", name) ?? this.find("enum64", name);
    if (type === undefined) throw new RangeError(`Cannot find enum "${name}" in BTF`);
    return type as BtfEnum | BtfEnum64;
  }

  /** The first type of a kind that has a name, or `undefined`. */
  find(kind: BtfType["kind"], name: string): BtfType | undefined {
    this.#names ??= this.#indexNames();
    const id = this.#names.get(`${kind} ${name}`);
    return id === undefined ? undefined : this.type(id);
  }

  #indexNames(): Map<string, number> {
    const names = new Map<string, number>();
    for (let id = this.length - 1; id > 0; id--) {
      const { info, name } = readHeader(this.#raw, this.#raw.offsets[id] ?? -1);
      names.set(`${info.kind} ${name}`, id);
    }
    return names;
  }
}
