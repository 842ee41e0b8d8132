/** What becomes of a flow that its client has closed. */
import { assertEquals } from "@std/assert";
import { Mac } from "../../lib/net/address.ts";
import type { Service } from "../../mod.ts";
import { ethernet, tcp, type TcpFlag } from "./build.ts";
import { type Balancer, macOf, packetTests } from "./harness.ts";
import { address, FAMILIES, type Family, ip, PORTS, VIP } from "./sample.ts";

const test = packetTests({ trackMask: 0 });
const WINDOW = 900;
/** For how long a closed flow is remembered after its last packet. */
const CLOSED = 60;
const OLD = { address: address(4, 1) }, NEW = { address: address(4, 2) };

/** Sends a packet of flow `i`, and tells who got it. */
function send(balancer: Balancer, family: Family, i: number, ...flags: TcpFlag[]): string {
  const segment = tcp({ ...PORTS, sourcePort: 30000 + i, flags });
  const { action, frame } = balancer.send(ethernet({}, ip(family, {}, segment)));
  assertEquals(action, "tx");
  return Mac.fromBytes(frame.subarray(0, 6)).toString();
}

for (const family of FAMILIES) {
  const service: Service = { address: VIP[family], port: 80, idleTimeout: WINDOW };

  for (const end of ["fin", "rst"] as const) {
    test(`after ${end} a flow over IPv${family} counts no more, and is soon forgotten`, async (b) => {
      await b.client.setService(service, OLD, { ...NEW, disable: true });
      const [silent, speaking, open] = [1, 2, 3];
      for (const i of [silent, speaking, open]) send(b, family, i, "ack");
      await b.client.setService(service, { ...OLD, disable: true }, NEW);
      b.advance(WINDOW - CLOSED);
      assertEquals(b.client.destinations(service)[0]!.activeConnections, 3);
      for (const i of [silent, speaking]) send(b, family, i, end, "ack");
      send(b, family, open, "ack");
      b.advance(1);
      assertEquals(b.client.destinations(service)[0]!.activeConnections, 1);
      b.advance(CLOSED - 1);
      // It may have closed its half alone, and listens on.
      assertEquals(send(b, family, speaking, "ack"), macOf(OLD.address));
      b.advance(1);
      await b.client.updateService(service); // whoever changes something settles
      assertEquals(b.flows, 2);
      for (const i of [speaking, open]) assertEquals(send(b, family, i, "ack"), macOf(OLD.address));
    });

    test(`after ${end} a new connection over IPv${family} goes by the ring`, async (b) => {
      await b.client.setService(service, OLD);
      send(b, family, 1, "ack");
      await b.client.setService(service, { ...OLD, disable: true }, NEW);
      assertEquals(send(b, family, 1, end, "ack"), macOf(OLD.address));
      assertEquals(send(b, family, 1, "syn"), macOf(NEW.address));
      assertEquals(send(b, family, 1, "ack"), macOf(NEW.address));
      b.advance(1);
      const [old, fresh] = b.client.destinations(service);
      assertEquals([old!.activeConnections, fresh!.activeConnections], [0, 1]);
    });
  }
}
