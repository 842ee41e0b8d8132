/** What becomes of packets that cannot be forwarded: as the service says, the VIP, or else the instance. */
import { assertEquals, assertRejects } from "@std/assert";
import { InvalidValueError, type Service, type UnknownPort, VipNotFoundError } from "../../mod.ts";
import { ethernet, filler, tcp, udp } from "./build.ts";
import { type Balancer, packetTests, type Sent } from "./harness.ts";
import { address, FAMILIES, type Family, ip, type IpFields, OTHER, PORTS } from "./sample.ts";
import { through, VIP } from "./sample.ts";

const POLICIES = ["drop", "reject"] as const;
const INSTANCES = POLICIES.map((policy) => ({
  policy,
  test: packetTests({ expired: policy, fragmentable: policy, unknownPort: policy }),
}));

function frame(family: Family, fields: IpFields, port = PORTS.destinationPort): Uint8Array {
  const ports = { ...PORTS, destinationPort: port };
  return ethernet({}, ip(family, fields, tcp(ports, filler(100))));
}

/** Whether it was answered, if the packet got the reason that it must get. */
function answered({ action, reason }: Sent, expected: Sent["reason"]): boolean {
  assertEquals([reason, action === "tx" || action === "drop"], [expected, true]);
  return action === "tx";
}

for (const { policy, test } of INSTANCES) {
  const fallback = policy === "reject";
  for (const family of FAMILIES) {
    test(`what expires on its way to an IPv${family} service is its matter, or else "${policy}"`, async (b) => {
      for (const [expired, expected] of choices(fallback)) {
        const service = { address: VIP[family], port: 80, expired };
        await b.client.setService(service, { address: address(family, 2) });
        assertEquals(b.client.service(service).service.expired, expired);
        assertEquals(answered(b.send(frame(family, { ttl: 1 })), "err_expired"), expected);
      }
    });

    test(`what expires on its way to no IPv${family} service is answered if "${policy}"`, async (b) => {
      await b.client.setService(
        { address: VIP[family], port: 80, expired: fallback ? "drop" : "reject" },
        { address: address(family, 2) },
      );
      const expiring = frame(family, { ttl: 1 }, 81);
      for (const unknownPort of ["drop", "reject"] as const) {
        await b.client.updateVip({ address: VIP[family], unknownPort });
        assertEquals(answered(b.send(expiring), "err_expired"), fallback);
      }
      // The host has its own opinion.
      await b.client.updateVip({ address: VIP[family], unknownPort: "pass" });
      const { action, reason, frame: passed } = b.send(expiring);
      assertEquals([action, reason, passed], ["pass", "err_service_not_found", expiring]);
    });

    test(`an unknown port is a matter of its IPv${family} VIP, or else "${policy}"`, async (b) => {
      const expected: [UnknownPort, string][] = [
        ["default", fallback ? "tx" : "drop"],
        ["drop", "drop"],
        ["pass", "pass"],
        ["reject", "tx"],
      ];
      for (const vip of [VIP[family], OTHER[family]]) {
        await b.client.setService({ address: vip, port: 80 }, { address: address(family, 2) });
      }
      for (const [unknownPort, action] of expected) {
        await b.client.updateVip({ address: VIP[family], unknownPort });
        assertEquals(b.client.vip(VIP[family]).unknownPort, unknownPort);
        assertEquals(b.client.vip(OTHER[family]).unknownPort, "default");
        for (const segment of [tcp, udp]) {
          const ports = { ...PORTS, destinationPort: 81 };
          const sent = b.send(ethernet({}, ip(family, {}, segment(ports))));
          assertEquals([sent.action, sent.reason], [action, "err_service_not_found"]);
        }
        // Others keep their own.
        const other = b.send(frame(family, { destination: OTHER[family] }, 81));
        assertEquals(other.action, fallback ? "tx" : "drop");
        // Its services are no unknown ports.
        assertEquals(b.send(frame(family, {})).reason, "forwarded");
      }
    });
  }

  test(`what may be fragmented is a matter of its service, or else "${policy}"`, async (b) => {
    for (const [fragmentable, expected] of choices(fallback)) {
      const service = { address: VIP[4], port: 80, fragmentable };
      await b.client.setService(service, through("ipip", address(4, 2)));
      assertEquals(b.client.service(service).service.fragmentable, fragmentable);
      const long = (dontFragment: boolean) =>
        b.send(ethernet({}, ip(4, { v4: { dontFragment } }, tcp(PORTS, filler(1460)))));
      assertEquals(answered(long(false), "too_big_fragmentable"), expected);
      assertEquals(answered(long(true), "too_big"), true);
    }
  });
}

/** A service's policies, and whether they make for an answer. */
function choices(fallback: boolean): [NonNullable<Service["expired"]>, boolean][] {
  return [["default", fallback], ["drop", false], ["reject", true]];
}

const { test } = INSTANCES[0]!;

test("a VIP that is gone has forgotten its policy", async ({ client }) => {
  const service = { address: VIP[4], port: 80 };
  await client.createService(service);
  await client.updateVip({ address: VIP[4], unknownPort: "reject" });
  await client.removeService(service);
  await assertRejects(() => client.updateVip({ address: VIP[4] }), VipNotFoundError);
  await client.createService(service);
  assertEquals(client.vip(VIP[4]).unknownPort, "default");
});

test("a policy that there is not is refused", async ({ client }: Balancer) => {
  const service = { address: VIP[4], port: 80 };
  await client.createService(service);
  const wrong = "pass" as "drop";
  for (const field of ["expired", "fragmentable"]) {
    await assertRejects(
      () => client.updateService({ ...service, [field]: wrong }),
      InvalidValueError,
      `${field} "pass" is none of default, drop, reject`,
    );
  }
  await assertRejects(
    () => client.updateVip({ address: VIP[4], unknownPort: "answer" as "drop" }),
    InvalidValueError,
    'unknownPort "answer" is none of default, drop, pass, reject',
  );
  assertEquals(client.vip(VIP[4]).unknownPort, "default");
});
