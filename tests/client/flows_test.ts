/** flows() and purgeFlows(): what the program remembers, in words. */

import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { type Flow, type FlowFilter, InvalidValueError } from "../../mod.ts";
import { ethernet, ipv4, ipv6, tcp, type TcpFlag, udp } from "../packets/build.ts";
import { type Balancer, packetTests } from "../packets/harness.ts";

const test = packetTests({ trackMask: 0 });

const HTTP = { address: "192.0.2.1", port: 80 };
const DNS = { address: "2001:db8::53", port: 53, protocol: "udp" } as const;

function say(balancer: Balancer, client: string, sourcePort: number, ...flags: TcpFlag[]): void {
  const ends = { source: client, destination: HTTP.address };
  balancer.send(ethernet({}, ipv4(ends, tcp({ sourcePort, destinationPort: 80, flags }))));
}

function query(balancer: Balancer, client: string, sourcePort: number): void {
  const ends = { source: client, destination: DNS.address };
  balancer.send(ethernet({}, ipv6(ends, udp({ sourcePort, destinationPort: 53 }))));
}

/** Three flows: an open one, one that is closing two seconds later, and a datagram. */
async function fill(balancer: Balancer): Promise<void> {
  await balancer.client.setService(HTTP, { address: "10.0.0.2" });
  await balancer.client.setService(DNS, { address: "10.0.0.3", tunnelType: "ipip" });
  say(balancer, "198.51.100.7", 40000, "ack");
  say(balancer, "198.51.100.7", 40000, "ack");
  balancer.advance(2);
  say(balancer, "203.0.113.9", 40001, "ack");
  say(balancer, "203.0.113.9", 40001, "fin", "ack");
  query(balancer, "2001:db8:77::1", 5353);
}

function sorted(flows: Iterable<Flow>): Flow[] {
  return [...flows].sort((a, b) => a.clientPort - b.clientPort);
}

test("flows() tells both ends, the destination, the state and how long a flow is silent", async (balancer) => {
  await fill(balancer);
  const [datagram, open, closing, ...more] = sorted(balancer.client.flows());
  assertEquals(more, []);
  const { idle, ...rest } = open!;
  assertEquals(rest, {
    protocol: "tcp",
    client: "198.51.100.7",
    clientPort: 40000,
    vip: "192.0.2.1",
    port: 80,
    destination: "10.0.0.2",
    state: "open",
  });
  assert(idle >= 2 && idle < 2.1, `${idle}`);
  assertEquals([closing!.state, closing!.idle < 0.1], ["closing", true]);
  assertEquals(
    [datagram!.protocol, datagram!.client, datagram!.vip, datagram!.destination],
    ["udp", "2001:db8:77::1", "2001:db8::53", "10.0.0.3"],
  );
});

const FILTERS: [FlowFilter, clientPorts: number[]][] = [
  [{}, [5353, 40000, 40001]],
  [{ protocol: "udp" }, [5353]],
  [{ client: "198.51.100.0/24" }, [40000]],
  [{ client: "2001:db8:77::1" }, [5353]],
  [{ vip: "192.0.2.1" }, [40000, 40001]],
  [{ vip: "192.0.2.1", state: "closing" }, [40001]],
  [{ port: 53 }, [5353]],
  [{ destination: "10.0.0.2", idle: 1 }, [40000]],
  [{ destination: "10.0.0.9" }, []],
];

for (const [filter, ports] of FILTERS) {
  test(`flows(${JSON.stringify(filter)}) are those, and purgeFlows() forgets them alone`, async (balancer) => {
    await fill(balancer);
    const { client } = balancer;
    assertEquals(sorted(client.flows(filter)).map(({ clientPort }) => clientPort), ports);
    assertEquals(await client.purgeFlows(filter), ports.length);
    const left = sorted(client.flows()).map(({ clientPort }) => clientPort);
    assertEquals(left, [5353, 40000, 40001].filter((port) => !ports.includes(port)));
  });
}

test("a flow whose destination has gone has none", async (balancer) => {
  await fill(balancer);
  await balancer.client.removeDestination(HTTP, { address: "10.0.0.2" });
  await balancer.client.createDestination(HTTP, { address: "10.0.0.4" }); // perhaps in the same slot
  const destinations = [...balancer.client.flows({ vip: HTTP.address })]
    .map(({ destination }) => destination);
  assertEquals(destinations, [undefined, undefined]);
});

test("a filter that cannot be is refused", async (balancer) => {
  await fill(balancer);
  const bad: [FlowFilter, field: string][] = [
    [{ protocol: "sctp" as "tcp" }, "protocol"],
    [{ client: "nobody" }, "client"],
    [{ vip: "0.0.0.0" }, "vip"],
    [{ port: 65536 }, "port"],
    [{ destination: "x" }, "destination"],
    [{ state: "dead" as "syn" }, "state"],
  ];
  for (const [filter, field] of bad) {
    const error = assertThrows(() => balancer.client.flows(filter), InvalidValueError);
    assertEquals(error.field, field);
    await assertRejects(() => balancer.client.purgeFlows(filter), InvalidValueError);
  }
  assertEquals([...balancer.client.flows()].length, 3);
});
