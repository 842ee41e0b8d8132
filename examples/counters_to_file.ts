/** Mirrors all counters to a file, as Prometheus' node exporter reads it (its textfile collector). */
import { Client, REASON_TEXT, serviceName } from "../mod.ts";

const [instance = "default", path = "xvs.prom"] = Deno.args;

await using client = await Client.open(instance, { readOnly: true });
const lines = Object.entries(client.info().metrics).flatMap(([name, value]) => [
  ...(name in REASON_TEXT
    ? [`# HELP xvs_${name} Packets ${REASON_TEXT[name as keyof typeof REASON_TEXT]}`]
    : []),
  `xvs_${name} ${value}`,
]);
for (const { service, metrics } of client.services()) {
  const name = serviceName(service);
  lines.push(`xvs_service_packets{service="${name}"} ${metrics.packets}`);
  for (const { destination, metrics } of client.destinations(service)) {
    const labels = `service="${name}",destination="${destination.address}"`;
    lines.push(`xvs_destination_packets{${labels}} ${metrics.packets}`);
    lines.push(`xvs_destination_open{${labels}} ${metrics.current}`);
  }
}
Deno.writeTextFileSync(`${path}.new`, `${lines.join("\n")}\n`);
Deno.renameSync(`${path}.new`, path);
