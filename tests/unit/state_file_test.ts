/** Files that say what an instance is to be: what they may say, and how their mistakes are told. */

import { assertEquals, assertThrows } from "@std/assert";
import { parse } from "@std/yaml";
import { UsageError } from "../../scripts/common.ts";
import { lineOf, parseState, stringifyState } from "../../scripts/state_file.ts";
import { STATE_SCHEMA } from "../../scripts/state_schema.ts";
import { type CompleteState, completeState } from "../../lib/lb/state.ts";
import { completeConfig } from "../../lib/lb/config.ts";

const NOTHING: CompleteState = { config: completeConfig({}), services: [], block: [] };

const YAML = `# the shop
config:
  unknownPort: reject
services:
  - address: 192.0.2.1
    port: 80
    destinations:
      - 10.0.0.1
      - { address: 10.0.0.2, weight: 2 }
  - {address: "2001:db8::1", port: 53, protocol: udp,
     destinations: [
       10.0.0.1,
       {address: 10.0.0.3,
        tunnelType: ipip}]}
block: [198.51.100.0/24]
`;

Deno.test("a file says the same as YAML, as JSON and, of services, as JSON Lines", () => {
  const state = parseState(YAML, "shop.yaml");
  assertEquals(state, {
    config: { unknownPort: "reject" },
    services: [
      {
        service: { address: "192.0.2.1", port: 80 },
        destinations: [{ address: "10.0.0.1" }, { address: "10.0.0.2", weight: 2 }],
      },
      {
        service: { address: "2001:db8::1", port: 53, protocol: "udp" },
        destinations: [{ address: "10.0.0.1" }, { address: "10.0.0.3", tunnelType: "ipip" }],
      },
    ],
    block: ["198.51.100.0/24"],
  });
  const value = parse(YAML) as { services: unknown[] };
  assertEquals(parseState(JSON.stringify(value, null, 2), "shop.json"), state);
  assertEquals(parseState(JSON.stringify(value), "shop.json"), state);
  const lines = value.services.map((each) => JSON.stringify(each)).join("\n");
  assertEquals(parseState(lines, "-"), { services: state.services! });
});

Deno.test("what is written is read back, and what is as usual is not written", () => {
  const state = completeState(parseState(YAML, ""), NOTHING);
  const text = stringifyState(state);
  assertEquals(completeState(parseState(text, ""), NOTHING), state);
  assertEquals(text.includes("idleTimeout"), false);
  assertEquals(completeState(parseState(stringifyState(NOTHING), ""), state), NOTHING);
});

/** What is wrong, in YAML and where. */
const WRONG: [replace: string, by: string, says: string][] = [
  [
    "unknownPort: reject",
    "unknownPort: ignore",
    '3: config.unknownPort: must be one of drop, pass, reject, and is "ignore"',
  ],
  ["unknownPort", "unknown", "3: config.unknown: is none of ipv4VLANs, ipv6VLANs, routes"],
  ["unknownPort: reject", "ipv4VLANs: {1: 10.0.0.0/33}", "2: config: "],
  ["    port: 80\n", "", '5: services[0]: lacks "port"'],
  ["port: 80", "port: 65536", "6: services[0].port: must be 0 to 65535, and is 65536"],
  ["port: 80", "port: http", '6: services[0].port: must be a whole number, and is "http"'],
  ["192.0.2.1", "192.0.2.300", '5: services[0].address: VIP "192.0.2.300" is no address'],
  [
    "- 10.0.0.1",
    "- web1",
    '8: services[0].destinations[0].address: Destination "web1" is no address',
  ],
  [
    "weight: 2",
    "weight: -1",
    "9: services[0].destinations[1].weight: must be 0 to 65535, and is -1",
  ],
  ["weight: 2", "wieght: 2", "9: services[0].destinations[1].wieght: is none of address"],
  [
    "tunnelType: ipip",
    "tunnelType: vxlan",
    "14: services[1].destinations[1].tunnelType: must be one of",
  ],
  [
    "tunnelType: ipip",
    "tunnelType: fou",
    "13: services[1].destinations[1].tunnelPort: Port of the fou",
  ],
  ["protocol: udp", "protocol: sctp", "10: services[1].protocol: must be one of tcp, udp"],
  ["[198.51.100.0/24]", "[198.51.100.0/24, none]", '15: block[1]: Source "none" is neither'],
  ["[198.51.100.0/24]", "198.51.100.0/24", '15: block: must be a list, and is "198.51.100.0/24"'],
  ["block:", "blocked:", "15: blocked: is none of config, services, block"],
  ["block:", "block", ""],
  ["unknownPort: reject", "unknownPort: reject\n  unknownPort: drop", ""],
];

for (const [replace, by, says] of WRONG) {
  Deno.test(`a file with "${by.replaceAll("\n", " ")}" in the place of "${replace.trim()}" is refused`, () => {
    const text = YAML.replace(replace, by);
    const error = assertThrows(
      () => parseState(text, "shop.yaml"),
      UsageError,
      `shop.yaml:${says}`,
    );
    assertEquals(error.message.includes("\n"), false);
  });
}

Deno.test("the line of a key is told in JSON too, and in JSON Lines", () => {
  const json = JSON.stringify(parse(YAML), null, 2);
  const weight = json.split("\n").findIndex((line) => line.includes('"weight"')) + 1;
  assertEquals(lineOf(json, ["services", 0, "destinations", 1, "weight"]), weight);
  assertEquals(lineOf(json, ["services", 0, "destinations", 1, "nothing"]), weight - 2);
  const lines = '{"address":"192.0.2.1","port":80}\n{"address":"192.0.2.1","port":-1}\n';
  assertThrows(() => parseState(lines, "-"), UsageError, "-:2: port: must be 0 to 65535");
  const text = '{"address":"192.0.2.1","port":80,"destinations":["x"]}';
  assertThrows(
    () => parseState(text, "-"),
    UsageError,
    '-:1: destinations[0].address: Destination "x"',
  );
});

Deno.test("an empty file is not taken for one that removes everything", () => {
  assertThrows(
    () => parseState("", "-"),
    UsageError,
    "must be an object of config, services, block",
  );
  assertThrows(() => parseState("[]", "-"), UsageError, "must be an object");
  assertEquals(parseState("{}", "-"), {});
});

Deno.test("xvs.schema.json is the schema that files are held against", () => {
  const path = new URL("../../scripts/xvs.schema.json", import.meta.url);
  assertEquals(JSON.parse(Deno.readTextFileSync(path)), STATE_SCHEMA);
});
