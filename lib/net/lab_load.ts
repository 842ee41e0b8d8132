/**
 * What a client of the lab does. Run as a process of its own, in the client's namespace, with one argument:
 * a {@linkcode LabLoad} as JSON. At its end it writes a {@linkcode LabLoadResult} as JSON.
 *
 * - `spread` makes HTTP connections, one request each, so many at a time, until it has made them all.
 * - `hold` opens connections to the echo port, writes `ready`, and says something on each of them every
 *   now and then, until its standard input ends.
 *
 * @module
 */

/** What is to be done. */
export interface LabLoad {
  mode: "spread" | "hold";
  address: string;
  port: number;
  /** How many connections in all. */
  connections: number;
  /** `spread`: how many at a time. */
  concurrency: number;
  /** `hold`: milliseconds between two words on one connection. */
  intervalMs: number;
}

/** What came of it. */
export interface LabLoadResult {
  /** Connections by the name of the destination that answered. */
  destinations: Record<string, number>;
  /** Answers received: requests, or words that came back. */
  answers: number;
  /** What went wrong, each with how often. */
  failures: Record<string, number>;
}

const DEADLINE_MS = 10_000;

/** Counts what comes of a load. */
class Tally {
  readonly result: LabLoadResult = { destinations: {}, answers: 0, failures: {} };

  served(destination: string): void {
    this.result.destinations[destination] = (this.result.destinations[destination] ?? 0) + 1;
  }

  async attempt(act: () => Promise<void>): Promise<void> {
    try {
      await act();
    } catch (error) {
      const why = error instanceof Error ? `${error.name}: ${error.message}` : String(error);
      this.result.failures[why] = (this.result.failures[why] ?? 0) + 1;
    }
  }
}

/** Ends a connection that hangs. */
async function within<T>(connection: Deno.Conn, act: () => Promise<T>): Promise<T> {
  let late = false;
  const timer = setTimeout(() => {
    late = true;
    connection.close();
  }, DEADLINE_MS);
  try {
    return await act();
  } catch (error) {
    throw late ? new Error(`no answer within ${DEADLINE_MS} ms`) : error;
  } finally {
    clearTimeout(timer);
  }
}

async function request(load: LabLoad, tally: Tally): Promise<void> {
  using connection = await Deno.connect({ hostname: load.address, port: load.port });
  const host = load.address.includes(":") ? `[${load.address}]` : load.address;
  const text = `GET / HTTP/1.1\r\nHost: ${host}\r\nConnection: close\r\n\r\n`;
  const answer = await within(connection, async () => {
    await connection.write(new TextEncoder().encode(text));
    let whole = "";
    for await (const chunk of connection.readable.pipeThrough(new TextDecoderStream())) {
      whole += chunk;
    }
    return whole;
  });
  const name = /^x-destination: (.*)\r$/im.exec(answer)?.[1];
  if (name === undefined) {
    throw new Error(`unexpected answer ${JSON.stringify(answer.slice(0, 80))}`);
  }
  tally.served(name);
  tally.result.answers++;
}

async function spread(load: LabLoad, tally: Tally): Promise<void> {
  let left = load.connections;
  const worker = async () => {
    while (left-- > 0) await tally.attempt(() => request(load, tally));
  };
  await Promise.all(Array.from({ length: load.concurrency }, worker));
}

/** Reads exactly so many bytes. */
async function read(connection: Deno.Conn, length: number): Promise<string> {
  const bytes = new Uint8Array(length);
  for (let at = 0; at < length;) {
    const count = await connection.read(bytes.subarray(at));
    if (count === null) throw new Error("the connection was closed");
    at += count;
  }
  return new TextDecoder().decode(bytes);
}

/** The line by which the echo service names itself. */
async function greeting(connection: Deno.Conn): Promise<string> {
  let line = "";
  while (!line.endsWith("\n")) line += await read(connection, 1);
  return line.trim();
}

async function hold(load: LabLoad, tally: Tally): Promise<void> {
  const connections: Deno.Conn[] = [];
  for (let i = 0; i < load.connections; i++) {
    await tally.attempt(async () => {
      const connection = await Deno.connect({ hostname: load.address, port: load.port });
      tally.served(await within(connection, () => greeting(connection)));
      connections.push(connection);
    });
  }
  console.log("ready");
  let ended = false;
  const end = Deno.stdin.readable.pipeTo(new WritableStream()).then(() => ended = true);
  await Promise.all(connections.map((connection, number) =>
    tally.attempt(async () => {
      for (let word = 0; !ended; word++) {
        const text = `connection ${number} word ${word}\n`;
        const echo = await within(connection, async () => {
          await connection.write(new TextEncoder().encode(text));
          return await read(connection, text.length);
        });
        if (echo !== text) throw new Error(`another echo than what was said: ${echo}`);
        tally.result.answers++;
        const { promise, resolve } = Promise.withResolvers<void>();
        const timer = setTimeout(resolve, load.intervalMs);
        await Promise.race([promise, end]);
        clearTimeout(timer);
      }
      connection.close();
    })
  ));
}

if (import.meta.main) {
  const load: LabLoad = JSON.parse(Deno.args[0] ?? "");
  const tally = new Tally();
  await (load.mode === "spread" ? spread : hold)(load, tally);
  console.log(JSON.stringify(tally.result));
}
