/**
 * What a client of the lab does. Run as a process of its own, in the client's namespace, with one argument:
 * a {@linkcode LabLoad} as JSON. At its end it writes a {@linkcode LabLoadResult} as JSON.
 *
 * - `spread` makes HTTP connections, one request each, so many at a time, until it has made them all.
 * - `hold` opens connections to the TCP echo port, writes `ready`, and says something on each of them every
 *   now and then, until its standard input ends.
 * - `talk` does the same with UDP sockets, and takes note when another destination answers.
 *
 * @module
 */
import { createSocket, type Socket } from "node:dgram";

/** What is to be done. */
export interface LabLoad {
  mode: "spread" | "hold" | "talk";
  address: string;
  port: number;
  /** How many connections in all. */
  connections: number;
  /** `spread`: how many at a time. */
  concurrency: number;
  /** `hold` and `talk`: milliseconds between two words on one connection. */
  intervalMs: number;
}

/** What came of it. */
export interface LabLoadResult {
  /** Connections by the name of the destination that answered first. */
  destinations: Record<string, number>;
  /** `talk`: how often another destination answered than before, as in `d1>d2`. */
  moves: Record<string, number>;
  /** Answers received: requests, or words that came back. */
  answers: number;
  /** `hold`: the longest that a word took to come back, in milliseconds. */
  slowestMs: number;
  /** What went wrong, each with how often. */
  failures: Record<string, number>;
}

const DEADLINE_MS = 10_000;
const DATAGRAM_MS = 2_000;

/** Counts what comes of a load. */
class Tally {
  readonly result: LabLoadResult = {
    destinations: {},
    moves: {},
    answers: 0,
    slowestMs: 0,
    failures: {},
  };

  served(destination: string): void {
    this.#count("destinations", destination);
  }

  moved(from: string, to: string): void {
    this.#count("moves", `${from}>${to}`);
  }

  #count(what: "destinations" | "moves" | "failures", name: string): void {
    this.result[what][name] = (this.result[what][name] ?? 0) + 1;
  }

  async attempt(act: () => Promise<void>): Promise<void> {
    try {
      await act();
    } catch (error) {
      this.#count(
        "failures",
        error instanceof Error ? `${error.name}: ${error.message}` : `${error}`,
      );
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
  const pause = untilStdinEnds();
  await Promise.all(connections.map((connection, number) =>
    tally.attempt(async () => {
      // Not all at once.
      let more = await pause(load.intervalMs * number / connections.length);
      for (let word = 0; more || word === 0; word++) {
        const text = `connection ${number} word ${word}\n`;
        const began = performance.now();
        const echo = await within(connection, async () => {
          await connection.write(new TextEncoder().encode(text));
          return await read(connection, text.length);
        });
        if (echo !== text) throw new Error(`another echo than what was said: ${echo}`);
        const took = performance.now() - began;
        tally.result.slowestMs = Math.max(tally.result.slowestMs, Math.round(took));
        tally.result.answers++;
        more = more && await pause(load.intervalMs);
      }
      connection.close();
    })
  ));
}

/** A pause between two words; false once standard input has ended. */
function untilStdinEnds(): (ms: number) => Promise<boolean> {
  let more = true;
  const end = Deno.stdin.readable.pipeTo(new WritableStream()).then(() => {
    more = false;
  });
  return async (ms) => {
    const { promise, resolve } = Promise.withResolvers<void>();
    const timer = setTimeout(resolve, ms);
    await Promise.race([promise, end]);
    clearTimeout(timer);
    return more;
  };
}

/** Says a word on a socket, and returns the name of the destination that echoed it. */
async function ask(socket: Socket, word: string): Promise<string> {
  const { promise, resolve, reject } = Promise.withResolvers<string>();
  const listener = (message: Uint8Array) => {
    const [name, echo] = new TextDecoder().decode(message).split(" ");
    if (echo === word) resolve(name!);
  };
  const timer = setTimeout(() => reject(new Error("no answer to a datagram")), DATAGRAM_MS);
  socket.on("message", listener);
  try {
    socket.send(word);
    return await promise;
  } finally {
    clearTimeout(timer);
    socket.off("message", listener);
  }
}

async function talk(load: LabLoad, tally: Tally): Promise<void> {
  const sockets: { socket: Socket; destination: string }[] = [];
  for (let i = 0; i < load.connections; i++) {
    await tally.attempt(async () => {
      const socket = createSocket(load.address.includes(":") ? "udp6" : "udp4");
      await new Promise<void>((resolve) => socket.connect(load.port, load.address, resolve));
      const destination = await ask(socket, "first");
      tally.served(destination);
      sockets.push({ socket, destination });
    });
  }
  console.log("ready");
  const pause = untilStdinEnds();
  await Promise.all(sockets.map(({ socket, destination }) =>
    tally.attempt(async () => {
      for (let word = 0, more = true; more; word++) {
        const now = await ask(socket, `${word}`);
        if (now !== destination) tally.moved(destination, now);
        destination = now;
        tally.result.answers++;
        more = await pause(load.intervalMs);
      }
      socket.close();
    })
  ));
}

if (import.meta.main) {
  const load: LabLoad = JSON.parse(Deno.args[0] ?? "");
  const tally = new Tally();
  await { spread, hold, talk }[load.mode](load, tally);
  console.log(JSON.stringify(tally.result));
}
