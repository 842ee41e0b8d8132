/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * The maps. Sizes are those of a small instance; user space sets others before it loads the program.
 * "client" is whoever configures the instance, "program" is this one.
 */
#ifndef XVS_MAPS_H
#define XVS_MAPS_H

#include "abi.h"
#include <bpf/bpf_helpers.h>
#include <linux/bpf.h>

/* Read for every packet; set by the client at any time, but for the sample, which the program halves. */
struct settings settings SEC(".data.settings") = { .abi_version = ABI_VERSION };

/* service_key4 -> service; written by the client. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__type(key, struct service_key4);
	__type(value, struct service);
	__uint(max_entries, 1);
} services4 SEC(".maps");

/* service_key6 -> service; written by the client. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__type(key, struct service_key6);
	__type(value, struct service);
	__uint(max_entries, 1);
} services6 SEC(".maps");

/* What a service was when settings.revision was this. */
struct recent_service4 {
	__u64 revision;
	struct service_key4 key;
	struct service service;
};

struct recent_service6 {
	__u64 revision;
	struct service_key6 key;
	struct service service;
	__u32 pad;
};

enum { RECENT_BITS = 8 };

/* place_of() a packet -> the service that this CPU found last for such; the program's own. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__type(key, __u32);
	__type(value, struct recent_service4);
	__uint(max_entries, 1 << RECENT_BITS);
} recent_services4 SEC(".maps");

/* As recent_services4. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__type(key, __u32);
	__type(value, struct recent_service6);
	__uint(max_entries, 1 << RECENT_BITS);
} recent_services6 SEC(".maps");

/* 64 addresses' bits, see may_be_vip(): 0 where none is a VIP; written by the client. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, __u64);
	__uint(max_entries, (1 << VIP_FILTER_BITS) / 64);
} vip_filter SEC(".maps");

/* IPv4 address -> vip; written by the client, read only for packets that met no service. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__type(key, __be32);
	__type(value, struct vip);
	__uint(max_entries, 1);
} vips4 SEC(".maps");

/* IPv6 address -> vip; written by the client, read only for packets that met no service. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__type(key, __u8[16]);
	__type(value, struct vip);
	__uint(max_entries, 1);
} vips6 SEC(".maps");

/* prefix4 of sources to block -> denied; written by the client, counted by the program. */
struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct prefix4);
	__type(value, struct denied);
	__uint(max_entries, 1);
} denied4 SEC(".maps");

/* prefix6 of sources to block -> denied; as denied4. */
struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct prefix6);
	__type(value, struct denied);
	__uint(max_entries, 1);
} denied6 SEC(".maps");

/* A ring, of any size. */
struct ring {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_INNER_MAP);
	__uint(key_size, sizeof(__u32));
	__uint(value_size, sizeof(struct ring_entry));
	__uint(max_entries, 1);
};

/* Service id -> its ring; replaced whole by the client. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__type(key, __u32);
	__uint(max_entries, 1);
	__array(values, struct ring);
} rings SEC(".maps");

/* DOCUMENT_... -> its text in pieces of 8 bytes, replaced whole; the client's own. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__type(key, __u32);
	__uint(max_entries, 1);
	__array(values, struct ring);
} documents SEC(".maps");

/* Slot -> destination; written by the client. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, struct destination);
	__uint(max_entries, 1);
} destinations SEC(".maps");

/* flow_key4 -> flow; written by the program, purged by the client when it settles a ring. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(map_flags, BPF_F_NO_COMMON_LRU);
	__type(key, struct flow_key4);
	__type(value, struct flow);
	__uint(max_entries, 1);
} flows4 SEC(".maps");

/* flow_key6 -> flow; as flows4. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(map_flags, BPF_F_NO_COMMON_LRU);
	__type(key, struct flow_key6);
	__type(value, struct flow);
	__uint(max_entries, 1);
} flows6 SEC(".maps");

/* Of shared_flow; written by the program if settings.share, read by the client. */
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 65536);
} shared_flows SEC(".maps");

/* 0 -> sharing_counter; counted by the program. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__type(key, __u32);
	__type(value, struct sharing_counter);
	__uint(max_entries, 1);
} sharing_counters SEC(".maps");

/* fragment_key4 -> fragment_value; written by the program at the first fragment of a datagram. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__type(key, struct fragment_key4);
	__type(value, struct fragment_value);
	__uint(max_entries, 4096);
} fragments4 SEC(".maps");

/* fragment_key6 -> fragment_value; as fragments4. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__type(key, struct fragment_key6);
	__type(value, struct fragment_value);
	__uint(max_entries, 4096);
} fragments6 SEC(".maps");

/* Number of a probe address -> probe; written by the client. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, struct probe);
	__uint(max_entries, 1);
} probes SEC(".maps");

/* probe_key -> probe_flow; written by the program. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__type(key, struct probe_key);
	__type(value, struct probe_flow);
	__uint(max_entries, 8192);
} probe_flows SEC(".maps");

struct probe_datagram {
	__u8 source[16]; /* as in struct probe_key */
	__u8 destination[16];
	__u32 id;
	__u32 protocol;
};

/* A reply in fragments -> its ports, which the first alone has; the program's own. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__type(key, struct probe_datagram);
	__type(value, __u32);
	__uint(max_entries, 1024);
} probe_fragments SEC(".maps");

struct flow_budget {
	__u32 tick;
	__u32 spent; /* of settings.flow_budget, in this tick */
	__u32 sampled; /* of settings.sample_budget, since the sample is as it is */
	__u32 sample_mask; /* the sample that it counts for */
};

/* 0 -> what this CPU has spent; the program's own. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__type(key, __u32);
	__type(value, struct flow_budget);
	__uint(max_entries, 1);
} flow_budgets SEC(".maps");

struct last_look {
	__u64 jiffies;
	__u32 seen; /* as in struct flow */
	__u32 pad;
};

/* 0 -> when this CPU last looked at the clock; the program's own. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__type(key, __u32);
	__type(value, struct last_look);
	__uint(max_entries, 1);
} last_looks SEC(".maps");

struct icmp_budget {
	__u32 tick;
	__u32 spent; /* of settings.icmp_budget, in this tick */
};

/* 0 -> what this CPU has spent; the program's own. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__type(key, __u32);
	__type(value, struct icmp_budget);
	__uint(max_entries, 1);
} icmp_budgets SEC(".maps");

/* Interface index -> the same: the interfaces that packets may leave by; written by the client. */
struct {
	__uint(type, BPF_MAP_TYPE_DEVMAP_HASH);
	__type(key, __u32);
	__type(value, __u32);
	__uint(max_entries, 64);
} interfaces SEC(".maps");

/* Reason -> reason_counter; counted by the program. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__type(key, __u32);
	__type(value, struct reason_counter);
	__uint(max_entries, REASON_COUNT);
} reason_counters SEC(".maps");

/* Service id -> service_counter; counted by the program, zeroed by the client before an id is reused. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__type(key, __u32);
	__type(value, struct service_counter);
	__uint(max_entries, 1);
} service_counters SEC(".maps");

/* VIP id -> service_counter of what met none of its services; as service_counters. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__type(key, __u32);
	__type(value, struct service_counter);
	__uint(max_entries, 1);
} vip_counters SEC(".maps");

/* Slot -> destination_counter; as service_counters. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__type(key, __u32);
	__type(value, struct destination_counter);
	__uint(max_entries, 1);
} destination_counters SEC(".maps");

/*
 * destination_reason_key -> destination_reason; counted by the program, off the common path. Of more than these
 * the least recent are forgotten.
 */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__type(key, struct destination_reason_key);
	__type(value, struct destination_reason);
	__uint(max_entries, 4096);
} destination_reasons SEC(".maps");

/* Service id -> service_record; the client's own. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, struct service_record);
	__uint(max_entries, 1);
} service_records SEC(".maps");

/* Slot -> destination_record; the client's own. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, struct destination_record);
	__uint(max_entries, 1);
} destination_records SEC(".maps");

/* VIP id + 1 -> what its removed services had counted; 0: what removed VIPs had. The client's own. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, struct service_counter);
	__uint(max_entries, 1);
} retired_counters SEC(".maps");

#endif
