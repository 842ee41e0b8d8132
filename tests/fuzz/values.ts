/**
 * What people might feed to an API or a command line: values that are right, and anything instead of them.
 *
 * @module
 */
import { assert } from "@std/assert";
import type { Choices } from "./random.ts";

const JUNK: readonly unknown[] = [
  ...[
    undefined,
    null,
    NaN,
    Infinity,
    -0,
    -1,
    0,
    1,
    0.5,
    80,
    65535,
    65536,
    2 ** 31,
    2 ** 32,
    2 ** 53,
    1e99,
  ],
  ...[
    true,
    false,
    1n,
    "",
    " ",
    "0",
    "80",
    "-1",
    "1e3",
    "tcp",
    "TCP",
    "none",
    "ipip",
    "constructor",
  ],
  ...[
    "192.0.2.1",
    "192.0.2.1 ",
    "192.0.2",
    "0.0.0.0",
    "::",
    "::1",
    "ff02::1",
    "::ffff:192.0.2.1",
    "fe80::1%lo",
  ],
  ...[
    "10.0.0.0/8",
    "10.0.0.0/33",
    "::/0",
    "a".repeat(5000),
    "\0",
    "\u{1f600}",
    "__proto__",
    "../x",
  ],
];

/** Anything. */
export function junk(choices: Choices): unknown {
  switch (choices.below(12)) {
    case 0:
      return [];
    case 1:
      return {};
    case 2:
      return [choices.of(JUNK), choices.of(JUNK)];
    case 3:
      return { address: choices.of(JUNK), length: choices.of(JUNK) };
    case 4:
      return () => 1;
    case 5:
      return new Uint8Array(choices.below(40));
    default:
      return choices.of(JUNK);
  }
}

/** An object like others, of which some fields are anything. */
export function distort(choices: Choices, object: Record<string, unknown>): unknown {
  if (choices.oneIn(30)) return junk(choices);
  const result = { ...object };
  for (const key of Object.keys(result)) {
    if (choices.oneIn(6)) result[key] = junk(choices);
    else if (choices.oneIn(12)) delete result[key];
  }
  if (choices.oneIn(20)) result["nonsense"] = junk(choices);
  return result;
}

const CHARACTERS = "0123456789abcdefABCDEFx:./%-[] \t\n\0é=,";

/** A text with some characters changed, left out, put in, or doubled. */
export function misspell(choices: Choices, text: string): string {
  let result = text;
  for (let steps = choices.below(4); steps > 0; steps--) {
    const at = choices.below(result.length + 1);
    const cut = choices.below(3);
    const extra = choices.of(["", choices.of([...CHARACTERS]), result.slice(at, at + 3)]);
    result = result.slice(0, at) + extra + result.slice(at + cut);
  }
  return result;
}

/** What went wrong, which must be said in a sentence and by one of these classes. */
export function sentence(
  error: unknown,
  known: readonly (new (...args: never[]) => Error)[],
): string {
  assert(error instanceof Error, `${error} was thrown`);
  assert(known.some((type) => error instanceof type), `${error.stack}`);
  assert(/^[A-Za-z].{9}/s.test(error.message), `"${error.message}" is no sentence`);
  return error.message;
}
