#!/usr/bin/env -S deno run -A
/**
 * Puts Deno and the scripts into one executable file, for hosts that have neither.
 *
 * `deno compile` does much the same, but takes a runtime of its own from the network, once for each script. This
 * needs only what runs already.
 *
 * @module
 */
import { run } from "../lib/net/command.ts";
import { script } from "./arguments.ts";
import { print, toJson, UsageError } from "./common.ts";

const HELP = `binary.ts [OPTIONS] DIRECTORY

Makes DIRECTORY/xvs: Deno and the scripts in one file, which runs on hosts that have no Deno,
as "xvs NAME ARGUMENTS...", for instance "xvs status --json". A link to it that is called
NAME runs that script; there is one for each. libbpf and iproute2 are still needed.

      --json             one JSON object a line
  -h, --help             this

For example:

  deno run -A scripts/binary.ts build
`;

/** The scripts that are of use without a checkout. */
const SCRIPTS = [
  ...["apply", "attach", "backend", "balance", "decap", "detach", "explain", "flows"],
  ...["instances", "probe", "save", "services", "status", "top", "upgrade"],
];

/** What the file begins with. It unpacks the rest once, into a directory of this version. */
function stub(version: string): string {
  return `#!/bin/sh
# xvs for Deno: Deno itself and the scripts. XVS_HOME is where they are unpacked.
set -eu
name=\${0##*/}
if [ "$name" = xvs ]; then
	name=\${1-}
	[ $# -eq 0 ] || shift
fi
case " ${SCRIPTS.join(" ")} " in
*" $name "*) ;;
*)
	echo "xvs takes the name of a script: ${SCRIPTS.join(", ")}" >&2
	exit 2
	;;
esac
home=\${XVS_HOME:-\${XDG_CACHE_HOME:-\${HOME:-/root}/.cache}/xvs}/${version}
if [ ! -x "$home/deno" ]; then
	mkdir -p "$home"
	new=$(mktemp -d "$home/new.XXXXXX")
	tail -n +__LINES__ "$0" | tar -xz -C "$new"
	for file in "$new"/*.js "$new/deno"; do
		mv -f "$file" "$home"
	done
	rmdir "$new"
fi
export DENO_NO_UPDATE_CHECK=1
exec "$home/deno" run -A --no-config --no-lock "$home/$name.js" "$@"
`;
}

/** Makes one JavaScript file of a script and all that it imports. */
async function bundle(name: string, into: string): Promise<void> {
  const source = new URL(`${name}.ts`, import.meta.url).pathname;
  const config = new URL("../deno.json", import.meta.url).pathname;
  await run([
    ...[Deno.execPath(), "bundle", "-q", "--no-check", "--config", config],
    ...["-o", `${into}/${name}.js`, source],
  ]);
}

/** The first bytes of a hash of all files, as a name. */
async function versionOf(directory: string): Promise<string> {
  const hashes = await run(["sh", "-c", 'cd "$1" && sha256sum *', "sh", directory]);
  const bytes = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(hashes));
  return new Uint8Array(bytes).toHex().slice(0, 16);
}

/** The lines of a text, as what follows it begins on the next. */
function withLines(text: string): string {
  return text.replace("__LINES__", String(text.split("\n").length));
}

await script(HELP, {}, async ({ words, switches }) => {
  const [target, ...more] = words;
  if (target === undefined || more.length > 0) {
    throw new UsageError("binary.ts takes a DIRECTORY: see --help");
  }
  const directory = await Deno.makeTempDir();
  try {
    for (const name of SCRIPTS) await bundle(name, directory);
    await Deno.copyFile(Deno.execPath(), `${directory}/deno`);
    const version = await versionOf(directory);
    await Deno.mkdir(target, { recursive: true });
    const path = `${target}/xvs`;
    await Deno.writeTextFile(`${path}.new`, withLines(stub(version)), { mode: 0o755 });
    await run(["sh", "-c", 'tar -cz -C "$1" . >> "$2"', "sh", directory, `${path}.new`]);
    await Deno.rename(`${path}.new`, path);
    for (const name of SCRIPTS) {
      await Deno.remove(`${target}/${name}`).catch(() => {});
      await Deno.symlink("xvs", `${target}/${name}`);
    }
    const { size } = await Deno.stat(path);
    print(
      switches.json ? toJson({ path, version, size }) : `${path}: ${Math.round(size / 1e6)} MB`,
    );
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
});
