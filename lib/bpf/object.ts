/** BPF objects: programs and maps as clang compiles them together. */

import type { Bytes } from "../sys/memory.ts";
import { u32 } from "./bytes.ts";
import { loadObject, type MapSpec, type ObjectSpec, readSpec } from "./loader.ts";
import { BpfMap } from "./map.ts";
import { BpfProgram } from "./program.ts";
import { encode, isReadOnly, Variables } from "./variables.ts";

/**
 * The programs and maps of one object file. It is opened, adjusted, and loaded into the kernel.
 *
 * @example
 * ```ts
 * import { BpfObject, u32 } from "./mod.ts";
 *
 * using object = BpfObject.open(Deno.readFileSync("balancer.bpf.o"))
 *   .setMaxEntries("flows", 1_000_000)
 *   .setVariable("idle_timeout_ns", 60_000_000_000n)
 *   .load();
 * object.map("settings").update(u32(0), new Uint8Array(16));
 * using link = object.program("balance").attachXdp(2);
 * ```
 */
export class BpfObject implements Disposable {
  /** The name given to {@linkcode BpfObject.open}. */
  readonly name: string;
  readonly #file: Uint8Array;
  readonly #spec: ObjectSpec;
  readonly #variables: Variables;
  readonly #maxEntries = new Map<string, number>();
  readonly #reused = new Map<string, BpfMap>();
  readonly #autoload = new Map<string, boolean>();
  readonly #owned = new DisposableStack();
  #loaded: LoadedObjects | undefined;

  private constructor(file: Uint8Array, name: string) {
    this.name = name;
    this.#file = file;
    this.#variables = new Variables(file);
    this.#spec = readSpec(file, name);
  }

  /**
   * Reads an object file. Nothing reaches the kernel yet.
   *
   * @param elf The bytes of the file, which must not change until it is loaded
   * @param options.name For people: it begins the names of the maps that hold global variables
   * @throws {TypeError} when it is no BPF object
   * @throws {BpfError} when libbpf does not understand it
   * @throws {LibraryError} when libbpf is not installed
   */
  static open(elf: Uint8Array, { name = "object" }: { name?: string } = {}): BpfObject {
    return new BpfObject(elf, name);
  }

  /** The maps that the file declares, by their names in C; for {@linkcode BpfObject.reuseMap}. */
  get mapNames(): string[] {
    return [...this.#spec.maps.keys()];
  }

  /**
   * Sets how many entries a map will have.
   *
   * @throws {RangeError} when there is no such map, or the number is no positive 32-bit one
   */
  setMaxEntries(map: string, maxEntries: number): this {
    this.#assertNotLoaded(`set the size of map "${map}"`);
    this.#mapSpec(map);
    if (!Number.isInteger(maxEntries) || maxEntries < 1 || maxEntries > 0xffff_ffff) {
      throw new RangeError(
        `Cannot set the size of map "${map}" to ${maxEntries}: it takes 1 to 4294967295`,
      );
    }
    this.#maxEntries.set(map, maxEntries);
    return this;
  }

  /**
   * Sets whether a program will be loaded: by default all but those marked as optional in C, as in
   * `SEC("?xdp")`.
   *
   * @throws {RangeError} when there is no such program
   */
  setAutoload(program: string, autoload: boolean): this {
    this.#assertNotLoaded(`choose program "${program}"`);
    if (!this.#spec.programs.has(program)) {
      throw unknown("program", program, this.#spec.programs.keys());
    }
    this.#autoload.set(program, autoload);
    return this;
  }

  /**
   * Makes the programs use a map that exists already, with what it holds. An `array` may stand in for a
   * `percpu_array`: programs cannot tell, and with {@linkcode BpfMap.view} its values are read without
   * a system call; but processors that count at once then overwrite each other.
   *
   * @param map Must stay open until the object is loaded
   * @throws {RangeError} when there is no such map
   * @throws {TypeError} when the two differ in type or in the size of keys or values
   */
  reuseMap(name: string, map: BpfMap): this {
    this.#assertNotLoaded(`reuse a map as "${name}"`);
    const spec = this.#mapSpec(name);
    const standsIn = map.type === "array" && spec.type === "percpu_array";
    for (const field of ["type", "keySize", "valueSize"] as const) {
      if (map[field] !== spec[field] && !(field === "type" && standsIn)) {
        throw new TypeError(
          `Cannot reuse ${map.label} as "${name}": its ${field} is ${map[field]}, not ${
            spec[field]
          }`,
        );
      }
    }
    this.#reused.set(name, map);
    return this;
  }

  /**
   * The bytes of a global variable. Before `load()` they are its initial value, and changing them
   * changes that. Afterwards they are the memory that the programs use: both sides see at once what
   * the other writes. Only of a constant they are a copy. A view taken before `load()` becomes
   * empty by it: take a new one.
   *
   * @throws {RangeError} when there is no such variable
   */
  variable(name: string): Bytes {
    const { section, offset, size } = this.#variables.get(name);
    return this.#section(section).subarray(offset, offset + size);
  }

  /**
   * Sets a global variable: numbers in the size, signedness and byte order that it has in C.
   *
   * @throws {RangeError} when there is no such variable, or the value does not fit
   * @throws {TypeError} for a number where the variable is none, and for a constant after `load()`
   */
  setVariable(name: string, value: number | bigint | boolean | Uint8Array): this {
    const variable = this.#variables.get(name);
    if (this.#loaded !== undefined && isReadOnly(variable.section)) {
      throw new TypeError(`Cannot set variable "${name}" after load(): it is a constant`);
    }
    this.variable(name).set(encode(variable, value));
    return this;
  }

  /**
   * Loads programs and maps into the kernel, where they stay until this object is closed, or longer
   * if something else holds them: a pin, a link.
   *
   * @throws {VerifierError} when the kernel refuses a program
   * @throws {NotSupportedError} when this kernel lacks one of the types of maps
   * @throws {BpfError} when anything else fails, such as memory or rights
   */
  load(): this {
    this.#assertNotLoaded("load");
    const { maps, programs } = loadObject(this.#file, this.name, {
      maxEntries: this.#maxEntries,
      reuse: mapValues(this.#reused, (map) => map.fd),
      autoload: this.#autoload,
      images: this.#variables.images,
    });
    // Until a map or program takes them over, so that a failure half way leaves none open.
    for (const fd of [...maps.values(), ...programs.values()]) this.#owned.use(fd);
    this.#loaded = {
      maps: mapValues(maps, (fd, name) => this.#owned.use(new BpfMap(fd.release(), name))),
      programs: mapValues(
        programs,
        (fd, name) => this.#owned.use(new BpfProgram(fd.release(), name)),
      ),
    };
    for (const image of this.#variables.images.values()) image.buffer.transfer();
    return this;
  }

  /**
   * A map by its name in C, or by the section of global variables that it holds, such as `".data"`.
   * It belongs to this object, which closes it.
   *
   * @throws {RangeError} when there is none
   */
  map(name: string): BpfMap {
    const map = this.maps.get(name);
    if (map === undefined) throw unknown("map", name, this.maps.keys());
    return map;
  }

  /** All maps by name. */
  get maps(): ReadonlyMap<string, BpfMap> {
    return this.#assertLoaded("maps").maps;
  }

  /**
   * A program by its name in C. It belongs to this object, which closes it.
   *
   * @throws {RangeError} when there is none, or it was not loaded
   */
  program(name: string): BpfProgram {
    const program = this.programs.get(name);
    if (program === undefined) throw unknown("program", name, this.programs.keys());
    return program;
  }

  /** All loaded programs by name. */
  get programs(): ReadonlyMap<string, BpfProgram> {
    return this.#assertLoaded("programs").programs;
  }

  /** Closes all maps and programs; a second call does nothing. */
  close(): void {
    this.#owned.dispose();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #section(name: string): Bytes {
    if (this.#loaded === undefined) return this.#variables.image(name);
    const map = this.map(name);
    if (isReadOnly(name)) return map.lookup(u32(0)) ?? new Uint8Array(0);
    return map.view();
  }

  #mapSpec(name: string): MapSpec {
    const spec = this.#spec.maps.get(name);
    if (spec === undefined) throw unknown("map", name, this.#spec.maps.keys());
    return spec;
  }

  #assertNotLoaded(action: string): void {
    if (this.#loaded !== undefined) {
      throw new TypeError(`Cannot ${action}: object "${this.name}" is loaded already`);
    }
  }

  #assertLoaded(what: string): LoadedObjects {
    if (this.#loaded === undefined) {
      throw new TypeError(`Cannot use ${what} of object "${this.name}": call load() first`);
    }
    return this.#loaded;
  }
}

/** What is in the kernel after `load()`. */
interface LoadedObjects {
  readonly maps: ReadonlyMap<string, BpfMap>;
  readonly programs: ReadonlyMap<string, BpfProgram>;
}

function mapValues<T, U>(
  map: ReadonlyMap<string, T>,
  make: (value: T, key: string) => U,
): Map<string, U> {
  return new Map([...map].map(([key, value]) => [key, make(value, key)]));
}

function unknown(what: string, name: string, names: Iterable<string>): RangeError {
  return new RangeError(`Cannot find ${what} "${name}": there are ${[...names].join(", ")}`);
}
