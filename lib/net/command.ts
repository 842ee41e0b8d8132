/**
 * Runs the system's own tools: argument vectors in, text or one clear error out.
 *
 * @module
 */

/** Where Debian keeps what this folder runs. */
const PACKAGES: Readonly<Record<string, string>> = {
  ethtool: "ethtool",
  ip: "iproute2",
  nsenter: "util-linux",
  sysctl: "procps",
};

/** A program that this host does not have. */
export class MissingProgramError extends Error {
  override readonly name = "MissingProgramError";
  /** Its name, as it was called. */
  readonly program: string;

  constructor(program: string) {
    const wayOut = PACKAGES[program];
    super(
      `Cannot run "${program}": it is not installed` +
        (wayOut === undefined ? "" : ` (on Debian it is in the package ${wayOut})`),
    );
    this.program = program;
  }
}

/** A command that ended with another code than 0, or by a signal. */
export class CommandError extends Error {
  override readonly name = "CommandError";
  /** The program and its arguments. */
  readonly argv: readonly string[];
  /** Its exit code; above 128, that of the signal that ended it and 128. */
  readonly code: number;
  /** What it had written to standard output. */
  readonly stdout: string;
  /** What it had written to standard error. */
  readonly stderr: string;

  constructor(argv: readonly string[], code: number, stdout: string, stderr: string) {
    const said = stderr.trim().split("\n").find((line) => line !== "");
    super(`Command "${argv.join(" ")}" failed with code ${code}${said ? `: ${said}` : ""}`);
    this.argv = argv;
    this.code = code;
    this.stdout = stdout;
    this.stderr = stderr;
  }
}

/** How a command is run. */
export interface RunOptions {
  /** What it reads from standard input. Default: nothing. */
  stdin?: string;
  /** Ends it with SIGTERM when aborted; the result is then a {@linkcode CommandError}. */
  signal?: AbortSignal;
}

/** What a command that ran to its end left. */
export interface CommandResult {
  /** 0, or what the program means by it. */
  code: number;
  /** All of standard output. */
  stdout: string;
  /** All of standard error. */
  stderr: string;
}

/**
 * Starts a program.
 *
 * @throws {MissingProgramError} when the host does not have it
 */
export function spawn(
  argv: readonly string[],
  options: Omit<Deno.CommandOptions, "args"> = {},
): Deno.ChildProcess {
  const [program = "", ...args] = argv;
  try {
    return new Deno.Command(program, { ...options, args }).spawn();
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) throw new MissingProgramError(program);
    throw error;
  }
}

/**
 * Runs a program to its end, whatever its code.
 *
 * @throws {MissingProgramError} when the host does not have it
 */
export async function attempt(
  argv: readonly string[],
  options: RunOptions = {},
): Promise<CommandResult> {
  const { stdin, signal } = options;
  const child = spawn(argv, {
    stdin: stdin === undefined ? "null" : "piped",
    stdout: "piped",
    stderr: "piped",
    ...(signal && { signal }),
  });
  const [output] = await Promise.all([child.output(), stdin && feed(child.stdin, stdin)]);
  const decoder = new TextDecoder();
  return {
    code: output.code,
    stdout: decoder.decode(output.stdout),
    stderr: decoder.decode(output.stderr),
  };
}

/**
 * Runs a program and returns what it wrote to standard output.
 *
 * @throws {CommandError} when it ends with another code than 0
 * @throws {MissingProgramError} when the host does not have it
 */
export async function run(argv: readonly string[], options: RunOptions = {}): Promise<string> {
  const { code, stdout, stderr } = await attempt(argv, options);
  if (code !== 0) throw new CommandError(argv, code, stdout, stderr);
  return stdout;
}

async function feed(stdin: WritableStream<Uint8Array>, text: string): Promise<void> {
  const writer = stdin.getWriter();
  try {
    await writer.write(new TextEncoder().encode(text));
    await writer.close();
  } catch (error) {
    // It ended before it had read everything: its code and its words tell why.
    if (!(error instanceof Deno.errors.BrokenPipe)) throw error;
  }
}
