/** A worker that loads what the kernel refuses, again and again, and posts the last error. */

import { BpfObject, VerifierError } from "../../lib/bpf/mod.ts";
import { ELF } from "./support.ts";

const ATTEMPTS = 30;

let last: VerifierError | undefined;
for (let i = 0; i < ATTEMPTS; i++) {
  try {
    BpfObject.open(ELF).setAutoload("refused", true).load();
  } catch (error) {
    if (error instanceof VerifierError) last = error;
  }
}
(globalThis as unknown as Worker).postMessage({ message: last?.message, log: last?.log });
