/**
 * IP addresses, prefixes and MACs as values: strict in, canonical out.
 *
 * @module
 */

/** A text or bytes that are no address, prefix or MAC. */
export class AddressError extends Error {
  override readonly name = "AddressError";
  /** What was given. */
  readonly value: string;
  /** Why it is none, for a person. */
  readonly why: string;

  constructor(kind: string, value: string, why: string) {
    super(`Cannot read ${kind} "${value}": ${why}`);
    this.value = value;
    this.why = why;
  }
}

/** An IP version. */
export type Family = 4 | 6;

/**
 * An IPv4 or IPv6 address. An IPv4-mapped IPv6 address (RFC 4291, 2.5.5.2) is the IPv4 address within.
 *
 * @example
 * ```ts
 * Address.parse("2001:DB8:0::1").toString(); // "2001:db8::1"
 * Address.parse("::ffff:192.0.2.1").family; // 4
 * ```
 */
export class Address {
  readonly #bytes: Uint8Array;

  private constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
  }

  /**
   * Reads a dotted quad, or IPv6 in any form of RFC 4291, 2.2. Octets with leading zeros and
   * zones (`%eth0`) are refused.
   *
   * @throws {AddressError} when the text is no address
   */
  static parse(text: string): Address {
    demandText("address", text);
    return text.includes(":") ? new Address(unmap(parse6(text))) : new Address(parse4(text, text));
  }

  /**
   * An address of 4 or 16 bytes in network order. The bytes are copied.
   *
   * @throws {AddressError} when there are neither 4 nor 16
   */
  static fromBytes(bytes: Uint8Array): Address {
    if (bytes.length !== 4 && bytes.length !== 16) {
      throw new AddressError("address", hex(bytes), `it has ${bytes.length} bytes, not 4 or 16`);
    }
    return new Address(unmap(bytes.slice()));
  }

  /** The IP version. */
  get family(): Family {
    return this.#bytes.length === 4 ? 4 : 6;
  }

  /** A copy of the 4 or 16 bytes, in network order. */
  get bytes(): Uint8Array {
    return this.#bytes.slice();
  }

  /** Whether it is `0.0.0.0` or `::`. */
  get isUnspecified(): boolean {
    return this.#bytes.every((byte) => byte === 0);
  }

  /** Whether it is in `127.0.0.0/8`, or `::1`. */
  get isLoopback(): boolean {
    const bytes = this.#bytes;
    if (this.family === 4) return bytes[0] === 127;
    return bytes[15] === 1 && bytes.subarray(0, 15).every((byte) => byte === 0);
  }

  /** Whether it is in `224.0.0.0/4` or `ff00::/8`. */
  get isMulticast(): boolean {
    const first = this.#bytes[0] ?? 0;
    return this.family === 4 ? (first & 0xf0) === 0xe0 : first === 0xff;
  }

  /** Whether it is in `169.254.0.0/16` or `fe80::/10`. */
  get isLinkLocal(): boolean {
    const [first = 0, second = 0] = this.#bytes;
    if (this.family === 4) return first === 169 && second === 254;
    return first === 0xfe && (second & 0xc0) === 0x80;
  }

  /** Whether both are the same address. */
  equals(other: Address): boolean {
    return sameBytes(this.#bytes, other.#bytes);
  }

  /** The canonical text: a dotted quad, or RFC 5952. */
  toString(): string {
    return this.family === 4 ? this.#bytes.join(".") : format6(this.#bytes);
  }

  /** As `toString()`. */
  toJSON(): string {
    return this.toString();
  }
}

/**
 * An address and a length. Bits beyond the length are kept, because they mean something: in
 * `10.1.2.254/24` they name the router of the network `10.1.2.0/24`.
 *
 * @example
 * ```ts
 * const prefix = Prefix.parse("10.1.2.254/24");
 * prefix.network.toString(); // "10.1.2.0"
 * prefix.hostBitsSet; // true
 * prefix.contains(Address.parse("10.1.2.7")); // true
 * ```
 */
export class Prefix {
  /** The address as written, host bits and all. */
  readonly address: Address;
  /** Bits of the network, 0 to 32 or 128. */
  readonly length: number;
  /** The address with its host bits cleared. */
  readonly network: Address;

  private constructor(address: Address, length: number) {
    this.address = address;
    this.length = length;
    this.network = Address.fromBytes(mask(address.bytes, length));
  }

  /**
   * Reads `ADDRESS/LENGTH`.
   *
   * @throws {AddressError} when the text is no prefix
   */
  static parse(text: string): Prefix {
    demandText("prefix", text);
    const [, addressText, lengthText] = /^([^/]*)\/([^/]*)$/.exec(text) ?? [];
    if (addressText === undefined || lengthText === undefined) {
      throw new AddressError("prefix", text, "it is not of the form ADDRESS/LENGTH");
    }
    const address = Address.parse(addressText);
    const longest = address.family === 4 ? 32 : 128;
    // An IPv4-mapped prefix would need its length converted too, and nobody means one.
    const mapped = address.family === 4 && addressText.includes(":");
    const length = /^(0|[1-9]\d{0,2})$/.test(lengthText) ? Number(lengthText) : NaN;
    if (mapped || !(length <= longest)) {
      const why = mapped
        ? "its address is IPv4-mapped"
        : `its length is not a number from 0 to ${longest}`;
      throw new AddressError("prefix", text, why);
    }
    return new Prefix(address, length);
  }

  /** The IP version. */
  get family(): Family {
    return this.address.family;
  }

  /** Whether the address has bits beyond the length, and so names a host. */
  get hostBitsSet(): boolean {
    return !this.address.equals(this.network);
  }

  /** Whether the address is of this family and within this network. */
  contains(address: Address): boolean {
    return address.family === this.family &&
      sameBytes(mask(address.bytes, this.length), this.network.bytes);
  }

  /** Whether any address is within both. */
  overlaps(other: Prefix): boolean {
    return this.length <= other.length
      ? this.contains(other.network)
      : other.contains(this.network);
  }

  /** `ADDRESS/LENGTH`, host bits and all. */
  toString(): string {
    return `${this.address}/${this.length}`;
  }

  /** As `toString()`. */
  toJSON(): string {
    return this.toString();
  }
}

/** A 48-bit MAC. */
export class Mac {
  readonly #bytes: Uint8Array;

  private constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
  }

  /**
   * Reads six pairs of hexadecimal digits with colons between, or with hyphens.
   *
   * @throws {AddressError} when the text is no MAC
   */
  static parse(text: string): Mac {
    demandText("MAC", text);
    if (!/^[0-9a-f]{2}(([:-])[0-9a-f]{2})(\2[0-9a-f]{2}){4}$/i.test(text)) {
      throw new AddressError("MAC", text, "it is not six pairs of hexadecimal digits");
    }
    return new Mac(Uint8Array.from(text.split(/[:-]/), (pair) => parseInt(pair, 16)));
  }

  /**
   * A MAC of six bytes. The bytes are copied.
   *
   * @throws {AddressError} when there are not six
   */
  static fromBytes(bytes: Uint8Array): Mac {
    if (bytes.length !== 6) {
      throw new AddressError("MAC", hex(bytes), `it has ${bytes.length} bytes, not 6`);
    }
    return new Mac(bytes.slice());
  }

  /** A copy of the six bytes. */
  get bytes(): Uint8Array {
    return this.#bytes.slice();
  }

  /** Whether both are the same MAC. */
  equals(other: Mac): boolean {
    return sameBytes(this.#bytes, other.#bytes);
  }

  /** Lower case, with colons. */
  toString(): string {
    return Array.from(this.#bytes, (byte) => byte.toString(16).padStart(2, "0")).join(":");
  }

  /** As `toString()`. */
  toJSON(): string {
    return this.toString();
  }
}

/** Whoever writes JavaScript, or reads JSON, may have anything. */
function demandText(kind: string, text: unknown): void {
  if (typeof text !== "string") throw new AddressError(kind, String(text), "it is no text");
}

function parse4(quad: string, whole: string): Uint8Array {
  const octets = quad.split(".");
  const wellFormed = octets.length === 4 &&
    octets.every((octet) => /^(0|[1-9]\d{0,2})$/.test(octet) && Number(octet) <= 255);
  if (!wellFormed) {
    const why = quad === whole
      ? "it is neither an IPv4 dotted quad nor IPv6"
      : `"${quad}" is no dotted quad`;
    throw new AddressError("address", whole, why);
  }
  return Uint8Array.from(octets, Number);
}

function parse6(text: string): Uint8Array {
  if (text.includes("%")) {
    throw new AddressError("address", text, "a zone has no meaning here");
  }
  const halves = text.split("::");
  if (halves.length > 2) throw new AddressError("address", text, 'it has "::" twice');
  const [head = [], tail] = halves.map((half, at) => groups(half, text, at === halves.length - 1));
  const count = head.length + (tail?.length ?? 0);
  if (tail === undefined ? count !== 16 : count > 14) {
    throw new AddressError("address", text, "it does not have 128 bits");
  }
  const bytes = new Uint8Array(16);
  bytes.set(head, 0);
  if (tail !== undefined) bytes.set(tail, 16 - tail.length);
  return bytes;
}

/** The bytes of `a:b:c`, where the last group of the address may be a dotted quad. */
function groups(text: string, whole: string, last: boolean): number[] {
  if (text === "") return [];
  const parts = text.split(":");
  return parts.flatMap((part, at) => {
    if (last && at === parts.length - 1 && part.includes(".")) return [...parse4(part, whole)];
    if (!/^[0-9a-f]{1,4}$/i.test(part)) {
      throw new AddressError("address", whole, `"${part}" is not one to four hexadecimal digits`);
    }
    const value = parseInt(part, 16);
    return [value >>> 8, value & 0xff];
  });
}

/** RFC 5952, 4: lower case, no leading zeros, the first longest run of two zero groups or more is "::". */
function format6(bytes: Uint8Array): string {
  const view = new DataView(bytes.buffer, bytes.byteOffset, 16);
  const texts = Array.from({ length: 8 }, (_, at) => view.getUint16(2 * at).toString(16));
  let start = 0;
  let length = 1;
  for (let at = 0; at < 8; at++) {
    let end = at;
    while (texts[end] === "0") end++;
    if (end - at > length) [start, length] = [at, end - at];
  }
  if (length === 1) return texts.join(":");
  return `${texts.slice(0, start).join(":")}::${texts.slice(start + length).join(":")}`;
}

function unmap(bytes: Uint8Array): Uint8Array {
  const mapped = bytes.length === 16 && bytes[10] === 0xff && bytes[11] === 0xff &&
    bytes.subarray(0, 10).every((byte) => byte === 0);
  return mapped ? bytes.slice(12) : bytes;
}

function mask(bytes: Uint8Array, length: number): Uint8Array {
  return bytes.map((byte, at) => {
    const kept = Math.min(8, Math.max(0, length - 8 * at));
    return byte & (0xff00 >>> kept);
  });
}

function sameBytes(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && a.every((byte, at) => byte === b[at]);
}

function hex(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
