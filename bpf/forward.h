/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* Sending a packet to its destination: by MAC, or within an outer header. */
#ifndef XVS_FORWARD_H
#define XVS_FORWARD_H

#include "checksum.h"
#include "count.h"
#include "maps.h"
#include "parse.h"

#define OUTER_TTL 64

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

/* The headers between outer IP header and inner packet. */
struct gre {
	__be16 flags;
	__be16 protocol;
};

struct gue {
	__u8 length; /* of options, in words; and variant and control bit, all 0 */
	__u8 protocol;
	__be16 flags;
};

always_inline __u32 overhead_of(enum tunnel tunnel, enum family outer)
{
	const __u32 ip = outer == IPV4 ? sizeof(struct iphdr) : sizeof(struct ipv6hdr);

	switch (tunnel) {
	case TUNNEL_GRE:
		return ip + sizeof(struct gre);
	case TUNNEL_FOU:
		return ip + sizeof(struct udphdr);
	case TUNNEL_GUE:
		return ip + sizeof(struct udphdr) + sizeof(struct gue);
	default:
		return ip;
	}
}

/* IP protocol of an outer header, or within GUE. */
always_inline __u8 payload_protocol(enum family inner)
{
	return inner == IPV4 ? IPPROTO_IPIP : IPPROTO_IPV6;
}

always_inline __u8 outer_protocol(enum tunnel tunnel, enum family inner)
{
	switch (tunnel) {
	case TUNNEL_GRE:
		return IPPROTO_GRE;
	case TUNNEL_FOU:
	case TUNNEL_GUE:
		return IPPROTO_UDP;
	default:
		return payload_protocol(inner);
	}
}

/* What an outer header takes over from the inner packet, read before it is out of reach. */
struct inner {
	__u8 tos; /* DSCP and ECN: RFC 6040, section 4.1 */
	__u8 no_checksum; /* a UDP datagram over IPv4 without one */
	__u32 sum; /* one's complement sum of the whole packet */
};

/*
 * The one's complement sum of a packet with a right checksum follows from its headers alone: TCP and UDP
 * make their part the complement of their pseudo-header, an IPv4 header makes itself zero. So an outer UDP
 * checksum costs the same for any length (Linux calls it local checksum offload).
 */
always_inline struct inner look_inside(struct packet *p, enum family family)
{
	struct inner inner = {};
	__u16 *word;

	if (family == IPV4) {
		const __u32 length = p->octets - p->ip4->ihl * 4;

		word = (__u16 *)&p->ip4->saddr;
		inner.tos = p->ip4->tos;
		inner.sum = word[0] + word[1] + word[2] + word[3];
		inner.sum += bpf_htons(p->protocol) + bpf_htons(length);
		inner.sum = (__u16)~fold(inner.sum);
		inner.no_checksum = p->no_checksum;
	} else {
		/* The addresses stand in both, and the length too: they cancel out. */
		word = (__u16 *)p->ip6;
		inner.tos = bpf_ntohs(word[0]) >> 4;
		inner.sum = word[0] + word[1] + word[3] + (__u16)~bpf_htons(p->protocol);
	}
	return inner;
}

always_inline void write_outer4(struct iphdr *ip, struct destination *d, __u8 protocol, __u8 tos,
				__u32 length)
{
	const __u16 length_be = bpf_htons(length);

	ip->version = 4;
	ip->ihl = 5;
	ip->tos = tos;
	ip->tot_len = length_be;
	ip->id = 0; /* never fragmented, so no identity is needed: RFC 6864 */
	ip->frag_off = bpf_htons(IP_DONT_FRAGMENT);
	ip->ttl = OUTER_TTL;
	ip->protocol = protocol;
	ip->check = ~fold(d->outer_sum + length_be + bpf_htons(tos));
	__builtin_memcpy(&ip->saddr, d->outer_source, 4);
	__builtin_memcpy(&ip->daddr, d->outer_destination, 4);
}

always_inline void write_outer6(struct ipv6hdr *ip, struct destination *d, __u8 protocol, __u8 tos,
				__u32 payload)
{
	*(__be32 *)ip = bpf_htonl(0x60000000 | tos << 20);
	ip->payload_len = bpf_htons(payload);
	ip->nexthdr = protocol;
	ip->hop_limit = OUTER_TTL;
	__builtin_memcpy(&ip->saddr, d->outer_source, 16);
	__builtin_memcpy(&ip->daddr, d->outer_destination, 16);
}

/* The source port spreads flows over the receiver's queues: RFC 7510's dynamic ports. */
always_inline void write_udp(struct udphdr *udp, struct destination *d, struct inner inner, __u32 entropy,
			     __u32 length)
{
	const __u16 length_be = bpf_htons(length);

	udp->source = bpf_htons(0xc000 | (entropy & 0x3fff));
	udp->dest = d->tunnel_port;
	udp->len = length_be;
	udp->check = 0;
	if (d->flags & DESTINATION_NO_CHECKSUM || inner.no_checksum)
		return;
	udp->check = ~fold(d->udp_sum + 2 * length_be + udp->source + inner.sum);
	if (!udp->check)
		udp->check = 0xffff;
}

/* What stands between the outer IP header and the inner one; 0 if the packet has no room for it. */
always_inline int write_tunnel(struct cursor *c, struct destination *d, struct inner inner, __u32 entropy,
			       __u32 length, enum tunnel tunnel, enum family family)
{
	struct gre *gre;
	struct gue *gue;
	struct udphdr *udp;

	switch (tunnel) {
	case TUNNEL_GRE:
		gre = take(c, struct gre);
		if (!gre)
			return 0;
		gre->flags = 0;
		gre->protocol = family == IPV4 ? bpf_htons(ETH_P_IP) : bpf_htons(ETH_P_IPV6);
		return 1;
	case TUNNEL_FOU:
	case TUNNEL_GUE:
		udp = take(c, struct udphdr);
		if (!udp)
			return 0;
		write_udp(udp, d, inner, entropy, length);
		if (tunnel == TUNNEL_FOU)
			return 1;
		gue = take(c, struct gue);
		if (!gue)
			return 0;
		gue->length = 0;
		gue->protocol = payload_protocol(family);
		gue->flags = 0;
		return 1;
	default:
		return 1;
	}
}

/* Puts an outer header before the IP packet; every pointer into the packet is void afterwards. */
always_inline struct verdict encapsulate(struct packet *p, struct destination *d, __u32 entropy,
					 enum tunnel tunnel, enum family outer, enum family inner)
{
	const __u32 overhead = overhead_of(tunnel, outer), length = p->octets + overhead;
	const __u8 protocol = outer_protocol(tunnel, inner);
	struct ethhdr *ethernet;
	struct inner inside;
	struct cursor c;

	if (unlikely(length > d->mtu)) {
		p->mtu = d->mtu > overhead ? d->mtu - overhead : 0;
		return drop(REASON_TOO_BIG);
	}
	set_ttl(p, ttl_of(p, inner) - 1, inner);
	inside = look_inside(p, inner);
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
		write_outer4(ip, d, protocol, inside.tos, length);
	} else {
		struct ipv6hdr *ip = take(&c, struct ipv6hdr);

		if (!ip)
			return drop(REASON_ERR_INTERNAL);
		write_ethernet(ethernet, d, bpf_htons(ETH_P_IPV6));
		write_outer6(ip, d, protocol, inside.tos, length - sizeof(*ip));
	}
	if (!write_tunnel(&c, d, inside, entropy, length - overhead_of(TUNNEL_IPIP, outer), tunnel, inner))
		return drop(REASON_ERR_INTERNAL);
	return leave(p, d);
}

always_inline struct verdict send_through(struct packet *p, struct destination *d, __u32 entropy,
					  enum tunnel tunnel, enum family family)
{
	return d->flags & DESTINATION_IPV6 ? encapsulate(p, d, entropy, tunnel, IPV6, family) :
					     encapsulate(p, d, entropy, tunnel, IPV4, family);
}

always_inline struct verdict forward(struct packet *p, struct destination *d, __u32 entropy,
				     enum family family)
{
	switch (d->tunnel) {
	case TUNNEL_NONE:
		/* A frame that comes back must not go round: its server is the last to see it. */
		set_ttl(p, 1, family);
		write_ethernet(p->ethernet, d, p->ethernet->h_proto);
		return leave(p, d);
	case TUNNEL_IPIP:
		return send_through(p, d, entropy, TUNNEL_IPIP, family);
	case TUNNEL_GRE:
		return send_through(p, d, entropy, TUNNEL_GRE, family);
	case TUNNEL_FOU:
		return send_through(p, d, entropy, TUNNEL_FOU, family);
	case TUNNEL_GUE:
		return send_through(p, d, entropy, TUNNEL_GUE, family);
	default:
		return drop(REASON_ERR_TUNNEL_UNSUPPORTED);
	}
}

#endif
