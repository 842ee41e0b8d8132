/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * Programs to measure with. BPF_PROG_TEST_RUN does not put the packet back between two of its repeats: so what
 * it is given is wrap4 or wrap6, which put the frame back to where it was, write the next flow's headers into it
 * from a template, with right checksums, and tail-call the program under test. What a program costs is its run
 * less that of floor_tx through the same wrapper. The other floors do the least that forwarding could.
 *
 * Words are stored where a load balancer reads them: a load of an address or of both ports falls into one
 * store, as with data from a card, and need not wait for two.
 */
#include "bench.h"
#include "forward.h"
#include "hash.h"

/* 0 -> the program under test. */
struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} target SEC(".maps");

struct bench bench = {};

/* Or the compiler would leave the type of the rings' values out of the BTF. */
struct ring_entry ring_entry __attribute__((unused));

#define STORE(offset, value) (*(__u64 *)(at + (offset)) = (value))

/*
 * Flow number of a packet. A permutation, so that each flow comes once before any comes again, and one that no
 * prefetcher follows. With another order than at first the walk is scattered also over memory that was handed
 * out flow by flow, as it is on a machine that has run for long.
 */
always_inline __u32 flow_of(__u32 number)
{
	const __u32 mask = bench.flows - 1, half = bench.half & 31;
	__u32 flow = number * bench.order & mask;

	flow ^= flow >> half;
	flow = flow * 0x9E3779B1u & mask;
	return flow ^ flow >> half;
}

/* The headers of packet `number`, as the template has them but for what varies. 0: no room. */
always_inline int write_headers(struct xdp_md *ctx, __u32 number, enum family family)
{
	void *at = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	const __u32 size = family == IPV4 ? 54 : 78, flow = flow_of(number);
	const __u32 port = bpf_htons(flow & 0x3fff), address = bpf_htons(flow >> 14);
	const __u32 vip = bpf_htons(scale((__u64)(number * 0x9E3779B1u) << 32, bench.vips));
	const __u64 check = (__u16)~fold(bench.transport_sum + port + address + vip);

	if (at + size > end)
		return 0;
	STORE(0, bench.words[0]);
	STORE(6, bench.words[1]);
	STORE(14, bench.words[2]);
	if (family == IPV4) {
		const __u64 ip_check = (__u16)~fold(bench.ip_sum + address + vip);

		STORE(22, bench.words[3] | ip_check << 16 | (__u64)address << 48);
		STORE(30, bench.words[4] | (__u64)vip << 16 | (__u64)port << 32);
		STORE(38, bench.words[5]);
		STORE(46, bench.words[6] | check << 32);
	} else {
		STORE(22, bench.words[3]);
		STORE(30, bench.words[4] | (__u64)address << 48);
		STORE(38, bench.words[5]);
		STORE(46, bench.words[6]);
		STORE(54, bench.words[7] | port);
		STORE(62, bench.words[8]);
		STORE(70, bench.words[9] | check);
	}
	return 1;
}

/* Undoes what the program under test did, and makes the next packet. */
always_inline int restore(struct xdp_md *ctx, enum family family)
{
	long length = (void *)(long)ctx->data_end - (void *)(long)ctx->data;

	asm volatile("" : "+r"(length)); /* keeps the subtraction of pointers in 64 bits */
	bench.runs++;
	if ((__s32)length - (__s32)bench.length != bench.growth)
		bench.wrong++;
	/* Also with 0, so that the wrapper costs the same whatever the program does. */
	if (bpf_xdp_adjust_head(ctx, (__s32)length - (__s32)bench.length))
		return 0;
	return write_headers(ctx, bench.next++, family);
}

SEC("xdp.frags")
int wrap4(struct xdp_md *ctx)
{
	if (restore(ctx, IPV4))
		bpf_tail_call_static(ctx, &target, 0);
	bench.failed++;
	return XDP_ABORTED;
}

SEC("xdp.frags")
int wrap6(struct xdp_md *ctx)
{
	if (restore(ctx, IPV6))
		bpf_tail_call_static(ctx, &target, 0);
	bench.failed++;
	return XDP_ABORTED;
}

/* For live frames: any packet of the template's flows, out of an interface. CPUs share nothing that is written. */
SEC("xdp.frags")
int send4(struct xdp_md *ctx)
{
	return write_headers(ctx, bpf_get_prandom_u32(), IPV4) ? bpf_redirect(bench.egress, 0) : XDP_ABORTED;
}

/* 0 -> how many packets sink has met. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} arrived SEC(".maps");

/* Where packets end. */
SEC("xdp.frags")
int sink(struct xdp_md *ctx __attribute__((unused)))
{
	__u32 zero = 0;
	__u64 *packets = bpf_map_lookup_elem(&arrived, &zero);

	if (packets)
		*packets += 1;
	return XDP_DROP;
}

/* Lets a veth hand on what native XDP sends to it. */
SEC("xdp.frags")
int pass_on(struct xdp_md *ctx __attribute__((unused)))
{
	return XDP_PASS;
}

/* Sends a packet back, and does not even look at it. */
SEC("xdp.frags")
int floor_tx(struct xdp_md *ctx __attribute__((unused)))
{
	return XDP_TX;
}

/* One lookup in the table of services, and no more: what a packet that is for nobody may cost. */
SEC("xdp.frags")
int floor_lookup(struct xdp_md *ctx)
{
	struct cursor c = { .at = (void *)(long)ctx->data, .end = (void *)(long)ctx->data_end };
	struct service_key4 key = { .protocol = IPPROTO_TCP };
	struct iphdr *ip;

	if (!take(&c, struct ethhdr))
		return XDP_DROP;
	ip = take(&c, struct iphdr);
	if (!ip)
		return XDP_DROP;
	key.address = ip->daddr;
	return bpf_map_lookup_elem(&services4, &key) ? XDP_DROP : XDP_TX;
}

/* A fixed outer IPv4 header. */
SEC("xdp.frags")
int floor_encap(struct xdp_md *ctx)
{
	void *at;

	if (bpf_xdp_adjust_head(ctx, -(int)sizeof(struct iphdr)))
		return XDP_DROP;
	at = (void *)(long)ctx->data;
	if (at + sizeof(bench.outer) > (void *)(long)ctx->data_end)
		return XDP_DROP;
	__builtin_memcpy(at, bench.outer, sizeof(bench.outer));
	return XDP_TX;
}

/* IPv4 and TCP parsed, one service, one ring entry, one destination, three counters, encapsulated. */
SEC("xdp.frags")
int floor_ring(struct xdp_md *ctx)
{
	struct cursor c = { .at = (void *)(long)ctx->data, .end = (void *)(long)ctx->data_end };
	struct packet p = { .ctx = ctx };
	struct destination_counter *own;
	struct reason_counter *reason;
	struct service_counter *total;
	struct ring_entry *entry;
	struct service *service;
	struct destination *d;
	__u32 zero = 0, index;
	void *ring;

	p.ethernet = take(&c, struct ethhdr);
	if (!p.ethernet || p.ethernet->h_proto != bpf_htons(ETH_P_IP) ||
	    parse_ipv4(&c, &p) != REASON_FORWARDED)
		return XDP_PASS;
	struct service_key4 key = {
		.address = *(__be32 *)p.destination,
		.port = p.ports >> 16,
		.protocol = p.protocol,
	};
	service = bpf_map_lookup_elem(&services4, &key);
	if (!service)
		return XDP_PASS;
	ring = bpf_map_lookup_elem(&rings, &service->id);
	if (!ring)
		return XDP_DROP;
	index = RING_HEADER + scale(flow_hash(&p, 0, IPV4), service->ring_size);
	entry = bpf_map_lookup_elem(ring, &index);
	if (!entry)
		return XDP_DROP;
	index = entry->current & ~RING_TRACKED;
	d = bpf_map_lookup_elem(&destinations, &index);
	own = bpf_map_lookup_elem(&destination_counters, &index);
	total = bpf_map_lookup_elem(&service_counters, &service->id);
	reason = bpf_map_lookup_elem(&reason_counters, &zero);
	if (!d || !own || !total || !reason)
		return XDP_DROP;
	own->packets++;
	total->packets++;
	reason->packets++;
	return encapsulate(&p, d, 0, TUNNEL_IPIP, IPV4, IPV4).action;
}

char _license[] SEC("license") = "Dual MIT/GPL";
