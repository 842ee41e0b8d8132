/**
 * The lab: a client, a balancer and destinations in network namespaces of their own, joined by a switch in yet
 * another, so that a whole network runs on one host and touches nothing of it.
 *
 * ```
 *   client 10.1.0.2   balancer 10.1.0.1   d1 10.1.0.10 ...   router 10.1.0.254
 *      |                  |                   |                 |
 *      +------------------+-- br1 (switch) ---+-----------------+
 *                                                               |
 *                         r1 10.2.0.10 ... --- br2 (switch) ----+ 10.2.0.254
 * ```
 *
 * IPv6 is the same with the same digits: `fd00:1::2`. Every destination has every VIP on its loopback, and the
 * client has routes to the VIPs through the balancer. The balancer itself is not part of the lab: run it in the
 * namespace of the node `balancer`, on `eth0`.
 *
 * Root is needed, and iproute2, ethtool, procps and util-linux.
 *
 * @module
 */
import { type CommandResult, run, type RunOptions } from "./command.ts";
import {
  LAB_PREFIX,
  type LabNodePlan,
  type LabOptions,
  type LabPlan,
  planLab,
  planNodes,
} from "./lab_plan.ts";
import { readRecord, recordedNames, removeRecord, writeRecord } from "./lab_record.ts";
import type { LabServerOptions } from "./lab_server.ts";
import { Namespace } from "./namespace.ts";

export type { LabOptions } from "./lab_plan.ts";

const SERVER = new URL("./lab_server.ts", import.meta.url).href;
/** Ports of HTTP on every destination. */
export const LAB_HTTP_PORTS: readonly number[] = [80, 8080];
/** Port of TCP and UDP echo on every destination. */
export const LAB_ECHO_PORT = 7;

/** A lab that cannot be made, or found. */
export class LabError extends Error {
  override readonly name = "LabError";
  /** The lab's name. */
  readonly lab: string;

  constructor(lab: string, message: string) {
    super(message);
    this.lab = lab;
  }
}

/** A node of a lab: its addresses, and a way to run things on it. */
export class LabNode {
  /** `client`, `balancer`, `router`, `d1`..., `r1`... */
  readonly name: string;
  /** Where its programs run. */
  readonly namespace: Namespace;
  /** The interface on the lab's network: `eth0`. */
  readonly interface: string;
  /** The port of the switch that this interface is connected to. */
  readonly port: string;
  /** The interface's MAC. */
  readonly mac: string;
  /** The interface's IPv4 address. */
  readonly address4: string;
  /** The interface's IPv6 address. */
  readonly address6: string;

  constructor(plan: LabNodePlan) {
    const [first] = plan.interfaces;
    this.name = plan.name;
    this.namespace = new Namespace(plan.namespace);
    this.interface = first.name;
    this.port = first.port;
    this.mac = first.mac;
    this.address4 = first.address4;
    this.address6 = first.address6;
  }

  /**
   * Runs a command on the node and returns what it wrote to standard output.
   *
   * @throws {CommandError} when it ends with another code than 0
   */
  run(command: readonly string[], options?: RunOptions): Promise<string> {
    return this.namespace.run(command, options);
  }

  /** Runs a command on the node to its end, whatever its code. */
  attempt(command: readonly string[], options?: RunOptions): Promise<CommandResult> {
    return this.namespace.attempt(command, options);
  }

  /** Starts a command on the node. It ends with the lab at the latest. */
  spawn(
    command: readonly string[],
    options?: Omit<Deno.CommandOptions, "args">,
  ): Deno.ChildProcess {
    return this.namespace.spawn(command, options);
  }
}

/**
 * A lab that is up.
 *
 * @example
 * ```ts
 * await using lab = await Lab.create({ destinations: 5 });
 * await lab.client.run(["curl", "-s", `http://${lab.destinations[0]!.address4}/`]); // "d1 10.1.0.2\n"
 * ```
 */
export class Lab implements AsyncDisposable {
  /** Its name. */
  readonly name: string;
  /** Addresses that every destination has on its loopback. */
  readonly vips: readonly string[];
  readonly client: LabNode;
  readonly balancer: LabNode;
  /** Destinations on the balancer's network. */
  readonly destinations: readonly LabNode[];
  /** Destinations behind the router. */
  readonly routed: readonly LabNode[];
  /** Only where there are routed destinations. */
  readonly router: LabNode | undefined;
  /** The namespace with the bridges and their ports. */
  readonly switch: Namespace;
  readonly #plan: LabPlan;
  /** Servers that this process has started. */
  readonly #servers: Deno.ChildProcess[] = [];

  private constructor(plan: LabPlan) {
    this.#plan = plan;
    this.name = plan.settings.name;
    this.vips = plan.settings.vips;
    this.client = new LabNode(plan.client);
    this.balancer = new LabNode(plan.balancer);
    this.destinations = plan.destinations.map((node) => new LabNode(node));
    this.routed = plan.routed.map((node) => new LabNode(node));
    this.router = plan.router && new LabNode(plan.router);
    this.switch = new Namespace(plan.switchNamespace);
  }

  /**
   * Makes a lab. With the name of one that is up, it is that one, with any server that has died started
   * again; what is left of one that never came up, or whose maker was killed, is cleared away first.
   *
   * @throws {LabError} when one of that name is up with other options
   * @throws {RangeError} when an option is out of its range
   * @throws {CommandError} when the system refuses; nothing is left then
   */
  static async create(options: LabOptions = {}): Promise<Lab> {
    const plan = planLab(options);
    const lab = new Lab(plan);
    const present = await Lab.#find(lab.name);
    if (present !== undefined) {
      if (JSON.stringify(present.#plan) !== JSON.stringify(plan)) {
        throw new LabError(
          lab.name,
          `Cannot make lab "${lab.name}": it is up with other options; take it down first`,
        );
      }
      await lab.#startServers();
      return lab;
    }
    await Lab.remove(lab.name);
    try {
      await lab.#build();
      await lab.#startServers();
      await writeRecord(plan.settings);
    } catch (error) {
      await lab.remove();
      throw error;
    }
    return lab;
  }

  /**
   * A lab that is up, perhaps by another process's doing. Disposing it removes it.
   *
   * @throws {LabError} when none of that name is up
   * @throws {RangeError} when it can be no lab's name
   */
  static async open(name: string): Promise<Lab> {
    const lab = await Lab.#find(name);
    if (lab === undefined) throw new LabError(name, `Cannot find lab "${name}": it is not up`);
    return lab;
  }

  /** Names of all labs of which there is anything, in order. */
  static async list(): Promise<string[]> {
    const namespaces = await Namespace.list(LAB_PREFIX);
    // A node's name has no hyphen, and a lab's has none either.
    const names = namespaces.map(({ name }) => name.slice(LAB_PREFIX.length).split("-")[0] ?? "");
    return [...new Set([...names, ...await recordedNames()])].sort();
  }

  /**
   * Removes all that there is of a lab: what runs in it, its namespaces and its record.
   *
   * @returns whether there was anything
   * @throws {RangeError} when it can be no lab's name
   */
  static async remove(name: string): Promise<boolean> {
    const hadRecord = await removeRecord(name);
    const namespaces = await Namespace.list(`${LAB_PREFIX}${name}-`);
    await Namespace.removeAll(namespaces);
    return hadRecord || namespaces.length > 0;
  }

  /** All nodes. */
  get nodes(): LabNode[] {
    const { client, balancer, router, destinations, routed } = this;
    return [client, balancer, ...(router ? [router] : []), ...destinations, ...routed];
  }

  /**
   * The node of a name.
   *
   * @throws {LabError} when there is none
   */
  node(name: string): LabNode {
    const found = this.nodes.find((node) => node.name === name);
    if (found === undefined) {
      const names = this.nodes.map((node) => node.name).join(", ");
      throw new LabError(this.name, `Lab "${this.name}" has no node "${name}"; it has ${names}`);
    }
    return found;
  }

  /**
   * Attaches a pinned XDP program, natively, to ports of the switch. A veth hands on what native XDP
   * transmits only if the interface at its other end has a program too; one that passes everything will do.
   *
   * @param pinnedPath of the program in bpffs
   * @param nodes whose ports are meant; default: all
   */
  async attachToPorts(pinnedPath: string, nodes: readonly LabNode[] = this.nodes): Promise<void> {
    for (const { port } of nodes) {
      await this.switch.run(["ip", "link", "set", "dev", port, "xdpdrv", "pinned", pinnedPath]);
    }
  }

  /** Removes the lab without trace. Twice is no error. */
  async remove(): Promise<void> {
    await Lab.remove(this.name);
    const servers = this.#servers.splice(0);
    for (const server of servers) server.ref();
    await Promise.all(servers.map((server) => server.status));
  }

  /** As `remove()`. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.remove();
  }

  /** The lab of that name if it is up and has all its namespaces. */
  static async #find(name: string): Promise<Lab | undefined> {
    const settings = await readRecord(name);
    if (settings === undefined) return undefined;
    const lab = new Lab(planLab(settings));
    const present = new Set((await Namespace.list(LAB_PREFIX)).map((each) => each.name));
    const wanted = [lab.switch, ...lab.nodes.map(({ namespace }) => namespace)];
    return wanted.every((each) => present.has(each.name)) ? lab : undefined;
  }

  async #build(): Promise<void> {
    const plan = this.#plan;
    const nodes = planNodes(plan).map((node) => ({ node, space: new Namespace(node.namespace) }));
    await batch(plan.namespaceCommands);
    // Before there are interfaces: they take what is set for `default` when they come up.
    await Promise.all([
      setKeys(this.switch, plan.switchSysctls),
      ...nodes.map(({ node, space }) => setKeys(space, node.sysctls)),
    ]);
    await batch(plan.linkCommands);
    await batch(plan.switchCommands, this.switch);
    await Promise.all(nodes.map(async ({ node, space }) => {
      for (const { name } of node.interfaces) {
        // A veth leaves checksums and segments to hardware that does not exist: what is forwarded by XDP
        // would arrive without the one and unsplit into the other.
        await space.run(["ethtool", "-K", name, "tx", "off", "gro", "off"]);
      }
      await batch(node.commands, space);
    }));
  }

  async #startServers(): Promise<void> {
    if (!this.#plan.settings.servers) return;
    await Promise.all([...this.destinations, ...this.routed].map(async (node) => {
      if (await runsServer(node.namespace)) return;
      const options: LabServerOptions = {
        name: node.name,
        httpPorts: [...LAB_HTTP_PORTS],
        echoPort: LAB_ECHO_PORT,
        addresses: [...this.vips, node.address4, node.address6],
      };
      this.#servers.push(await startServer(this.name, node, options));
    }));
  }
}

async function setKeys(namespace: Namespace, sysctls: readonly string[]): Promise<void> {
  await namespace.run(["sysctl", "-e", "-q", "-w", ...sysctls]);
}

async function batch(commands: readonly string[], namespace?: Namespace): Promise<void> {
  const argv = ["ip", "-batch", "-"];
  const stdin = commands.map((command) => `${command}\n`).join("");
  await run(namespace?.argv(argv) ?? argv, { stdin });
}

async function runsServer(namespace: Namespace): Promise<boolean> {
  for (const pid of await namespace.processes()) {
    try {
      const argv = (await Deno.readTextFile(`/proc/${pid}/cmdline`)).split("\0");
      if (argv.includes(SERVER)) return true;
    } catch (error) {
      if (!(error instanceof Deno.errors.NotFound)) throw error;
    }
  }
  return false;
}

/** Starts a server that outlives this process, and waits until it listens. */
async function startServer(
  lab: string,
  node: LabNode,
  options: LabServerOptions,
): Promise<Deno.ChildProcess> {
  const flags = ["--quiet", "--no-check", "--no-config", "--no-lock", "--allow-net"];
  const child = node.spawn(
    [Deno.execPath(), "run", ...flags, SERVER, JSON.stringify(options)],
    { detached: true, stdin: "null", stdout: "piped", stderr: "piped" },
  );
  const reader = child.stdout.getReader();
  const { done } = await reader.read();
  await reader.cancel();
  if (done) {
    const { code } = await child.status;
    const stderr = (await new Response(child.stderr).text()).trim();
    throw new LabError(
      lab,
      `Cannot start the server of "${node.name}": it ended with code ${code}: ${stderr}`,
    );
  }
  await child.stderr.cancel();
  child.unref();
  return child;
}
