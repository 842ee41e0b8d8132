/** Names for the numbers in <linux/bpf.h>: map types, map flags and program types. */

/** Map types in the order of `enum bpf_map_type`, named as bpftool names them. */
export const MAP_TYPES = [
  "unspec",
  "hash",
  "array",
  "prog_array",
  "perf_event_array",
  "percpu_hash",
  "percpu_array",
  "stack_trace",
  "cgroup_array",
  "lru_hash",
  "lru_percpu_hash",
  "lpm_trie",
  "array_of_maps",
  "hash_of_maps",
  "devmap",
  "sockmap",
  "cpumap",
  "xskmap",
  "sockhash",
  "cgroup_storage",
  "reuseport_sockarray",
  "percpu_cgroup_storage",
  "queue",
  "stack",
  "sk_storage",
  "devmap_hash",
  "struct_ops",
  "ringbuf",
  "inode_storage",
  "task_storage",
  "bloom_filter",
  "user_ringbuf",
  "cgrp_storage",
  "arena",
] as const;

/** A kind of map. `"unspec"` stands for one that a newer kernel has and this list lacks. */
export type MapType = typeof MAP_TYPES[number];

/** The first Linux release with each map type that came after 4.19. */
export const MAP_TYPE_SINCE: { readonly [type in MapType]?: string } = {
  queue: "4.20",
  stack: "4.20",
  sk_storage: "5.2",
  devmap_hash: "5.4",
  struct_ops: "5.6",
  ringbuf: "5.8",
  inode_storage: "5.10",
  task_storage: "5.11",
  bloom_filter: "5.16",
  user_ringbuf: "6.1",
  cgrp_storage: "6.2",
  arena: "6.9",
};

/** Map flags by name: the bit numbers of `BPF_F_...` for BPF_MAP_CREATE. */
const MAP_FLAG_BITS = {
  no_prealloc: 0,
  no_common_lru: 1,
  numa_node: 2,
  rdonly: 3,
  wronly: 4,
  stack_build_id: 5,
  zero_seed: 6,
  rdonly_prog: 7,
  wronly_prog: 8,
  clone: 9,
  mmapable: 10,
  preserve_elems: 11,
  inner_map: 12,
  link: 13,
} as const;

/** An option of a map: `"inner_map"` is `BPF_F_INNER_MAP`. */
export type MapFlag = keyof typeof MAP_FLAG_BITS;

/** The flags in a bit mask; bits without a name here are left out. */
export function mapFlagsOf(mask: number): ReadonlySet<MapFlag> {
  const names = Object.keys(MAP_FLAG_BITS) as MapFlag[];
  return new Set(names.filter((name) => (mask >>> MAP_FLAG_BITS[name]) & 1));
}

/** The bit mask of some flags. */
export function mapFlagMask(flags: Iterable<MapFlag>): number {
  let mask = 0;
  for (const flag of flags) mask |= 1 << MAP_FLAG_BITS[flag];
  return mask >>> 0;
}

/** Program types in the order of `enum bpf_prog_type`, named as bpftool names them. */
export const PROGRAM_TYPES = [
  "unspec",
  "socket_filter",
  "kprobe",
  "sched_cls",
  "sched_act",
  "tracepoint",
  "xdp",
  "perf_event",
  "cgroup_skb",
  "cgroup_sock",
  "lwt_in",
  "lwt_out",
  "lwt_xmit",
  "sock_ops",
  "sk_skb",
  "cgroup_device",
  "sk_msg",
  "raw_tracepoint",
  "cgroup_sock_addr",
  "lwt_seg6local",
  "lirc_mode2",
  "sk_reuseport",
  "flow_dissector",
  "cgroup_sysctl",
  "raw_tracepoint_writable",
  "cgroup_sockopt",
  "tracing",
  "struct_ops",
  "ext",
  "lsm",
  "sk_lookup",
  "syscall",
  "netfilter",
] as const;

/** A kind of program. `"unspec"` stands for one that a newer kernel has and this list lacks. */
export type ProgramType = typeof PROGRAM_TYPES[number];
