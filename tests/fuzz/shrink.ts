/**
 * Making a frame that shows something smaller and plainer.
 *
 * @module
 */

const LEAST = 14;
const ROUNDS = 4;

/**
 * The smallest frame that still shows it, as far as a few thousand tries tell.
 *
 * @param shows whether a frame shows it
 */
export function shrink(frame: Uint8Array, shows: (frame: Uint8Array) => boolean): Uint8Array {
  if (!shows(frame)) return frame; // It depends on what came before: leave it as it is.
  let best = frame;
  for (let round = 0; round < ROUNDS; round++) {
    const before = best;
    best = shorter(best, shows);
    best = plainer(best, shows);
    if (best === before) break;
  }
  return best;
}

/** Without its end. */
function shorter(frame: Uint8Array, shows: (frame: Uint8Array) => boolean): Uint8Array {
  let best = frame;
  for (let part = best.length >> 1; part > 0; part >>= 1) {
    while (best.length - part >= LEAST) {
      const candidate = best.slice(0, best.length - part);
      if (!shows(candidate)) break;
      best = candidate;
    }
  }
  return best;
}

/** With zeros for what does not matter. */
function plainer(frame: Uint8Array, shows: (frame: Uint8Array) => boolean): Uint8Array {
  let best = frame;
  for (let size = 64; size > 0; size >>= 1) {
    for (let at = 0; at < best.length; at += size) {
      const part = best.subarray(at, at + size);
      if (part.every((byte) => byte === 0)) continue;
      const candidate = best.slice();
      candidate.fill(0, at, at + size);
      if (shows(candidate)) best = candidate;
    }
  }
  return best;
}
