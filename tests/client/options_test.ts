/** Options that xvs has too: what each of them does. The others have tests where they belong. */

import { assert, assertEquals, assertRejects } from "@std/assert";
import { parseElf } from "../../lib/bpf/elf.ts";
import { elfOf, possibleCpus } from "../../lib/bpf/mod.ts";
import { ABI_VERSION } from "../../lib/lb/abi.gen.ts";
import { Instance } from "../../lib/lb/instance.ts";
import { OBJECT } from "../../lib/lb/xvs.gen.ts";
import { OBJECT as DECAP_OBJECT } from "../../lib/lb/decap.gen.ts";
import { OBJECT as TEST_OBJECT } from "../bpf/object.gen.ts";
import { AbiError, Client, InvalidValueError } from "../../mod.ts";
import { Network } from "../bpf/support.ts";
import { FakeNextHops, service } from "./support.ts";

const nextHops = new FakeNextHops();

Deno.test("flowsPerCPU is the size of the flow tables, for each CPU", async () => {
  using instance = await Instance.load({ flowsPerCPU: 1000 });
  assertEquals(instance.sizes.maxFlows, 1000 * possibleCpus());
});

Deno.test("interfaceInitDelay passes after each interface", async () => {
  using _ = new Network();
  const began = performance.now();
  await using client = await Client.create(["left", "right"], { interfaceInitDelay: 1 }, {
    nextHops,
  });
  assert(performance.now() - began >= 2000);
  assertEquals(client.info().interfaces.length, 2);
});

Deno.test("bpfProgram is what is run; with another ABI it is refused", async () => {
  const elf = await elfOf(OBJECT);
  await using client = await Client.create([], { bpfProgram: elf }, { nextHops });
  await client.createService(service(1));
  const other = elf.slice();
  // The section of the settings begins with the version, and is zeros otherwise.
  const { data } = parseElf(other).sections.find(({ name }) => name === ".data.settings")!;
  data[0] = ABI_VERSION + 1;
  const create = () => Client.create([], { bpfProgram: other }, { nextHops });
  const error = await assertRejects(create, AbiError, `has ABI version ${ABI_VERSION + 1}`);
  assertEquals(error.found, ABI_VERSION + 1);
  await assertRejects(() => client.upgrade(other), AbiError);
  assertEquals(client.services().length, 1);
});

Deno.test("bpfProgram that is something else is refused", async () => {
  const others = [new Uint8Array(100), await elfOf(TEST_OBJECT), await elfOf(DECAP_OBJECT)];
  await using client = await Client.create([], {}, { nextHops });
  for (const bpfProgram of others) {
    const says = "bpfProgram is no object of this balancer";
    await assertRejects(() => Client.create([], { bpfProgram }), InvalidValueError, says);
    await assertRejects(() => client.upgrade(bpfProgram), InvalidValueError, says);
  }
});

Deno.test("logger hears what happens", async () => {
  using _ = new Network();
  const heard: string[] = [];
  const logger = { debug: (text: string) => void heard.push(text) };
  await using client = await Client.create(["left"], { logger }, { nextHops });
  await client.createService(service(1));
  assertEquals(heard, ["attached", "services changed"]);
});
