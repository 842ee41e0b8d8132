/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* The maps of the decapsulator. User space sets their sizes before it loads the program. */
#ifndef XVS_DECAP_MAPS_H
#define XVS_DECAP_MAPS_H

#include "abi.h"
#include "decap_abi.h"
#include <bpf/bpf_helpers.h>
#include <linux/bpf.h>
#include <stdbool.h>

/* Whether only packets to one of addresses4 or addresses6 are ours; set before the program is loaded. */
const volatile bool only_addresses = false;

/* peer_key4 -> 1: prefixes of outer source addresses; written by user space. */
struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct peer_key4);
	__type(value, __u8);
	__uint(max_entries, 1);
} peers4 SEC(".maps");

/* peer_key6 -> 1: as peers4. */
struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct peer_key6);
	__type(value, __u8);
	__uint(max_entries, 1);
} peers6 SEC(".maps");

/* IPv4 address -> 1: inner destination addresses; written by user space. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, __be32);
	__type(value, __u8);
	__uint(max_entries, 1);
} vips4 SEC(".maps");

/* IPv6 address -> 1: as vips4. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, __u8[16]);
	__type(value, __u8);
	__uint(max_entries, 1);
} vips6 SEC(".maps");

/* IPv4 address -> 1: outer destination addresses; written by user space, read if only_addresses. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, __be32);
	__type(value, __u8);
	__uint(max_entries, 1);
} addresses4 SEC(".maps");

/* IPv6 address -> 1: as addresses4. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, __u8[16]);
	__type(value, __u8);
	__uint(max_entries, 1);
} addresses6 SEC(".maps");

/* UDP port -> enum tunnel, TUNNEL_FOU or TUNNEL_GUE; written by user space. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, __be16);
	__type(value, __u8);
	__uint(max_entries, 1);
} udp_tunnels SEC(".maps");

/* Reason -> reason_counter; counted by the program. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__type(key, __u32);
	__type(value, struct reason_counter);
	__uint(max_entries, DECAP_COUNT);
} reason_counters SEC(".maps");

#endif
