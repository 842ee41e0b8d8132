/** What is not forwarded, and why. */
import { assert, assertEquals } from "@std/assert";
import { TUNNELS } from "../../lib/lb/abi.gen.ts";
import type { Destination as DestinationEntry, Reason } from "../../lib/lb/abi.gen.ts";
import type { Destination } from "../../mod.ts";
import { ethernet, tcp } from "./build.ts";
import { type Balancer, kernelAtLeast, packetTests } from "./harness.ts";
import { address, FAMILIES, ip, PORTS, TAGS, through, VIP } from "./sample.ts";
import { ROWS } from "./verdict_rows.ts";

const test = packetTests();

for (const reason of new Set(ROWS.map((row) => row.reason))) {
  test(`each packet for which the reason is ${reason} stays as it is`, async (b) => {
    for (const family of FAMILIES) {
      for (const protocol of ["tcp", "udp"] as const) {
        const service = { address: VIP[family], port: 80, protocol };
        await b.client.setService(service, { address: address(family, 2) });
      }
    }
    for (const { name, action, frame } of ROWS.filter((row) => row.reason === reason)) {
      const sent = b.send(frame);
      assertEquals([name, sent.action, sent.reason], [name, action, reason]);
      assertEquals(sent.frame, frame);
      assertEquals(sent.flows, 0);
      if (reason === "not_ip") assertEquals(sent.octets, frame.length);
    }
  });
}

/** Changes the entry of the only destination. */
function corrupt({ instance }: Balancer, change: Partial<DestinationEntry>): void {
  for (const [slot, entry] of instance.destinations.entries()) {
    if (entry.generation !== 0) instance.destinations.set(slot, { ...entry, ...change });
  }
}

for (const family of FAMILIES) {
  const service = { address: VIP[family], port: 80 };
  const frame = ethernet({}, ip(family, {}, tcp(PORTS)));
  const to = address(family, 2);

  const nobody: Record<string, Destination[]> = {
    "has no destinations": [],
    "has only destinations that are disabled": [
      { address: to, disable: true },
      { address: address(family, 3), disable: true },
    ],
    "has only destinations of weight 0": [{ address: to, weight: 0 }],
    "has only a destination that does not answer": [{ address: address(family, 4) }],
  };
  for (const [name, destinations] of Object.entries(nobody)) {
    test(`a packet to an IPv${family} service that ${name} is dropped`, async (b) => {
      b.nextHops.set(address(family, 4), undefined);
      await b.client.setService(service, ...destinations);
      const { action, reason, flows } = b.send(frame);
      assertEquals([action, reason, flows], ["drop", "err_no_backend", 0]);
      await b.client.setService(service, { address: to });
      assertEquals(b.send(frame).reason, "forwarded");
    });
  }

  const broken: [what: string, reason: Reason, entry: Partial<DestinationEntry>][] = [
    ["that has gone this instant", "err_backend_invalid", { ifindex: 0 }],
    ["on an interface of nobody's", "err_redirect", { ifindex: 0x7fffffff }],
    ["behind an unknown tunnel", "err_tunnel_unsupported", { tunnel: TUNNELS.length }],
  ];
  for (const [what, reason, entry] of broken) {
    test(`a packet over IPv${family} to a destination ${what} is dropped`, async (b) => {
      await b.client.setService(service, { address: to });
      corrupt(b, entry);
      const sent = b.send(frame);
      assertEquals([sent.action, sent.reason], ["drop", reason]);
      const { metrics } = b.client.service(service);
      assertEquals([metrics[reason], metrics.forwarded, metrics.packets], [1n, 0n, 0n]);
      const own = b.client.destinations(service)[0]!.metrics;
      assertEquals([own.errors, own[reason.replace("err_", "")]], [1n, 1n]);
      // The slot's next owner inherits none of it.
      await b.client.setService(service);
      await b.client.setService(service, { address: address(family, 7) });
      assertEquals(b.client.destinations(service)[0]!.metrics[reason.replace("err_", "")], 0n);
    });
  }

  // Bytes before the frame take up its headroom.
  if (kernelAtLeast(6, 6)) {
    test(`a packet over IPv${family} without room for an outer header is dropped`, async (b) => {
      await b.client.setService(service, through("gue", to));
      for (const tags of TAGS) {
        const { action, reason } = b.send(
          ethernet({ tags }, ip(family, {}, tcp(PORTS))),
          { poison: 212 },
        );
        assertEquals([action, reason], ["drop", "err_adjust_failed"]);
      }
      assertEquals(b.send(frame, { poison: 100 }).reason, "forwarded");
    });
  }
}

test("VIPs come and go with their services", async (b) => {
  for (const family of FAMILIES) {
    const frame = ethernet({}, ip(family, {}, tcp({ ...PORTS, destinationPort: 81 })));
    const reasons: Reason[] = [];
    const look = () => reasons.push(b.send(frame).reason);
    look();
    await b.client.createService({ address: VIP[family], port: 80 });
    await b.client.createService({ address: VIP[family], port: 80, protocol: "udp" });
    look();
    await b.client.removeService({ address: VIP[family], port: 80 });
    look();
    await b.client.removeService({ address: VIP[family], port: 80, protocol: "udp" });
    look();
    const none = "err_service_not_found";
    assertEquals(reasons, ["not_a_vip", none, none, "not_a_vip"]);
  }
});

Deno.test("names of rows are all different", () => {
  const names = ROWS.map(({ name, reason }) => `${reason}: ${name}`);
  assert(new Set(names).size === names.length && names.length > 200, `${names.length}`);
});
