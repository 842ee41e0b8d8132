/**
 * What a destination of the lab serves. Run as a process of its own, in the destination's namespace, with
 * one argument: a {@linkcode LabServerOptions} as JSON. It writes `ready` when everything listens.
 *
 * | request | answer |
 * |---|---|
 * | `GET /` | the destination's name and the client's address: `d1 10.1.0.2` |
 * | `GET /bytes/N` | N bytes, the one at offset i being i mod 251 |
 * | `POST /count` | `{"bytes": N, "sha256": "..."}` of the body |
 * | TCP echo | the destination's name on a line of its own, then all that the client says |
 * | UDP echo | the destination's name, a space, and the datagram |
 *
 * @module
 */
import { createHash } from "node:crypto";
import { createSocket } from "node:dgram";
import { Address } from "./address.ts";

/** What the server is told. */
export interface LabServerOptions {
  /** How it names itself. */
  name: string;
  /** Ports of HTTP. */
  httpPorts: number[];
  /** Port of TCP and UDP echo. */
  echoPort: number;
  /** Addresses of UDP echo: each gets its own socket, so that answers leave from where they were asked. */
  addresses: string[];
}

/** No slice of a body is longer; a multiple of 251, so that each begins the pattern anew. */
const PATTERN = Uint8Array.from({ length: 251 * 256 }, (_, at) => at % 251);

function patternBody(length: number): ReadableStream<Uint8Array> {
  let left = length;
  return new ReadableStream({
    pull(controller): void {
      const count = Math.min(left, PATTERN.length);
      if (count > 0) controller.enqueue(PATTERN.slice(0, count));
      left -= count;
      if (left === 0) controller.close();
    },
  });
}

async function count(body: ReadableStream<Uint8Array> | null): Promise<Response> {
  const hash = createHash("sha256");
  let bytes = 0;
  for await (const chunk of body ?? []) {
    bytes += chunk.length;
    hash.update(chunk);
  }
  return Response.json({ bytes, sha256: hash.digest("hex") });
}

async function answer(name: string, request: Request, client: string): Promise<Response> {
  const { pathname } = new URL(request.url);
  const [, length] = /^\/bytes\/(\d+)$/.exec(pathname) ?? [];
  if (length !== undefined) {
    return new Response(patternBody(Number(length)), { headers: { "content-length": length } });
  }
  if (pathname === "/count" && request.method === "POST") return await count(request.body);
  if (pathname === "/") return new Response(`${name} ${client}\n`);
  return new Response(`No such page: ${pathname}\n`, { status: 404 });
}

async function serveHttp(name: string, port: number): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  Deno.serve({ hostname: "::", port, onListen: () => resolve() }, async (request, info) => {
    const client = Address.parse(info.remoteAddr.hostname).toString();
    const response = await answer(name, request, client);
    response.headers.set("x-destination", name);
    return response;
  });
  await promise;
}

async function serveTcpEcho(name: string, port: number): Promise<void> {
  const greeting = new TextEncoder().encode(`${name}\n`);
  for await (const connection of Deno.listen({ hostname: "::", port })) {
    (async () => {
      await connection.write(greeting);
      await connection.readable.pipeTo(connection.writable);
    })().catch(() => {
      // The client went away; the streams have closed the connection.
    });
  }
}

async function serveUdpEcho(name: string, address: string, port: number): Promise<void> {
  const prefix = new TextEncoder().encode(`${name} `);
  const socket = createSocket(Address.parse(address).family === 4 ? "udp4" : "udp6");
  socket.on("message", (message, sender) => {
    socket.send([prefix, message], sender.port, sender.address);
  });
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  socket.once("error", reject);
  socket.bind({ address, port }, resolve);
  await promise;
}

if (import.meta.main) {
  const options: LabServerOptions = JSON.parse(Deno.args[0] ?? "");
  const { name, httpPorts, echoPort, addresses } = options;
  serveTcpEcho(name, echoPort);
  await Promise.all([
    ...httpPorts.map((port) => serveHttp(name, port)),
    ...addresses.map((address) => serveUdpEcho(name, address, echoPort)),
  ]);
  console.log("ready");
}
