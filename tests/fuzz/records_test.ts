/** What other nodes and files say of an instance: taken, or refused with nothing changed. */
import { assert, assertEquals } from "@std/assert";
import { decodeFlowRecord } from "../../lib/lb/flow_record.ts";
import { AddressError } from "../../lib/net/address.ts";
import { BpfError } from "../../lib/bpf/mod.ts";
import { parseState, stringifyState } from "../../scripts/state_file.ts";
import { UsageError } from "../../scripts/common.ts";
import { XvsError } from "../../mod.ts";
import { ethernet, tcp } from "../packets/build.ts";
import { HASH_KEY } from "../packets/expect.ts";
import { Balancer } from "../packets/harness.ts";
import { address, ip, VIP } from "../packets/sample.ts";
import { Choices } from "./random.ts";
import { distort, junk, misspell, sentence } from "./values.ts";

const SEED = 20;

/** Bytes of which some have changed, or the end is missing. */
function damage(choices: Choices, bytes: Uint8Array): Uint8Array {
  const result = bytes.slice(0, choices.oneIn(3) ? choices.below(bytes.length + 1) : undefined);
  for (let flips = choices.below(6); flips > 0 && result.length > 0; flips--) {
    result[choices.below(result.length)]! ^= 1 << choices.below(8);
  }
  return result;
}

Deno.test("damaged flow records and states of other nodes change nothing but flows", async () => {
  await using here = await Balancer.create({ hashKey: HASH_KEY });
  await using there = await Balancer.create({ hashKey: HASH_KEY });
  const choices = new Choices(SEED);
  const service = { address: VIP[4], port: 80 };
  const servers = [1, 2, 3, 4].map((number) => ({ address: address(4, number) }));
  for (const { client } of [here, there]) await client.setService(service, ...servers);
  await here.client.shareFlows(true);
  await here.client.removeDestination(service, servers[3]!);
  for (let i = 0; i < 200; i++) {
    const source = `198.51.100.${i}`;
    const ports = { sourcePort: 40000 + i, destinationPort: 80 };
    here.run(ethernet({}, ip(4, { source }, tcp({ ...ports, flags: ["ack"] }))));
  }
  const records = here.client.readFlows(), parts = [...here.client.exportState()];
  assert(records.length > 0 && parts.length > 0, `${records.length}, ${parts.length}`);
  const before = JSON.stringify(there.client.state());
  const known = new Set(servers.map((server) => server.address));
  for (let i = 0; i < 3000; i++) {
    const record = damage(choices, choices.of(records));
    decodeFlowRecord(record);
    await there.client.writeFlow(record);
    if (i % 10 === 0) await there.client.importState(parts.map((part) => damage(choices, part)));
  }
  assertEquals(JSON.stringify(there.client.state()), before);
  for (const { destination } of there.client.flows()) assert(known.has(destination!), destination);
});

Deno.test("a file that says what an instance is to be is understood or refused, whatever was mistyped", async () => {
  await using balancer = await Balancer.create({ maxServices: 4 });
  const { client } = balancer;
  await client.setService({ address: VIP[4], port: 80 }, { address: address(4, 1), weight: 3 }, {
    address: address(6, 2),
    tunnelType: "gue",
    tunnelPort: 6080,
  });
  await client.setService({ address: VIP[6], port: 53, protocol: "udp", sticky: true });
  await client.block("10.9.0.0/16");
  const choices = new Choices(SEED);
  const texts = [stringifyState(client.state()), JSON.stringify(client.state(), undefined, 1)];
  const done = { well: 0, refused: 0 };
  for (let i = 0; i < 3000; i++) {
    const lines = choices.of(texts).split("\n");
    for (let j = choices.between(1, 2); j > 0; j--) {
      const at = choices.below(lines.length);
      lines[at] = misspell(choices, lines[at]!);
    }
    try {
      parseState(lines.join("\n"), "file.yaml");
      done.well++;
    } catch (error) {
      sentence(error, [UsageError]);
      done.refused++;
    }
  }
  assert(done.well > 100 && done.refused > 100, JSON.stringify(done));
});

Deno.test("setState() does all of it or nothing", async () => {
  await using balancer = await Balancer.create({ maxServices: 4 });
  const { client } = balancer;
  const choices = new Choices(SEED);
  const service = (port: number) =>
    distort(choices, {
      service: distort(choices, { address: VIP[4], port, protocol: "tcp", sticky: false }),
      destinations: [1, 2].map((n) => distort(choices, { address: address(4, n), weight: n })),
    });
  const done = { well: 0, refused: 0 };
  for (let i = 0; i < 2000; i++) {
    const state = distort(choices, {
      config: choices.oneIn(3) ? distort(choices, { ...client.config() }) : {},
      services: Array.from({ length: choices.below(4) }, (_, n) => service(80 + n)),
      block: choices.oneIn(4) ? [junk(choices)] : ["10.9.0.0/16"],
    });
    const before = JSON.stringify(client.state());
    try {
      await client.setState(state as never);
      done.well++;
    } catch (error) {
      const why = sentence(error, [XvsError, AddressError, BpfError]);
      assertEquals(JSON.stringify(client.state()), before, why);
      done.refused++;
    }
  }
  assert(done.well > 50 && done.refused > 50, JSON.stringify(done));
});
