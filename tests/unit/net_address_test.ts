import { assertEquals, assertThrows } from "@std/assert";
import { Address, AddressError, Mac, Prefix } from "../../lib/net/address.ts";

Deno.test("Address.parse() and toString() agree with RFC 4291 and RFC 5952", () => {
  const rows: [string, string][] = [
    ["192.0.2.1", "192.0.2.1"],
    ["0.0.0.0", "0.0.0.0"],
    ["255.255.255.255", "255.255.255.255"],
    ["::", "::"],
    ["::1", "::1"],
    ["1::", "1::"],
    ["2001:DB8::A", "2001:db8::a"],
    ["2001:0db8:0000:0000:0001:0000:0000:0001", "2001:db8::1:0:0:1"],
    ["2001:db8:0:1:1:1:1:1", "2001:db8:0:1:1:1:1:1"],
    ["2001:db8::1:1:1:1:1", "2001:db8:0:1:1:1:1:1"],
    ["2001:0:0:1:0:0:0:1", "2001:0:0:1::1"],
    ["0:0:1:2:3:4:0:0", "::1:2:3:4:0:0"],
    ["1:2:3:4:5:6:0:0", "1:2:3:4:5:6::"],
    ["64:ff9b::192.0.2.33", "64:ff9b::c000:221"],
    ["::192.0.2.1", "::c000:201"],
    ["1:2:3:4:5:6:1.2.3.4", "1:2:3:4:5:6:102:304"],
    ["::ffff:192.0.2.1", "192.0.2.1"],
    ["::FFFF:c000:0201", "192.0.2.1"],
  ];
  for (const [text, canonical] of rows) {
    assertEquals(Address.parse(text).toString(), canonical, text);
    assertEquals(Address.parse(canonical).toString(), canonical, text);
  }
});

Deno.test("Address.parse() refuses what is no address", () => {
  const texts = [
    "",
    "1",
    "1.2.3",
    "1.2.3.4.5",
    "1.2.3.256",
    "1.2.3.04",
    "1.2.3.-4",
    "1.2.3. 4",
    "0x1.2.3.4",
    "1.2.3.4 ",
    "example",
    ":",
    ":::",
    "1:2:3:4:5:6:7",
    "1:2:3:4:5:6:7:8:9",
    "1:2:3:4:5:6:7:8::",
    "::1:2:3:4:5:6:7:8",
    "1:2:3:4::5:6:7:8",
    "1::2::3",
    ":1:2:3:4:5:6:7",
    "1:2:3:4:5:6:7:",
    "12345::",
    "g::",
    "1.2.3.4::",
    "::1.2.3.4:5",
    "::1.2.3",
    "1:2:3:4:5:6:7:1.2.3.4",
    "fe80::1%eth0",
    "192.0.2.1/24",
  ];
  for (const text of texts) {
    const error = assertThrows(() => Address.parse(text), AddressError, `"${text}"`);
    assertEquals(error.value, text);
  }
});

Deno.test("Address.fromBytes() copies 4 or 16 bytes and unmaps IPv4", () => {
  const bytes = new Uint8Array([192, 0, 2, 1]);
  const address = Address.fromBytes(bytes);
  bytes[0] = 10;
  address.bytes[1] = 99;
  assertEquals(address.toString(), "192.0.2.1");
  assertEquals(address.family, 4);
  const mapped = new Uint8Array(16);
  mapped.set([0xff, 0xff, 192, 0, 2, 1], 10);
  assertEquals(Address.fromBytes(mapped).equals(address), true);
  assertThrows(() => Address.fromBytes(new Uint8Array(5)), AddressError, "5 bytes");
});

Deno.test("Address tells the special addresses from others", () => {
  const kinds = ["isUnspecified", "isLoopback", "isMulticast", "isLinkLocal"] as const;
  const rows: [string, typeof kinds[number] | undefined][] = [
    ["0.0.0.0", "isUnspecified"],
    ["::", "isUnspecified"],
    ["127.0.0.1", "isLoopback"],
    ["127.255.0.1", "isLoopback"],
    ["::1", "isLoopback"],
    ["224.0.0.1", "isMulticast"],
    ["239.255.255.255", "isMulticast"],
    ["ff02::1", "isMulticast"],
    ["169.254.1.1", "isLinkLocal"],
    ["fe80::1", "isLinkLocal"],
    ["febf::1", "isLinkLocal"],
    ["fec0::1", undefined],
    ["240.0.0.1", undefined],
    ["0.0.0.1", undefined],
    ["1::1", undefined],
    ["128.0.0.1", undefined],
  ];
  for (const [text, kind] of rows) {
    const address = Address.parse(text);
    for (const each of kinds) assertEquals(address[each], each === kind, `${text} ${each}`);
  }
});

Deno.test("Prefix keeps host bits and knows its network", () => {
  const prefix = Prefix.parse("10.1.2.254/23");
  assertEquals(prefix.toString(), "10.1.2.254/23");
  assertEquals(prefix.network.toString(), "10.1.2.0");
  assertEquals(prefix.hostBitsSet, true);
  assertEquals(Prefix.parse("10.1.2.0/23").hostBitsSet, false);
  assertEquals(Prefix.parse("10.1.2.3/32").hostBitsSet, false);
  assertEquals(Prefix.parse("0.0.0.0/0").hostBitsSet, false);
  assertEquals(JSON.stringify(Prefix.parse("2001:DB8::1/64")), '"2001:db8::1/64"');
  assertEquals(Prefix.parse("2001:db8:ffff:ffff::1/33").network.toString(), "2001:db8:8000::");
});

Deno.test("Prefix.contains() compares the network's bits and the family", () => {
  const contains = (prefix: string, address: string): boolean =>
    Prefix.parse(prefix).contains(Address.parse(address));
  assertEquals(contains("10.1.2.254/23", "10.1.3.255"), true);
  assertEquals(contains("10.1.2.254/23", "10.1.4.0"), false);
  assertEquals(contains("0.0.0.0/0", "192.0.2.1"), true);
  assertEquals(contains("0.0.0.0/0", "::"), false);
  assertEquals(contains("::/0", "0.0.0.0"), false);
  assertEquals(contains("fd00::1/127", "fd00::"), true);
  assertEquals(contains("fd00::1/127", "fd00::2"), false);
});

Deno.test("Prefix.overlaps() is symmetric", () => {
  const rows: [string, string, boolean][] = [
    ["10.0.0.0/8", "10.1.2.3/24", true],
    ["10.1.0.0/24", "10.1.1.0/24", false],
    ["10.1.0.0/24", "10.1.0.0/24", true],
    ["0.0.0.0/0", "::/0", false],
  ];
  for (const [a, b, overlaps] of rows) {
    assertEquals(Prefix.parse(a).overlaps(Prefix.parse(b)), overlaps);
    assertEquals(Prefix.parse(b).overlaps(Prefix.parse(a)), overlaps);
  }
});

Deno.test("Prefix.parse() refuses what is no prefix", () => {
  for (
    const text of [
      "",
      "10.0.0.1",
      "10.0.0.1/",
      "10.0.0.1/33",
      "10.0.0.1/08",
      "10.0.0.1/-1",
      "10.0.0.1/8/8",
      "/8",
      "fd00::/129",
      "fd00::/1e1",
      "::ffff:10.0.0.0/104",
    ]
  ) {
    assertThrows(() => Prefix.parse(text), AddressError);
  }
  assertThrows(() => Prefix.parse("10.0.0.1/33"), AddressError, '"10.0.0.1/33"');
});

Deno.test("Mac reads both notations and writes colons", () => {
  const mac = Mac.parse("02:AB:00:00:00:01");
  assertEquals(mac.toString(), "02:ab:00:00:00:01");
  assertEquals(mac.equals(Mac.parse("02-ab-00-00-00-01")), true);
  assertEquals(mac.equals(Mac.parse("02-ab-00-00-00-02")), false);
  assertEquals(Mac.fromBytes(mac.bytes).equals(mac), true);
  for (const text of ["", "02:ab:00:00:00", "02:ab:00:00:00:001", "02:ab-00:00:00:01", "02ab.0"]) {
    assertThrows(() => Mac.parse(text), AddressError, `"${text}"`);
  }
  assertThrows(() => Mac.fromBytes(new Uint8Array(5)), AddressError, "5 bytes");
});
