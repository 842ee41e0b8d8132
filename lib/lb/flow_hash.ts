/**
 * The keyed hash of a flow, which the XDP program and user space compute alike.
 *
 * NH (Black et al., "UMAC: Fast and Secure Message Authentication", CRYPTO '99, section 4) over the
 * 32-bit words of the 5-tuple, then the finaliser of splitmix64 (Steele et al., "Fast Splittable
 * Pseudorandom Number Generators", OOPSLA 2014, in Stafford's variant 13). NH costs one
 * multiplication for two words, and without the key nobody can aim flows at one ring entry.
 *
 * Words are loaded from the packet as little-endian numbers, whatever the bytes mean:
 *
 * | word | IPv4 | IPv6 |
 * |---|---|---|
 * | source address | w0 | w0 to w3 |
 * | destination address | w1 | w4 to w7 |
 * | first 4 bytes of the TCP or UDP header: source port, destination port | w2 | w8 |
 * | protocol number | w3 | w9 |
 *
 * With the key k0 to k9 and f, and all arithmetic modulo 2^64 but for the inner sums:
 *
 *     h = f ^ sum over even i of ((w[i] + k[i]) mod 2^32) * ((w[i + 1] + k[i + 1]) mod 2^32)
 *     h ^= h >> 30;  h *= 0xbf58476d1ce4e5b9
 *     h ^= h >> 27;  h *= 0x94d049bb133111eb
 *     h ^= h >> 31
 *
 * The upper half of h, scaled to the size, is the ring index; the lower half chooses the accounting
 * sample. For a sticky service the words of the ports and the protocol are 0.
 *
 * @module
 */

/** The key of a {@linkcode FlowHash}, as the program has it too. */
export interface FlowKey {
  /** k0 to k9: one word added to each word of the tuple. */
  readonly words: Uint32Array;
  /** f: 64 bits, xored into the sum. */
  readonly final: bigint;
}

/** Length in bytes of the secret that {@linkcode expandKey} takes. */
export const SECRET_BYTES = 16;

const KEY_WORDS = 10;
const U64 = (1n << 64n) - 1n;
const GOLDEN = 0x9e3779b97f4a7c15n;
const MULTIPLIER_1 = 0xbf58476d1ce4e5b9n;
const MULTIPLIER_2 = 0x94d049bb133111ebn;

/**
 * Makes the key of an instance from its secret.
 *
 * With a and b the secret's two little-endian 64-bit halves and mix() the finaliser above, output n
 * (from 1) is mix(mix(a + n * 0x9e3779b97f4a7c15) ^ b), so that every bit of both halves counts in
 * each. Outputs 1 to 5 are k0 to k9, the lower half of each first, and output 6 is f. Instances
 * that share a secret agree on every flow.
 *
 * @param secret 16 random bytes
 * @throws {RangeError} when the secret has another length
 *
 * @example
 * ```ts
 * const key = expandKey(crypto.getRandomValues(new Uint8Array(16)));
 * ```
 */
export function expandKey(secret: Uint8Array): FlowKey {
  if (secret.length !== SECRET_BYTES) {
    throw new RangeError(
      `Cannot make a flow key of "${secret.length}" bytes: must be ${SECRET_BYTES}`,
    );
  }
  const view = new DataView(secret.buffer, secret.byteOffset);
  const a = view.getBigUint64(0, true);
  const b = view.getBigUint64(8, true);
  const output = (n: number): bigint => mix64(mix64(a + BigInt(n) * GOLDEN) ^ b);
  const words = new Uint32Array(KEY_WORDS);
  for (let i = 0; i < KEY_WORDS; i += 2) {
    const pair = output(i / 2 + 1);
    words[i] = Number(pair & 0xffffffffn);
    words[i + 1] = Number(pair >> 32n);
  }
  return { words, final: output(KEY_WORDS / 2 + 1) };
}

function mix64(h: bigint): bigint {
  h &= U64;
  h = ((h ^ (h >> 30n)) * MULTIPLIER_1) & U64;
  h = ((h ^ (h >> 27n)) * MULTIPLIER_2) & U64;
  return h ^ (h >> 31n);
}

/** The 64-bit hash of one flow, as two halves. */
export class HashValue {
  /** The upper 32 bits, which give the ring index. */
  readonly high: number;
  /** The lower 32 bits, which give the accounting sample. */
  readonly low: number;

  constructor(high: number, low: number) {
    this.high = high;
    this.low = low;
  }

  /**
   * The flow's entry in a ring, uniform from 0 to `size` - 1.
   *
   * @param size Number of entries, below 2^21
   */
  index(size: number): number {
    // Exact: the product has at most 53 bits, and division by a power of two loses none.
    return Math.floor(this.high * size / 0x1_0000_0000);
  }
}

/**
 * Computes the hashes of flows, in 32-bit steps: twice as fast as the best that `bigint` gives, and
 * there may be a million flows to go through.
 *
 * @example
 * ```ts
 * const hash = new FlowHash(expandKey(crypto.getRandomValues(new Uint8Array(16))));
 * const [source] = addressWords(new Uint8Array([198, 51, 100, 7]));
 * const [vip] = addressWords(new Uint8Array([192, 0, 2, 1]));
 * hash.hash4(source!, vip!, portsWord(50000, 80), 6).index(1979);
 * ```
 */
export class FlowHash {
  readonly #key: Uint32Array;
  readonly #finalHigh: number;
  readonly #finalLow: number;

  constructor(key: FlowKey) {
    if (key.words.length !== KEY_WORDS) {
      throw new RangeError(
        `Cannot hash flows with a key of "${key.words.length}" words: must be ${KEY_WORDS}`,
      );
    }
    this.#key = key.words.slice();
    this.#finalHigh = Number((key.final >> 32n) & 0xffffffffn);
    this.#finalLow = Number(key.final & 0xffffffffn);
  }

  /**
   * Hashes an IPv4 flow.
   *
   * @param source Word of the source address, see {@linkcode addressWords}
   * @param destination Word of the destination address
   * @param ports Word of both ports, see {@linkcode portsWord}; 0 for a sticky service
   * @param protocol IP protocol number; 0 for a sticky service
   */
  hash4(source: number, destination: number, ports: number, protocol: number): HashValue {
    const key = this.#key;
    const a = (source + key[0]!) >>> 0;
    const b = (destination + key[1]!) >>> 0;
    const c = (ports + key[2]!) >>> 0;
    const d = (protocol + key[3]!) >>> 0;
    const low = multiplyLow(a, b) + multiplyLow(c, d);
    return this.#finish(multiplyHigh(a, b) + multiplyHigh(c, d), low);
  }

  /**
   * Hashes an IPv6 flow.
   *
   * @param source The four words of the source address, see {@linkcode addressWords}
   * @param destination The four words of the destination address
   * @param ports Word of both ports, see {@linkcode portsWord}; 0 for a sticky service
   * @param protocol IP protocol number; 0 for a sticky service
   */
  hash6(
    source: Uint32Array,
    destination: Uint32Array,
    ports: number,
    protocol: number,
  ): HashValue {
    const key = this.#key;
    let a = (ports + key[8]!) >>> 0;
    let b = (protocol + key[9]!) >>> 0;
    let high = multiplyHigh(a, b);
    let low = multiplyLow(a, b);
    for (let i = 0; i < 4; i += 2) {
      a = (source[i]! + key[i]!) >>> 0;
      b = (source[i + 1]! + key[i + 1]!) >>> 0;
      high += multiplyHigh(a, b);
      low += multiplyLow(a, b);
      a = (destination[i]! + key[i + 4]!) >>> 0;
      b = (destination[i + 1]! + key[i + 5]!) >>> 0;
      high += multiplyHigh(a, b);
      low += multiplyLow(a, b);
    }
    return this.#finish(high, low);
  }

  /** Takes the sums of the halves, whose carries are still to be moved up. */
  #finish(sumHigh: number, sumLow: number): HashValue {
    let high = (sumHigh + Math.floor(sumLow / 0x1_0000_0000)) ^ this.#finalHigh;
    let low = sumLow ^ this.#finalLow;
    low = (low ^ ((low >>> 30) | (high << 2))) >>> 0;
    high ^= high >>> 30;
    high = multiplyHigh(low, 0x1ce4e5b9) + Math.imul(high, 0x1ce4e5b9) +
      Math.imul(low, 0xbf58476d);
    low = Math.imul(low, 0x1ce4e5b9);
    low = (low ^ ((low >>> 27) | (high << 5))) >>> 0;
    high ^= high >>> 27;
    high = multiplyHigh(low, 0x133111eb) + Math.imul(high, 0x133111eb) +
      Math.imul(low, 0x94d049bb);
    low = Math.imul(low, 0x133111eb);
    return new HashValue(
      (high ^ (high >>> 31)) >>> 0,
      (low ^ ((low >>> 31) | (high << 1))) >>> 0,
    );
  }
}

/** The upper half of the 64-bit product of two 32-bit numbers. */
function multiplyHigh(a: number, b: number): number {
  const carry = Math.floor(a * (b & 0xffff) / 0x10000);
  return Math.floor((a * (b >>> 16) + carry) / 0x10000);
}

/** The lower half of the 64-bit product of two 32-bit numbers. */
function multiplyLow(a: number, b: number): number {
  return Math.imul(a, b) >>> 0;
}

/**
 * The words of an address: its bytes in network order, read as little-endian 32-bit numbers.
 *
 * @param bytes 4 or 16 bytes in network order
 */
export function addressWords(bytes: Uint8Array): Uint32Array {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  return Uint32Array.from({ length: bytes.length / 4 }, (_, i) => view.getUint32(4 * i, true));
}

/**
 * The word of two ports: the first 4 bytes of a TCP or UDP header, read as a little-endian number.
 *
 * @param source Source port in host order
 * @param destination Destination port in host order
 */
export function portsWord(source: number, destination: number): number {
  const swap = (port: number): number => (port >>> 8) | ((port & 0xff) << 8);
  return (swap(source) | (swap(destination) << 16)) >>> 0;
}
