/**
 * Whether an answer to a packet is what it must be, byte by byte.
 *
 * @module
 */
import { ICMP, type Reading, sum, word } from "./read.ts";

/** How much of a packet an error quotes at most. */
const QUOTE = 504;
const TTL = 64;

/** An ICMP error that is due. */
export interface Due {
  type: number;
  code: number;
  /** The second word: an MTU, or 0. */
  rest: number;
}

/** What is due by family. */
export const EXPIRED = { 4: { type: 11, code: 0, rest: 0 }, 6: { type: 3, code: 0, rest: 0 } };
export const NO_PORT = { 4: { type: 3, code: 3, rest: 0 }, 6: { type: 1, code: 4, rest: 0 } };

function put(bytes: Uint8Array, at: number, value: number): void {
  bytes[at] = value >> 8;
  bytes[at + 1] = value & 0xff;
}

/** The link header of an answer: back to where the packet came from, with its tags. */
function linkBack(sent: Uint8Array, r: Reading, answer: Uint8Array): void {
  answer.set(sent.subarray(6, 12));
  answer.set(sent.subarray(0, 6), 6);
  answer.set(sent.subarray(12, r.link), 12);
}

function difference(found: Uint8Array, wanted: Uint8Array): string | undefined {
  if (found.length !== wanted.length) {
    return `the answer has ${found.length} bytes, not ${wanted.length}`;
  }
  const at = found.findIndex((byte, i) => byte !== wanted[i]);
  return at < 0 ? undefined : `byte ${at} of the answer is ${found[at]}, not ${wanted[at]}`;
}

/** Whether two checksums are the same number, of which zero has two forms. */
function sameSum(a: number, b: number): boolean {
  return a % 0xffff === b % 0xffff;
}

/** What is wrong with the answer to a ping; undefined: nothing. */
export function checkEcho(sent: Uint8Array, r: Reading, frame: Uint8Array): string | undefined {
  const wanted = sent.slice();
  const { link, at, family } = r;
  linkBack(sent, r, wanted);
  const [source, size, ttl] = family === 4 ? [12, 4, 8] : [8, 16, 7];
  wanted.set(sent.subarray(link + source, link + source + size), link + source + size);
  wanted.set(sent.subarray(link + source + size, link + source + 2 * size), link + source);
  wanted[link + ttl] = TTL;
  const sums: [number, number, number][] = [];
  if (r.fragment !== "later") { // the part that has the header
    wanted[at] = family === 4 ? 0 : 129;
    sums.push([at + 2, at, at + r.rest]);
  }
  if (family === 4) sums.push([link + 10, link, link + r.header]);
  for (const [field, from, to] of sums) {
    if (sum(frame, from, to) !== sum(sent, from, to)) return `the checksum at ${field} is wrong`;
    wanted.set(frame.subarray(field, field + 2), field);
  }
  return difference(frame, wanted);
}

/** What is wrong with an ICMP error about a packet; undefined: nothing. */
export function checkError(
  sent: Uint8Array,
  r: Reading,
  frame: Uint8Array,
  due: Due,
): string | undefined {
  const { link } = r, family = r.family || 4;
  const size = family === 4 ? 20 : 40;
  const quote = Math.min(QUOTE, r.length);
  const wanted = new Uint8Array(link + size + 8 + quote);
  linkBack(sent, r, wanted);
  const [source, width] = family === 4 ? [12, 4] : [8, 16];
  if (family === 4) {
    wanted[link] = 0x45;
    put(wanted, link + 2, size + 8 + quote);
    wanted[link + 8] = TTL;
    wanted[link + 9] = ICMP[4];
  } else {
    wanted[link] = 0x60;
    put(wanted, link + 4, 8 + quote);
    wanted[link + 6] = ICMP[6];
    wanted[link + 7] = TTL;
  }
  const client = sent.subarray(link + source, link + source + width);
  const vip = sent.subarray(link + source + width, link + source + 2 * width);
  wanted.set(vip, link + source);
  wanted.set(client, link + source + width);
  if (family === 4) put(wanted, link + 10, 0xffff - sum(wanted, link, link + 20));
  const icmp = link + size;
  wanted[icmp] = due.type;
  wanted[icmp + 1] = due.code;
  put(wanted, icmp + 4, due.rest >>> 16);
  put(wanted, icmp + 6, due.rest & 0xffff);
  wanted.set(sent.subarray(link, link + quote), icmp + 8);
  const pseudo = family === 4
    ? 0
    : sum(wanted, link + 8, link + 40) + ICMP[6] + wanted.length - icmp;
  const checksum = 0xffff - (sum(wanted, icmp, wanted.length) + pseudo) % 0xffff;
  put(wanted, icmp + 2, checksum);
  for (const field of [icmp + 2, ...(family === 4 ? [link + 10] : [])]) {
    if (sameSum(word(frame, field), word(wanted, field))) {
      wanted.set(frame.subarray(field, field + 2), field);
    }
  }
  return difference(frame, wanted);
}
