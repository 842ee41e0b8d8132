/**
 * Spoiling frames.
 *
 * @module
 */
import type { Choices } from "./random.ts";

const INTERESTING = [0, 1, 2, 4, 5, 6, 0x0f, 0x10, 0x40, 0x45, 0x4f, 0x60, 0x7f, 0x80, 0xfe, 0xff];
/** Where headers end. */
const HEADERS = 130;

/**
 * Changes a frame in place, and gives what is left of it.
 *
 * @param marks where headers begin
 */
export function mutate(
  frame: Uint8Array,
  marks: readonly number[],
  choices: Choices,
): Uint8Array {
  let left = frame;
  for (let steps = choices.between(1, 3); steps > 0; steps--) left = step(left, marks, choices);
  return left;
}

function step(frame: Uint8Array, marks: readonly number[], choices: Choices): Uint8Array {
  const near = Math.min(frame.length, HEADERS);
  const at = choices.below(near);
  switch (choices.below(7)) {
    case 0:
      frame[at]! ^= 1 << choices.below(8);
      return frame;
    case 1:
      frame[at] = choices.of(INTERESTING);
      return frame;
    case 2: // within a header
      frame[Math.min(frame.length - 1, headerOf(marks, choices) + choices.below(16))]! ^= 1 <<
        choices.below(8);
      return frame;
    case 3: // anywhere
      return frame.subarray(0, choices.between(14, Math.max(14, frame.length)));
    case 4: // at the boundary of a header, or beside it
      return frame.subarray(0, Math.max(14, headerOf(marks, choices) + choices.between(-2, 22)));
    case 5: // a length or a protocol of IP that lies
      return lie(frame, marks[0] ?? 14, choices);
    default:
      frame.copyWithin(at, choices.below(near), choices.below(frame.length));
      return frame;
  }
}

function headerOf(marks: readonly number[], choices: Choices): number {
  return marks.length === 0 ? 14 : choices.of(marks);
}

function lie(frame: Uint8Array, ip: number, choices: Choices): Uint8Array {
  const field = ip + choices.of([2, 4]);
  if (field + 1 >= frame.length) return frame;
  const length = (frame[field]! << 8) | frame[field + 1]!;
  const told = choices.of([
    length + choices.between(-9, 9),
    choices.below(130),
    choices.below(65536),
  ]);
  frame[field] = told >> 8;
  frame[field + 1] = told & 0xff;
  return frame;
}
