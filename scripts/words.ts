/**
 * Instances, services and destinations as they are written on a command line.
 *
 * @module
 */
import { Address } from "../lib/net/address.ts";
import {
  Client,
  type Destination,
  type OpenOptions,
  type Protocol,
  type ServiceId,
  serviceName,
  type TunnelType,
} from "../mod.ts";
import { print, table, toJson, UsageError, whole } from "./common.ts";

/** The help for the option that all scripts about an instance have. */
export const INSTANCE_HELP = `  -i, --instance NAME    the instance (default "default")
      --json             one JSON object a line
  -h, --help             this`;

/** The same as an option. */
export const INSTANCE = { values: ["instance"], letters: { instance: "i" } } as const;

/** The name of the instance that a command line means. */
export function instanceOf({ values }: { values: { instance?: string } }): string {
  return values.instance ?? "default";
}

/** Does something with the instance that a command line means. */
export async function withInstance<Result>(
  args: { values: { instance?: string } },
  act: (client: Client) => Promise<Result> | Result,
  options: OpenOptions = {},
): Promise<Result> {
  const logger = { debug: () => {}, warn: (message: string) => console.error(message) };
  await using client = await Client.open(instanceOf(args), { logger, ...options });
  return await act(client);
}

/** An end of a flow as a person writes it. */
export interface End {
  address: string;
  /** Undefined: not said. */
  port: number | undefined;
  protocol: Protocol | undefined;
}

/** Reads `192.0.2.1`, `192.0.2.1:80`, `2001:db8::1`, `[2001:db8::1]:53/udp`. */
export function parseEnd(text: string): End {
  const match =
    /^(?:\[(?<v6>.+)\]|(?<v4>[^:[\]/]+)|(?<bare>[^/[\]]*:[^/[\]]*:[^/[\]]*))(?::(?<port>\d+))?(?:\/(?<protocol>tcp|udp))?$/
      .exec(text)?.groups;
  const address = match?.v6 ?? match?.v4 ?? match?.bare;
  if (address === undefined) {
    throw new UsageError(
      `"${text}" is not of the form ADDRESS:PORT/tcp, such as [2001:db8::1]:53/udp`,
    );
  }
  const { port, protocol } = match!;
  return {
    address: Address.parse(address).toString(),
    port: port === undefined ? undefined : whole(port, 65535, "Port"),
    protocol: protocol as Protocol | undefined,
  };
}

/** Reads the name of a service: without a port it is 80, without a protocol TCP. */
export function parseService(text: string): Required<ServiceId> {
  const { address, port = 80, protocol = "tcp" } = parseEnd(text);
  return { address, port, protocol };
}

const TRUE = "true";

/** What may stand behind a destination's address, and what it sets. */
const FIELDS: Record<string, (value: string) => Partial<Destination>> = {
  tunnel: (value) => ({ tunnelType: value as TunnelType }),
  port: (value) => ({ tunnelPort: whole(value, 65535, "Port") }),
  weight: (value) => ({ weight: whole(value, 65535, "Weight") }),
  mtu: (value) => ({ mtu: whole(value, 65535, "MTU") }),
  nochecksum: (value) => ({ tunnelEncapNoChecksum: flag("nochecksum", value) }),
  drain: (value) => ({ disable: flag("drain", value) }),
};

function flag(name: string, value: string): boolean {
  if (value === TRUE || value === "false") return value === TRUE;
  throw new UsageError(`"${name}" is true or false, not "${value}"`);
}

/** Reads `10.0.0.2`, `10.0.0.2,tunnel=gue,port=6080,weight=2,nochecksum,drain`. */
export function parseDestination(text: string): Destination {
  const [address, ...rest] = text.split(",");
  const fields = rest.map((field) => {
    const [name = "", value = TRUE] = field.split("=", 2);
    const read = FIELDS[name];
    if (read) return read(value);
    const known = Object.keys(FIELDS).join(", ");
    throw new UsageError(`"${field}" of destination "${text}" is none of ${known}`);
  });
  return Object.assign({ address: Address.parse(address!).toString() }, ...fields);
}

/** A destination as {@linkcode parseDestination} reads it. */
export function destinationText(destination: Required<Destination>): string {
  const { address, tunnelType, tunnelPort, weight, mtu, tunnelEncapNoChecksum, disable } =
    destination;
  return [
    address,
    ...(tunnelType === "none" ? [] : [`tunnel=${tunnelType}`]),
    ...(tunnelPort === 0 ? [] : [`port=${tunnelPort}`]),
    ...(weight === 1 ? [] : [`weight=${weight}`]),
    ...(mtu === 0 ? [] : [`mtu=${mtu}`]),
    ...(tunnelEncapNoChecksum ? ["nochecksum"] : []),
    ...(disable ? ["drain"] : []),
  ].join(",");
}

/** A service's name, of one that says everything or not. */
export function nameOf({ address, port, protocol = "tcp" }: ServiceId): string {
  return serviceName({ address, port, protocol });
}

/** Prints rows as a table for people, or one JSON object each. */
export function show(
  rows: readonly object[],
  json: boolean,
  columns: (row: never) => Record<string, string | number>,
  none: string,
): void {
  if (json) { for (const row of rows) print(toJson(row)); }
  else print(rows.length === 0 ? none : table(rows.map((row) => columns(row as never))));
}

/** Refuses words that a script does not take. */
export function noWords(words: readonly string[], script: string): void {
  if (words.length > 0) throw new UsageError(`${script} takes no "${words[0]}": see --help`);
}
