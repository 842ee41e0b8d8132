/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* Sending a packet to its destination: by MAC, or within an outer header. */
#ifndef XVS_FORWARD_H
#define XVS_FORWARD_H

#include "checksum.h"
#include "count.h"
#include "link.h"
#include "maps.h"
#include "parse.h"
#include "tunnel.h"

#define OUTER_TTL 64
#define VLAN_PRIORITY 0xf000 /* with the bit that says drop eligible */
#define MAX_FRAME 9216
#define SUM_CHUNK 32 /* a power of two */

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

/* How many tags a frame has for the destination: none, or as many as it came with and at least one. */
always_inline __u32 tags_for(struct packet *p, struct destination *d)
{
	__u32 negative = -(__u32)d->vlan;

	asm volatile("" : "+r"(negative)); /* or the compiler makes branches of it */
	return (negative >> 31) * (1 + (p->tags >> 1));
}

/*
 * Puts `overhead` bytes before the IP packet, and before these a new frame header for the destination's
 * network: a tag is rewritten, pushed or popped as that network wants it; its type and priority stay, and an
 * outer tag does.
 * The cursor then stands behind the frame header, and every pointer into the packet is void. 0: no room.
 */
always_inline int reframe(struct packet *p, struct destination *d, __u32 overhead, __be16 protocol,
			  struct cursor *c)
{
	const __u32 tags = tags_for(p, d);
	const int shift = overhead + (tags - p->tags) * sizeof(struct tag);
	const struct vlan vlan = {
		.type = p->tags ? p->vlan.type : bpf_htons(ETH_P_8021Q),
		.control = (p->vlan.control & bpf_htons(VLAN_PRIORITY)) | bpf_htons(d->vlan),
	};

	if (shift && bpf_xdp_adjust_head(p->ctx, -shift))
		return 0;
	c->at = (void *)(long)p->ctx->data;
	c->end = (void *)(long)p->ctx->data_end;
	return write_link(p->ctx, c, d->destination_mac, tags, p->outer, vlan, protocol);
}

/* Out of the interface that it came in by, or of another one of the instance's. */
always_inline struct verdict leave(struct packet *p, struct destination *d)
{
	struct verdict verdict = { .reason = REASON_FORWARDED };

	/* The destination is behind the bond; the packet came in by one of its members. */
	if (likely(d->ifindex == p->ctx->ingress_ifindex) || settings.bonding) {
		verdict.action = XDP_TX;
		return verdict;
	}
	verdict.action = bpf_redirect_map(&interfaces, d->ifindex, XDP_DROP);
	if (verdict.action != XDP_REDIRECT)
		verdict.reason = REASON_ERR_REDIRECT;
	return verdict;
}

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

/* The one's complement sum of bytes of the frame, one by one: only where nothing shorter tells. */
__noinline __u32 sum_octets(struct xdp_md *ctx, __u32 offset, __u32 length)
{
	__u32 sum = 0, words[SUM_CHUNK / 4] = {};
	int i;

	for (i = 0; i < MAX_FRAME / SUM_CHUNK && length >= SUM_CHUNK; i++) {
		if (bpf_xdp_load_bytes(ctx, offset, words, SUM_CHUNK))
			return 0;
		sum = fold(bpf_csum_diff(NULL, 0, words, SUM_CHUNK, sum));
		offset += SUM_CHUNK;
		length -= SUM_CHUNK;
	}
	__builtin_memset(words, 0, sizeof(words));
	if (length) {
		length--; /* Linux 6.1 does not learn from a comparison with 0 that the length is at least 1 */
		asm volatile("" : "+r"(length));
		if (bpf_xdp_load_bytes(ctx, offset, words, (length & (SUM_CHUNK - 1)) + 1))
			return 0;
	}
	return fold(bpf_csum_diff(NULL, 0, words, SUM_CHUNK, sum));
}

/*
 * The one's complement sum of a packet with a right checksum follows from its headers alone: TCP and UDP
 * make their part the complement of their pseudo-header, an IPv4 header and ICMP make themselves zero. So an
 * outer UDP checksum costs the same for any length (Linux calls it local checksum offload).
 */
always_inline __u32 sum_inside(struct packet *p, enum family family)
{
	__u32 sum;
	__u16 *word;

	if (unlikely(p->opaque))
		return sum_octets(p->ctx, sizeof(struct ethhdr) + p->tags * sizeof(struct tag), p->octets);
	if (family == IPV4) {
		if (p->icmp)
			return 0;
		word = (__u16 *)&p->ip4->saddr;
		sum = word[0] + word[1] + word[2] + word[3];
		sum += bpf_htons(p->protocol) + bpf_htons(p->octets - p->ip4->ihl * 4);
		return (__u16)~fold(sum);
	}
	/* The addresses stand in both, and the length too: they cancel out. */
	word = (__u16 *)p->ip6;
	return word[0] + word[1] + word[3] + (__u16)~bpf_htons(p->ip6->nexthdr);
}

/* DSCP and ECN. */
always_inline __u8 tos_of(struct packet *p, enum family family)
{
	return family == IPV4 ? p->ip4->tos : bpf_ntohs(*(__be16 *)p->ip6) >> 4;
}

/*
 * The outer source tells receivers nothing, so it may carry bits of the flow's hash where the tunnel has no
 * ports: flows then spread over the receiver's queues. The bits are zero in what the client wrote.
 */
always_inline void write_outer4(struct iphdr *ip, struct destination *d, __u8 protocol, __u8 tos,
				__u32 length, __u32 entropy)
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
	copy_words(&ip->saddr, d->outer_source, 1);
	copy_words(&ip->daddr, d->outer_destination, 1);
	if (unlikely(d->flags & DESTINATION_SPREAD)) {
		const __be32 bits = entropy & settings.source_mask4;

		ip->saddr |= bits;
		ip->check = ~fold((__u16)~ip->check + (bits & 0xffff) + (bits >> 16));
	}
}

always_inline void write_outer6(struct ipv6hdr *ip, struct destination *d, __u8 protocol, __u8 tos,
				__u32 payload, __u32 entropy)
{
	*(__be32 *)ip = bpf_htonl(0x60000000 | tos << 20);
	ip->payload_len = bpf_htons(payload);
	ip->nexthdr = protocol;
	ip->hop_limit = OUTER_TTL;
	copy_words(&ip->saddr, d->outer_source, 4);
	copy_words(&ip->daddr, d->outer_destination, 4);
	if (unlikely(d->flags & DESTINATION_SPREAD))
		ip->saddr.in6_u.u6_addr32[3] |= entropy & settings.source_mask6;
}

/* The source port spreads flows over the receiver's queues: RFC 7510's dynamic ports. */
always_inline void write_udp(struct udphdr *udp, struct destination *d, __u32 sum, __u32 entropy,
			     __u32 length)
{
	const __u16 length_be = bpf_htons(length);

	udp->source = bpf_htons(0xc000 | (entropy & 0x3fff));
	udp->dest = d->tunnel_port;
	udp->len = length_be;
	udp->check = 0;
	if (d->flags & DESTINATION_NO_CHECKSUM)
		return;
	udp->check = ~fold(d->udp_sum + 2 * length_be + udp->source + sum);
	if (!udp->check)
		udp->check = 0xffff;
}

/* What stands between the outer IP header and the inner one; 0 if the packet has no room for it. */
always_inline int write_tunnel(struct cursor *c, struct destination *d, __u32 sum, __u32 entropy,
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
		write_udp(udp, d, sum, entropy, length);
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

/* Bytes of the frame behind the IP packet: it was filled up to what Ethernet takes at least, and need not be now. */
always_inline int padding_of(struct packet *p)
{
	long available = (void *)(long)p->ctx->data_end - (void *)p->ip4;

	asm volatile("" : "+r"(available)); /* or the compiler subtracts pointers in 32 bits, which the verifier forbids */
	return (int)available - (int)p->octets;
}

/* Puts an outer header before the IP packet; every pointer into the packet is void afterwards. */
always_inline struct verdict encapsulate(struct packet *p, struct destination *d, __u32 entropy,
					 enum tunnel tunnel, enum family outer, enum family inner)
{
	const __u32 overhead = overhead_of(tunnel, outer), length = p->octets + overhead;
	const __u8 protocol = outer_protocol(tunnel, inner), tos = tos_of(p, inner);
	const int with_udp = protocol == IPPROTO_UDP;
	struct cursor c;
	__u32 sum = 0;

	if (unlikely(length > d->mtu)) {
		p->mtu = d->mtu > overhead ? d->mtu - overhead : 0;
		return drop(REASON_TOO_BIG);
	}
	set_ttl(p, ttl_of(p, inner) - 1, inner);
	if (with_udp && !(d->flags & DESTINATION_NO_CHECKSUM))
		sum = sum_inside(p, inner);
	if (unlikely(padding_of(p) > 0))
		bpf_xdp_adjust_tail(p->ctx, -padding_of(p)); /* should it fail, the padding stays */
	if (!reframe(p, d, overhead, outer == IPV4 ? bpf_htons(ETH_P_IP) : bpf_htons(ETH_P_IPV6), &c))
		return drop(REASON_ERR_ADJUST_FAILED);
	if (outer == IPV4) {
		struct iphdr *ip = take(&c, struct iphdr);

		if (!ip)
			return drop(REASON_ERR_INTERNAL);
		write_outer4(ip, d, protocol, tos, length, entropy);
	} else {
		struct ipv6hdr *ip = take(&c, struct ipv6hdr);

		if (!ip)
			return drop(REASON_ERR_INTERNAL);
		write_outer6(ip, d, protocol, tos, length - sizeof(*ip), entropy);
	}
	if (!write_tunnel(&c, d, sum, entropy, length - overhead_of(TUNNEL_IPIP, outer), tunnel, inner))
		return drop(REASON_ERR_INTERNAL);
	return leave(p, d);
}

/*
 * Without a tunnel. A frame that comes back must not go round: its server is the last to see it. What an interface
 * has received it can send; of another the kernel drops what is too long, without a word (__xdp_ok_fwd_dev()).
 */
always_inline struct verdict hand_over(struct packet *p, struct destination *d, enum family family)
{
	struct cursor c;

	if (unlikely(p->octets > d->mtu) && d->ifindex != p->ctx->ingress_ifindex && !settings.bonding) {
		p->mtu = d->mtu;
		return drop(REASON_TOO_BIG);
	}
	set_ttl(p, 1, family);
	if (!reframe(p, d, 0, family == IPV4 ? bpf_htons(ETH_P_IP) : bpf_htons(ETH_P_IPV6), &c))
		return drop(REASON_ERR_ADJUST_FAILED);
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
		return hand_over(p, d, family);
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
