/** A file with nothing beside it imports the modules from a web server, and works. It needs root. */

import { assertEquals } from "@std/assert";

const ROOT = new URL("../../", import.meta.url);

/** Serves the repository on the loopback. */
function serve(): Deno.HttpServer<Deno.NetAddr> {
  return Deno.serve({ hostname: "127.0.0.1", port: 0, onListen: () => {} }, async (request) => {
    const { pathname } = new URL(request.url);
    try {
      const body = await Deno.readFile(new URL(`.${pathname}`, ROOT));
      return new Response(body, { headers: { "content-type": "application/typescript" } });
    } catch {
      return new Response(null, { status: 404 });
    }
  });
}

/** Runs a program whose imports are from there, with its types checked and nothing cached. */
async function run(program: (base: string) => string): Promise<Record<string, string | number>> {
  const folder = await Deno.makeTempDir();
  await using server = serve();
  try {
    const file = `${folder}/program.ts`;
    await Deno.writeTextFile(file, program(`http://127.0.0.1:${server.addr.port}`));
    const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
      args: ["run", "--quiet", "-A", "--check", "--no-lock", file],
      cwd: folder,
      env: { DENO_DIR: `${folder}/cache` },
    }).output();
    const decoder = new TextDecoder();
    return { code, stdout: decoder.decode(stdout), stderr: decoder.decode(stderr) };
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

Deno.test("mod.ts is imported by its URL, and makes a client", async () => {
  const result = await run((base) => `
    import { Client, type Info } from "${base}/mod.ts";
    await using client = await Client.create([]);
    const info: Info = client.info();
    console.log(JSON.stringify([info.interfaces, info.sampling, Number(info.metrics.packets)]));
  `);
  assertEquals(result, { code: 0, stdout: "[[],1,0]\n", stderr: "" });
});

Deno.test("lib/bpf/mod.ts is imported by its URL, and makes a map", async () => {
  const result = await run((base) => `
    import { BpfMap, u32 } from "${base}/lib/bpf/mod.ts";
    using map: BpfMap = BpfMap.create({ type: "hash", keySize: 4, valueSize: 1, maxEntries: 1 });
    map.update(u32(7), Uint8Array.of(42));
    console.log(map.lookup(u32(7))?.join());
  `);
  assertEquals(result, { code: 0, stdout: "42\n", stderr: "" });
});

Deno.test("a program whose types are wrong is not run", async () => {
  const { code, stdout } = await run((base) => `
    import { Client } from "${base}/mod.ts";
    await using client = await Client.create("eth0");
    console.log(client.info());
  `);
  assertEquals({ code, stdout }, { code: 1, stdout: "" });
});
