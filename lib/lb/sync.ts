/**
 * Keeps nodes in step: each tells the others of the flows that they would send elsewhere, in datagrams, and one that
 * joins asks for all that the others know, over TCP at the same port.
 *
 * A message over TCP is one of `sync_frame.ts` after four bytes with its length. Who asks names a number, which
 * stands in each answer: an answer that was recorded is of no use.
 *
 * @module
 */
import { createSocket, type Socket } from "node:dgram";
import { randomBytes } from "node:crypto";
import { isIP } from "node:net";
import { joinBytes } from "../bpf/mod.ts";
import type { Client } from "./client.ts";
import { XvsError } from "./errors.ts";
import { noOutcomes, type RecordOutcomes } from "./flow_sharing.ts";
import { splitFlowRecords } from "./flow_record.ts";
import type { ImportResult } from "./shared_state.ts";
import { FRAME_OVERHEAD, packRecords, type Refusal, Sealer } from "./sync_frame.ts";

/** How nodes find each other. */
export interface SyncOptions {
  /** Where to listen. */
  address: string;
  port: number;
  /** Other nodes: addresses, or a multicast group. */
  peers: readonly string[];
  /** What all nodes share: 16 bytes or more. */
  key: Uint8Array;
  /** Bytes of a datagram, with its headers. Default 1400. */
  mtu?: number;
  /** Seconds by which clocks of nodes may differ. Default 30. */
  clockSkew?: number;
  /** Who is told, in sentences. */
  say?: (sentence: string) => void;
}

/** What is counted. */
export interface SyncCounters {
  sent: { datagrams: number; records: number };
  received: { datagrams: number; records: number };
  /** Messages that changed nothing, by reason. */
  refused: Record<Refusal, number>;
  /** What became of records received. */
  outcomes: RecordOutcomes;
  /** Peers heard of in the last seconds. */
  peers: number;
}

const TICK_MS = 10, HELLO_MS = 1000, PEER_LOST_MS = 5000;
const MAX_FRAME = 1 << 24;
const NONCE_BYTES = 8;
/** Records written at once: few enough that what comes meanwhile has room in the socket's buffer. */
const WRITE_AT_ONCE = 4000;
const JOIN_TIMEOUT_MS = 30_000;

/** A node among others. */
export class SyncNode implements AsyncDisposable {
  readonly #client: Client;
  readonly #options: SyncOptions;
  readonly #sealer: Sealer;
  readonly #fingerprint: Uint8Array;
  readonly #socket: Socket;
  readonly #listener: Deno.Listener;
  readonly #stop = new AbortController();
  readonly #peers = new Map<string, number>();
  readonly #said = new Set<string>();
  #waiting: Uint8Array[] = [];
  #running: Promise<unknown> = Promise.resolve();
  readonly counters: SyncCounters = {
    sent: { datagrams: 0, records: 0 },
    received: { datagrams: 0, records: 0 },
    refused: { malformed: 0, version: 0, forged: 0, stale: 0, replayed: 0, own: 0 },
    outcomes: noOutcomes(),
    peers: 0,
  };

  private constructor(
    client: Client,
    options: SyncOptions,
    socket: Socket,
    listener: Deno.Listener,
  ) {
    this.#client = client;
    this.#options = options;
    this.#socket = socket;
    this.#listener = listener;
    this.#sealer = new Sealer(options.key, { skewMs: (options.clockSkew ?? 30) * 1000 });
    this.#fingerprint = this.#sealer.fingerprint(client.hashIdentity());
  }

  /**
   * Listens, asks the others for what they know, and tells them of flows from now on.
   *
   * @throws {XvsError} when the address cannot be listened at
   */
  static async start(client: Client, options: SyncOptions): Promise<SyncNode> {
    const { address, port, peers } = options;
    const socket = createSocket(isIP(address) === 6 ? "udp6" : "udp4");
    const bound = Promise.withResolvers<void>();
    socket.once("error", bound.reject);
    socket.bind({ address, port }, () => bound.resolve());
    let listener: Deno.Listener;
    try {
      await bound.promise;
      for (const group of peers.filter(isMulticast)) socket.addMembership(group);
      listener = Deno.listen({ hostname: address, port });
    } catch (error) {
      socket.close();
      const why = (error as Error).message;
      throw new XvsError(`Cannot listen at "${address}" port ${port}: ${why}`, { cause: error });
    }
    await using stack = new AsyncDisposableStack();
    const node = stack.use(new SyncNode(client, options, socket, listener));
    await client.shareFlows(true);
    // Whoever is asked must answer, also if it is asking itself.
    const serving = node.#listen();
    await node.#join();
    node.#running = Promise.all([serving, node.#loop()]);
    stack.move();
    return node;
  }

  /** Tells nobody of flows any more. */
  async close(): Promise<void> {
    this.#stop.abort();
    this.#socket.close();
    this.#listener.close();
    await this.#running;
    await this.#client.shareFlows(false);
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  /** Begins to receive, and to answer who joins. */
  #listen(): Promise<void> {
    this.#socket.on("message", (bytes, { address }) => this.#receive(bytes, address));
    this.#socket.on("error", (error) => this.#say(error.message));
    return this.#serve();
  }

  async #loop(): Promise<void> {
    let nextHello = 0;
    while (!this.#stop.signal.aborted) {
      const now = performance.now();
      if (now >= nextHello) {
        this.#send("hello", this.#fingerprint);
        nextHello = now + HELLO_MS;
      }
      for (const [peer, heard] of this.#peers) {
        if (now - heard > PEER_LOST_MS) this.#peers.delete(peer);
      }
      this.counters.peers = this.#peers.size;
      try {
        this.#tell();
        await this.#take();
      } catch (error) {
        this.#say(`Flows could not be shared: ${(error as Error).message}`);
      }
      // The socket has its turn in any case.
      const pause = this.#waiting.length < WRITE_AT_ONCE ? TICK_MS : 0;
      await new Promise((resolve) => setTimeout(resolve, pause));
    }
  }

  /** Tells the others what the program has told. */
  #tell(): void {
    const { mtu = 1400 } = this.#options;
    for (
      const { body, count } of packRecords(this.#client.readFlows(), mtu - FRAME_OVERHEAD - 48)
    ) {
      this.#send("records", body);
      this.counters.sent.records += count;
    }
  }

  #send(kind: "hello" | "records", body: Uint8Array): void {
    for (const peer of this.#options.peers) {
      // Each its own message, as it is used once.
      this.#socket.send(this.#sealer.seal(kind, body), this.#options.port, peer, () => {});
      this.counters.sent.datagrams++;
    }
  }

  #receive(bytes: Uint8Array, address: string): void {
    const frame = this.#sealer.open(bytes);
    if (typeof frame === "string") {
      this.counters.refused[frame]++;
      return;
    }
    this.counters.received.datagrams++;
    if (frame.kind === "hello") return this.#hear(frame.body, address);
    const records = frame.kind === "records" ? splitFlowRecords(frame.body) : undefined;
    if (!records) {
      this.counters.refused.malformed++;
      return;
    }
    this.counters.received.records += records.length;
    for (const record of records) this.#waiting.push(record);
  }

  #hear(fingerprint: Uint8Array, address: string): void {
    if (fingerprint.toHex() !== this.#fingerprint.toHex()) {
      this.#say(`Node ${address} has another hash key: it would choose other destinations`);
      return;
    }
    const known = this.#peers.has(address);
    this.#peers.set(address, performance.now());
    if (!known) this.#say(`node ${address} is there`);
  }

  /** Writes some of what was received. */
  async #take(): Promise<void> {
    if (this.#waiting.length === 0) return;
    const batch = this.#waiting.splice(0, WRITE_AT_ONCE);
    this.#count(await this.#client.writeFlows(batch));
  }

  #count(outcomes: RecordOutcomes): void {
    for (const name of Object.keys(outcomes) as (keyof RecordOutcomes)[]) {
      this.counters.outcomes[name] += outcomes[name];
    }
  }

  /** Asks each peer for what it knows; one that does not answer is not there. */
  async #join(): Promise<void> {
    for (const peer of this.#options.peers.filter((peer) => !isMulticast(peer))) {
      const late = new AbortController();
      const timer = setTimeout(() => late.abort(new Error("it takes too long")), JOIN_TIMEOUT_MS);
      try {
        const { differences, takenOver, records } = await this.#ask(peer, late.signal);
        for (const difference of differences) this.#say(`${difference} (node ${peer})`);
        const flows = Object.values(records).reduce((sum, each) => sum + each, 0);
        this.#say(`joined ${peer}: ${flows} flows, ${takenOver.length} rings`);
      } catch (error) {
        this.#say(`node ${peer} does not answer: ${(error as Error).message}`);
      } finally {
        clearTimeout(timer);
      }
    }
  }

  async #ask(peer: string, signal: AbortSignal): Promise<ImportResult> {
    using connection = await Deno.connect({ hostname: peer, port: this.#options.port, signal });
    signal.addEventListener("abort", () => connection.close());
    const nonce = randomBytes(NONCE_BYTES);
    const writer = connection.writable.getWriter();
    await writer.write(withLength(this.#sealer.seal("ask", nonce)));
    const parts: Uint8Array[] = [];
    for await (const bytes of framesOf(connection.readable)) {
      const frame = this.#sealer.open(bytes);
      if (typeof frame === "string") {
        this.counters.refused[frame]++;
        throw new Error(`what it says is ${frame}`);
      }
      const { kind, body } = frame;
      const isAnswer = body.subarray(0, NONCE_BYTES).toHex() === nonce.toString("hex");
      if (!isAnswer || (kind !== "state" && kind !== "end")) {
        this.counters.refused.replayed++;
        throw new Error("what it says is no answer");
      }
      if (kind === "end") return await this.#client.importState(parts);
      parts.push(body.subarray(NONCE_BYTES));
    }
    throw new Error("it stopped in the middle");
  }

  /** Answers who joins. */
  async #serve(): Promise<void> {
    try {
      for await (const connection of this.#listener) {
        this.#answer(connection).catch(() => {}).finally(() => {
          try {
            connection.close();
          } catch {
            // It is closed.
          }
        });
      }
    } catch {
      // It is closed.
    }
  }

  async #answer(connection: Deno.Conn): Promise<void> {
    const given = setTimeout(() => connection.close(), JOIN_TIMEOUT_MS);
    try {
      const { value: bytes } = await framesOf(connection.readable).next();
      if (!bytes) return;
      const frame = this.#sealer.open(bytes);
      if (typeof frame === "string") {
        this.counters.refused[frame]++;
        return;
      }
      if (frame.kind !== "ask" || frame.body.length !== NONCE_BYTES) return;
      const writer = connection.writable.getWriter();
      const send = (kind: "state" | "end", part: Uint8Array) =>
        writer.write(withLength(this.#sealer.seal(kind, joinBytes([frame.body, part]))));
      for (const part of this.#client.exportState()) await send("state", part);
      await send("end", new Uint8Array());
      await writer.close();
    } finally {
      clearTimeout(given);
    }
  }

  /** Says something once. */
  #say(sentence: string): void {
    if (this.#said.has(sentence)) return;
    this.#said.add(sentence);
    this.#options.say?.(sentence);
  }
}

/** Whether an address is that of a group. */
export function isMulticast(address: string): boolean {
  return isIP(address) === 6 ? /^ff/i.test(address) : Number(address.split(".")[0]) >> 4 === 14;
}

function withLength(frame: Uint8Array): Uint8Array<ArrayBuffer> {
  const length = new Uint8Array(4);
  new DataView(length.buffer).setUint32(0, frame.length);
  return joinBytes([length, frame]);
}

/** Messages of a stream; a length that none can have ends it. */
async function* framesOf(stream: ReadableStream<Uint8Array>): AsyncGenerator<Uint8Array> {
  let rest: Uint8Array = new Uint8Array();
  for await (const chunk of stream) {
    rest = joinBytes([rest, chunk]);
    while (rest.length >= 4) {
      const length = new DataView(rest.buffer, rest.byteOffset).getUint32(0);
      if (length > MAX_FRAME) return;
      if (rest.length < 4 + length) break;
      yield rest.slice(4, 4 + length);
      rest = rest.subarray(4 + length);
    }
  }
}
