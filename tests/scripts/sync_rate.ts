/**
 * Sends flow records as another node would: `sync_rate.ts KEYFILE ADDRESS PORT VIP VIPPORT COUNT RATE
 * DESTINATION...`; RATE is records a second.
 *
 * @module
 */
import { createSocket } from "node:dgram";
import { encodeFlowRecord } from "../../lib/lb/flow_record.ts";
import { packRecords, Sealer } from "../../lib/lb/sync_frame.ts";
import { Address } from "../../lib/net/address.ts";

const [path, address, port, vip, vipPort, count, rate, ...destinations] = Deno.args;
function* records(): Generator<Uint8Array> {
  const common = { family: 4, protocol: 6, state: 1, idleMs: 0, port: Number(vipPort) } as const;
  const to = destinations.map((each) => Address.parse(each).bytes),
    vipBytes = Address.parse(vip!).bytes;
  for (let i = 0; i < Number(count); i++) {
    const client = Uint8Array.of(198, 18 + (i >> 16 & 1), i >> 8 & 0xff, i & 0xff);
    yield encodeFlowRecord({
      ...common,
      client,
      clientPort: 1024 + (i >> 16),
      vip: vipBytes,
      destination: to[i % to.length]!,
    });
  }
}

const sealer = new Sealer(Deno.readFileSync(path!));
const socket = createSocket("udp4");
const began = performance.now();
let sent = 0;
for (const { body, count } of packRecords(records(), 1300)) {
  socket.send(sealer.seal("records", body), Number(port), address!);
  sent += count;
  while (sent / Number(rate) > (performance.now() - began) / 1000) {
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
}
await new Promise((resolve) => setTimeout(resolve, 300));
socket.close();
