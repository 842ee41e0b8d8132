/**
 * A BPF object that travels in the module graph, so that nobody needs a compiler or a second download.
 *
 * @module
 */

/** An ELF file within a generated module. */
export interface EmbeddedObject {
  /** Its source without the ending, as in `xvs` for `xvs.bpf.c`. */
  readonly name: string;
  /** SHA-256 of the ELF file, in hexadecimal. */
  readonly sha256: string;
  /** The ELF file, gzipped, in base64. */
  readonly gzipBase64: string;
}

/**
 * The SHA-256 of bytes, in lower-case hexadecimal.
 *
 * @param bytes what to hash
 */
export async function sha256(bytes: Uint8Array<ArrayBuffer>): Promise<string> {
  return new Uint8Array(await crypto.subtle.digest("SHA-256", bytes)).toHex();
}

/**
 * Unpacks an embedded object.
 *
 * @param object as a generated module exports it
 * @returns the ELF file, ready for `BpfObject.open`
 * @throws {Error} when the bytes are not those that were embedded
 *
 * @example
 * ```ts
 * import { BpfObject, elfOf, type EmbeddedObject } from "./mod.ts";
 *
 * async function load(object: EmbeddedObject): Promise<BpfObject> {
 *   return BpfObject.open(await elfOf(object)).load();
 * }
 * ```
 */
export async function elfOf(object: EmbeddedObject): Promise<Uint8Array<ArrayBuffer>> {
  const packed = new Blob([Uint8Array.fromBase64(object.gzipBase64)]).stream();
  const unpacked = packed.pipeThrough(new DecompressionStream("gzip"));
  const elf = new Uint8Array(await new Response(unpacked).arrayBuffer());
  const found = await sha256(elf);
  if (found !== object.sha256) {
    throw new Error(
      `Cannot unpack BPF object "${object.name}": its SHA-256 is ${found} instead of ${object.sha256}`,
    );
  }
  return elf;
}
