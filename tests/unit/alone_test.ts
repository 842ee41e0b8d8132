// tests/alone.sh: what a command leaves behind is seen, and the host does not see it.
import { assertEquals, assertStringIncludes } from "@std/assert";

const SCRIPT = new URL("../alone.sh", import.meta.url).pathname;

async function alone(command: string): Promise<{ code: number; output: string }> {
  const args = ["sh", "-c", command];
  const { code, stdout } = await new Deno.Command(SCRIPT, { args }).output();
  return { code, output: new TextDecoder().decode(stdout) };
}

Deno.test("a command that leaves nothing behind ends as it does", async () => {
  assertEquals(await alone("ip netns add x; ip netns del x; exit 3"), { code: 3, output: "" });
  assertEquals(await alone("true"), { code: 0, output: "" });
});

const REMAINS: [command: string, says: string][] = [
  ["sleep 100 &", "sleep 100"],
  ["ip netns add x", "file /run/netns/x"],
  ["ip link add left type veth peer right", "left@right"],
  ["ip route add 10.9.0.0/16 dev lo", "route 10.9.0.0/16 dev lo"],
  ["touch /tmp/x", "temporary file /tmp/x"],
  ["mkdir -p /sys/fs/bpf/xvs/x", "/sys/fs/bpf/xvs/x"],
  ["mkdir /tmp/x; mount -t bpf bpf /tmp/x", "mount bpf /tmp/x"],
];

for (const [command, says] of REMAINS) {
  Deno.test(`what \`${command}\` leaves behind is named`, async () => {
    const { code, output } = await alone(command);
    assertStringIncludes(output, "These were left behind:\n");
    assertStringIncludes(output, says);
    assertEquals(code, 1);
  });
}
