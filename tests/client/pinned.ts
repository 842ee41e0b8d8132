/**
 * Instances that outlive a client, in bpffs; each test has one of its own.
 *
 * @module
 */
import { Client, type Options } from "../../mod.ts";
import { destinations, FakeNextHops, service } from "./support.ts";

const SMALL = { maxServices: 8, maxDestinations: 32, maxFlows: 1024, maxBlocked: 16 };
let count = 0;

/** An instance that is removed in the end, whatever the test makes of it. */
export class Pinned implements AsyncDisposable {
  readonly name = `test${Deno.pid}_${++count}`;
  readonly nextHops = new FakeNextHops();

  create(interfaces: string[] = [], options: Options = {}): Promise<Client> {
    const complete = { ...SMALL, follow: false, instance: this.name, ...options };
    return Client.create(interfaces, complete, { nextHops: this.nextHops });
  }

  open(readOnly = false): Promise<Client> {
    return Client.open(this.name, { readOnly }, { nextHops: this.nextHops });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Client.remove(this.name).catch(() => {});
  }
}

/** Everything that a client says, but for what is counted. */
export function said(client: Client): unknown {
  return client.services().map(({ service }) => ({
    service,
    destinations: client.destinations(service)
      .map(({ destination, mac, interface: name }) => ({ destination, mac, name })),
  }));
}

/** Services of all kinds. */
export async function fill(client: Client): Promise<void> {
  const [a, b, c] = destinations(3) as [
    { address: string },
    { address: string },
    { address: string },
  ];
  await client.setServices([
    {
      service: service(1, {
        sticky: true,
        idleTimeout: 77,
        expired: "reject",
        fragmentable: "drop",
      }),
      destinations: [c, { ...a, weight: 3, disable: true, mtu: 1400 }, b],
    },
    {
      service: { address: "2001:db8::1", port: 53, protocol: "udp" },
      destinations: [
        { ...b, tunnelType: "gue", tunnelPort: 6080, tunnelEncapNoChecksum: true },
        { address: "2001:db8:9::1" },
      ],
    },
    { service: service(2, { port: 0 }), destinations: [] },
  ]);
  await client.updateVip({ address: "2001:db8::1", unknownPort: "reject" });
}
