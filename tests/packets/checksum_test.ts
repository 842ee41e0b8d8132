/** The outer UDP checksum where it is easily got wrong. */
import { assert, assertEquals } from "@std/assert";
import { ethernet, filler, udp } from "./build.ts";
import { assertForwarded, HASH_KEY } from "./expect.ts";
import { packetTests } from "./harness.ts";
import { address, CLIENT, FAMILIES, type Family, ip, through, VIP } from "./sample.ts";

const test = packetTests({ hashKey: HASH_KEY });

/** Where the outer UDP header has its checksum. */
const PLACE = { 4: 14 + 20 + 6, 6: 14 + 40 + 6 } as const;
const MOST = 1000;

/** A datagram; `flow` makes the sum of its IPv4 addresses another, or that of its IPv6 header. */
function frameOf(family: Family, flow: number, length: number): Uint8Array {
  const source = family === 4 ? `198.51.${flow & 0xff}.7` : CLIENT[6];
  const segment = udp({ sourcePort: 40000 + flow, destinationPort: 80 }, filler(length));
  return ethernet({}, ip(family, { source, v6: { flowLabel: flow << 8 } }, segment));
}

for (const family of FAMILIES) {
  for (const outer of FAMILIES) {
    for (const tunnel of ["fou", "gue"] as const) {
      const name =
        `a checksum of zero is sent as ones by ${tunnel} over IPv${outer}, for IPv${family}`;
      test(name, async (b) => {
        const service = { address: VIP[family], port: 80, protocol: "udp" } as const;
        const way = { address: address(outer, 2), tunnel };
        await b.client.setService(service, through(tunnel, way.address));
        const checksumOf = (frame: Uint8Array): number => {
          const { frame: sent } = b.run(frame);
          return new DataView(sent.buffer, sent.byteOffset).getUint16(PLACE[outer]);
        };
        // Each byte of payload makes the checksum smaller by the same: lengths stand in it.
        const step = (checksumOf(frameOf(family, 0, 0)) - checksumOf(frameOf(family, 0, 2))) / 2;
        assert(step === 1 || step === 2, `${step}`);
        for (let flow = 0; flow < 4096; flow++) {
          const length = checksumOf(frameOf(family, flow, 0)) / step;
          if (length > MOST || !Number.isInteger(length)) continue;
          const frame = frameOf(family, flow, length);
          assertEquals(checksumOf(frame), 0xffff);
          assertForwarded(frame, b.send(frame), way);
          return;
        }
        throw new Error("No flow has such a checksum");
      });
    }
  }
}
