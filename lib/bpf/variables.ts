/** Global variables of a BPF object: where they are, and which numbers fit them. */

import type { Bytes } from "../sys/memory.ts";
import { Btf } from "./btf.ts";
import { type BtfSectionVariable, resolve } from "./btf_types.ts";
import { parseElf } from "./elf.ts";

/** A global variable, in the section that the kernel makes a map of. */
export interface Variable extends BtfSectionVariable {
  /** Such as `.rodata` or `.data.settings`. */
  readonly section: string;
}

/** What a program's C source calls its global variables, before anything is loaded. */
export class Variables {
  /** The initial contents of each section, to be changed until the object is loaded. */
  readonly images: ReadonlyMap<string, Bytes>;
  readonly #variables: ReadonlyMap<string, Variable>;

  /** Finds the variables of an object file; one without BTF has none. */
  constructor(file: Uint8Array) {
    const elf = parseElf(file);
    const sections = elf.sections.filter(({ name, size }) => isData(name) && size > 0);
    this.images = new Map(sections.map(({ name, size, data }) => {
      const image = new Uint8Array(size);
      image.set(data);
      return [name, image];
    }));
    const hasBtf = elf.sections.some(({ name }) => name === ".BTF");
    const dataSections = hasBtf ? Btf.fromElf(file).dataSections : [];
    this.#variables = new Map(
      dataSections.filter(({ name }) => this.images.has(name)).flatMap((section) =>
        section.variables.map((variable) => [
          variable.name,
          { ...variable, type: variable.type, section: section.name },
        ])
      ),
    );
  }

  /** The initial contents of a section. */
  image(section: string): Bytes {
    const image = this.images.get(section);
    if (image === undefined) throw new RangeError(`Cannot find section "${section}"`);
    return image;
  }

  /**
   * A variable by name.
   *
   * @throws {RangeError} when there is none
   */
  get(name: string): Variable {
    const variable = this.#variables.get(name);
    if (variable !== undefined) return variable;
    const names = [...this.#variables.keys()].join(", ");
    throw new RangeError(
      `Cannot find variable "${name}": ${
        names === "" ? 'the object tells of none; compile it with "clang -g"' : `there are ${names}`
      }`,
    );
  }
}

/** Whether programs can only read the section. */
export function isReadOnly(section: string): boolean {
  return section === ".rodata" || section.startsWith(".rodata.");
}

function isData(section: string): boolean {
  return /^\.(data|rodata|bss)(\.|$)/.test(section);
}

/**
 * The bytes of a value for a variable.
 *
 * @throws {RangeError} when it does not fit
 * @throws {TypeError} when the variable is no number and the value is one
 */
export function encode(
  variable: Variable,
  value: number | bigint | boolean | Uint8Array,
): Uint8Array {
  if (value instanceof Uint8Array) {
    if (value.length !== variable.size) {
      throw misfit(variable, `${value.length} bytes`, `it has ${variable.size}`);
    }
    return value;
  }
  if (typeof value === "number" && !Number.isSafeInteger(value)) {
    throw misfit(variable, String(value), "it is no safe integer; use a bigint");
  }
  const number = BigInt(value);
  const [lowest, highest] = range(variable);
  if (number < lowest || number > highest) {
    throw misfit(variable, String(value), `it takes ${lowest} to ${highest}`);
  }
  return new Uint8Array(new BigInt64Array([BigInt.asIntN(64, number)]).buffer, 0, variable.size);
}

function range(variable: Variable): [lowest: bigint, highest: bigint] {
  const type = resolve(variable.type);
  if (type.kind !== "int" && type.kind !== "enum" && type.kind !== "enum64") {
    throw new TypeError(
      `Cannot set variable "${variable.name}" to a number: it is a ${type.kind}; give its bytes`,
    );
  }
  if (type.kind === "int" && type.bool) return [0n, 1n];
  const bits = BigInt(type.size * 8);
  return type.signed ? [-(1n << (bits - 1n)), (1n << (bits - 1n)) - 1n] : [0n, (1n << bits) - 1n];
}

function misfit(variable: Variable, value: string, reason: string): RangeError {
  return new RangeError(`Cannot set variable "${variable.name}" to ${value}: ${reason}`);
}
