import { assertEquals, assertThrows } from "@std/assert";
import {
  addressWords,
  expandKey,
  FlowHash,
  type FlowKey,
  type HashValue,
  portsWord,
} from "../../lib/lb/flow_hash.ts";
import { random } from "./random.ts";

const U32 = (1n << 32n) - 1n;
const U64 = (1n << 64n) - 1n;

/** The definition in the module's header, word for word. */
function reference(key: FlowKey, words: readonly number[]): bigint {
  let h = 0n;
  for (let i = 0; i < words.length; i += 2) {
    const left = (BigInt(words[i]!) + BigInt(key.words[i]!)) & U32;
    const right = (BigInt(words[i + 1]!) + BigInt(key.words[i + 1]!)) & U32;
    h = (h + left * right) & U64;
  }
  return splitmixFinish(h ^ key.final);
}

function splitmixFinish(h: bigint): bigint {
  h ^= h >> 30n;
  h = (h * 0xbf58476d1ce4e5b9n) & U64;
  h ^= h >> 27n;
  h = (h * 0x94d049bb133111ebn) & U64;
  return h ^ (h >> 31n);
}

function whole(value: HashValue): bigint {
  return (BigInt(value.high) << 32n) | BigInt(value.low);
}

/** Words and keys that reach every carry: often all ones or all zeros. */
function edgyWords(next: () => number, length: number): number[] {
  return Array.from({ length }, () => {
    const kind = next() % 4;
    return kind === 0 ? 0 : kind === 1 ? 0xffffffff : next();
  });
}

Deno.test("hash4() and hash6() compute the definition, for every carry", () => {
  const next = random(1);
  for (let round = 0; round < 5000; round++) {
    const [high, low] = edgyWords(next, 2);
    const key: FlowKey = {
      words: Uint32Array.from(edgyWords(next, 10)),
      final: (BigInt(high!) << 32n) | BigInt(low!),
    };
    const hash = new FlowHash(key);
    const w = edgyWords(next, 10);
    const four = hash.hash4(w[0]!, w[1]!, w[2]!, w[3]!);
    assertEquals(whole(four), reference(key, w.slice(0, 4)));
    const six = hash.hash6(
      Uint32Array.from(w.slice(0, 4)),
      Uint32Array.from(w.slice(4, 8)),
      w[8]!,
      w[9]!,
    );
    assertEquals(whole(six), reference(key, w));
  }
});

Deno.test("index() is the upper half scaled to the size", () => {
  const next = random(2);
  const hash = new FlowHash(expandKey(new Uint8Array(16)));
  for (let round = 0; round < 5000; round++) {
    const value = hash.hash4(next(), next(), next(), 6);
    for (const size of [2, 1979, 65521]) {
      const index = value.index(size);
      assertEquals(BigInt(index), (BigInt(value.high) * BigInt(size)) >> 32n);
    }
  }
});

Deno.test("expandKey() chains both halves of the secret through splitmix64", () => {
  const secret = Uint8Array.from({ length: 16 }, (_, i) => i + 1);
  const a = 0x0807060504030201n;
  const b = 0x100f0e0d0c0b0a09n;
  const outputs = [1n, 2n, 3n, 4n, 5n, 6n].map((n) =>
    splitmixFinish(splitmixFinish((a + n * 0x9e3779b97f4a7c15n) & U64) ^ b)
  );
  const key = expandKey(secret);
  assertEquals(
    [...key.words],
    outputs.slice(0, 5).flatMap((output) => [Number(output & U32), Number(output >> 32n)]),
  );
  assertEquals(key.final, outputs[5]);
});

Deno.test("expandKey() reads the secret from inside a larger buffer", () => {
  const buffer = Uint8Array.from({ length: 32 }, (_, i) => i);
  assertEquals(expandKey(buffer.subarray(5, 21)), expandKey(buffer.slice(5, 21)));
});

Deno.test("expandKey() refuses a secret of another length", () => {
  assertThrows(() => expandKey(new Uint8Array(15)), RangeError, '"15" bytes');
});

Deno.test("a changed bit of the secret changes every word of the key", () => {
  const plain = expandKey(new Uint8Array(16));
  for (let bit = 0; bit < 128; bit++) {
    const secret = new Uint8Array(16);
    secret[bit >> 3] = 1 << (bit & 7);
    const key = expandKey(secret);
    assertEquals(key.words.filter((word, i) => word === plain.words[i]).length, 0);
    assertEquals(key.final === plain.final, false);
  }
});

Deno.test("addressWords() and portsWord() read the packet's bytes as little-endian words", () => {
  assertEquals([...addressWords(new Uint8Array([192, 0, 2, 1]))], [0x010200c0]);
  const six = Uint8Array.from({ length: 17 }, (_, i) => i).subarray(1);
  assertEquals([...addressWords(six)], [0x04030201, 0x08070605, 0x0c0b0a09, 0x100f0e0d]);
  assertEquals(portsWord(0x1234, 0xabcd), 0xcdab3412);
});

Deno.test("neighbouring flows spread evenly over a ring and over the sample", () => {
  const hash = new FlowHash(expandKey(new Uint8Array(16).fill(0x5a)));
  const size = 101;
  const flows = size * 1000;
  const counts = new Uint32Array(size);
  let sampled = 0;
  for (let flow = 0; flow < flows; flow++) {
    const value = hash.hash4(
      0x0a000001 + (flow >> 16),
      0x010200c0,
      portsWord(flow & 0xffff, 80),
      6,
    );
    counts[value.index(size)]!++;
    if ((value.low & 15) === 0) sampled++;
  }
  // Chi-squared with 100 degrees of freedom: beyond 200 for less than one key in 10^7.
  const chi = counts.reduce((sum, count) => sum + (count - 1000) ** 2 / 1000, 0);
  assertEquals(chi < 200, true, `chi-squared is ${chi}`);
  // Binomial: six standard deviations.
  const deviation = Math.abs(sampled - flows / 16) / Math.sqrt(flows * 15 / 256);
  assertEquals(deviation < 6, true, `${sampled} of ${flows} flows are in the sample`);
});
