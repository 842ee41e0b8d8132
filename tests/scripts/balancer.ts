/**
 * balance.ts as a user runs it: a process in the namespace of a lab's balancer.
 *
 * @module
 */
import { assertEquals } from "@std/assert";
import { neighbours } from "../../lib/net/ip.ts";
import type { Lab, LabNode } from "../../lib/net/lab.ts";
import { command as commandOf, Script } from "./process.ts";

/** The words that run it. */
export function command(...args: string[]): string[] {
  return commandOf("balance.ts", ...args);
}

/** Starts it on a node; it is attached when this returns. */
export function startBalancer(node: LabNode, ...args: string[]): Promise<Script> {
  return Script.start(node, "balance.ts", ...args);
}

/** XDP programs on a node's interfaces, by name. */
export async function xdpPrograms(node: LabNode): Promise<Record<string, string>> {
  const links: { ifname: string; xdp?: { prog?: { name: string } } }[] = JSON.parse(
    await node.run(["ip", "-j", "-d", "link", "show"]),
  );
  return Object.fromEntries(
    links.flatMap(({ ifname, xdp }) => xdp ? [[ifname, xdp.prog?.name ?? "nameless"]] : []),
  );
}

/** That nothing is attached, and the kernel has been left no neighbour to keep. */
export async function assertNothingLeft({ balancer }: Lab): Promise<void> {
  assertEquals(await xdpPrograms(balancer), {});
  const kept = (await neighbours(balancer.namespace)).filter((each) => each.managed);
  assertEquals(kept.map(({ address }) => address.toString()), []);
}
