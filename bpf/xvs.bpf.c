/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * The balancer. For an established flow, in this order: parse.h reads the packet, one hash lookup finds
 * its service, hash.h and flow.h choose the destination, forward.h sends the packet there, count.h counts.
 */
#include "abi.h"
#include "count.h"
#include "flow.h"
#include "forward.h"
#include "icmp.h"
#include "maps.h"
#include "parse.h"

always_inline struct service *find_service(struct packet *p, enum family family)
{
	if (family == IPV4) {
		struct service_key4 key = {
			.address = p->ip4->daddr,
			.port = p->ports >> 16,
			.protocol = p->protocol,
		};

		return bpf_map_lookup_elem(&services4, &key);
	} else {
		struct service_key6 key = { .port = p->ports >> 16, .protocol = p->protocol };

		__builtin_memcpy(key.address, &p->ip6->daddr, sizeof(key.address));
		return bpf_map_lookup_elem(&services6, &key);
	}
}

always_inline struct vip *find_vip(struct packet *p, enum family family)
{
	return family == IPV4 ? bpf_map_lookup_elem(&vips4, &p->ip4->daddr) :
				bpf_map_lookup_elem(&vips6, &p->ip6->daddr);
}

always_inline struct verdict serve(struct packet *p, struct service *service, enum family family)
{
	struct choice choice = {};
	struct destination *d;
	struct verdict verdict;

	if (expired(p, family)) {
		verdict = drop(REASON_ERR_EXPIRED);
	} else {
		choice = choose(p, service, family);
		d = bpf_map_lookup_elem(&destinations, &choice.slot);
		if (!choice.slot)
			verdict = drop(REASON_ERR_NO_BACKEND);
		else if (!d || !d->ifindex)
			verdict = drop(REASON_ERR_BACKEND_INVALID);
		else
			verdict = forward(p, d, choice.entropy, family);
		if (unlikely(verdict.reason == REASON_TOO_BIG))
			verdict = answer_too_big(p, family);
	}
	count_service(p, service, choice, verdict);
	return verdict;
}

/* What met no service: `reason` says why if it was not for want of one. */
always_inline struct verdict refuse(struct packet *p, enum reason reason, enum family family)
{
	struct vip *vip = find_vip(p, family);
	struct verdict verdict;

	if (!vip)
		return pass(REASON_NOT_A_VIP);
	if (reason != REASON_FORWARDED)
		verdict = drop(reason);
	else if (p->icmp)
		verdict = answer_icmp(p, family);
	else
		verdict = drop(REASON_ERR_SERVICE_NOT_FOUND);
	count_reason(&vip_counters, vip->id, verdict.reason);
	return verdict;
}

always_inline struct verdict balance(struct cursor *c, struct packet *p, enum family family)
{
	enum reason reason = parse_ip(c, p, family);
	struct service *service;

	if (reason == REASON_NOT_IP)
		return pass(reason);
	if (reason == REASON_FORWARDED && !p->icmp) {
		service = find_service(p, family);
		if (likely(service))
			return serve(p, service, family);
	}
	return refuse(p, reason, family);
}

SEC("xdp")
int xvs(struct xdp_md *ctx)
{
	struct cursor c = { .at = (void *)(long)ctx->data, .end = (void *)(long)ctx->data_end };
	struct packet p = { .ctx = ctx, .octets = c.end - c.at };

	p.ethernet = take(&c, struct ethhdr);
	if (!p.ethernet)
		return conclude(&p, pass(REASON_NOT_IP));
	switch (p.ethernet->h_proto) {
	case bpf_htons(ETH_P_IP):
		return conclude(&p, balance(&c, &p, IPV4));
	case bpf_htons(ETH_P_IPV6):
		return conclude(&p, balance(&c, &p, IPV6));
	default:
		return conclude(&p, pass(REASON_NOT_IP));
	}
}

/* Types that no map or variable mentions, kept in the BTF for the generator of abi.gen.ts. */
struct abi {
	enum reason reason;
	enum tunnel tunnel;
	enum flow_state flow_state;
	struct ring_window ring_window;
	struct ring_past ring_past;
	struct ring_entry ring_entry;
} abi __attribute__((unused));

char _license[] SEC("license") = "Dual MIT/GPL";
