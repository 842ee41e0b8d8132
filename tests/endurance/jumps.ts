/**
 * The clock of the host jumps by years, and a CPU goes offline and comes back, under connections that stay open.
 * That is nothing to do to a host that anybody else uses: run it in a virtual machine.
 *
 * ```
 * deno run -A tests/endurance/jumps.ts --throw-away-machine
 * ```
 *
 * @module
 */
import { parseArgs } from "@std/cli/parse-args";
import { run } from "../../lib/net/command.ts";
import { Lab, LAB_ECHO_PORT } from "../../lib/net/lab.ts";
import { Held, spread } from "../../lib/net/lab_client.ts";
import { Remote } from "../lab/remote.ts";

const CPU = "/sys/devices/system/cpu/cpu1/online";
const CONNECTIONS = 20;
/** Short, so that it ends, and entries are settled, while the clock is wrong. */
const WINDOW_S = 5;

const args = parseArgs(Deno.args, { boolean: ["throw-away-machine"] });
if (!args["throw-away-machine"]) {
  console.error("jumps.ts sets the clock of this machine and takes a CPU offline: say so with");
  console.error("--throw-away-machine, in a virtual machine");
  Deno.exit(2);
}

/** A misfortune, by what it is called. */
const JUMPS: [name: string, act: () => Promise<unknown>][] = [
  ["nothing", () => Promise.resolve()],
  ["five years ahead", () => run(["date", "-s", "+5 years"])],
  ["a CPU goes offline", () => Deno.writeTextFile(CPU, "0")],
  ["ten years back", () => run(["date", "-s", "-10 years"])],
  ["the CPU is back", () => Deno.writeTextFile(CPU, "1")],
];

let failed = false;
await using lab = await Lab.create({ name: `jumps_${Deno.pid}`, destinations: 2 });
await using remote = await Remote.create(lab);
const address = lab.vips.find((vip) => !vip.includes(":"))!;
const http = { address, port: 80, idleTimeout: WINDOW_S };
const echo = { address, port: LAB_ECHO_PORT, idleTimeout: WINDOW_S };
const all = lab.destinations.map(({ address4 }) => ({ address: address4 }));
for (const service of [http, echo]) await remote.call("setService", service, ...all);
const held = await Held.open(lab.client, { ...echo, connections: CONNECTIONS, intervalMs: 200 });
for (const [name, act] of JUMPS) {
  await act();
  for (const weight of [3, 1]) {
    await remote.call("updateDestination", echo, { ...all[0], weight });
    const { failures } = await spread(lab.client, { ...http, connections: CONNECTIONS });
    const lost = Object.keys(failures).length > 0;
    console.log(`${name}: ${lost ? JSON.stringify(failures) : "everybody is served"}`);
    failed ||= lost;
    await new Promise((resolve) => setTimeout(resolve, WINDOW_S * 1000 / 2));
  }
}
const { failures, answers } = await held.end();
console.log(`${answers} words on open connections: ${JSON.stringify(failures)}`);
failed ||= Object.keys(failures).length > 0;
await remote[Symbol.asyncDispose]();
await lab.remove();
Deno.exit(failed ? 1 : 0);
