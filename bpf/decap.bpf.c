/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * The decapsulator, for destinations: takes the outer header off packets that a known peer sent to a VIP,
 * and leaves everything else as it came. In this order: read_ip() reads the outer header, open_tunnel()
 * finds what it carries, judge() decides whether that is ours, strip() cuts the frame.
 */
#include "checksum.h"
#include "decap_maps.h"
#include "parse.h"
#include "tunnel.h"

#define GUE_VARIANT_SHIFT 6
#define MAC_WORDS 3
#define MAX_WORDS 5 /* with two tags */

enum { ECN_NONE = 0, ECN_CONGESTION = 3, ECN_MASK = 3 };

/* An IP packet, the outer one or the inner one. */
struct layer {
	union {
		void *start;
		struct iphdr *ip4;
		struct ipv6hdr *ip6;
	};
	__u32 octets; /* of header and payload */
	__u8 protocol; /* of the payload */
	__u8 fragment; /* enum fragment */
	__u8 ecn; /* RFC 3168 */
};

always_inline enum fragment fragment_of(__be16 offset, __be16 any, __be16 later)
{
	if (!(offset & any))
		return FRAGMENT_NONE;
	return offset & later ? FRAGMENT_LATER : FRAGMENT_FIRST;
}

/*
 * Reads an IP header with its options, of a packet that has `room` octets at most. DECAP_UNREADABLE: not
 * even the addresses are there; another reason but DECAP_DECAPSULATED: the rest is not to be trusted.
 */
always_inline enum decap_reason read_ipv4(struct cursor *c, struct layer *layer, __u32 room)
{
	struct iphdr *ip = take(c, struct iphdr);
	__u32 header;

	if (!ip || room < sizeof(*ip) || ip->version != 4)
		return DECAP_UNREADABLE;
	header = ip->ihl * 4;
	layer->ip4 = ip;
	layer->octets = bpf_ntohs(ip->tot_len);
	layer->protocol = ip->protocol;
	layer->fragment = fragment_of(ip->frag_off, bpf_htons(IP_FRAGMENT), bpf_htons(IP_OFFSET));
	layer->ecn = ip->tos & ECN_MASK;
	if (header < sizeof(*ip) || layer->octets < header)
		return DECAP_ERR_MALFORMED;
	if (layer->octets > room)
		return DECAP_ERR_TOT_LEN;
	c->at = (void *)ip + header;
	return DECAP_DECAPSULATED;
}

/* As read_ipv4(); extension headers are for open_tunnel(). */
always_inline enum decap_reason read_ipv6(struct cursor *c, struct layer *layer, __u32 room)
{
	struct ipv6hdr *ip = take(c, struct ipv6hdr);

	if (!ip || room < sizeof(*ip) || ip->version != 6)
		return DECAP_UNREADABLE;
	layer->ip6 = ip;
	layer->octets = sizeof(*ip) + bpf_ntohs(ip->payload_len);
	layer->protocol = ip->nexthdr;
	layer->fragment = FRAGMENT_NONE;
	layer->ecn = bpf_ntohs(*(__be16 *)ip) >> 4 & ECN_MASK;
	return layer->octets > room ? DECAP_ERR_TOT_LEN : DECAP_DECAPSULATED;
}

always_inline enum decap_reason read_ip(struct cursor *c, struct layer *layer, __u32 room,
					enum family family)
{
	return family == IPV4 ? read_ipv4(c, layer, room) : read_ipv6(c, layer, room);
}

/* Steps over what may stand between an outer IPv6 header and the tunnel. */
always_inline enum decap_reason read_extensions(struct cursor *c, struct layer *outer)
{
	/* Linux puts a tunnel encapsulation limit there by default: RFC 2473, section 4.1.1. */
	if (outer->protocol == IPPROTO_DSTOPTS) {
		struct extension6 *options = take(c, struct extension6);

		if (!options)
			return DECAP_UNREADABLE;
		outer->protocol = options->protocol;
		c->at += options->length * 8;
	}
	if (outer->protocol == IPPROTO_FRAGMENT) {
		struct fragment6 *fragment = take(c, struct fragment6);

		if (!fragment)
			return DECAP_UNREADABLE;
		outer->protocol = fragment->protocol;
		outer->fragment = fragment->offset & bpf_htons(IP6_OFFSET) ? FRAGMENT_LATER : FRAGMENT_FIRST;
	}
	return DECAP_DECAPSULATED;
}

/* What stands directly in UDP is announced by nothing but its own version. */
always_inline enum decap_reason open_fou(struct cursor *c, enum family *inner)
{
	__u8 *first = c->at;

	if ((void *)(first + 1) > c->end)
		return DECAP_UNREADABLE;
	switch (*first >> 4) {
	case 4:
		*inner = IPV4;
		return DECAP_DECAPSULATED;
	case 6:
		*inner = IPV6;
		return DECAP_DECAPSULATED;
	default:
		return DECAP_NOT_A_TUNNEL;
	}
}

always_inline enum decap_reason open_ip(__u8 protocol, enum family *inner)
{
	switch (protocol) {
	case IPPROTO_IPIP:
		*inner = IPV4;
		return DECAP_DECAPSULATED;
	case IPPROTO_IPV6:
		*inner = IPV6;
		return DECAP_DECAPSULATED;
	default:
		return DECAP_NOT_A_TUNNEL;
	}
}

/* Variant 1 has no header: its number is what both versions of IP begin with. */
always_inline enum decap_reason open_gue(struct cursor *c, enum family *inner)
{
	struct gue *gue = c->at;

	if ((void *)(gue + 1) > c->end)
		return DECAP_UNREADABLE;
	if (gue->length >> GUE_VARIANT_SHIFT == 1)
		return open_fou(c, inner);
	if (gue->length || gue->flags)
		return DECAP_NOT_A_TUNNEL;
	c->at = gue + 1;
	return open_ip(gue->protocol, inner);
}

/* The checksum is not looked at: it would take the whole packet, and the inner one has its own. */
always_inline enum decap_reason open_udp(struct cursor *c, struct layer *outer, enum family *inner)
{
	const __u32 headers = c->at - outer->start;
	struct udphdr *udp;
	__u8 *tunnel;

	if (outer->fragment == FRAGMENT_LATER) /* nobody knows of which port */
		return DECAP_NOT_A_TUNNEL;
	udp = take(c, struct udphdr);
	if (!udp)
		return DECAP_UNREADABLE;
	tunnel = bpf_map_lookup_elem(&udp_tunnels, &udp->dest);
	if (!tunnel)
		return DECAP_NOT_A_TUNNEL;
	if (outer->fragment)
		return DECAP_FRAGMENT;
	if (headers + bpf_ntohs(udp->len) != outer->octets)
		return DECAP_UNREADABLE;
	return *tunnel == TUNNEL_FOU ? open_fou(c, inner) : open_gue(c, inner);
}

/* With a flag set there is a key, which tells other tunnels apart, or what no balancer sends. */
always_inline enum decap_reason open_gre(struct cursor *c, struct layer *outer, enum family *inner)
{
	struct gre *gre;

	if (outer->fragment)
		return DECAP_FRAGMENT;
	gre = take(c, struct gre);
	if (!gre)
		return DECAP_UNREADABLE;
	if (gre->flags)
		return DECAP_NOT_A_TUNNEL;
	switch (gre->protocol) {
	case bpf_htons(ETH_P_IP):
		*inner = IPV4;
		return DECAP_DECAPSULATED;
	case bpf_htons(ETH_P_IPV6):
		*inner = IPV6;
		return DECAP_DECAPSULATED;
	default:
		return DECAP_NOT_A_TUNNEL;
	}
}

/* Moves the cursor to the inner IP header, and says of which family it is. */
always_inline enum decap_reason open_tunnel(struct cursor *c, struct layer *outer, enum family *inner,
					    enum family family)
{
	enum decap_reason reason = family == IPV6 ? read_extensions(c, outer) : DECAP_DECAPSULATED;

	if (reason)
		return reason;
	switch (outer->protocol) {
	case IPPROTO_UDP:
		return open_udp(c, outer, inner);
	case IPPROTO_GRE:
		return open_gre(c, outer, inner);
	default:
		reason = open_ip(outer->protocol, inner);
		return !reason && outer->fragment ? DECAP_FRAGMENT : reason;
	}
}

always_inline void *destination_of(struct layer *layer, enum family family)
{
	return family == IPV4 ? (void *)&layer->ip4->daddr : (void *)&layer->ip6->daddr;
}

always_inline bool is_local(struct layer *outer, enum family family)
{
	if (!only_addresses)
		return true;
	return bpf_map_lookup_elem(family == IPV4 ? (void *)&addresses4 : (void *)&addresses6,
				   destination_of(outer, family));
}

always_inline bool is_vip(struct layer *inner, enum family family)
{
	return bpf_map_lookup_elem(family == IPV4 ? (void *)&vips4 : (void *)&vips6,
				   destination_of(inner, family));
}

always_inline bool is_from_peer(struct layer *outer, enum family family)
{
	if (family == IPV4) {
		struct peer_key4 key = { .length = 8 * sizeof(key.address) };

		__builtin_memcpy(key.address, &outer->ip4->saddr, sizeof(key.address));
		return bpf_map_lookup_elem(&peers4, &key);
	} else {
		struct peer_key6 key = { .length = 8 * sizeof(key.address) };

		__builtin_memcpy(key.address, &outer->ip6->saddr, sizeof(key.address));
		return bpf_map_lookup_elem(&peers6, &key);
	}
}

/* Congestion that the outer header met is told by the inner one: RFC 6040, section 4.2. */
always_inline enum decap_reason hand_down_congestion(struct layer *outer, struct layer *inner,
						     enum family family)
{
	__u16 *word = inner->start, before = *word;

	if (likely(outer->ecn != ECN_CONGESTION))
		return DECAP_DECAPSULATED;
	if (inner->ecn == ECN_NONE)
		return DECAP_ERR_CONGESTION;
	if (family == IPV4) {
		inner->ip4->tos |= ECN_CONGESTION;
		inner->ip4->check = amend(inner->ip4->check, before, *word);
	} else {
		*word |= bpf_htons(ECN_CONGESTION << 4);
	}
	return DECAP_DECAPSULATED;
}

/* Whether the packet at the cursor is for us. Who sent it matters only if it is for a VIP. */
always_inline enum decap_reason judge(struct cursor *c, struct layer *outer, enum family outer_family,
				      enum family inner_family)
{
	const __u32 headers = c->at - outer->start;
	const __u32 room = outer->octets > headers ? outer->octets - headers : 0;
	struct layer inner = {};
	enum decap_reason reason = read_ip(c, &inner, room, inner_family);

	if (reason == DECAP_UNREADABLE)
		return reason;
	if (!is_vip(&inner, inner_family))
		return DECAP_NOT_A_VIP;
	if (!is_from_peer(outer, outer_family))
		return DECAP_ERR_UNKNOWN_PEER;
	if (reason)
		return reason;
	return hand_down_congestion(outer, &inner, inner_family);
}

/* Puts the Ethernet header, with its tags, right before the inner packet, and begins the frame there. */
always_inline enum decap_reason strip(struct packet *p, struct cursor *c, struct layer *outer, void *inner,
				      enum family family)
{
	const int surplus = inner - outer->start;
	const __u32 words = MAC_WORDS + p->tags;
	__u32 i, kept[MAX_WORDS], *link = (void *)p->ethernet;
	__be16 *type = inner - sizeof(*type);

	if ((void *)(link + MAX_WORDS) > c->end)
		return DECAP_ERR_ADJUST_FAILED;
	for (i = 0; i < MAX_WORDS; i++)
		kept[i] = link[i];
	*type = family == IPV4 ? bpf_htons(ETH_P_IP) : bpf_htons(ETH_P_IPV6);
	if (bpf_xdp_adjust_head(p->ctx, surplus))
		return DECAP_ERR_ADJUST_FAILED;
	link = (void *)(long)p->ctx->data;
	if ((void *)(link + MAX_WORDS) > (void *)(long)p->ctx->data_end)
		return DECAP_ERR_ADJUST_FAILED;
	for (i = 0; i < MAX_WORDS; i++)
		if (i < words)
			link[i] = kept[i];
	return DECAP_DECAPSULATED;
}

always_inline enum decap_reason unwrap(struct packet *p, struct cursor *c, struct layer *outer,
				       enum family outer_family, enum family inner_family)
{
	void *inner = c->at;
	enum decap_reason reason = judge(c, outer, outer_family, inner_family);

	return reason ? reason : strip(p, c, outer, inner, inner_family);
}

always_inline enum decap_reason decapsulate(struct packet *p, struct cursor *c, enum family family)
{
	struct layer outer = {};
	enum family inner;
	enum decap_reason reason;

	if (read_ip(c, &outer, c->end - c->at, family))
		return DECAP_UNREADABLE;
	p->octets = outer.octets;
	reason = open_tunnel(c, &outer, &inner, family);
	if (reason)
		return reason;
	if (!is_local(&outer, family))
		return DECAP_NOT_LOCAL;
	return inner == IPV4 ? unwrap(p, c, &outer, family, IPV4) : unwrap(p, c, &outer, family, IPV6);
}

/* Every packet, once, by its reason. */
always_inline int conclude(__u32 reason, __u32 octets)
{
	struct reason_counter *counter = bpf_map_lookup_elem(&reason_counters, &reason);

	if (counter) {
		counter->packets++;
		counter->octets += octets;
	}
	return reason < DECAP_ERR_UNKNOWN_PEER ? XDP_PASS : XDP_DROP;
}

SEC("xdp")
int decap(struct xdp_md *ctx)
{
	struct cursor c = { .at = (void *)(long)ctx->data, .end = (void *)(long)ctx->data_end };
	struct packet p = { .ctx = ctx, .octets = c.end - c.at };

	switch (parse_ethernet(&c, &p)) {
	case bpf_htons(ETH_P_IP):
		return conclude(decapsulate(&p, &c, IPV4), p.octets);
	case bpf_htons(ETH_P_IPV6):
		return conclude(decapsulate(&p, &c, IPV6), p.octets);
	default:
		return conclude(DECAP_NOT_IP, p.octets);
	}
}

/* Types that no map or variable mentions, kept in the BTF for the generator of decap_abi.gen.ts. */
struct abi {
	enum decap_reason decap_reason;
} abi __attribute__((unused));

char _license[] SEC("license") = "Dual MIT/GPL";
