/** Flows when no CPU may remember one more. */
import { assertEquals } from "@std/assert";
import { Mac } from "../../lib/net/address.ts";
import type { Service } from "../../mod.ts";
import { ethernet, tcp, type TcpFlag } from "./build.ts";
import { type Balancer, macOf, packetTests } from "./harness.ts";
import { address, FAMILIES, type Family, ip, PORTS, VIP } from "./sample.ts";

const test = packetTests();

/** Who gets a packet of each of so many flows. */
function receivers(
  balancer: Balancer,
  family: Family,
  count: number,
  flags: TcpFlag[] = ["ack"],
): string[] {
  return Array.from({ length: count }, (_, i) => {
    const segment = tcp({ ...PORTS, sourcePort: 30000 + i, flags });
    const { action, frame } = balancer.run(ethernet({}, ip(family, {}, segment)));
    assertEquals(action, "tx");
    return Mac.fromBytes(frame.subarray(0, 6)).toString();
  });
}

/** The destinations with these numbers. */
function numbered(...numbers: number[]): { address: string }[] {
  return numbers.map((number) => ({ address: address(4, number) }));
}

function exhaust({ instance }: Balancer): void {
  instance.settings = { ...instance.settings, flowBudget: 0 };
}

for (const family of FAMILIES) {
  const service: Service = { address: VIP[family], port: 80, idleTimeout: 60 };

  test(`a connection over IPv${family} that cannot be remembered goes on where it began`, async (b) => {
    await b.client.setService(service, ...numbered(1, 2));
    const before = receivers(b, family, 300);
    await b.client.setService(service, ...numbered(1, 2, 3));
    exhaust(b);
    const began = receivers(b, family, 300, ["syn"]);
    assertEquals(b.flows, 0);
    // Nobody could tell its later packets from those of an older connection.
    assertEquals(began, before);
    assertEquals(receivers(b, family, 300), began);
  });

  test(`a flow over IPv${family} that is remembered may become another at any time`, async (b) => {
    await b.client.setService(service, ...numbered(1));
    const [first, second] = numbered(1, 2);
    await b.client.setService(service, { ...first!, disable: true }, second!);
    assertEquals(new Set(receivers(b, family, 100)), new Set([macOf(first!.address)]));
    assertEquals(b.flows, 100);
    exhaust(b);
    assertEquals(new Set(receivers(b, family, 100, ["syn"])), new Set([macOf(second!.address)]));
    assertEquals(new Set(receivers(b, family, 100)), new Set([macOf(second!.address)]));
    assertEquals(b.flows, 100);
  });
}
