/**
 * `scripts/decap.ts` on the servers of a lab, and what a client sends through a balancer to them.
 *
 * @module
 */
import { assertEquals } from "@std/assert";
import type { Lab, LabNode } from "../../lib/net/lab.ts";
import type { DecapCounter, DecapReason, Destination, TunnelType } from "../../mod.ts";

const SCRIPT = new URL("../../scripts/decap.ts", import.meta.url).pathname;
const UDP_PORTS = { fou: 5555, gue: 6080 } as const;

/** What `--json` tells. */
export type Counters = Record<DecapReason, Record<keyof DecapCounter, number>>;

/** All tunnels. */
export const TUNNELS = ["ipip", "gre", "fou", "gue"] as const satisfies TunnelType[];

/** A server as a destination behind a tunnel. */
export function through(
  tunnelType: (typeof TUNNELS)[number],
  node: LabNode,
  family: 4 | 6,
): Destination {
  const address = family === 4 ? node.address4 : node.address6;
  const isUdp = tunnelType === "fou" || tunnelType === "gue";
  return { address, tunnelType, ...(isUdp ? { tunnelPort: UDP_PORTS[tunnelType] } : {}) };
}

/** The script on a server, from when it is attached until it is disposed. */
export class Script implements AsyncDisposable {
  readonly child: Deno.ChildProcess;
  readonly #lines: ReadableStreamDefaultReader<string>;
  #rest = "";

  private constructor(child: Deno.ChildProcess) {
    this.child = child;
    this.#lines = child.stdout.pipeThrough(new TextDecoderStream()).getReader();
  }

  /** Started on a node, for all VIPs of its lab and all tunnels. */
  static async start(
    lab: Lab,
    node: LabNode,
    peers: readonly string[],
    ...flags: string[]
  ): Promise<Script> {
    const lists = [
      ...peers.map((peer) => `--peer=${peer}`),
      ...lab.vips.map((vip) => `--vip=${vip}`),
      `--fou=${UDP_PORTS.fou}`,
      `--gue=${UDP_PORTS.gue}`,
    ];
    const child = node.spawn(
      [Deno.execPath(), "run", "-A", "--no-check", SCRIPT, ...lists, ...flags, node.interface],
      { stdin: "null", stdout: "piped" },
    );
    const script = new Script(child);
    await script.line();
    return script;
  }

  /** The next line of its output. */
  async line(): Promise<string> {
    while (!this.#rest.includes("\n")) {
      const { value, done } = await this.#lines.read();
      if (done) throw new Error("decap.ts ended by itself");
      this.#rest += value;
    }
    const [line, ...rest] = this.#rest.split("\n");
    this.#rest = rest.join("\n");
    return line!;
  }

  /** Reads no more: what it writes next meets a closed pipe. */
  async hangUp(): Promise<void> {
    await this.#lines.cancel();
  }

  /** What `--json` tells of all that was sent before this call. */
  async counters(): Promise<Counters> {
    const calledAt = Date.now();
    for (;;) {
      const { time, counters } = JSON.parse(await this.line());
      if (Date.parse(time) > calledAt) return counters;
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    try {
      this.child.kill("SIGTERM");
    } catch {
      // It has ended.
    }
    await this.hangUp();
    await this.child.status;
  }
}

/** The script on all servers, with the balancer's addresses as peers. */
export async function decapsulate(
  stack: AsyncDisposableStack,
  lab: Lab,
  peers = [lab.balancer.address4, lab.balancer.address6],
): Promise<Script[]> {
  return await Promise.all(
    [...lab.destinations, ...lab.routed].map(async (node) =>
      stack.use(await Script.start(lab, node, peers, "--json"))
    ),
  );
}

/** A URL of a VIP. */
export function url(vip: string, path: string, port = 80): string {
  return `http://${vip.includes(":") ? `[${vip}]` : vip}:${port}${path}`;
}

/** 5 MB go down and up, intact. */
export async function exchange(lab: Lab, vip: string, port = 80): Promise<void> {
  const pattern = Uint8Array.from({ length: 5_000_000 }, (_, i) => i % 251);
  const sha256 = new Uint8Array(await crypto.subtle.digest("SHA-256", pattern)).toHex();
  const curl = ["curl", "-sS", "--max-time", "20"];
  const file = await Deno.makeTempFile();
  try {
    await lab.client.run([...curl, "-o", file, url(vip, `/bytes/${pattern.length}`, port)]);
    assertEquals(await Deno.readFile(file), pattern);
    const upload = [...curl, "--data-binary", `@${file}`, url(vip, "/count", port)];
    assertEquals(JSON.parse(await lab.client.run(upload)), { bytes: pattern.length, sha256 });
  } finally {
    await Deno.remove(file);
  }
}
