/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * The decapsulator, for destinations: takes the outer header off packets that a known peer sent to a VIP,
 * and leaves everything else as it came. In this order: read_ip() reads the outer header, open_tunnel()
 * finds what it carries, judge() decides whether that is ours, strip() cuts the frame.
 */
#include "checksum.h"
#include "decap_maps.h"
#include "parse.h"

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
	__u8 fragment;
	__u8 ecn; /* RFC 3168 */
};

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
	layer->fragment = !!(ip->frag_off & bpf_htons(IP_FRAGMENT));
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
	layer->fragment = 0;
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
		outer->fragment = 1;
	}
	return DECAP_DECAPSULATED;
}

/* Moves the cursor to the inner IP header, and says of which family it is. */
always_inline enum decap_reason open_tunnel(struct cursor *c, struct layer *outer, enum family *inner)
{
	enum decap_reason reason = read_extensions(c, outer);

	if (reason)
		return reason;
	switch (outer->protocol) {
	case IPPROTO_IPIP:
		*inner = IPV4;
		break;
	case IPPROTO_IPV6:
		*inner = IPV6;
		break;
	default:
		return DECAP_NOT_A_TUNNEL;
	}
	return outer->fragment ? DECAP_FRAGMENT : DECAP_DECAPSULATED;
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

/* Puts the Ethernet header right before the inner packet, and begins the frame there. */
always_inline enum decap_reason strip(struct xdp_md *ctx, struct ethhdr *ethernet, void *inner,
				      enum family family)
{
	const int surplus = inner - (void *)(ethernet + 1);
	struct ethhdr *moved = inner - sizeof(*moved);

	__builtin_memcpy(moved, ethernet, 2 * ETH_ALEN); /* both MACs */
	moved->h_proto = family == IPV4 ? bpf_htons(ETH_P_IP) : bpf_htons(ETH_P_IPV6);
	return bpf_xdp_adjust_head(ctx, surplus) ? DECAP_ERR_ADJUST_FAILED : DECAP_DECAPSULATED;
}

always_inline enum decap_reason unwrap(struct xdp_md *ctx, struct ethhdr *ethernet, struct cursor *c,
				       struct layer *outer, enum family outer_family,
				       enum family inner_family)
{
	void *inner = c->at;
	enum decap_reason reason = judge(c, outer, outer_family, inner_family);

	return reason ? reason : strip(ctx, ethernet, inner, inner_family);
}

always_inline enum decap_reason decapsulate(struct xdp_md *ctx, struct ethhdr *ethernet, struct cursor *c,
					    __u32 *octets, enum family family)
{
	struct layer outer = {};
	enum family inner;
	enum decap_reason reason;

	if (read_ip(c, &outer, c->end - c->at, family))
		return DECAP_UNREADABLE;
	*octets = outer.octets;
	reason = open_tunnel(c, &outer, &inner);
	if (reason)
		return reason;
	if (!is_local(&outer, family))
		return DECAP_NOT_LOCAL;
	return inner == IPV4 ? unwrap(ctx, ethernet, c, &outer, family, IPV4) :
			       unwrap(ctx, ethernet, c, &outer, family, IPV6);
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
	__u32 octets = c.end - c.at; /* of the outer IP packet, or of the frame if it is none */
	enum decap_reason reason = DECAP_NOT_IP;
	struct ethhdr *ethernet = take(&c, struct ethhdr);

	if (!ethernet)
		return conclude(reason, octets);
	switch (ethernet->h_proto) {
	case bpf_htons(ETH_P_IP):
		reason = decapsulate(ctx, ethernet, &c, &octets, IPV4);
		break;
	case bpf_htons(ETH_P_IPV6):
		reason = decapsulate(ctx, ethernet, &c, &octets, IPV6);
		break;
	}
	return conclude(reason, octets);
}

/* Types that no map or variable mentions, kept in the BTF for the generator of decap_abi.gen.ts. */
struct abi {
	enum decap_reason decap_reason;
} abi __attribute__((unused));

char _license[] SEC("license") = "Dual MIT/GPL";
