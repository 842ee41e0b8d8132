import { assertEquals, assertRejects, assertThrows } from "@std/assert";
import { CommandError, MissingProgramError, run } from "../../lib/net/command.ts";
import { parseLinks, parseNeighbours, parseRoute } from "../../lib/net/ip_json.ts";
import { Namespace } from "../../lib/net/namespace.ts";
import { parseNeighbourLine, usableMac } from "../../lib/net/neighbour_keeper.ts";

const ETHERNET = {
  ifindex: 2,
  ifname: "eth0",
  flags: ["BROADCAST", "MULTICAST", "UP", "LOWER_UP"],
  mtu: 1500,
  link_type: "ether",
  address: "02:00:0A:01:00:01",
};

Deno.test("parseLinks() tells hardware, VLAN devices and tunnels apart", () => {
  const [hardware, vlan, elsewhere, veth, tunnel, loopback] = parseLinks([
    ETHERNET,
    {
      ...ETHERNET,
      ifname: "eth0.10",
      link: "eth0",
      linkinfo: { info_kind: "vlan", info_data: { id: 10 } },
    },
    { ...ETHERNET, ifname: "v7", linkinfo: { info_kind: "vlan", info_data: { id: 7 } } },
    { ...ETHERNET, ifname: "v0", link: "v1", linkinfo: { info_kind: "veth" } },
    { ...ETHERNET, ifname: "sit0", link_type: "sit", address: "0.0.0.0" },
    { ...ETHERNET, ifname: "lo", link_type: "loopback", address: "00:00:00:00:00:00" },
  ]);
  assertEquals(hardware, {
    ifindex: 2,
    name: "eth0",
    kind: undefined,
    mac: "02:00:0a:01:00:01",
    mtu: 1500,
    up: true,
    addresses: [],
    vlan: undefined,
  });
  assertEquals(vlan?.vlan, { id: 10, parent: "eth0" });
  assertEquals(elsewhere?.vlan, { id: 7, parent: undefined });
  assertEquals([veth?.kind, veth?.vlan], ["veth", undefined]);
  assertEquals([tunnel?.mac, loopback?.mac], [undefined, undefined]);
});

Deno.test("parseLinks() calls an interface up only with a carrier", () => {
  const up = (...flags: string[]): boolean | undefined =>
    parseLinks([{ ...ETHERNET, flags }])[0]?.up;
  assertEquals(up("UP", "LOWER_UP"), true);
  assertEquals(up("NO-CARRIER", "UP"), false);
  assertEquals(up("LOWER_UP"), false);
});

Deno.test("parseLinks() leaves out addresses that are of no use", () => {
  const addr_info = [
    { local: "10.1.0.1", prefixlen: 24 },
    { local: "fd00::1", prefixlen: 64 },
    { local: "fd00::2", prefixlen: 64, tentative: true },
    { local: "fd00::3", prefixlen: 64, dadfailed: true },
    { local: "fd00::4", prefixlen: 64, deprecated: true },
    { prefixlen: 32 },
  ];
  const [link] = parseLinks([{ ...ETHERNET, addr_info }]);
  assertEquals(link?.addresses.map(String), ["10.1.0.1/24", "fd00::1/64"]);
});

Deno.test("parseRoute() reads gateways of either family, sources and path MTUs", () => {
  const direct = parseRoute([{ dev: "eth0", prefsrc: "10.1.0.1" }]);
  assertEquals([direct?.gateway, direct?.mtu, direct?.local], [undefined, undefined, false]);
  assertEquals(direct?.source?.toString(), "10.1.0.1");
  const gateway = parseRoute([{ dev: "eth0", gateway: "10.1.0.254", metrics: [{ mtu: 1400 }] }]);
  assertEquals([gateway?.gateway?.toString(), gateway?.mtu], ["10.1.0.254", 1400]);
  const via = parseRoute([{ dev: "eth0", via: { host: "fe80::1" } }]); // RFC 5549
  assertEquals(via?.gateway?.toString(), "fe80::1");
  assertEquals(parseRoute([{ type: "local", dev: "lo" }])?.local, true);
});

Deno.test("parseRoute() finds no way in routes that refuse", () => {
  for (const type of ["unreachable", "blackhole", "prohibit", "broadcast", "multicast"]) {
    assertEquals(parseRoute([{ type, dev: "lo" }]), undefined, type);
  }
});

Deno.test("parseNeighbours() and usableMac() tell who can be sent to", () => {
  const entries = parseNeighbours([
    { dst: "10.1.0.2", dev: "eth0", lladdr: "02:00:00:00:00:0A", state: ["REACHABLE"] },
    { dst: "10.1.0.3", dev: "eth0", lladdr: "02:00:00:00:00:0b", state: ["STALE"], managed: null },
    { dst: "10.1.0.4", dev: "eth0", state: ["INCOMPLETE"], protocol: "120" },
    { dst: "fd00::5", dev: "eth0", lladdr: "02:00:00:00:00:0c", state: ["FAILED"] },
    { dst: "ff02::1", dev: "eth0", lladdr: "33:33:00:00:00:01", state: ["NOARP"] },
    { dst: "10.1.0.7", dev: "eth0", state: [] },
  ]);
  assertEquals(entries.map(usableMac), [
    "02:00:00:00:00:0a",
    "02:00:00:00:00:0b",
    undefined,
    undefined,
    undefined,
    undefined,
  ]);
  assertEquals(entries.map(({ managed }) => managed), [false, true, false, false, false, false]);
  assertEquals(entries[2]?.protocol, "120");
  assertEquals(usableMac(undefined), undefined);
});

Deno.test("parseNeighbourLine() reads neighbours and nothing else", () => {
  const key = "10.1.0.2 eth0";
  const mac = "02:00:00:00:00:0a";
  const line = `10.1.0.2 dev eth0 lladdr ${mac} managed extern_learn`;
  const rows: [string, ReturnType<typeof parseNeighbourLine>][] = [
    [`${line} REACHABLE proto 120 `, { neighbour: key, gone: false, mac }],
    [`${line} router STALE`, { neighbour: key, gone: false, mac }],
    ["10.1.0.2 dev eth0 FAILED", { neighbour: key, gone: false, mac: undefined }],
    [`${line} FAILED`, { neighbour: key, gone: false, mac: undefined }],
    [`Deleted ${line} STALE`, { neighbour: key, gone: true, mac }],
    ["10.1.0.2 dev eth0 scope link src 10.1.0.1 ", undefined],
    ["10.1.0.0/24 via 10.1.0.254 dev eth0", undefined],
    ["local 10.1.0.2 dev eth0 table local proto kernel scope host", undefined],
    ["2: eth0: <BROADCAST,UP> mtu 1500 qdisc noqueue state UP group default", undefined],
    ["    link/ether 02:00:00:00:00:0a brd ff:ff:ff:ff:ff:ff", undefined],
    ["", undefined],
  ];
  for (const [text, expected] of rows) assertEquals(parseNeighbourLine(text), expected, text);
});

Deno.test("run() returns output, and its errors tell the command, the code and the first words", async () => {
  assertEquals(await run(["cat"], { stdin: "hello\n" }), "hello\n");
  const script = "echo out; echo 'it burns' >&2; exit 3";
  const error = await assertRejects(() => run(["sh", "-c", script]), CommandError);
  assertEquals([error.code, error.stdout, error.stderr], [3, "out\n", "it burns\n"]);
  assertEquals(error.message, `Command "sh -c ${script}" failed with code 3: it burns`);
});

Deno.test("run() bears a program that does not read what it is given", async () => {
  assertEquals(await run(["true"], { stdin: "x".repeat(1 << 20) }), "");
});

Deno.test("run() names a missing program, and the package of those that we need", async () => {
  const missing = () => run(["no-such-program-here"]);
  const error = await assertRejects(missing, MissingProgramError);
  assertEquals(error.message, 'Cannot run "no-such-program-here": it is not installed');
  assertEquals(
    new MissingProgramError("ip").message,
    'Cannot run "ip": it is not installed (on Debian it is in the package iproute2)',
  );
});

Deno.test("run() ends a program when told to", async () => {
  const error = await assertRejects(
    () => run(["sleep", "60"], { signal: AbortSignal.timeout(10) }),
    CommandError,
  );
  assertEquals(error.code, 128 + 15);
});

Deno.test("Namespace refuses names that are paths or flags", () => {
  for (const name of ["", "a/b", "..", "-a", "a b"]) {
    assertThrows(() => new Namespace(name), RangeError, `"${name}"`);
  }
});
