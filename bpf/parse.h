/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * Reading a packet. Every step checks its bounds, advances the cursor and says what stood there, or why
 * it could not be read.
 */
#ifndef XVS_PARSE_H
#define XVS_PARSE_H

#include "abi.h"
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
#define IP_DONT_FRAGMENT 0x4000

/* The families as compile-time arguments: each verb is compiled once for either. */
enum family { IPV4, IPV6 };

struct cursor {
	void *at;
	void *end;
};

enum { TCP_FIN = 0x01, TCP_SYN = 0x02, TCP_RST = 0x04, TCP_ACK = 0x10 };

/* RFC 792, RFC 4443. <linux/icmp.h> cannot be had without the C library's headers. */
struct icmp {
	__u8 type;
	__u8 code;
	__sum16 checksum;
	__be32 rest;
};

enum {
	ICMP4_ECHO_REPLY = 0,
	ICMP4_UNREACHABLE = 3,
	ICMP4_ECHO_REQUEST = 8,
	ICMP6_PACKET_TOO_BIG = 2,
	ICMP6_ECHO_REQUEST = 128,
	ICMP6_ECHO_REPLY = 129,
};

enum { ICMP4_FRAGMENTATION_NEEDED = 4 };

/* What is known of a packet. Pointers into it hold until the next adjust_head. */
struct packet {
	struct xdp_md *ctx;
	struct ethhdr *ethernet;
	union {
		struct iphdr *ip4;
		struct ipv6hdr *ip6;
	};
	struct icmp *icmp; /* NULL: TCP or UDP */
	__u32 octets; /* of the IP packet, or of the frame if it is none */
	__u32 mtu; /* the longest IP packet that would have fitted, if this one did not */
	__u32 ports; /* source and destination as they stand in the packet */
	__u8 protocol;
	__u8 tcp_flags; /* 0 for UDP */
	__u8 no_checksum; /* of a UDP datagram */
};

/* The header at the cursor, or NULL if the packet ends within it; the cursor moves behind it. */
#define take(cursor, type)                                                                         \
	({                                                                                         \
		type *__header = (cursor)->at;                                                     \
		(void *)(__header + 1) > (cursor)->end ? NULL                                      \
						       : ((cursor)->at = __header + 1, __header);  \
	})

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
		p->no_checksum = !udp->check;
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
	header = ip->ihl * 4;
	p->octets = bpf_ntohs(ip->tot_len);
	p->protocol = ip->protocol;
	if (ip->version != 4 || header < sizeof(*ip) || p->octets < header)
		return REASON_ERR_MALFORMED;
	if (p->octets > available)
		return REASON_ERR_TOT_LEN;
	if (ip->frag_off & bpf_htons(IP_FRAGMENT))
		return REASON_ERR_FRAGMENTED;
	if (p->protocol == IPPROTO_ICMPV6)
		return REASON_ERR_L4_UNSUPPORTED;
	c->at = (void *)ip + header;
	return parse_transport(c, p, p->octets - header);
}

/* As parse_ipv4(). */
always_inline enum reason parse_ipv6(struct cursor *c, struct packet *p)
{
	struct ipv6hdr *ip = c->at;
	__u32 available = c->end - c->at;
	__u32 length;

	p->ip6 = ip;
	if (!take(c, struct ipv6hdr))
		return REASON_NOT_IP;
	length = bpf_ntohs(ip->payload_len);
	p->octets = sizeof(*ip) + length;
	p->protocol = ip->nexthdr;
	if (ip->version != 6)
		return REASON_ERR_MALFORMED;
	if (p->octets > available)
		return REASON_ERR_TOT_LEN;
	if (p->protocol == IPPROTO_FRAGMENT)
		return REASON_ERR_FRAGMENTED;
	if (p->protocol == IPPROTO_ICMP)
		return REASON_ERR_L4_UNSUPPORTED;
	return parse_transport(c, p, length);
}

always_inline enum reason parse_ip(struct cursor *c, struct packet *p, enum family family)
{
	return family == IPV4 ? parse_ipv4(c, p) : parse_ipv6(c, p);
}

#endif
