/** Interfaces, in a network namespace of this thread's own. */

import { assert, assertEquals, assertRejects } from "@std/assert";
import { queryXdp } from "../../lib/bpf/mod.ts";
import { Client, InvalidValueError, type Mode, XdpBusyError } from "../../mod.ts";
import { loaded, Network, run } from "../bpf/support.ts";
import { FakeNextHops } from "./support.ts";

/** The program of an interface, by mode. */
function attached(name: string): Record<Mode, boolean> {
  const [{ ifindex }] = JSON.parse(run("ip", "-j", "link", "show", name));
  const { native, generic } = queryXdp(ifindex);
  return { native: native !== undefined, generic: generic !== undefined };
}

const NONE = { native: false, generic: false };
const GENERIC = { native: false, generic: true };
const NATIVE = { native: true, generic: false };

function create(interfaces: string[], mode: Mode | "auto" = "auto"): Promise<Client> {
  return Client.create(interfaces, { mode }, { nextHops: new FakeNextHops() });
}

Deno.test("create() attaches to all interfaces, and close() detaches", async () => {
  using _ = new Network();
  const client = await create(["left", "right"]);
  assertEquals([attached("left"), attached("right")], [GENERIC, GENERIC]);
  const modes = client.info().interfaces.map(({ name, mode }) => [name, mode]);
  assertEquals(modes, [["left", "generic"], ["right", "generic"]]);
  await client.close();
  assertEquals([attached("left"), attached("right")], [NONE, NONE]);
});

Deno.test("the mode is the one asked for", async () => {
  using network = new Network();
  await using client = await create(["left"], "native");
  assertEquals(attached("left"), NATIVE);
  assertEquals(client.info().interfaces, [
    { name: "left", index: network.ifindex, mode: "native" },
  ]);
});

Deno.test("an interface that does not exist is named, and nothing is attached", async () => {
  using _ = new Network();
  const error = await assertRejects(
    () => create(["left", "eth7"]),
    InvalidValueError,
    'Interface "eth7" does not exist: there are lo, ',
  );
  assertEquals([error.field, error.value], ["interfaces", "eth7"]);
  assertEquals(attached("left"), NONE);
});

Deno.test("somebody else's program stays, and none of ours is attached", async () => {
  using network = new Network();
  using foreign = loaded();
  using _ = foreign.program("pass").attachXdp(network.ifindex, { mode: "generic" });
  const error = await assertRejects(
    () => create(["right", "left"]),
    XdpBusyError,
    `XDP program ${foreign.program("pass").id} "pass" is attached there; detach it first`,
  );
  assertEquals([error.ifindex, error.programName], [network.ifindex, "pass"]);
  assertEquals(queryXdp(network.ifindex).generic, foreign.program("pass").id);
  assertEquals(attached("right"), NONE);
});

Deno.test("attach() adds interfaces, or none; those that are attached stay so", async () => {
  using network = new Network();
  using foreign = loaded();
  await using client = await create(["left"]);
  const [{ ifindex }] = JSON.parse(run("ip", "-j", "link", "show", "right"));
  using link = foreign.program("pass").attachXdp(ifindex, { mode: "generic" });
  run("ip", "link", "add", "middle", "type", "veth", "peer", "name", "other");
  await assertRejects(() => client.attach("left", "middle", "right"), XdpBusyError);
  assertEquals([attached("left"), attached("middle")], [GENERIC, NONE]);
  assertEquals(client.info().interfaces.map(({ name }) => name), ["left"]);
  link.close();
  await client.attach("right", "left", "right");
  assertEquals(attached("right"), GENERIC);
  assertEquals(client.info().interfaces.map(({ index }) => index), [network.ifindex, ifindex]);
});

Deno.test("an interface that has gone has no mode; it may come back", async () => {
  using _ = new Network();
  await using client = await create(["left"]);
  run("ip", "link", "delete", "left");
  const modes = (): unknown => client.info().interfaces.map(({ name, mode }) => [name, mode]);
  assertEquals(modes(), [["left", undefined]]);
  run("ip", "link", "add", "left", "type", "veth", "peer", "name", "right");
  await client.attach("left");
  assertEquals(modes(), [["left", "generic"]]);
  assertEquals(attached("left"), GENERIC);
});

Deno.test("two clients are two instances", async () => {
  using _ = new Network();
  await using one = await create(["left"]);
  const two = await create(["right"]);
  await one.createService({ address: "192.0.2.1", port: 80 });
  assertEquals(two.services(), []);
  await two.close();
  assertEquals(attached("left"), GENERIC);
  assert(one.services().length === 1);
});
