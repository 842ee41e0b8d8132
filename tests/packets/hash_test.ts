/** The program and user space choose the same ring entry: every entry has a destination of its own here. */
import { assertEquals } from "@std/assert";
import { type Destination as DestinationEntry, POLICY } from "../../lib/lb/abi.gen.ts";
import { encodeRing } from "../../lib/lb/change.ts";
import { destinationEntry, serviceKey } from "../../lib/lb/entries.ts";
import { RING_SIZES } from "../../lib/lb/ring.ts";
import { completeDestination, completeService } from "../../lib/lb/types.ts";
import { u32 } from "../../lib/bpf/mod.ts";
import { filterBit } from "../../lib/lb/vip_filter.ts";
import { Address } from "../../lib/net/address.ts";
import { random } from "../unit/random.ts";
import { ethernet, ipv4, ipv6, tcp, udp } from "./build.ts";
import { HASH_KEY, hashOf, type Tuple } from "./expect.ts";
import { type Balancer, hopTo, packetTests } from "./harness.ts";
import { FAMILIES, type Family, VIP } from "./sample.ts";

const TUPLES = 1000;
const SIZES = [RING_SIZES[0]!, RING_SIZES[2]!];
const PORT = 80;

const test = packetTests({ hashKey: HASH_KEY, maxDestinations: RING_SIZES[2]! });

/** Destinations whose MACs end in their slots. */
function* destinationsAt(slots: Uint32Array): Generator<[number, DestinationEntry]> {
  const spec = completeDestination({ address: "10.0.0.2" });
  const any = destinationEntry(spec, hopTo(spec.address), 1, 4);
  for (const slot of slots) {
    const destinationMac = any.destinationMac.slice();
    new DataView(destinationMac.buffer).setUint32(2, slot);
    yield [slot, { ...any, destinationMac }];
  }
}

/** Writes a service of which entry i of the ring is slot i + 1, past the client. */
function writeService(
  { instance }: Balancer,
  family: Family,
  protocol: "tcp" | "udp",
  size: number,
  sticky: boolean,
): void {
  const slots = Uint32Array.from({ length: size }, (_, i) => i + 1);
  instance.destinations.setAll([...destinationsAt(slots)]);
  using ring = instance.createRing(encodeRing({
    size,
    sticky,
    current: slots,
    previous: slots,
    previousSize: size,
    previousSticky: sticky,
    windowEndNs: 0n,
    changedNs: 0n,
  }));
  instance.rings.updateInner(u32(0), ring);
  const address = Address.parse(VIP[family]);
  const key = serviceKey(address, completeService({ address: VIP[family], port: PORT, protocol }));
  const services = family === 4 ? instance.services4 : instance.services6;
  const policies = { expired: POLICY.DEFAULT, fragmentable: POLICY.DEFAULT };
  services.set(key, { id: 0, ringSize: size, vip: 0, sticky: Number(sticky), ...policies });
  const bit = filterBit(address.bytes), word = 1n << BigInt(bit & 63);
  instance.map("vip_filter").update(u32(bit >>> 6), new Uint8Array(BigUint64Array.of(word).buffer));
  instance.adjust({ revision: instance.revision + 2n });
}

/** Flows from everywhere. */
function* tuples(family: Family, protocol: number): Generator<Tuple> {
  const next = random(family * 100 + protocol);
  const bytes = new Uint8Array(family === 4 ? 4 : 16);
  for (let i = 0; i < TUPLES; i++) {
    for (let at = 0; at < bytes.length; at++) bytes[at] = next() & 0xff;
    yield {
      source: Address.fromBytes(bytes).toString(),
      destination: VIP[family],
      sourcePort: next() & 0xffff,
      destinationPort: PORT,
      protocol,
    };
  }
}

for (const family of FAMILIES) {
  for (const protocol of ["tcp", "udp"] as const) {
    for (const size of SIZES) {
      for (const sticky of [false, true]) {
        const kind = `${sticky ? "sticky " : ""}${protocol} over IPv${family}`;
        test(`user space knows the ring entry of ${kind} among ${size}`, (balancer) => {
          writeService(balancer, family, protocol, size, sticky);
          const seen = new Set<number>();
          for (const tuple of tuples(family, protocol === "tcp" ? 6 : 17)) {
            const segment = protocol === "tcp" ? tcp(tuple) : udp(tuple);
            const packet = family === 4 ? ipv4(tuple, segment) : ipv6(tuple, segment);
            const { action, frame } = balancer.run(ethernet({}, packet));
            assertEquals(action, "tx");
            const slot = new DataView(frame.buffer).getUint32(2);
            const index = hashOf(tuple, sticky).index(size);
            assertEquals(slot, index + 1, JSON.stringify(tuple));
            seen.add(slot);
          }
          // A hash that favours entries would leave more of them out.
          const expected = size * (1 - (1 - 1 / size) ** TUPLES);
          assertEquals(Math.abs(seen.size / expected - 1) < 0.05, true, `${seen.size} entries`);
        });
      }
    }
  }
}

test("without its key nobody knows the ring entry", (balancer) => {
  writeService(balancer, 4, "tcp", SIZES[0]!, false);
  const { settings } = balancer.instance;
  const hashKey = settings.hashKey.map((word) => ~word >>> 0);
  balancer.instance.settings = { ...settings, hashKey };
  const same = [...tuples(4, 6)].filter((tuple) => {
    const { frame } = balancer.run(ethernet({}, ipv4(tuple, tcp(tuple))));
    return new DataView(frame.buffer).getUint32(2) === hashOf(tuple).index(SIZES[0]!) + 1;
  });
  // By chance one every other time.
  assertEquals(same.length < 10, true, `${same.length} of ${TUPLES} guessed`);
});
