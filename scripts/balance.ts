#!/usr/bin/env -S deno run -A
/**
 * The sample application: balances VIPs over servers, with the command line of xvs' own.
 *
 * @module
 */
import { findInterfaces } from "../lib/lb/interfaces.ts";
import { Client } from "../mod.ts";
import { Display } from "./balance_display.ts";
import { parse } from "./balance_options.ts";
import { main, print, sleep, untilInterrupted, UsageError } from "./common.ts";

const HELP = `balance.ts [OPTIONS] IFACE[,IFACE...] ROUTER/PREFIX VIP RIP...

Balances connections to VIP over the real servers RIP, by direct server return.
ROUTER/PREFIX is the router's address in the network of the interface, or
"auto": what the kernel's routes say.

  -r, --run SECONDS      how long; 0 is until interrupted (default 60)
  -s, --sticky           a client's address alone decides its server
  -t, --tunnel TYPE      none, ipip, gre, fou or gue
                         (default none: servers on the same network)
  -4, --fou4-port PORT   port of FOU for IPv4 VIPs (default 9999)
  -6, --fou6-port PORT   port of FOU for IPv6 VIPs (default 6666)
  -G, --gue-port PORT    port of GUE (default 8888)
  -v, --vip VIP          one more VIP; may be repeated
  -p, --port PORT[/tcp|/udp]
                         port of the service (default 80/tcp); may be repeated
  -V, --vlan ROUTER/PREFIX
                         one more network; may be repeated
  -f, --flows FLOWS      flows remembered for each CPU and family
      --weight RIP=N     share of new connections (default 1); may be repeated
      --mode MODE        native, generic or auto (default auto)
      --replace          even where somebody else's XDP program is attached
      --json             a line of JSON a second
  -h, --help             this

For example, until interrupted, with twice the share for the second server:

  deno run -A scripts/balance.ts -r 0 --weight 10.1.10.101=2 \\
      eth0 10.1.2.254/24 192.168.101.1 10.1.10.100 10.1.10.101
`;

/** What leaves by an interface that is not attached would be lost. */
function requireInterfaces(client: Client, interfaces: readonly string[]): void {
  for (const { service } of client.services()) {
    for (const { destination, interface: name } of client.destinations(service)) {
      if (name === undefined || interfaces.includes(name)) continue;
      throw new UsageError(
        `Server "${destination.address}" is reached by interface "${name}", ` +
          `which is not among "${interfaces}"`,
      );
    }
  }
}

await main(async () => {
  const request = parse(Deno.args);
  if (!request) return print(HELP);
  const { interfaces, options, services, seconds, json } = request;
  const interrupted = untilInterrupted(0);
  await findInterfaces(interfaces);
  await using client = await Client.create([], options);
  // Nothing is attached before all is known to be right, so that a mistake changes nothing.
  await client.setServices(services);
  requireInterfaces(client, interfaces);
  await client.attach(...interfaces);
  const display = new Display(client, json);
  const ended = seconds === 0
    ? interrupted
    : AbortSignal.any([interrupted, AbortSignal.timeout(seconds * 1000)]);
  display.show();
  while (!ended.aborted) {
    await sleep(1000, ended);
    display.show();
  }
});
