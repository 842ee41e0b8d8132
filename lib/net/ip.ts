/**
 * Interfaces, routes and neighbours, as iproute2 tells them in JSON.
 *
 * Every function speaks of this process's network namespace, or of the one that it is given.
 *
 * @module
 */
import type { Address } from "./address.ts";
import { attempt, CommandError, type CommandResult } from "./command.ts";
import type { Namespace } from "./namespace.ts";
import { type LinkInfo, parseLinks, parseNeighbours, parseRoute } from "./ip_json.ts";
import type { Neighbour, Route } from "./ip_json.ts";

export type { LinkInfo, Neighbour, Route } from "./ip_json.ts";

/** What the kernel's word about a route means where it is hard to guess. */
const REFUSALS = new Map([
  ["Invalid argument", "a route sends it to nowhere (Invalid argument)"],
  ["Permission denied", "a route prohibits it (Permission denied)"],
]);

const LINE_FAILED = /^Command failed .*:(\d+)$/;
const BATCH = ["-j", "-force", "-batch", "-"];

/** An interface that does not exist. */
export class LinkNotFoundError extends Error {
  override readonly name = "LinkNotFoundError";
  /** The name or index asked for. */
  readonly link: string | number;

  constructor(link: string | number, known: readonly LinkInfo[]) {
    const names = known.map(({ name }) => name).join(", ");
    super(`Cannot find interface "${link}": there are ${names}`);
    this.link = link;
  }
}

/** The kernel's refusal to route to an address. */
export class RouteError extends Error {
  override readonly name = "RouteError";
  /** The destination asked for. */
  readonly address: string;
  /** The kernel's words. */
  readonly why: string;

  constructor(address: string, why: string) {
    super(`Cannot route to "${address}": ${why}`);
    this.address = address;
    this.why = why;
  }
}

/** All interfaces, with their addresses. */
export async function links(namespace?: Namespace): Promise<LinkInfo[]> {
  return parseLinks(JSON.parse(await ip(["-j", "-d", "address", "show"], namespace)));
}

/**
 * One interface.
 *
 * @param which its name or index
 * @throws {LinkNotFoundError} when there is none
 */
export async function link(which: string | number, namespace?: Namespace): Promise<LinkInfo> {
  const all = await links(namespace);
  const found = all.find(({ name, ifindex }) => name === which || ifindex === which);
  if (found === undefined) throw new LinkNotFoundError(which, all);
  return found;
}

/** All neighbours known, in whatever state. */
export async function neighbours(namespace?: Namespace): Promise<Neighbour[]> {
  return parseNeighbours(
    JSON.parse(await ip(["-j", "neighbour", "show", "nud", "all"], namespace)),
  );
}

/**
 * The way that the kernel would take to each of many addresses; by the addresses' texts. One process asks
 * for all of them: 10,000 take less than a second.
 */
export async function routes(
  addresses: readonly Address[],
  namespace?: Namespace,
): Promise<Map<string, Route | RouteError>> {
  const texts = [...new Set(addresses.map(String))];
  const found = new Map<string, Route | RouteError>();
  if (texts.length === 0) return found;
  const result = await batch(texts.map((text) => `route get ${text}`), namespace);
  const failures = batchFailures(result.stderr);
  const answers = result.stdout.split("\n").filter((line) => line.startsWith("["));
  if (answers.length + failures.size !== texts.length) throw batchError(result);
  let next = 0;
  for (const [at, text] of texts.entries()) {
    const failure = failures.get(at + 1);
    found.set(
      text,
      failure === undefined
        ? parseRoute(JSON.parse(answers[next++] ?? "")) ??
          new RouteError(text, "there is a route, and it is one that refuses")
        : new RouteError(text, REFUSALS.get(failure) ?? failure),
    );
  }
  return found;
}

/** Runs many lines in one process of `ip`. Most lines that fail do not stop those that follow. */
export function batch(lines: readonly string[], namespace?: Namespace): Promise<CommandResult> {
  const stdin = lines.map((line) => `${line}\n`).join("");
  return attempt(argvOf(BATCH, namespace), { stdin });
}

/** The error that a batch ended with. */
export function batchError({ code, stdout, stderr }: CommandResult): CommandError {
  return new CommandError(["ip", ...BATCH], code, stdout, stderr);
}

/** The kernel's or `ip`'s last word about a line that failed. */
export function lastReason(stderr: string): string {
  const said = stderr.split("\n").filter((line) => line !== "" && !LINE_FAILED.test(line));
  return reason(said.at(-1));
}

/** What `ip -force -batch` says of lines that failed, by their numbers from 1. */
function batchFailures(stderr: string): Map<number, string> {
  const failures = new Map<number, string>();
  let said: string | undefined;
  for (const line of stderr.split("\n")) {
    const [, number] = LINE_FAILED.exec(line) ?? [];
    if (number !== undefined) failures.set(Number(number), reason(said));
    else if (line !== "") said = line;
  }
  return failures;
}

function reason(line = "no reason given"): string {
  return line.replace(/^(RTNETLINK answers|Error): /, "").replace(/\.$/, "");
}

async function ip(args: readonly string[], namespace: Namespace | undefined): Promise<string> {
  const argv = argvOf(args, namespace);
  const { code, stdout, stderr } = await attempt(argv);
  if (code !== 0) throw new CommandError(argv, code, stdout, stderr);
  return stdout;
}

function argvOf(args: readonly string[], namespace: Namespace | undefined): string[] {
  const argv = ["ip", ...args];
  return namespace?.argv(argv) ?? argv;
}
