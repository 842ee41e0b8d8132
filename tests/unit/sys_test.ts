import { assert, assertEquals, assertThrows } from "@std/assert";
import { monotonicCoarseNs, monotonicNs } from "../../lib/sys/clock.ts";
import { possibleCpus } from "../../lib/sys/cpu.ts";
import { ERRNO, errorMeaning, errorName, SystemError } from "../../lib/sys/errno.ts";
import { Fd } from "../../lib/sys/fd.ts";
import { libc, replaceLibraries } from "../../lib/sys/ffi.ts";
import { interfaceName, interfaceNumber } from "../../lib/sys/interface.ts";
import { Mapping, pageSize } from "../../lib/sys/mapping.ts";
import { addressOf, cString, readCString, textOf } from "../../lib/sys/memory.ts";
import { Waiter, waitReadable } from "../../lib/sys/waiter.ts";

/** A pair of ends: what is written to the second can be read from the first. */
function eventFd(): Fd {
  return new Fd(libc().eventfd(0, 0));
}

function signal(fd: Fd): void {
  const one = new Uint8Array(new BigUint64Array([1n]).buffer);
  assertEquals(libc().write(fd.value, one, 8n), 8n);
}

Deno.test("Fd refuses what is no descriptor", () => {
  for (const fd of [-1, -22, 1.5, NaN]) {
    assertThrows(() => new Fd(fd), RangeError, `file descriptor ${fd}`);
  }
});

Deno.test("Fd closes once", () => {
  const closed: number[] = [];
  using _ = replaceLibraries({ libc: { close: (fd) => closed.push(fd) } });
  const fd = new Fd(50);
  assertEquals(fd.value, 50);
  fd.close();
  fd.close();
  fd[Symbol.dispose]();
  assertEquals(closed, [50]);
  assert(fd.closed);
  assertThrows(() => fd.value, TypeError, "after closing");
});

Deno.test("Fd gives its descriptor away by release() only", () => {
  const closed: number[] = [];
  using _ = replaceLibraries({ libc: { close: (fd) => closed.push(fd) } });
  const fd = new Fd(50);
  assertEquals(fd.release(), 50);
  fd.close();
  assertEquals(closed, []);
  assertThrows(() => fd.release(), TypeError);
});

Deno.test("Fd moves out of the way of standard streams", () => {
  const calls: unknown[] = [];
  using _ = replaceLibraries({
    libc: {
      close: (fd) => calls.push(["close", fd]),
      fcntl: (...args) => {
        calls.push(["fcntl", ...args]);
        return 9;
      },
    },
  });
  assertEquals(new Fd(2).value, 9);
  assertEquals(calls, [["fcntl", 2, 1030, 3], ["close", 2]]);
});

Deno.test("Fd.duplicateOf() says which descriptor is not open", () => {
  const error = assertThrows(() => Fd.duplicateOf(1_000_000), SystemError);
  assertEquals([error.code, error.errno], ["EBADF", 9]);
  assert(error.message.startsWith("Cannot duplicate file descriptor 1000000: bad file descriptor"));
  using fd = eventFd();
  using copy = Fd.duplicateOf(fd.value);
  assert(copy.value !== fd.value);
});

Deno.test("error numbers have names and meanings, of either sign", () => {
  assertEquals([ERRNO.EPERM, ERRNO.EOPNOTSUPP, ERRNO.ENOTSUPP], [1, 95, 524]);
  assertEquals([errorName(22), errorName(9999)], ["EINVAL", "E9999"]);
  assertEquals([errorMeaning(22), errorMeaning(9999)], ["invalid argument", "unknown error"]);
  const error = new SystemError("do it", -17, "really");
  assertEquals(error.message, "Cannot do it: file exists (EEXIST); really");
  assertEquals([error.operation, error.errno, error.code], ["do it", 17, "EEXIST"]);
});

Deno.test("clocks are those of the kernel", () => {
  const uptimeNs = BigInt(Math.floor(performance.now() * 1e6));
  const [before, coarse, after] = [monotonicNs(), monotonicCoarseNs(), monotonicNs()];
  assert(before <= after);
  assert(coarse <= after && after - coarse < 1_000_000_000n);
  assert(before > uptimeNs);
});

Deno.test("possible processors are counted as in /sys", () => {
  const last = Deno.readTextFileSync("/sys/devices/system/cpu/possible").trim().split(/[-,]/).at(
    -1,
  );
  assertEquals(possibleCpus(), Number(last) + 1);
});

Deno.test("texts go to C and back", () => {
  assertEquals(cString("é"), Uint8Array.of(0xc3, 0xa9, 0));
  assertThrows(() => cString("a\0b"), TypeError, "it holds a NUL byte");
  assertEquals(textOf(Uint8Array.of(97, 98, 0, 99)), "ab");
  assertEquals(textOf(Uint8Array.of(97, 98)), "ab");
  assertEquals(readCString(null), "");
  const buffer = new Uint8Array(64);
  assertEquals(addressOf(buffer.subarray(5)) - addressOf(buffer), 5n);
});

Deno.test("an interface has its name and number", () => {
  assertEquals(interfaceName(1), "lo");
  assertEquals(interfaceNumber("lo"), 1);
  assertEquals(interfaceNumber("none"), undefined);
  assertEquals(interfaceName(0x7fff_ffff), undefined);
});

Deno.test("a mapping shares memory with a file, and none after close()", () => {
  const path = Deno.makeTempFileSync();
  using file = Deno.openSync(path, { read: true, write: true });
  file.truncateSync(pageSize());
  // Deno does not tell the descriptor of a file; the kernel does.
  const link = [...Deno.readDirSync("/proc/self/fd")].find(({ name }) => target(name) === path);
  const mapping = new Mapping(Number(link!.name), 0, pageSize(), { writable: true });
  mapping.bytes.set([1, 2, 3]);
  assertEquals(Deno.readFileSync(path).subarray(0, 3), Uint8Array.of(1, 2, 3));
  mapping.close();
  mapping.close();
  assertEquals(mapping.bytes[0], 0);
  mapping.bytes[0] = 9;
  assertEquals(Deno.readFileSync(path)[0], 1);
  Deno.removeSync(path);
  assertEquals(
    assertThrows(() => new Mapping(1_000_000, 0, 4096, { writable: false }), SystemError).code,
    "EBADF",
  );
});

function target(fd: string): string | undefined {
  try {
    return Deno.readLinkSync(`/proc/self/fd/${fd}`);
  } catch {
    return undefined;
  }
}

Deno.test("waitReadable() waits until there is something, or the time is over", () => {
  using fd = eventFd();
  const start = performance.now();
  assertEquals(waitReadable(fd.value, 30), false);
  assert(performance.now() - start >= 29);
  signal(fd);
  assertEquals(waitReadable(fd.value, 60_000), true);
});

Deno.test("Waiter waits beside JavaScript, and stops when told", async () => {
  using fd = eventFd();
  using waiter = new Waiter(fd.value);
  let ready = false;
  const waiting = waiter.wait().then(() => ready = true);
  await new Promise((resolve) => setTimeout(resolve, 20));
  assertEquals(ready, false);
  signal(fd);
  await waiting;
  await waiter.wait();

  using silent = eventFd();
  using stopped = new Waiter(silent.value);
  setTimeout(() => stopped.stop(), 5);
  await stopped.wait();
  await stopped.wait();
});
