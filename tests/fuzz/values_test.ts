/** What people feed: never a crash without a sentence, never a change that is done by half. */
import { assert, assertEquals } from "@std/assert";
import { BpfError, Btf } from "../../lib/bpf/mod.ts";
import { parseElf } from "../../lib/bpf/elf.ts";
import { Address, AddressError, Mac, Prefix } from "../../lib/net/address.ts";
import { readArguments } from "../../scripts/arguments.ts";
import { parse as parseBalance } from "../../scripts/balance_options.ts";
import { UsageError } from "../../scripts/common.ts";
import { type Client, InvalidValueError, XvsError } from "../../mod.ts";
import { ELF } from "../bpf/support.ts";
import { Balancer } from "../packets/harness.ts";
import { Choices } from "./random.ts";
import { distort, junk, misspell, sentence } from "./values.ts";

const SEED = 20;

Deno.test("addresses, prefixes and MACs are read to the letter or refused", () => {
  const choices = new Choices(SEED);
  const samples: [string, { parse(text: string): { toString(): string } }][] = [
    ["192.0.2.1", Address],
    ["2001:db8::1", Address],
    ["1:2:3:4:5:6:7:8", Address],
    ["::ffff:192.0.2.1", Address],
    ["10.1.2.254/24", Prefix],
    ["2001:db8::/32", Prefix],
    ["02:00:00:00:00:01", Mac],
  ];
  const read = { right: 0, wrong: 0 };
  for (let i = 0; i < 40_000; i++) {
    const [sample, type] = choices.of(samples);
    const text = misspell(choices, sample);
    try {
      const canonical = type.parse(text).toString();
      assertEquals(type.parse(canonical).toString(), canonical, text);
      read.right++;
    } catch (error) {
      sentence(error, [AddressError]);
      read.wrong++;
    }
  }
  assert(read.right > 1000 && read.wrong > 1000, JSON.stringify(read));
});

Deno.test("a damaged object file is read as far as it is whole, or refused", () => {
  const choices = new Choices(SEED);
  for (let i = 0; i < 400; i++) {
    const file = ELF.slice(0, choices.oneIn(3) ? choices.below(ELF.length) : undefined);
    const places = choices.oneIn(2) ? 64 : file.length; // the header, or anywhere
    for (let flips = choices.between(1, 20); flips > 0 && file.length > 0; flips--) {
      file[choices.below(Math.min(places, file.length))] = choices.of([
        0,
        1,
        0xff,
        choices.below(256),
      ]);
    }
    const started = performance.now();
    try {
      parseElf(file);
      const btf = Btf.fromElf(file);
      for (const { variables } of btf.dataSections) {
        for (const variable of variables) void variable.type;
      }
      btf.struct("pair");
    } catch (error) {
      sentence(error, [TypeError, RangeError]);
      assert(!/DataView|Invalid (typed )?array|BigInt/.test((error as Error).message), `${error}`);
    }
    assert(performance.now() - started < 5000, "it takes too long");
  }
});

Deno.test("a command line is understood or refused", () => {
  const choices = new Choices(SEED);
  const line =
    "-r 5 -s -t gue --gue-port 6080 -v 192.0.2.2 -p 80 -p 53/udp -V 10.2.0.254/24 --weight 10.0.0.2=3 " +
    "--mode native --json eth0,eth1 10.0.0.254/24 192.0.2.1 10.0.0.2 10.0.0.3";
  let understood = 0;
  for (let i = 0; i < 10_000; i++) {
    const words = line.split(" ").filter(() => !choices.oneIn(20))
      .map((word) => choices.oneIn(8) ? misspell(choices, word) : word);
    if (choices.oneIn(8)) words.splice(choices.below(words.length), 0, choices.of(words));
    try {
      parseBalance(words);
      understood++;
    } catch (error) {
      sentence(error, [UsageError, AddressError, InvalidValueError]);
    }
    try {
      readArguments(words, {
        values: ["run", "tunnel"],
        lists: ["vip", "port"],
        switches: ["sticky"],
        letters: { run: "r", tunnel: "t", vip: "v", port: "p", sticky: "s" },
      });
    } catch (error) {
      sentence(error, [UsageError]);
    }
  }
  assert(understood > 100, `${understood} understood`);
});

const ADDRESSES = ["192.0.2.1", "192.0.2.2", "2001:db8::1"];
const SERVERS = ["10.0.0.2", "10.0.0.3", "fd00::2"];

function aService(choices: Choices): unknown {
  return distort(choices, {
    address: choices.of(ADDRESSES),
    port: choices.of([0, 80, 443]),
    protocol: choices.of(["tcp", "udp"]),
    sticky: choices.oneIn(2),
    idleTimeout: choices.between(1, 900),
  });
}

function aDestination(choices: Choices): unknown {
  const tunnelType = choices.of(["none", "ipip", "gre", "fou", "gue"]);
  return distort(choices, {
    address: choices.of(SERVERS),
    tunnelType,
    tunnelPort: ["fou", "gue"].includes(tunnelType) ? 5555 : 0,
    tunnelEncapNoChecksum: choices.oneIn(2),
    mtu: choices.of([0, 1400]),
    weight: choices.of([0, 1, 5]),
    disable: choices.oneIn(3),
  });
}

/** A call of any method that changes something, with anything for its arguments. */
function call(client: Client, choices: Choices): unknown {
  // deno-lint-ignore no-explicit-any
  const any = client as any;
  const service = aService(choices), destination = aDestination(choices);
  const config = distort(choices, { ...client.config() });
  const several = Array.from({ length: choices.below(4) }, () => aDestination(choices));
  switch (choices.below(12)) {
    case 0:
      return any.createService(service, ...several);
    case 1:
      return any.updateService(service);
    case 2:
      return any.removeService(service);
    case 3:
      return any.createDestination(service, destination);
    case 4:
      return any.updateDestination(service, destination);
    case 5:
      return any.removeDestination(service, destination);
    case 6:
      return any.block(choices.of(["10.9.0.0/16", junk(choices)]), "10.8.0.0/16");
    case 7:
      return any.unblock(choices.of(["10.9.0.0/16", junk(choices)]));
    case 8:
      return any.setConfig(config);
    default:
      return any.setService(service, ...several);
  }
}

function picture(client: Client): string {
  const services = client.services().map(({ service }) => [
    service,
    client.destinations(service).map(({ destination }) => destination),
  ]);
  const all = [services, client.config(), client.blocked().map(({ prefix }) => prefix)];
  return JSON.stringify(all, (_, value) => typeof value === "bigint" ? `${value}` : value);
}

Deno.test("whatever an API is given, it does all of it or says why not and does nothing", async () => {
  await using balancer = await Balancer.create({ maxServices: 4, maxBlocked: 3 });
  const { client } = balancer;
  const choices = new Choices(SEED);
  const done = { well: 0, refused: 0 };
  for (let i = 0; i < 6000; i++) {
    const before = picture(client);
    try {
      await call(client, choices);
      done.well++;
    } catch (error) {
      const why = sentence(error, [XvsError, AddressError, BpfError]);
      assertEquals(picture(client), before, why);
      done.refused++;
    }
  }
  assert(done.well > 500 && done.refused > 500, JSON.stringify(done));
});
