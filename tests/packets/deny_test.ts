/** Blocked prefixes, and the watchdog. */
import { assert, assertEquals, assertRejects } from "@std/assert";
import { InvalidValueError, TableFullError } from "../../mod.ts";
import { ethernet, tcp } from "./build.ts";
import { Balancer, packetTests } from "./harness.ts";
import { address, CLIENT, FAMILIES, type Family, ip, OTHER, PORTS, VIP } from "./sample.ts";

const test = packetTests({ maxBlocked: 3 });

function frame(family: Family, destination: string = VIP[family]): Uint8Array {
  return ethernet({}, ip(family, { destination }, tcp({ ...PORTS, flags: ["ack"] })));
}

for (const family of FAMILIES) {
  test(`packets over IPv${family} from a blocked prefix reach no VIP, and all else`, async (b) => {
    await b.client.setService({ address: VIP[family], port: 80 }, { address: address(family, 1) });
    const all = family === 4 ? "198.51.100.0/24" : "2001:db8:1::/48";
    const prefixes = [all, CLIENT[family]];
    await b.client.block(...prefixes);
    const dropped = b.send(frame(family));
    assertEquals([dropped.action, dropped.reason], ["drop", "err_denied"]);
    const passed = b.send(frame(family, OTHER[family]));
    assertEquals([passed.action, passed.reason], ["pass", "not_a_vip"]);
    assertEquals(passed.frame, frame(family, OTHER[family]));
    // The longest prefix counts, and only what it kept from a VIP.
    const whole = family === 4 ? 32 : 128;
    const blocked = b.client.blocked().sort((x, y) => x.prefix < y.prefix ? -1 : 1);
    assertEquals(blocked, [
      { prefix: all, packets: 0n },
      { prefix: `${CLIENT[family]}/${whole}`, packets: 1n },
    ]);
    await b.client.unblock(CLIENT[family]);
    assertEquals(b.send(frame(family)).reason, "err_denied");
    await b.client.unblock(all);
    assertEquals(b.send(frame(family)).reason, "forwarded");
    assertEquals(b.client.blocked(), []);
  });
}

test("a list of prefixes is blocked as a whole or not at all", async ({ client }) => {
  await assertRejects(() => client.block("10.0.0.0/8", "10.0.0.0/33"), InvalidValueError, "/33");
  assertEquals(client.blocked(), []);
  const four = [1, 2, 3, 4].map((i) => `10.${i}.0.0/16`);
  await assertRejects(() => client.block(...four), TableFullError, "maxBlocked");
  assertEquals(client.blocked(), []);
  await client.block(...four.slice(1), "10.2.255.255/16");
  assertEquals(client.blocked().length, 3);
  await client.unblock(...four);
});

Deno.test("everything passes to the host when the watchdog hears nothing", async () => {
  await using b = await Balancer.create({ watchdog: 60 });
  await b.client.setService({ address: VIP[4], port: 80 }, { address: address(4, 1) });
  // The client has set its time by the clock of the kernel, the program is told another.
  b.instance.settings = {
    ...b.instance.settings,
    watchdogNs: b.nowNs + 60_000_000_000n,
  };
  assertEquals(b.send(frame(4)).reason, "forwarded");
  b.advance(59);
  assertEquals(b.send(frame(4)).reason, "forwarded");
  b.advance(2);
  const sent = b.send(frame(4));
  assertEquals([sent.action, sent.reason], ["pass", "watchdog"]);
  assertEquals(sent.frame, frame(4));
});

Deno.test("a client with a watchdog gives signs of life", async () => {
  await using b = await Balancer.create({ watchdog: 1 });
  b.advance(100);
  await new Promise((resolve) => setTimeout(resolve, 700));
  assert(b.instance.settings.watchdogNs > b.nowNs);
});
