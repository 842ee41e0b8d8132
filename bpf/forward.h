/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* Sending a packet to its destination: by MAC, or within an outer header. */
#ifndef XVS_FORWARD_H
#define XVS_FORWARD_H

#include "count.h"
#include "maps.h"
#include "parse.h"

#define OUTER_TTL 64

/* One's complement, RFC 1071. */
always_inline __u16 fold(__u32 sum)
{
	sum = (sum & 0xffff) + (sum >> 16);
	return (sum & 0xffff) + (sum >> 16);
}

/* The checksum of a header in which the 16-bit word `from` became `to`: RFC 1624, equation 3. */
always_inline __u16 amend(__u16 checksum, __u16 from, __u16 to)
{
	return ~fold((__u16)~checksum + (__u16)~from + to);
}

/* Only after the service is known: a packet that is not ours keeps its TTL. */
always_inline int expired(struct packet *p, enum family family)
{
	return (family == IPV4 ? p->ip4->ttl : p->ip6->hop_limit) <= 1;
}

always_inline void set_ttl(struct packet *p, __u8 ttl, enum family family)
{
	__u16 *word, before;

	if (family == IPV6) {
		p->ip6->hop_limit = ttl;
		return;
	}
	word = (__u16 *)&p->ip4->ttl; /* and protocol */
	before = *word;
	p->ip4->ttl = ttl;
	p->ip4->check = amend(p->ip4->check, before, *word);
}

always_inline __u8 ttl_of(struct packet *p, enum family family)
{
	return family == IPV4 ? p->ip4->ttl : p->ip6->hop_limit;
}

always_inline void write_ethernet(struct ethhdr *ethernet, struct destination *d, __u16 protocol)
{
	__builtin_memcpy(ethernet->h_dest, d->destination_mac, 2 * ETH_ALEN); /* both MACs */
	ethernet->h_proto = protocol;
}

/* Out of the interface that it came in by, or of another one of the instance's. */
always_inline struct verdict leave(struct packet *p, struct destination *d)
{
	struct verdict verdict = { .reason = REASON_FORWARDED };

	if (likely(d->ifindex == p->ctx->ingress_ifindex)) {
		verdict.action = XDP_TX;
		return verdict;
	}
	verdict.action = bpf_redirect_map(&interfaces, d->ifindex, XDP_DROP);
	if (verdict.action != XDP_REDIRECT)
		verdict.reason = REASON_ERR_REDIRECT;
	return verdict;
}

always_inline void write_outer4(struct iphdr *ip, struct destination *d, __u8 protocol, __u32 length)
{
	const __u16 length_be = bpf_htons(length);

	ip->version = 4;
	ip->ihl = 5;
	ip->tos = 0;
	ip->tot_len = length_be;
	ip->id = 0; /* never fragmented, so no identity is needed: RFC 6864 */
	ip->frag_off = bpf_htons(0x4000); /* don't fragment */
	ip->ttl = OUTER_TTL;
	ip->protocol = protocol;
	ip->check = ~fold(d->outer_sum + length_be);
	__builtin_memcpy(&ip->saddr, d->outer_source, 4);
	__builtin_memcpy(&ip->daddr, d->outer_destination, 4);
}

always_inline void write_outer6(struct ipv6hdr *ip, struct destination *d, __u8 protocol, __u32 payload)
{
	*(__be32 *)ip = bpf_htonl(0x60000000);
	ip->payload_len = bpf_htons(payload);
	ip->nexthdr = protocol;
	ip->hop_limit = OUTER_TTL;
	__builtin_memcpy(&ip->saddr, d->outer_source, 16);
	__builtin_memcpy(&ip->daddr, d->outer_destination, 16);
}

/* Puts `overhead` bytes before the IP packet; every pointer into the packet is void afterwards. */
always_inline struct verdict encapsulate(struct packet *p, struct destination *d, enum family outer,
					 enum family inner, __u32 overhead)
{
	const __u8 protocol = inner == IPV4 ? IPPROTO_IPIP : IPPROTO_IPV6;
	struct ethhdr *ethernet;
	struct cursor c;

	if (p->octets + overhead > d->mtu)
		return drop(REASON_TOO_BIG);
	set_ttl(p, ttl_of(p, inner) - 1, inner);
	if (bpf_xdp_adjust_head(p->ctx, -(int)overhead))
		return drop(REASON_ERR_ADJUST_FAILED);
	c.at = (void *)(long)p->ctx->data;
	c.end = (void *)(long)p->ctx->data_end;

	ethernet = take(&c, struct ethhdr);
	if (!ethernet)
		return drop(REASON_ERR_INTERNAL);
	if (outer == IPV4) {
		struct iphdr *ip = take(&c, struct iphdr);

		if (!ip)
			return drop(REASON_ERR_INTERNAL);
		write_ethernet(ethernet, d, bpf_htons(ETH_P_IP));
		write_outer4(ip, d, protocol, p->octets + overhead);
	} else {
		struct ipv6hdr *ip = take(&c, struct ipv6hdr);

		if (!ip)
			return drop(REASON_ERR_INTERNAL);
		write_ethernet(ethernet, d, bpf_htons(ETH_P_IPV6));
		write_outer6(ip, d, protocol, p->octets + overhead - sizeof(*ip));
	}
	return leave(p, d);
}

always_inline struct verdict forward(struct packet *p, struct destination *d, enum family family)
{
	switch (d->tunnel) {
	case TUNNEL_NONE:
		/* A frame that comes back must not go round: its server is the last to see it. */
		set_ttl(p, 1, family);
		write_ethernet(p->ethernet, d, p->ethernet->h_proto);
		return leave(p, d);
	case TUNNEL_IPIP:
		if (!d->outer_ipv6)
			return encapsulate(p, d, IPV4, family, sizeof(struct iphdr));
		return encapsulate(p, d, IPV6, family, sizeof(struct ipv6hdr));
	default:
		return drop(REASON_ERR_TUNNEL_UNSUPPORTED);
	}
}

#endif
