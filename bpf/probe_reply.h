/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * What answers a probe comes by the network, among all that is for no VIP. It is found by the port that it is sent
 * to, and gets the ends that the host expects.
 */
#ifndef XVS_PROBE_REPLY_H
#define XVS_PROBE_REPLY_H

#include "probe.h"

always_inline int is_probe_port(__be16 port)
{
	return bpf_ntohs(port) - PROBE_PORTS_FROM < (__u32)PROBE_PORTS;
}

/*
 * As change_ends() with an ICMP error that quotes a probe: to whom it is, whom it is from if that is the VIP, and what it
 * quotes up to the ports, where the cursor stands. The quoted checksum of what follows is nobody's to look at.
 */
always_inline void change_quote(struct cursor *c, struct packet *p, struct ends *ends, enum family family)
{
	const __u32 size = family == IPV4 ? 4 : 16, ports = ends->destination_port | (__u32)ends->source_port << 16;
	void *source = family == IPV4 ? (void *)&p->ip4->saddr : (void *)&p->ip6->saddr;
	__u32 outer = 0, quoted;

	/* `source` and `destination` are those of whoever answered the quoted packet. */
	if (!__builtin_memcmp(source, p->source, size))
		outer = overwrite(source, ends->source, size);
	outer = fold(outer + overwrite(source + size, ends->destination, size));
	quoted = overwrite(p->destination, ends->destination, size);
	quoted = fold(quoted + overwrite(p->source, ends->source, size));
	if (family == IPV4) {
		struct iphdr *header = p->destination - __builtin_offsetof(struct iphdr, saddr);

		p->ip4->check = add_to_checksum(p->ip4->check, outer);
		header->check = add_to_checksum(header->check, quoted);
		/* A header with a right checksum adds nothing to others, and there is no pseudo-header. */
		outer = 0;
		quoted = 0;
	}
	outer = fold(outer + quoted + overwrite(c->at, &ports, sizeof(ports)));
	p->icmp->checksum = add_to_checksum(p->icmp->checksum, outer);
}

/* The ports of a reply in fragments; `note` takes note of them, from the first. 0: not known. */
always_inline __u32 ports_of_datagram(struct packet *p, int note, enum family family)
{
	const __u32 words = family == IPV4 ? 1 : 4;
	struct probe_datagram key aligned_words = { .id = p->fragment_id, .protocol = p->protocol };
	__u32 ports = p->ports, *known;

	copy_words(key.source, p->source, words);
	copy_words(key.destination, p->destination, words);
	if (note) {
		bpf_map_update_elem(&probe_fragments, &key, &ports, BPF_ANY);
		return ports;
	}
	known = bpf_map_lookup_elem(&probe_fragments, &key);
	return known ? *known : 0;
}

/* Who is to have a reply; NULL: it is none. */
always_inline struct probe_flow *asker_of(struct packet *p, enum family family)
{
	const __u32 words = family == IPV4 ? 1 : 4;
	struct probe_key key aligned_words = {
		.service_port = p->ports,
		.port = p->ports >> 16,
		.protocol = p->protocol,
	};

	if (!is_probe_port(key.port))
		return NULL;
	copy_words(key.vip, p->source, words);
	copy_words(key.source, p->destination, words);
	return bpf_map_lookup_elem(&probe_flows, &key);
}

/* The frame of a reply on its way to the host, without tags. 0: no room. */
always_inline int frame_for_host(struct packet *p, enum family family)
{
	const struct vlan none = {};
	__u32 macs[3] = {};
	struct cursor c;

	if (p->tags && bpf_xdp_adjust_head(p->ctx, p->tags * sizeof(struct tag)))
		return 0;
	c.at = (void *)(long)p->ctx->data;
	c.end = (void *)(long)p->ctx->data_end;
	__builtin_memcpy(macs, settings.probe_mac, ETH_ALEN);
	return write_link(p->ctx, &c, macs, 0, none, none,
			  family == IPV4 ? bpf_htons(ETH_P_IP) : bpf_htons(ETH_P_IPV6));
}

/* What of a packet tells whose it is, and is changed. */
enum part { PART_PORTS, PART_LATER, PART_QUOTE };

/* Gives a packet the ends that the host expects. 0: it cannot be. */
always_inline int answer(struct cursor *c, struct packet *p, struct probe_flow *flow, enum part part,
			 enum family family)
{
	const __u32 words = family == IPV4 ? 1 : 4;
	struct ends ends aligned_words = { .source_port = p->ports, .destination_port = flow->port };

	copy_words(ends.source, flow->address, words);
	copy_words(ends.destination, flow->source, words);
	if (part == PART_LATER)
		readdress(p, &ends, family);
	else if (part == PART_QUOTE)
		change_quote(c, p, &ends, family);
	else
		return change_ends(c, p, &ends, family);
	return 1;
}

/*
 * A packet to an address that is no VIP. If it answers a probe, or is an error about one, the host gets it as if
 * it came from the probe address, by the interface that it sends probes by; any other is not touched. The reason.
 */
always_inline __u32 take_reply(struct xdp_md *ctx, enum family family)
{
	struct cursor c = { .at = (void *)(long)ctx->data, .end = (void *)(long)ctx->data_end };
	struct packet p = { .ctx = ctx };
	enum part part = PART_PORTS;
	struct probe_flow *flow;

	if (!parse_ethernet(&c, &p) || parse_ip(&c, &p, family) != REASON_FORWARDED)
		return REASON_NOT_A_VIP;
	if (p.fragment == FRAGMENT_LATER) {
		p.ports = ports_of_datagram(&p, 0, family);
		part = PART_LATER;
	} else if (p.icmp) {
		if (p.fragment || !is_error(&p, family) || !adopt_quoted(&c, &p, family))
			return REASON_NOT_A_VIP;
		part = PART_QUOTE;
	}
	asm volatile("" : "+r"(part)); /* or the compiler would ask again, and the verifier expect other answers */
	flow = asker_of(&p, family);
	if (!flow)
		return REASON_NOT_A_VIP;
	if (p.fragment == FRAGMENT_FIRST)
		ports_of_datagram(&p, 1, family);
	flow->seen = now_ns() >> FLOW_SEEN_SHIFT;
	if (!answer(&c, &p, flow, part, family))
		return REASON_ERR_INTERNAL;
	if (!frame_for_host(&p, family))
		return REASON_ERR_ADJUST_FAILED;
	return bpf_redirect_map(&interfaces, settings.probe_ifindex, XDP_DROP) == XDP_REDIRECT ?
		       REASON_PROBE_REPLY :
		       REASON_ERR_REDIRECT;
}

__noinline __u32 take_reply4(struct xdp_md *ctx)
{
	return take_reply(ctx, IPV4);
}

__noinline __u32 take_reply6(struct xdp_md *ctx)
{
	return take_reply(ctx, IPV6);
}

/* What is to no VIP. */
always_inline struct verdict pass_or_reply(struct packet *p, enum family family)
{
	__u32 reason;

	if (likely(!settings.probe_ifindex))
		return pass(REASON_NOT_A_VIP);
	reason = family == IPV4 ? take_reply4(p->ctx) : take_reply6(p->ctx);
	if (reason == REASON_NOT_A_VIP)
		return pass(REASON_NOT_A_VIP);
	return (struct verdict){ .action = reason == REASON_PROBE_REPLY ? XDP_REDIRECT : XDP_DROP, .reason = reason };
}

#endif
