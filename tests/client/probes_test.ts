/** Probe addresses: whose they are, how long they stay, and what keeps them when the client has gone. */
import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { interfaceIndex, queryXdp } from "../../lib/bpf/mod.ts";
import type { ProbeLink, ProbeNetworks } from "../../lib/lb/probe_link.ts";
import type { ProbeLinks } from "../../lib/lb/seams.ts";
import {
  Client,
  InvalidValueError,
  type Options,
  ProbeError,
  ReadOnlyError,
  XvsError,
} from "../../mod.ts";
import { Network, run } from "../bpf/support.ts";
import type { Mortal } from "./mortal.ts";
import { destinations, FakeNextHops, hop, openFiles, service } from "./support.ts";

const SMALL = { maxServices: 16, maxDestinations: 12, maxFlows: 1024, maxBlocked: 16 };
const VIP = "192.0.2.1";
const LOOPBACK = 1;
const MORTAL = new URL("mortal.ts", import.meta.url).pathname;

/** Networks as they are asked for, without interfaces. */
class FakeLinks implements ProbeLinks {
  readonly closed: string[] = [];

  open(given: ProbeNetworks): Promise<ProbeLink> {
    const mac = "02:00:00:00:00:0f";
    return Promise.resolve({ name: "fake", ifindex: LOOPBACK, mac, networks: given });
  }

  close(name: string): Promise<void> {
    this.closed.push(name);
    return Promise.resolve();
  }
}

async function create(options: Options = {}): Promise<Client> {
  const seams = { nextHops: new FakeNextHops(), probeLinks: new FakeLinks() };
  const client = await Client.create([], { ...SMALL, ...options }, seams);
  await client.openProbes({ ipv4: "240.16.0.0/16", ipv6: "fd00:77::/96" });
  return client;
}

Deno.test("each pair of VIP and destination has an address of the VIP's family", async () => {
  await using client = await create();
  await client.setService(service(1), { address: "10.0.0.1" }, { address: "fd00::1" });
  await client.setService({ address: "fd00:9::1", port: 53, protocol: "udp" }, {
    address: "10.0.0.1",
  });
  assertEquals(client.nat(VIP, "10.0.0.1"), "240.16.0.1");
  assertEquals(client.nat(VIP, "FD00::0:1"), "240.16.0.2");
  assertEquals(client.nat("fd00:9::1", "10.0.0.1"), "fd00:77::3");
  assertEquals(client.nat("fd00:9::1", "fd00::1"), undefined);
  assertEquals(client.nat("192.0.2.9", "10.0.0.1"), undefined);
  assertThrows(() => client.nat("somewhere", "10.0.0.1"), InvalidValueError, "no address");
  assertThrows(() => client.nat(VIP, "::"), InvalidValueError, "unspecified");
});

Deno.test("an address stays while any service of the VIP has the destination", async () => {
  await using client = await create();
  const server = { address: "10.0.0.1" };
  const [http, https] = [service(1), service(1, { port: 443 })];
  await client.setService(http, { address: "10.0.0.9" }, server);
  const address = client.nat(VIP, server.address);
  assertEquals(address, "240.16.0.2");
  await client.setService(https, server);
  await client.setService(http, { ...server, tunnelType: "ipip", weight: 3 });
  await client.updateDestination(https, { ...server, disable: true });
  assertEquals(client.nat(VIP, server.address), address);
  await client.removeService(http);
  assertEquals(client.nat(VIP, server.address), address);
  await client.closeProbes();
  await client.openProbes({ ipv4: "240.16.0.0/16" });
  assertEquals(client.nat(VIP, server.address), address);
  await client.removeService(https);
  assertEquals(client.nat(VIP, server.address), undefined);
});

// X53
Deno.test("a number that is freed is the last to be given again", async () => {
  await using client = await create();
  const [first, ...others] = destinations(4);
  await client.setService(service(1), first!);
  const seen = [client.nat(VIP, first!.address)];
  for (let i = 0; i < SMALL.maxDestinations - 1; i++) {
    const { address } = others[i % others.length]!;
    await client.setService(service(1), first!, { address });
    seen.push(client.nat(VIP, address));
  }
  assertEquals(new Set(seen).size, SMALL.maxDestinations);
  await client.setService(service(1), first!, others[0]!, others[1]!, others[2]!);
  assertEquals(client.nat(VIP, first!.address), seen[0]);
  // All pairs that there may be have one.
  await client.setService(service(1), ...destinations(SMALL.maxDestinations));
  const all = destinations(SMALL.maxDestinations).map(({ address }) => client.nat(VIP, address));
  assertEquals(new Set(all).size, SMALL.maxDestinations);
});

Deno.test("networks that cannot be are refused, and nothing is changed", async () => {
  const seams = { nextHops: new FakeNextHops(), probeLinks: new FakeLinks() };
  await using client = await Client.create([], SMALL, seams);
  const refused: [options: Record<string, string>, message: string][] = [
    [{ ipv4: "fd00::/64" }, '"fd00::/64" is not an IPv4 prefix'],
    [{ ipv6: "nonsense" }, '"nonsense" is not an IPv6 prefix'],
    [{ ipv4: "240.0.0.0/29" }, "has too few addresses for 12 destinations: give a shorter one"],
  ];
  for (const [options, message] of refused) {
    await assertRejects(() => client.openProbes(options), InvalidValueError, message);
    assertThrows(() => client.nat(VIP, "10.0.0.1"), ProbeError, "openProbes() comes first");
  }
  await client.openProbes({ ipv4: "240.0.0.0/28" });
  await client.setService({ address: "fd00:9::1", port: 80 }, { address: "10.0.0.1" });
  assertThrows(() => client.nat("fd00:9::1", "10.0.0.1"), ProbeError, "this host has no IPv6");
});

/** An instance that is removed in the end. */
class Pinned implements AsyncDisposable {
  readonly name = `probes${Deno.pid}`;
  readonly nextHops = new FakeNextHops();

  async [Symbol.asyncDispose](): Promise<void> {
    await Client.remove(this.name).catch(() => {});
  }

  create(): Promise<Client> {
    const options = { ...SMALL, instance: this.name, follow: false };
    return Client.create(["left"], options, { nextHops: this.nextHops });
  }

  open(readOnly = false): Promise<Client> {
    return Client.open(this.name, { readOnly }, { nextHops: this.nextHops });
  }
}

function interfaces(): string[] {
  const links: { ifname: string }[] = JSON.parse(run("ip", "-j", "link"));
  return links.map(({ ifname }) => ifname).filter((name) => name.startsWith("xvs")).sort();
}

function probePins(instance: string): string[] {
  const pins = [...Deno.readDirSync(`/sys/fs/bpf/xvs/${instance}`)].map(({ name }) => name);
  return pins.filter((name) => name.startsWith("link_probe"));
}

Deno.test("with an instance that is pinned, probes outlive their client and are the same for all", async () => {
  using _ = new Network();
  await using pinned = new Pinned();
  {
    await using client = await pinned.create();
    await client.setService(service(1), ...destinations(3));
    await client.openProbes();
  }
  assertEquals(interfaces(), ["xvs0", "xvs0p"]);
  const [host, program] = ["xvs0", "xvs0p"].map(interfaceIndex) as [number, number];
  const before = [queryXdp(program).generic, queryXdp(host).native];
  assert(before[0] !== undefined && before[0] === before[1]);
  await using reader = await pinned.open(true);
  const addressOf = (client: Client, i: number) => client.nat(VIP, destinations(9)[i]!.address);
  assertEquals([0, 1, 2, 3].map((i) => addressOf(reader, i)), [
    "240.0.0.1",
    "240.0.0.2",
    "240.0.0.3",
    undefined,
  ]);
  await assertRejects(() => reader.openProbes(), ReadOnlyError);
  {
    await using writer = await pinned.open();
    await writer.openProbes();
    await writer.setService(service(1), ...destinations(5).slice(1));
  }
  assertEquals(addressOf(reader, 0), undefined);
  assertEquals(
    [1, 2, 3, 4].map((i) => addressOf(reader, i)),
    [2, 3, 4, 5].map((n) => `240.0.0.${n}`),
  );
  {
    await using writer = await pinned.open();
    await writer.upgrade();
    const after = [queryXdp(program).generic, queryXdp(host).native];
    assert(after[0] !== before[0] && after[0] === after[1]);
    await writer.closeProbes();
    assertEquals(interfaces(), []);
    await writer.openProbes();
    assertEquals(addressOf(writer, 4), "240.0.0.5");
  }
  await Client.remove(pinned.name);
  assertEquals(interfaces(), []);
});

for (const method of ["openProbes", "closeProbes"]) {
  Deno.test(`a process that is killed in ${method}() leaves nothing that the next one trips over`, async () => {
    using _ = new Network();
    await using pinned = new Pinned();
    let deaths = 0;
    for (let died = true; died; deaths++) {
      await Client.remove(pinned.name).catch(() => {});
      {
        await using client = await pinned.create();
        await client.setService(service(1), ...destinations(2));
        if (method === "closeProbes") await client.openProbes();
      }
      const mortal: Mortal = { instance: pinned.name, method, args: [], point: 2 * deaths };
      const args = ["run", "-A", "--no-check", MORTAL, JSON.stringify(mortal)];
      died = new Deno.Command(Deno.execPath(), { args }).outputSync().signal === "SIGKILL";
      await using client = await pinned.open();
      await client.openProbes();
      assertEquals(interfaces().length, 2, `killed at ${deaths}`);
      assert(client.nat(VIP, destinations(2)[1]!.address)?.endsWith(".0.2"), `killed at ${deaths}`);
      const [host, program] = interfaces().map(interfaceIndex);
      assert(queryXdp(program!).generic && queryXdp(host!).native, `killed at ${deaths}`);
      await client.closeProbes();
      assertEquals([interfaces(), probePins(pinned.name)], [[], []], `killed at ${deaths}`);
    }
    assert(deaths > 4, `${deaths} deaths`);
  });
}

Deno.test("probes that cannot be opened leave nothing", async () => {
  using _ = new Network();
  await using pinned = new Pinned();
  await using client = await pinned.create();
  run("ip", "route", "add", "blackhole", "240.0.0.0/12");
  await assertRejects(() => client.openProbes(), XvsError, "Cannot open probes: File exists");
  assertEquals(interfaces(), []);
  assertEquals(client.info().ipv4, undefined);
  assertEquals(probePins(pinned.name), []);
  run("ip", "route", "delete", "blackhole", "240.0.0.0/12");
  await client.openProbes();
  assertEquals(client.info().ipv4, "240.0.0.0");
});

Deno.test("probes leave no file open", async () => {
  using _ = new Network();
  const before = openFiles();
  {
    await using client = await Client.create([], SMALL, { nextHops: new FakeNextHops() });
    await client.setService(service(1), ...destinations(2));
    await client.openProbes();
    await client.closeProbes();
    await client.openProbes();
    assertEquals(client.nat(VIP, destinations(1)[0]!.address), "240.0.0.1");
  }
  assertEquals(openFiles(), before);
  assertEquals(interfaces(), []);
});

Deno.test("addresses follow when a next hop is found", async () => {
  const nextHops = new FakeNextHops();
  await using client = await Client.create([], SMALL, { nextHops, probeLinks: new FakeLinks() });
  await client.openProbes({ ipv4: "240.0.0.0/24" });
  nextHops.answers.set("10.0.0.1", hop(1, { source4: undefined }));
  await client.setService(service(1), { address: "10.0.0.1" });
  assertThrows(() => client.nat(VIP, "10.0.0.1"), ProbeError, "does not have an IPv4 address");
  nextHops.answers.delete("10.0.0.1");
  await nextHops.tell();
  const deadline = performance.now() + 5000;
  for (;;) {
    try {
      assertEquals(client.nat(VIP, "10.0.0.1"), "240.0.0.1");
      break;
    } catch (error) {
      if (!(error instanceof ProbeError) || performance.now() > deadline) throw error;
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
  }
});
