/** Which module may use which, and what belongs in one place only. */

import { assert, assertEquals } from "@std/assert";

const ROOT = new URL("../../", import.meta.url).pathname;

/** The folders that each folder may import from, besides its own. */
const MAY_IMPORT: { readonly [folder: string]: readonly string[] } = {
  "lib/sys": [],
  "lib/bpf": ["lib/sys"],
  "lib/net": ["lib/sys"],
  "lib/lb": ["lib/bpf", "lib/net", "lib/sys"],
  "mod.ts": ["lib/lb", "lib/bpf", "lib/net"],
  "bpf": ["lib/bpf"],
  "scripts": ["lib/lb", "lib/bpf", "lib/net", "mod.ts", "bpf"],
  "examples": ["lib/lb", "lib/bpf", "lib/net", "mod.ts"],
};

/** Where names such as "@std/yaml" are allowed: a URL import of the others lacks the import map. */
const MAY_IMPORT_PACKAGES = ["scripts", "bpf"];

const LIMIT = 400;

interface Source {
  readonly path: string;
  readonly text: string;
}

function* sources(folder: string, endings: RegExp): Generator<Source> {
  for (const entry of Deno.readDirSync(ROOT + folder)) {
    const path = folder === "" ? entry.name : `${folder}/${entry.name}`;
    if (entry.isDirectory && !/^(\.git|node_modules|coverage)$/.test(entry.name)) {
      yield* sources(path, endings);
    } else if (entry.isFile && endings.test(entry.name) && !/\.gen\./.test(entry.name)) {
      yield { path, text: Deno.readTextFileSync(ROOT + path) };
    }
  }
}

const MODULES = [...sources("", /\.ts$/)].filter(({ path }) => !path.startsWith("tests/"));

function folderOf(path: string): string {
  return Object.keys(MAY_IMPORT).find((folder) =>
    path === folder || path.startsWith(folder + "/")
  ) ??
    path;
}

/** What a module imports: types, re-exports and imports at run time too; not what comments show. */
function importsOf({ text }: Source): string[] {
  const code = text.replace(/\/\*[^]*?\*\//g, "").replace(/^\s*\/\/.*$/gm, "");
  const statements = code.matchAll(
    /^(?:import|export)\b[^;]*?\bfrom\s+"([^"]+)"|^import\s+"([^"]+)"|\bimport\(\s*"([^"]+)"/gm,
  );
  return [...statements].map((match) => match[1] ?? match[2] ?? match[3] ?? "");
}

function resolved(path: string, specifier: string): string {
  return new URL(specifier, `file:///${path}`).pathname.slice(1);
}

Deno.test("the guard sees every form of import", () => {
  const text = `
import a from "./a.ts";
import type { B } from "./b.ts";
import {
  c,
} from "@std/c";
import "./d.ts";
export * from "./e.ts";
export { f } from "./f.ts";
const g = await import("./g.ts");
/* import h from "./h.ts"; */
// import i from "./i.ts";
`;
  assertEquals(importsOf({ path: "x.ts", text }), [
    "./a.ts",
    "./b.ts",
    "@std/c",
    "./d.ts",
    "./e.ts",
    "./f.ts",
    "./g.ts",
  ]);
  assertEquals(resolved("lib/lb/client.ts", "../bpf/mod.ts"), "lib/bpf/mod.ts");
});

Deno.test("every module belongs to a layer, and imports from the layers below it", () => {
  const wrong: string[] = [];
  for (const module of MODULES) {
    const folder = folderOf(module.path);
    const allowed = MAY_IMPORT[folder];
    if (allowed === undefined) wrong.push(`${module.path} is in no layer`);
    for (const specifier of importsOf(module).filter((name) => name.startsWith("."))) {
      const target = folderOf(resolved(module.path, specifier));
      if (target !== folder && !allowed?.includes(target)) {
        wrong.push(`${module.path} imports ${specifier}`);
      }
    }
  }
  assertEquals(wrong, []);
  assert(MODULES.length > 30);
});

Deno.test("the library imports nothing from elsewhere", () => {
  const wrong = MODULES
    .filter(({ path }) => !MAY_IMPORT_PACKAGES.includes(folderOf(path)))
    .flatMap((module) =>
      importsOf(module).filter((name) => !/^(\.\.?\/|node:)/.test(name))
        .map((name) => `${module.path} imports "${name}"`)
    )
    // An example is a program of its own, which imports the published module.
    .filter((line) => !line.startsWith("examples/"));
  assertEquals(wrong, []);
});

Deno.test("native code is called from lib/sys alone", () => {
  const native = /\bDeno\s*\.\s*(dlopen|Unsafe\w+)|\bdlopen\s*\(/;
  const users = MODULES.filter(({ text }) => native.test(text)).map(({ path }) => path);
  assert(users.length > 0);
  assertEquals(users.filter((path) => !path.startsWith("lib/sys/")), []);
});

for (const path of ["mod.ts", "lib/bpf/mod.ts"]) {
  Deno.test(`importing ${path} needs no permission, so it opens no library`, () => {
    const { success, stderr } = new Deno.Command(Deno.execPath(), {
      args: ["run", "--no-config", "--no-prompt", "--no-check", ROOT + path],
    }).outputSync();
    assert(success, new TextDecoder().decode(stderr));
  });
}

Deno.test("nothing is timed by a clock that somebody may set", () => {
  const users = MODULES.filter(({ path }) => /^(lib|scripts)\//.test(path))
    .filter(({ text }) => /\bDate\.now\(/.test(text)).map(({ path }) => path);
  assertEquals(users, []);
  const programs = [...sources("bpf/", /\.(h|c)$/)];
  const clocks = programs.flatMap(({ text }) => text.match(/bpf_ktime_get_\w+/g) ?? []);
  assert(clocks.length > 0);
  assertEquals(clocks.filter((clock) => /tai|boot/.test(clock)), []); // the others are CLOCK_MONOTONIC
});

Deno.test("no file is longer than 400 lines without a reason in its first comment", () => {
  const long = [...sources("", /\.(ts|c|h|sh)$/)]
    .filter(({ text }) => text.split("\n").length - 1 > LIMIT)
    .filter(({ text }) => !firstComment(text).includes("400 lines"))
    .map(({ path }) => path);
  assertEquals(long, []);
});

/** The first after the licence. */
function firstComment(text: string): string {
  return /^(?:#!.*\n|\/\* SPDX.*\n)?\s*(\/\*[^]*?\*\/|(?:(?:\/\/|#).*\n)+)/.exec(text)?.[1] ?? "";
}
