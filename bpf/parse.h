/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * Reading a packet. Every step checks its bounds, advances the cursor and says what stood there, or why
 * it could not be read.
 */
#ifndef XVS_PARSE_H
#define XVS_PARSE_H

#include "abi.h"
#include "icmp_types.h"
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/tcp.h>
#include <linux/udp.h>

#define always_inline static inline __attribute__((always_inline))
#define likely(x) __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)

#define IP_FRAGMENT 0x3fff /* more fragments, or an offset */
#define IP_OFFSET 0x1fff
#define IP_DONT_FRAGMENT 0x4000
#define IP6_OFFSET 0xfff8
#define IP6_MORE 0x0001
#define IPV6_EXTENSIONS 6 /* as many headers are looked behind */
#define MAX_HEADERS 4096 /* bytes of headers before the transport's, at most */

/* The families as compile-time arguments: each verb is compiled once for either. */
enum family { IPV4, IPV6 };

struct cursor {
	void *at;
	void *end;
};

enum { TCP_FIN = 0x01, TCP_SYN = 0x02, TCP_RST = 0x04, TCP_ACK = 0x10 };

/* IEEE 802.1Q: behind the MACs stands the type of the tag, behind the tag that of what follows. */
struct tag {
	__be16 control; /* priority, drop eligibility, VLAN ID */
	__be16 protocol;
};

/* The same as it stands behind the MACs: its own type, and what it says. */
struct vlan {
	__be16 type;
	__be16 control;
};

enum fragment { FRAGMENT_NONE, FRAGMENT_FIRST, FRAGMENT_LATER };

/* RFC 8200, section 4.5. */
struct fragment6 {
	__u8 protocol;
	__u8 reserved;
	__be16 offset; /* and flags */
	__be32 id;
};

/* RFC 8200, section 4: what hop-by-hop options, routing headers and destination options begin with. */
struct extension6 {
	__u8 protocol;
	__u8 length; /* beyond the first 8 octets, in units of as many */
	__u8 data[6];
};

/* What is known of a packet. Pointers into it hold until the next adjust_head. */
struct packet {
	struct xdp_md *ctx;
	struct ethhdr *ethernet;
	union {
		struct iphdr *ip4;
		struct ipv6hdr *ip6;
	};
	struct icmp *icmp; /* NULL: TCP or UDP */
	/* The flow's ends as the client has them: in an ICMP error those of the packet that it quotes. */
	void *source;
	void *destination;
	__u32 ports; /* source and destination as they stand in the packet */
	__u32 octets; /* of the IP packet, or of the frame if it is none */
	__u32 mtu; /* the longest IP packet that would have fitted, if this one did not */
	__u32 fragment_id;
	struct vlan outer; /* the outer tag, if there are two */
	struct vlan vlan; /* the tag, or the inner one */
	__u8 tags;
	__u8 protocol;
	__u8 tcp_flags; /* 0 for UDP */
	__u8 fragment; /* enum fragment */
	__u8 opaque; /* its checksums do not follow from its headers */
	__u8 quoted; /* an ICMP error about the flow, not a packet of it */
};

/* The header at the cursor, or NULL if the packet ends within it; the cursor moves behind it. */
#define take(cursor, type)                                                                         \
	({                                                                                         \
		type *__header = (cursor)->at;                                                     \
		(void *)(__header + 1) > (cursor)->end ? NULL                                      \
						       : ((cursor)->at = __header + 1, __header);  \
	})

/* Whatever is read or written as one: the compiler must not think that no field of another type lies there. */
typedef __u32 __attribute__((may_alias)) any_word;

/* Of so many 32-bit words, wherever they lie: memcpy() would go byte by byte through what may be unaligned. */
always_inline void copy_words(void *to, const void *from, __u32 words)
{
	for (__u32 i = 0; i < words; i++)
		((any_word *)to)[i] = ((const any_word *)from)[i];
}

/* Keys that words are copied into. */
#define aligned_words __attribute__((aligned(8)))

always_inline int is_tag(__be16 protocol)
{
	return protocol == bpf_htons(ETH_P_8021Q) || protocol == bpf_htons(ETH_P_8021AD);
}

/*
 * How many tags: 0 if what is behind them cannot be read. A global function, as are others that are off the
 * common path: the verifier looks into each once, and not again on every way that leads to it.
 */
__noinline int count_tags(struct xdp_md *ctx)
{
	struct cursor c = { .at = (void *)(long)ctx->data, .end = (void *)(long)ctx->data_end };
	struct tag *first, *second;

	if (!take(&c, struct ethhdr))
		return 0;
	first = take(&c, struct tag);
	second = take(&c, struct tag);
	if (!first || !second)
		return 0;
	return is_tag(first->protocol) ? 2 : 1;
}

/* Ethernet and up to two tags; the protocol of what follows, 0 if it cannot be read. */
always_inline __be16 parse_ethernet(struct cursor *c, struct packet *p)
{
	struct tag *tag;
	__u64 tags;

	p->ethernet = take(c, struct ethhdr);
	if (!p->ethernet)
		return 0;
	if (likely(!is_tag(p->ethernet->h_proto)))
		return p->ethernet->h_proto;
	tag = c->at;
	tags = count_tags(p->ctx);
	asm volatile("" : "+r"(tags)); /* or the compiler, who knows the bound, would not tell the verifier */
	tags &= 3;
	if (!tags || (void *)(tag + 1) > c->end)
		return 0;
	p->tags = tags;
	p->vlan = (struct vlan){ .type = p->ethernet->h_proto, .control = tag->control };
	if (tags == 2) {
		p->outer = p->vlan;
		p->vlan.type = tag->protocol;
		tag++;
		if ((void *)(tag + 1) > c->end)
			return 0;
		p->vlan.control = tag->control;
	}
	c->at = tag + 1;
	return tag->protocol;
}

/* Bytes of a jumbo frame that are not in its first buffer, where its headers are. */
__noinline int in_other_buffers(struct xdp_md *ctx)
{
	long first = (void *)(long)ctx->data_end - (void *)(long)ctx->data;

	asm volatile("" : "+r"(first)); /* or the compiler subtracts pointers in 32 bits, which the verifier forbids */
	return bpf_xdp_get_buff_len(ctx) - first;
}

/* TCP, UDP and ICMP up to what a verdict needs; REASON_FORWARDED: nothing is wrong with it. */
always_inline enum reason parse_transport(struct cursor *c, struct packet *p, __u32 length)
{
	struct tcphdr *tcp;
	struct udphdr *udp;

	switch (p->protocol) {
	case IPPROTO_TCP:
		tcp = take(c, struct tcphdr);
		if (!tcp || length < sizeof(*tcp) || tcp->doff < 5)
			return REASON_ERR_TCP_HEADER;
		p->ports = *(__u32 *)tcp;
		p->tcp_flags = ((__u8 *)tcp)[13];
		return REASON_FORWARDED;
	case IPPROTO_UDP:
		udp = take(c, struct udphdr);
		if (!udp || length < sizeof(*udp))
			return REASON_ERR_UDP_HEADER;
		p->ports = *(__u32 *)udp;
		p->opaque |= !udp->check || udp->len != bpf_htons(length); /* RFC 9868: options may follow */
		return REASON_FORWARDED;
	case IPPROTO_ICMP:
	case IPPROTO_ICMPV6:
		p->icmp = take(c, struct icmp);
		if (!p->icmp || length < sizeof(*p->icmp))
			return REASON_ERR_ICMP_HEADER;
		return REASON_FORWARDED;
	default:
		return REASON_ERR_L4_UNSUPPORTED;
	}
}

/*
 * REASON_NOT_IP if not even the addresses can be read; any other reason is one to drop the packet for
 * if, and only if, it is for a VIP.
 */
always_inline enum reason parse_ipv4(struct cursor *c, struct packet *p)
{
	struct iphdr *ip = c->at;
	__u32 header, available = c->end - c->at;

	p->ip4 = ip;
	if (!take(c, struct iphdr))
		return REASON_NOT_IP;
	p->source = &ip->saddr;
	p->destination = &ip->daddr;
	header = ip->ihl * 4;
	p->octets = bpf_ntohs(ip->tot_len);
	p->protocol = ip->protocol;
	if (ip->version != 4 || header < sizeof(*ip) || p->octets < header)
		return REASON_ERR_MALFORMED;
	if (p->octets > available && p->octets - available > (__u32)in_other_buffers(p->ctx))
		return REASON_ERR_TOT_LEN;
	if (p->protocol == IPPROTO_ICMPV6)
		return REASON_ERR_L4_UNSUPPORTED;
	if (unlikely(ip->frag_off & bpf_htons(IP_FRAGMENT))) {
		p->fragment_id = ip->id;
		p->opaque = 1;
		p->fragment = FRAGMENT_FIRST;
		if (ip->frag_off & bpf_htons(IP_OFFSET)) {
			p->fragment = FRAGMENT_LATER;
			return REASON_FORWARDED;
		}
	}
	c->at = (void *)ip + header;
	return parse_transport(c, p, p->octets - header);
}

/* Extension headers, from the first on. */
struct walk {
	__u32 offset; /* from the start of the frame */
	__u32 length; /* of header and what follows */
	__u32 fragment_id;
	__u8 protocol; /* of the header */
	__u8 fragment; /* enum fragment */
	__u8 pad[2];
};

always_inline int is_extension(__u8 protocol)
{
	return protocol == IPPROTO_HOPOPTS || protocol == IPPROTO_ROUTING || protocol == IPPROTO_DSTOPTS ||
	       protocol == IPPROTO_FRAGMENT;
}

/* One step further: 1, or 0 if the header is none of those, or cut short. */
always_inline int step(struct xdp_md *ctx, struct walk *walk)
{
	struct extension6 extension;
	struct fragment6 fragment;
	__u32 size = sizeof(fragment);

	switch (walk->protocol) {
	case IPPROTO_HOPOPTS:
	case IPPROTO_ROUTING:
	case IPPROTO_DSTOPTS:
		if (bpf_xdp_load_bytes(ctx, walk->offset, &extension, sizeof(extension)))
			return 0;
		size = (extension.length + 1) * 8;
		if (size > walk->length)
			return 0;
		walk->protocol = extension.protocol;
		break;
	case IPPROTO_FRAGMENT:
		if (size > walk->length || bpf_xdp_load_bytes(ctx, walk->offset, &fragment, sizeof(fragment)))
			return 0;
		walk->protocol = fragment.protocol;
		walk->fragment_id = fragment.id;
		if (fragment.offset & bpf_htons(IP6_OFFSET))
			walk->fragment = FRAGMENT_LATER;
		else if (fragment.offset & bpf_htons(IP6_MORE)) /* or it is whole: RFC 6946 */
			walk->fragment = FRAGMENT_FIRST;
		break;
	default:
		return 0;
	}
	walk->offset += size;
	walk->length -= size;
	return walk->fragment != FRAGMENT_LATER;
}

/* Over as many headers as are looked behind; how many bytes these have. */
__noinline int walk_extensions(struct xdp_md *ctx, struct walk *walk)
{
	__u32 length;
	int i;

	if (!walk)
		return 0;
	length = walk->length;
	for (i = 0; i < IPV6_EXTENSIONS; i++)
		if (!step(ctx, walk))
			break;
	return length - walk->length;
}

/* Moves the cursor behind the extension headers; `length` of the payload shrinks by theirs. */
always_inline enum reason parse_extensions(struct cursor *c, struct packet *p, __u32 *length)
{
	void *start = (void *)(long)p->ctx->data;
	struct walk walk = { .offset = c->at - start, .length = *length, .protocol = p->protocol };

	p->opaque = walk_extensions(p->ctx, &walk) > 0;
	p->protocol = walk.protocol;
	p->fragment = walk.fragment;
	p->fragment_id = walk.fragment_id;
	*length = walk.length;
	if (walk.fragment == FRAGMENT_LATER)
		return REASON_FORWARDED;
	if (is_extension(walk.protocol) || walk.offset > MAX_HEADERS)
		return REASON_ERR_EXTENSIONS;
	c->at = start + walk.offset;
	return REASON_FORWARDED;
}

/* As parse_ipv4(). */
always_inline enum reason parse_ipv6(struct cursor *c, struct packet *p)
{
	struct ipv6hdr *ip = c->at;
	__u32 available = c->end - c->at;
	enum reason reason;
	__u32 length;

	p->ip6 = ip;
	if (!take(c, struct ipv6hdr))
		return REASON_NOT_IP;
	p->source = &ip->saddr;
	p->destination = &ip->daddr;
	length = bpf_ntohs(ip->payload_len);
	p->octets = sizeof(*ip) + length;
	p->protocol = ip->nexthdr;
	if (ip->version != 6)
		return REASON_ERR_MALFORMED;
	if (p->octets > available && p->octets - available > (__u32)in_other_buffers(p->ctx))
		return REASON_ERR_TOT_LEN;
	if (unlikely(p->protocol != IPPROTO_TCP && p->protocol != IPPROTO_UDP)) {
		reason = parse_extensions(c, p, &length);
		if (reason != REASON_FORWARDED || p->fragment == FRAGMENT_LATER)
			return reason;
	}
	if (p->protocol == IPPROTO_ICMP)
		return REASON_ERR_L4_UNSUPPORTED;
	return parse_transport(c, p, length);
}

always_inline enum reason parse_ip(struct cursor *c, struct packet *p, enum family family)
{
	return family == IPV4 ? parse_ipv4(c, p) : parse_ipv6(c, p);
}

#endif
