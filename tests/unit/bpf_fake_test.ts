/** What lib/bpf makes of answers that the running kernel does not give: libbpf is a fake here. */

import { assertEquals, assertThrows } from "@std/assert";
import {
  BpfError,
  BpfMap,
  BpfProgram,
  NotSupportedError,
  RingBuffer,
  u32,
  VerifierError,
  XdpBusyError,
} from "../../lib/bpf/mod.ts";
import { loadObject } from "../../lib/bpf/loader.ts";
import { ERRNO } from "../../lib/sys/errno.ts";
import { type Libbpf, LibraryError, replaceLibraries } from "../../lib/sys/ffi.ts";
import { cString } from "../../lib/sys/memory.ts";

type InfoArguments = Parameters<Libbpf["bpf_obj_get_info_by_fd"]>;

/** Answers as a hash map of 4-byte keys and values with room for 4 entries. */
function hashInfo(_fd: number, info: InfoArguments[1], length: InfoArguments[2]): number {
  new Uint32Array((info as Uint8Array<ArrayBuffer>).buffer).set([1, 77, 4, 4, 4]);
  (length as Uint32Array)[0] = 40;
  return 0;
}

/** A map whose descriptor is never touched, because libc is a fake too. */
function fakes(libbpf: Partial<Libbpf>): Disposable {
  return replaceLibraries({
    libbpf: { bpf_obj_get_info_by_fd: hashInfo, ...libbpf },
    libc: { close: () => 0 },
  });
}

Deno.test("a kernel without a type of maps is told from a wrong map", () => {
  const create = (supported: number): unknown => {
    using _ = fakes({
      bpf_map_create: () => -ERRNO.EINVAL,
      libbpf_probe_bpf_map_type: () => supported,
    });
    return BpfMap.create({ type: "ringbuf", keySize: 0, valueSize: 0, maxEntries: 4096 });
  };
  const error = assertThrows(() => create(0), NotSupportedError);
  assertEquals([error.feature, error.minimumKernel], ['map type "ringbuf"', "5.8"]);
  assertEquals(assertThrows(() => create(1), BpfError).code, "EINVAL");
});

Deno.test("a lack of rights is told with the way out", () => {
  using _ = fakes({ bpf_map_get_fd_by_id: () => -ERRNO.EPERM });
  assertThrows(
    () => BpfMap.fromId(9),
    BpfError,
    "Cannot open map 9: operation not permitted (EPERM); run as root, or with CAP_BPF",
  );
});

Deno.test("a kernel before batches is served entry by entry", () => {
  const content = new Map<number, number>([[1, 10], [2, 20]]);
  const word = (bytes: unknown): number =>
    new DataView((bytes as Uint8Array).buffer)
      .getUint32((bytes as Uint8Array).byteOffset, true);
  using _ = fakes({
    bpf_map_lookup_batch: () => -ERRNO.EINVAL,
    bpf_map_update_batch: () => -ERRNO.EINVAL,
    bpf_map_delete_batch: () => -ERRNO.EINVAL,
    bpf_map_get_next_key(_fd, key, next): number {
      const keys = [...content.keys()];
      const found = keys[key === null ? 0 : keys.indexOf(word(key)) + 1];
      if (found === undefined) return -ERRNO.ENOENT;
      (next as Uint8Array).set(u32(found));
      return 0;
    },
    bpf_map_lookup_elem(_fd, key, value): number {
      (value as Uint8Array).set(u32(content.get(word(key))!));
      return 0;
    },
    bpf_map_update_elem(_fd, key, value): number {
      content.set(word(key), word(value));
      return 0;
    },
    bpf_map_delete_elem: (_fd, key) => content.delete(word(key)) ? 0 : -ERRNO.ENOENT,
  });
  using map = new BpfMap(100);
  map.updateBatch(Uint8Array.of(...u32(2), ...u32(3)), Uint8Array.of(...u32(21), ...u32(30)), 2);
  assertEquals(map.lookupBatch(), {
    keys: Uint8Array.of(...u32(1), ...u32(2), ...u32(3)),
    values: Uint8Array.of(...u32(10), ...u32(21), ...u32(30)),
    count: 3,
  });
  assertEquals(map.deleteBatch(Uint8Array.of(...u32(3), ...u32(4), ...u32(1)), 3), 2);
  assertEquals([...content], [[2, 21]]);
});

Deno.test("a map that changes faster than it is read ends in an error, not in a loop", () => {
  using _ = fakes({
    bpf_map_lookup_batch: () => -ERRNO.ENOTSUPP,
    bpf_map_get_next_key: () => 0,
  });
  using map = new BpfMap(100);
  assertThrows(() => [...map.keys()], BpfError, "it changes faster than it is read");
});

Deno.test("a hash bucket that does not fit makes the next piece larger", () => {
  const asked: number[] = [];
  using _ = fakes({
    bpf_map_lookup_batch(_fd, _in, _out, keys, _values, count): number {
      const room = (count as Uint32Array)[0]!;
      asked.push(room);
      (count as Uint32Array)[0] = 0;
      if (room < 16) return -ERRNO.ENOSPC;
      (keys as Uint8Array).fill(1, 0, 4);
      (count as Uint32Array)[0] = 1;
      return -ERRNO.ENOENT;
    },
  });
  using map = new BpfMap(100);
  assertEquals(map.lookupBatch().count, 1);
  assertEquals(asked, [4, 8, 16]);
});

Deno.test("a kernel that does not count verified instructions tells so by a short answer", () => {
  using _ = fakes({
    bpf_obj_get_info_by_fd(_fd, info, length): number {
      new Uint32Array((info as Uint8Array<ArrayBuffer>).buffer).set([6, 5]);
      (length as Uint32Array)[0] = 216;
      return 0;
    },
  });
  using program = new BpfProgram(100);
  assertEquals([program.id, program.type, program.verifiedInstructions], [5, "xdp", undefined]);
});

Deno.test("a kernel without XDP links is told from a wrong program", () => {
  const link = (bad: number): Partial<Libbpf> => ({
    bpf_link_create: (fd) => fd < 0 ? bad : -ERRNO.EINVAL,
  });
  const attach = (): unknown => new BpfProgram(100).attachXdp(1, { mode: "generic" });
  {
    using _ = fakes(link(-ERRNO.EINVAL));
    const error = assertThrows(attach, NotSupportedError);
    assertEquals([error.feature, error.minimumKernel], ["XDP links", "5.9"]);
  }
  using _ = replaceLibraries({
    libbpf: { bpf_obj_get_info_by_fd: hashInfo, ...link(-ERRNO.EBADF) },
    libc: { close: () => 0, if_indextoname: () => null },
  });
  assertEquals(assertThrows(attach, BpfError).code, "ENODEV");
});

Deno.test("the verifier's log gets more room until it fits", () => {
  const handle = Deno.UnsafePointer.of(cString("balance"))!;
  const rooms: number[] = [];
  let room: Uint8Array | undefined;
  using _ = replaceLibraries({
    libbpf: {
      libbpf_set_print: () => null,
      bpf_object__open_mem: () => handle,
      bpf_object__next_map: () => null,
      bpf_object__next_program: (_object, previous) => previous === null ? handle : null,
      bpf_program__name: () => handle,
      bpf_program__set_log_buf(_program, buffer): number {
        room = buffer as Uint8Array;
        rooms.push(room.length);
        return 0;
      },
      bpf_object__load(): number {
        const log = new TextEncoder().encode("x".repeat(1_000_000) + "\nthe reason\n");
        room?.set(log.subarray(0, room.length - 1));
        return -ERRNO.EACCES;
      },
      bpf_object__close: () => {},
    },
  });
  const nothing = new Map<string, never>();
  const settings = { maxEntries: nothing, reuse: nothing, autoload: nothing, images: nothing };
  const error = assertThrows(() => loadObject(new Uint8Array(1), "o", settings), VerifierError);
  assertEquals(rooms, [1 << 18, 1 << 21]);
  assertEquals(error.log.length, 1_000_012);
  assertEquals(
    error.message,
    'Cannot load program "balance": permission denied (EACCES); the reason',
  );
});

Deno.test("a refusal that another mode cannot cure is not tried again", () => {
  let attempts = 0;
  using _ = replaceLibraries({
    libbpf: {
      bpf_obj_get_info_by_fd: hashInfo,
      bpf_link_create(): number {
        attempts++;
        return -ERRNO.EBUSY;
      },
      bpf_xdp_query: () => 0,
    },
    libc: { close: () => 0, if_indextoname: () => ({}) as Deno.PointerObject },
  });
  assertThrows(() => new BpfProgram(100).attachXdp(1), XdpBusyError, "another XDP program");
  assertEquals(attempts, 1);
});

Deno.test("memory that cannot be mapped is an error of the map", () => {
  using _ = replaceLibraries({
    libbpf: {
      bpf_obj_get_info_by_fd(_fd, info): number {
        new Uint32Array((info as Uint8Array<ArrayBuffer>).buffer).set([27, 1, 0, 0, 4096]);
        return 0;
      },
    },
    libc: {
      close: () => 0,
      getpagesize: () => 4096,
      mmap: () => null,
      __errno_location: () => null,
    },
  });
  using map = new BpfMap(100);
  assertThrows(() => RingBuffer.create(map), BpfError, "Cannot map the memory of map 1");
});

Deno.test("a missing library is told with the way out", () => {
  const error = new LibraryError("libbpf.so.1", "install it", new Error("no such file"));
  assertEquals(error.message, 'Cannot open "libbpf.so.1": no such file; install it');
});
