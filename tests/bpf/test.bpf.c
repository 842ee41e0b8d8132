/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* Programs, maps and variables of every kind that lib/bpf is tested with. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

enum colour { RED = 1, GREEN, BLUE = -7 };
enum huge { HUGE = 0x123456789abcdef0ULL };

struct inner {
	__u32 id;
	__u8 low : 3;
	__u8 high : 5;
};

struct pair {
	__u32 current;
	__u32 previous;
	struct inner nested[2];
	struct pair *next;
};

/* Constants of each sort, and variables in each writable section. */
volatile const __u32 limit = 7;
volatile const __s16 delta = -2;
volatile const _Bool enabled = 0;
volatile const struct pair origin = { .current = 1, .previous = 2 };
volatile const enum colour colour = GREEN;
volatile const enum huge huge = HUGE;
__u64 counter = 40;
__u32 zeroed[4];
__u32 threshold SEC(".data.settings") = 5;
/* Without a variable that is visible outside, libbpf does not let user space map a section. */
static volatile __u32 hidden SEC(".data.hidden") = 1;

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16);
	__type(key, __u32);
	__type(value, __u64);
} numbers SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 4);
	__type(key, __u32);
	__type(value, __u32);
} per_cpu SEC(".maps");

/*
 * The inner maps may differ in their number of entries. Sizes and no types: to Linux 6.1 a template with types is
 * of another shape than a map without any.
 */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, 8);
	__type(key, __u32);
	__array(values, struct {
		__uint(type, BPF_MAP_TYPE_ARRAY);
		__uint(map_flags, BPF_F_INNER_MAP);
		__uint(max_entries, 1);
		__uint(key_size, sizeof(__u32));
		__uint(value_size, sizeof(struct pair));
	});
} rings SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4096);
} events SEC(".maps");

/* Reads and writes variables of every section. */
SEC("xdp")
int variables(struct xdp_md *ctx __attribute__((unused)))
{
	counter++;
	zeroed[1] = threshold;
	if (enabled)
		return XDP_TX;
	return limit + delta + hidden;
}

/* Grows the packet by 20 bytes at its front, and marks them. */
SEC("xdp")
int grow(struct xdp_md *ctx)
{
	__u8 *data;

	if (bpf_xdp_adjust_head(ctx, -20))
		return XDP_ABORTED;
	data = (void *)(long)ctx->data;
	if (data + 20 > (__u8 *)(long)ctx->data_end)
		return XDP_ABORTED;
	for (int i = 0; i < 20; i++)
		data[i] = 0xee;
	return XDP_TX;
}

/* Tells which interface the packet came from. */
SEC("xdp")
int ingress(struct xdp_md *ctx)
{
	return ctx->ingress_ifindex;
}

SEC("xdp")
int pass(struct xdp_md *ctx __attribute__((unused)))
{
	return XDP_PASS;
}

SEC("xdp")
int drop(struct xdp_md *ctx __attribute__((unused)))
{
	return XDP_DROP;
}

/* Puts the packet's first 14 bytes into the ring buffer. */
SEC("xdp")
int emit(struct xdp_md *ctx)
{
	__u8 *data = (void *)(long)ctx->data;
	__u8 *record;

	if (data + 14 > (__u8 *)(long)ctx->data_end)
		return XDP_ABORTED;
	record = bpf_ringbuf_reserve(&events, 14, 0);
	if (!record)
		return XDP_DROP;
	__builtin_memcpy(record, data, 14);
	if (data[0] == 0xdd)
		bpf_ringbuf_discard(record, 0);
	else
		bpf_ringbuf_submit(record, 0);
	return XDP_PASS;
}

/* Uses every map, so that all of them are created. */
SEC("xdp")
int maps(struct xdp_md *ctx __attribute__((unused)))
{
	__u32 key = 1;
	__u32 *own = bpf_map_lookup_elem(&per_cpu, &key);
	void *ring = bpf_map_lookup_elem(&rings, &key);
	struct pair *pair;
	__u64 *number;

	if (own)
		*own += 1;
	if (!ring)
		return XDP_DROP;
	pair = bpf_map_lookup_elem(ring, &key);
	number = bpf_map_lookup_elem(&numbers, &key);
	return (pair ? pair->current : 0) + (number ? *number : 0);
}

SEC("tc")
int classify(struct __sk_buff *ctx)
{
	return ctx->len;
}

/* Programs marked with "?" are loaded only where a test wants them: this one's type has no test run. */
SEC("?cgroup/sock_create")
int untestable(struct bpf_sock *ctx __attribute__((unused)))
{
	return 1;
}

/* Reads beyond the packet, which the verifier refuses. */
SEC("?xdp")
int refused(struct xdp_md *ctx)
{
	return *(__u8 *)(long)ctx->data;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
