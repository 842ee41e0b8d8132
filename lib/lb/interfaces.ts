/**
 * Interfaces to attach to, and how.
 *
 * @module
 */
import { type LinkInfo, links } from "../net/ip.ts";
import { InvalidValueError } from "./errors.ts";
import type { Mode } from "./types.ts";

/**
 * Interfaces by name.
 *
 * @throws {InvalidValueError} when one does not exist
 */
export async function findInterfaces(names: readonly string[]): Promise<LinkInfo[]> {
  if (names.length === 0) return [];
  const all = await links();
  return names.map((name) => {
    const link = all.find((candidate) => candidate.name === name);
    if (link) return link;
    const known = all.map((candidate) => candidate.name).join(", ");
    throw new InvalidValueError(
      "interfaces",
      name,
      `Interface "${name}" does not exist: there are ${known}`,
    );
  });
}

/** veth drops what native XDP sends unless its peer runs XDP too, which cannot be seen from here. */
export function modeFor(link: LinkInfo, mode: Mode | "auto"): Mode | "auto" {
  return mode === "auto" && link.kind === "veth" ? "generic" : mode;
}
