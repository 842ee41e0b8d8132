/**
 * What nodes send each other, each message authenticated. All numbers are in network byte order:
 *
 * | offset | bytes | field |
 * |---|---|---|
 * | 0 | 4 | `xvs` and the version: 1 |
 * | 4 | 1 | kind, see {@linkcode FrameKind} |
 * | 5 | 3 | zero |
 * | 8 | 8 | the sender: random, another one whenever it starts |
 * | 16 | 8 | sequence: grows by one for each message of the sender |
 * | 24 | 8 | milliseconds since 1970 when it was sent |
 * | 32 | | body |
 * | end | 32 | HMAC-SHA-256 of all before |
 *
 * A message is used once: of each sender known, the last {@linkcode WINDOW} sequences are kept in mind, and what is
 * older than the clocks of nodes may differ is refused, so that what was recorded is of no use.
 *
 * @module
 */
import { createHmac, randomBytes, timingSafeEqual } from "node:crypto";

/** What a message is about. */
export type FrameKind = "hello" | "records" | "ask" | "state" | "end";

/** Why a message is refused. */
export type Refusal = "malformed" | "version" | "forged" | "stale" | "replayed" | "own";

/** A message that is what it claims to be. */
export interface Frame {
  kind: FrameKind;
  /** The sender, as hexadecimal digits. */
  sender: string;
  body: Uint8Array;
}

const KINDS: readonly FrameKind[] = ["hello", "records", "ask", "state", "end"];
const MAGIC = [0x78, 0x76, 0x73], VERSION = 1;
const KIND_AT = 4, SENDER_AT = 8, SEQUENCE_AT = 16, TIME_AT = 24, BODY_AT = 32;
const MAC_BYTES = 32, SENDER_BYTES = 8;
/** How far behind the newest of a sender a message may come. */
const WINDOW = 1024n;
/** How many senders are kept in mind; each start of a node makes one. */
const MAX_SENDERS = 1024;
/** Bytes that a message has besides its body. */
export const FRAME_OVERHEAD = BODY_AT + MAC_BYTES;

/** Sequences of a sender that were seen. */
class Seen {
  #newest = -1n;
  readonly #recent = new Set<bigint>();

  /** Whether it is new; from now on it is not. */
  take(sequence: bigint): boolean {
    if (sequence <= this.#newest - WINDOW || this.#recent.has(sequence)) return false;
    this.#recent.add(sequence);
    if (sequence > this.#newest) this.#newest = sequence;
    if (this.#recent.size > 2 * Number(WINDOW)) {
      for (const each of this.#recent) if (each <= this.#newest - WINDOW) this.#recent.delete(each);
    }
    return true;
  }
}

/** Seals what this node sends, and opens what others do. */
export class Sealer {
  readonly #key: Uint8Array;
  readonly #sender = randomBytes(SENDER_BYTES);
  readonly #senders = new Map<string, Seen>();
  readonly #skewMs: number;
  readonly #now: () => number;
  #sequence = 0n;

  /**
   * @param key what all nodes share, 16 bytes or more
   * @param skewMs how far clocks of nodes may differ, in milliseconds
   * @throws {RangeError} when the key is shorter
   */
  constructor(key: Uint8Array, { skewMs = 30_000, now = Date.now } = {}) {
    if (key.length < 16) {
      throw new RangeError(`A key has at least 16 bytes, and this one ${key.length}`);
    }
    this.#key = key.slice();
    this.#skewMs = skewMs;
    this.#now = now;
  }

  /** A message of this node. */
  seal(kind: FrameKind, body: Uint8Array): Uint8Array<ArrayBuffer> {
    const frame = new Uint8Array(FRAME_OVERHEAD + body.length);
    const view = new DataView(frame.buffer);
    frame.set([...MAGIC, VERSION, KINDS.indexOf(kind)]);
    frame.set(this.#sender, SENDER_AT);
    view.setBigUint64(SEQUENCE_AT, this.#sequence++);
    view.setBigUint64(TIME_AT, BigInt(this.#now()));
    frame.set(body, BODY_AT);
    frame.set(this.#mac(frame.subarray(0, -MAC_BYTES)), frame.length - MAC_BYTES);
    return frame;
  }

  /** A message of another node, or why it is none to be used. */
  open(frame: Uint8Array): Frame | Refusal {
    if (frame.length < FRAME_OVERHEAD || MAGIC.some((byte, i) => frame[i] !== byte)) {
      return "malformed";
    }
    if (frame[MAGIC.length] !== VERSION) return "version";
    const end = frame.length - MAC_BYTES;
    if (!timingSafeEqual(this.#mac(frame.subarray(0, end)), frame.subarray(end))) return "forged";
    const kind = KINDS[frame[KIND_AT]!];
    if (!kind) return "malformed";
    const view = new DataView(frame.buffer, frame.byteOffset);
    const sender = frame.slice(SENDER_AT, SENDER_AT + SENDER_BYTES).toHex();
    if (sender === this.#sender.toString("hex")) return "own";
    const age = Math.abs(this.#now() - Number(view.getBigUint64(TIME_AT)));
    if (age > this.#skewMs) return "stale";
    if (!this.#seenOf(sender).take(view.getBigUint64(SEQUENCE_AT))) return "replayed";
    return { kind, sender, body: frame.subarray(BODY_AT, end) };
  }

  /** What tells whether two nodes have the same secret, without telling it. */
  fingerprint(secret: Uint8Array): Uint8Array {
    return createHmac("sha256", this.#key).update("fingerprint").update(secret).digest()
      .subarray(0, 8);
  }

  #seenOf(sender: string): Seen {
    const seen = this.#senders.get(sender) ?? new Seen();
    // The one longest silent goes first.
    this.#senders.delete(sender);
    this.#senders.set(sender, seen);
    if (this.#senders.size > MAX_SENDERS) this.#senders.delete(this.#senders.keys().next().value!);
    return seen;
  }

  #mac(bytes: Uint8Array): Uint8Array {
    return createHmac("sha256", this.#key).update(bytes).digest();
  }
}

/** Records as bodies of messages of at most so many bytes. */
export function* packRecords(
  records: Iterable<Uint8Array>,
  maxBytes: number,
): Generator<{ body: Uint8Array; count: number }> {
  let body = new Uint8Array(maxBytes), used = 0, count = 0;
  for (const record of records) {
    if (used + record.length > maxBytes) {
      yield { body: body.subarray(0, used), count };
      body = new Uint8Array(maxBytes);
      used = count = 0;
    }
    body.set(record, used);
    used += record.length;
    count++;
  }
  if (count > 0) yield { body: body.subarray(0, used), count };
}
