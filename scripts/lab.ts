/**
 * A network to try the balancer in, made of network namespaces: see `lib/net/lab.ts`.
 *
 * @module
 */
import { parseArgs } from "@std/cli/parse-args";
import { Lab, LAB_ECHO_PORT, LAB_HTTP_PORTS, type LabOptions } from "../lib/net/lab.ts";

const HELP = `A network to try the balancer in: a client, a balancer and destinations, each in a
network namespace. Destinations serve HTTP on ports ${
  LAB_HTTP_PORTS.join(" and ")
}, and echo on ${LAB_ECHO_PORT}.

Usage:
  lab.ts up   [--name NAME] [--destinations N] [--routed N] [--mtu BYTES] [--json]
  lab.ts run  [--name NAME] NODE COMMAND...   (ends with the command's own code)
  lab.ts list [--json]
  lab.ts down [--name NAME | --all]

Options:
  --name NAME         which lab (default: lab)
  --destinations N    destinations on the balancer's network (default: 3)
  --routed N          destinations behind a router (default: 0)
  --mtu BYTES         of all links but the client's (default: 1600)
  --all               every lab that there is
  --json              one JSON object a line, instead of a table

Example:
  deno run -A scripts/lab.ts up
  deno run -A scripts/lab.ts run client curl -s http://10.1.0.10/
  deno run -A scripts/lab.ts down
`;

/** A command line that makes no sense. */
class UsageError extends Error {}

interface Row {
  lab: string;
  node: string;
  namespace: string;
  address4: string;
  address6: string;
  mac: string;
}

function rows(lab: Lab): Row[] {
  return lab.nodes.map(({ name, namespace, address4, address6, mac }) => (
    { lab: lab.name, node: name, namespace: namespace.name, address4, address6, mac }
  ));
}

function print(all: readonly Row[], json: boolean): void {
  if (json) {
    for (const row of all) console.log(JSON.stringify(row));
    return;
  }
  const table = all.map((row) => [row.lab, row.node, row.address4, row.address6, row.namespace]);
  const lines = [["LAB", "NODE", "IPV4", "IPV6", "NAMESPACE"], ...table];
  const widths = [0, 1, 2, 3].map((at) => Math.max(...lines.map((line) => line[at]?.length ?? 0)));
  for (const line of lines) {
    console.log(line.map((text, at) => text.padEnd(widths[at] ?? 0)).join("  "));
  }
}

function wholeNumber(flag: string, text: string): number {
  if (!/^\d+$/.test(text)) throw new UsageError(`Cannot read --${flag} "${text}": no whole number`);
  return Number(text);
}

async function list(json: boolean): Promise<void> {
  const all: Row[] = [];
  for (const name of await Lab.list()) {
    try {
      all.push(...rows(await Lab.open(name)));
    } catch (error) {
      // Half made, or half removed: there is something to take down all the same.
      console.error(error instanceof Error ? error.message : error);
    }
  }
  print(all, json);
}

async function runOn(name: string, words: readonly string[]): Promise<number> {
  const [node, ...command] = words;
  if (node === undefined || command.length === 0) {
    throw new UsageError("Cannot run without a node and a command");
  }
  const lab = await Lab.open(name);
  const child = lab.node(node).spawn(command);
  // A terminal's interrupt reaches the command as well: it is the command that decides.
  const leave = (): void => {};
  const hand = (): void => child.kill("SIGTERM");
  Deno.addSignalListener("SIGINT", leave);
  Deno.addSignalListener("SIGTERM", hand);
  try {
    return (await child.status).code;
  } finally {
    Deno.removeSignalListener("SIGINT", leave);
    Deno.removeSignalListener("SIGTERM", hand);
  }
}

async function main(argv: readonly string[]): Promise<number> {
  const [command, ...rest] = argv;
  if (command === undefined) throw new UsageError("Cannot do anything without a command");
  const args = parseArgs(command === "--help" ? argv.slice() : rest, {
    string: ["name", "destinations", "routed", "mtu"],
    boolean: ["all", "json", "help"],
    default: { name: "lab" },
    stopEarly: true,
    unknown: (arg, key) => {
      if (key !== undefined) throw new UsageError(`Cannot understand "${arg}"`);
    },
  });
  const words = args._.map(String);
  if (args.help) {
    console.log(HELP);
    return 0;
  }
  if (command === "run") return await runOn(args.name, words);
  if (words.length > 0) throw new UsageError(`Cannot understand "${words[0]}"`);
  if (command === "list") {
    await list(args.json);
  } else if (command === "down") {
    for (const name of args.all ? await Lab.list() : [args.name]) await Lab.remove(name);
  } else if (command === "up") {
    const options: LabOptions = { name: args.name };
    for (const flag of ["destinations", "routed", "mtu"] as const) {
      const text = args[flag];
      if (text !== undefined) options[flag] = wholeNumber(flag, text);
    }
    print(rows(await Lab.create(options)), args.json);
  } else {
    throw new UsageError(`Cannot understand "${command}"`);
  }
  return 0;
}

if (import.meta.main) {
  try {
    Deno.exit(await main(Deno.args));
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error);
    const usage = error instanceof UsageError || error instanceof RangeError;
    console.error(usage ? `${message} ("lab.ts --help" tells more)` : message);
    Deno.exit(usage ? 2 : 1);
  }
}
