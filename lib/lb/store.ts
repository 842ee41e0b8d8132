/**
 * Where an instance is kept while no process has it: its pins in a bpffs, and the journal of a change under way.
 *
 * @module
 */
import { BpfMap, BpfProgram, isBpffs, XdpLink } from "../bpf/mod.ts";
import {
  InstanceExistsError,
  InstanceNotFoundError,
  InvalidValueError,
  XvsError,
} from "./errors.ts";
import type { Journal } from "./journal.ts";
import { RUN_DIRECTORY } from "./lock.ts";
import { PROGRAM_NAMES, type ProgramName, Programs } from "./programs.ts";

const BPFFS = "/sys/fs/bpf";
const ROOT = `${BPFFS}/xvs`;
const PROGRAM = "program";
const LINK = "link_";
/** The pins of the links to the interfaces that probes come by. */
export const PROBE_PINS = ["link_probe", "link_probe_host"] as const;
/** Only what can never be the end of an instance's name: one that is not there yet, or not any more. */
const NEW = "+new", OLD = "+old";

/**
 * Refuses a name that an instance cannot have.
 *
 * @throws {InvalidValueError} when it is one
 */
export function checkInstanceName(name: string): void {
  if (/^[\w-]{1,64}$/.test(name)) return;
  const message = `Instance "${name}" cannot be: a name is 1 to 64 letters, digits, "_" and "-"`;
  throw new InvalidValueError("instance", name, message);
}

/** The pins of one instance. Whoever changes any of them holds the instance's lock. */
export class Store {
  readonly name: string;
  #directory: string;

  private constructor(name: string, directory: string) {
    this.name = name;
    this.#directory = directory;
  }

  /** The names of all instances, in order. */
  static names(): string[] {
    return entriesOf(ROOT).filter((name) => !name.includes("+"));
  }

  /** The names of instances of which a killed process has left something. */
  static leftovers(): string[] {
    return [
      ...new Set(entriesOf(ROOT).filter((n) => n.includes("+")).map((n) => n.split("+")[0]!)),
    ];
  }

  /**
   * A place for a new instance, which nobody finds until {@linkcode Store.publish}.
   *
   * @throws {InstanceExistsError} when there is one of that name
   * @throws {XvsError} when there is no bpffs
   */
  static stage(name: string): Store {
    if (!isBpffs(BPFFS)) throw new XvsError(`Cannot create instance "${name}": ${noBpffs()}`);
    Store.sweep(name);
    if (exists(`${ROOT}/${name}`)) throw new InstanceExistsError(name);
    const directory = `${ROOT}/${name}${NEW}`;
    makeDirectory(directory);
    return new Store(name, directory);
  }

  /**
   * The place of an instance.
   *
   * @throws {InstanceNotFoundError} when there is none of that name
   */
  static open(name: string): Store {
    checkInstanceName(name);
    const directory = `${ROOT}/${name}`;
    if (exists(directory)) return new Store(name, directory);
    const names = Store.names();
    const wayOut = names.length > 0
      ? `there are ${names.join(", ")}`
      : isBpffs(BPFFS)
      ? "there is none"
      : noBpffs();
    throw new InstanceNotFoundError(name, wayOut);
  }

  /** Takes away what a killed process has left of an instance that was not there yet, or not any more. */
  static sweep(name: string): void {
    for (const end of [NEW, OLD]) removeDirectory(`${ROOT}/${name}${end}`);
    if (exists(`${ROOT}/${name}`)) return;
    new Store(name, "").clearJournal();
    removeIfEmpty(ROOT);
  }

  /** Gives the instance its name: from now on it is there. */
  publish(): void {
    const directory = `${ROOT}/${this.name}`;
    Deno.renameSync(this.#directory, directory);
    this.#directory = directory;
  }

  /** Whether this is still the place of the instance with these settings: another one may have its name. */
  holds(settings: BpfMap): boolean {
    const path = `${this.#directory}/settings`;
    if (!exists(path)) return false;
    using found = BpfMap.openPinned(path);
    return found.id === settings.id;
  }

  /** Takes the instance away, with its links. From its first step on nobody finds it. */
  remove(): void {
    Deno.renameSync(this.#directory, `${ROOT}/${this.name}${OLD}`);
    Store.sweep(this.name);
  }

  /** Keeps a map. Those that hold constants of the program need no keeping. */
  pinMap(name: string, map: BpfMap): void {
    const pin = pinOf(name);
    if (pin !== undefined) map.pin(`${this.#directory}/${pin}`);
  }

  /** All maps that are kept, by their names in `bpf/maps.h`. The caller closes them. */
  openMaps(): Map<string, BpfMap> {
    const pins = entriesOf(this.#directory)
      .filter((pin) => !pin.startsWith(PROGRAM) && !pin.startsWith(LINK));
    return new Map(pins.map((pin) => [pin, BpfMap.openPinned(`${this.#directory}/${pin}`)]));
  }

  /** Keeps the programs. */
  pinPrograms(programs: Programs): void {
    for (const name of PROGRAM_NAMES) programs.get(name).pin(this.#pathOf(name));
  }

  /** The programs that links run. The caller closes them. */
  openPrograms(): Programs {
    return new Programs((name) => BpfProgram.openPinned(this.#pathOf(name)));
  }

  /** Keeps the programs that are to replace the present ones. */
  pinNewPrograms(programs: Programs): void {
    for (const name of PROGRAM_NAMES) programs.get(name).pin(this.#pathOf(name) + NEW);
  }

  /** There are no new programs after all. */
  discardNewPrograms(): void {
    for (const path of PROGRAM_NAMES.map((name) => this.#pathOf(name) + NEW)) {
      if (exists(path)) Deno.removeSync(path);
    }
  }

  /** The new programs, as far as there are any, become the present ones. */
  adoptNewPrograms(): void {
    for (const path of PROGRAM_NAMES.map((name) => this.#pathOf(name))) {
      if (exists(`${path}${NEW}`)) Deno.renameSync(`${path}${NEW}`, path);
    }
  }

  /** The pins of links. */
  links(): string[] {
    return entriesOf(this.#directory).filter((pin) => pin.startsWith(LINK));
  }

  /** Keeps a link. */
  pinLink(pin: string, link: XdpLink): void {
    link.pin(`${this.#directory}/${pin}`);
  }

  /** Opens a link; undefined if it is not kept. */
  openLink(pin: string): XdpLink | undefined {
    const path = `${this.#directory}/${pin}`;
    return exists(path) ? XdpLink.openPinned(path) : undefined;
  }

  /** Detaches and forgets a link; that there is none is no error. */
  removeLink(pin: string): void {
    if (exists(`${this.#directory}/${pin}`)) removePin(this.#directory, pin);
  }

  /** The journal of a change that was begun and not ended. */
  readJournal(): Journal | undefined {
    const path = this.#journal;
    return exists(path) ? JSON.parse(Deno.readTextFileSync(path)) : undefined;
  }

  /** From now on the change will be made, if need be by another process. */
  writeJournal(journal: Journal): void {
    const path = this.#journal;
    Deno.writeTextFileSync(`${path}.new`, JSON.stringify(journal), { mode: 0o600 });
    Deno.renameSync(`${path}.new`, path);
  }

  /** The change has been made. */
  clearJournal(): void {
    if (exists(this.#journal)) Deno.removeSync(this.#journal);
  }

  #pathOf(program: ProgramName): string {
    return `${this.#directory}/${program === "xvs" ? PROGRAM : `${PROGRAM}_${program}`}`;
  }

  get #journal(): string {
    return `${RUN_DIRECTORY}/${this.name}.journal`;
  }
}

/** How the pin of a link is called: by the interface's number, and the inode of its network namespace. */
export function linkPin(namespace: number, ifindex: number): string {
  return `${LINK}${namespace}_${ifindex}`;
}

/** A bpffs takes no dots; what only the program needs has no pin. */
function pinOf(map: string): string | undefined {
  if (map === ".data.settings") return "settings";
  return map.startsWith(".") ? undefined : map;
}

function noBpffs(): string {
  return `there is no bpffs at ${BPFFS} here; mount one ("mount -t bpf bpf ${BPFFS}"), and enter network ` +
    `namespaces by "nsenter --net=/run/netns/NAME", as "ip netns exec" hides it`;
}

function exists(path: string): boolean {
  try {
    Deno.lstatSync(path);
    return true;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return false;
    throw error;
  }
}

function entriesOf(directory: string): string[] {
  try {
    return [...Deno.readDirSync(directory)].map(({ name }) => name).sort();
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return [];
    throw error;
  }
}

/** Detaches first: whoever else has a link open must not keep it attached. */
function removePin(directory: string, pin: string): void {
  const path = `${directory}/${pin}`;
  if (pin.startsWith(LINK)) {
    using link = XdpLink.openPinned(path);
    if (link.attached) link.detach();
  }
  Deno.removeSync(path);
}

function removeDirectory(directory: string): void {
  if (!exists(directory)) return;
  const pins = entriesOf(directory);
  // Packets find the program gone before anything else.
  for (const pin of pins.filter((pin) => pin.startsWith(LINK))) removePin(directory, pin);
  for (const pin of pins.filter((pin) => !pin.startsWith(LINK))) removePin(directory, pin);
  Deno.removeSync(directory);
}

function removeIfEmpty(directory: string): void {
  try {
    Deno.removeSync(directory);
  } catch {
    // There are others, or it has gone.
  }
}

/** Makes a directory, also while somebody else takes away the empty one above it. */
function makeDirectory(directory: string): void {
  for (let tries = 0;; tries++) {
    try {
      return Deno.mkdirSync(directory, { recursive: true, mode: 0o700 });
    } catch (error) {
      if (!(error instanceof Deno.errors.NotFound) || tries === 10) throw error;
    }
  }
}
