/**
 * The program's settings, in the memory that the program reads.
 *
 * @module
 */
import { SETTINGS, type Settings } from "./abi.gen.ts";

/** Settings that take effect with the next packet. */
export class LiveSettings {
  readonly #bytes: Uint8Array;

  /** @param bytes the program's variable */
  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
  }

  /** A copy of all. */
  get all(): Settings {
    return SETTINGS.decode(this.#bytes);
  }

  /** The revision stays: it must never come back to what it was, for what packets keep by it. */
  set all({ revision: _, ...rest }: Settings) {
    this.adjust(rest);
  }

  /** Grows with every change of the instance; odd while one is under way. */
  get revision(): bigint {
    return new DataView(this.#bytes.buffer, this.#bytes.byteOffset)
      .getBigUint64(SETTINGS.offsets.revision, true);
  }

  /** Sets some of them. What others write at the same time stays. */
  adjust(fields: Partial<Settings>): void {
    const whole = SETTINGS.encode({ ...this.all, ...fields });
    const ends = [...Object.values(SETTINGS.offsets), SETTINGS.size].sort((a, b) => a - b);
    for (const name of Object.keys(fields) as (keyof Settings)[]) {
      const from = SETTINGS.offsets[name];
      writeWhole(this.#bytes, whole, from, ends[ends.indexOf(from) + 1]! - from);
    }
  }
}

/** Copies a field by the largest stores that it allows: a packet must not meet half a number. */
function writeWhole(into: Uint8Array, from: Uint8Array, offset: number, size: number): void {
  const copy = <T extends BigUint64Array | Uint32Array | Uint8Array>(
    Type: new (buffer: ArrayBufferLike, offset: number, length: number) => T,
    width: number,
  ) => {
    const target = new Type(into.buffer, into.byteOffset + offset, size / width);
    target.set(new Type(from.buffer, from.byteOffset + offset, size / width) as never);
  };
  if (size % 8 === 0 && offset % 8 === 0) copy(BigUint64Array, 8);
  else if (size % 4 === 0 && offset % 4 === 0) copy(Uint32Array, 4);
  else copy(Uint8Array, 1);
}
