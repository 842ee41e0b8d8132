/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* ICMP to a VIP, and errors from one. */
#ifndef XVS_ICMP_H
#define XVS_ICMP_H

#include "forward.h"

#define ICMP_TTL 64
#define ICMP_QUOTE 504 /* bytes of the packet that an error quotes; with the ICMP header 512 */
#define ICMP_TICK_SHIFT 24 /* ns: 16.8 ms */

always_inline int is_echo_request(struct packet *p, enum family family)
{
	return p->icmp->type == (family == IPV4 ? ICMP4_ECHO_REQUEST : ICMP6_ECHO_REQUEST) && p->icmp->code == 0;
}

/* Unreachable, time exceeded and parameter problem; IPv6 has packet too big besides, IPv4 within unreachable. */
always_inline int is_error(struct packet *p, enum family family)
{
	const __u8 type = p->icmp->type;

	if (family == IPV4)
		return type == ICMP4_UNREACHABLE || type == ICMP4_TIME_EXCEEDED || type == ICMP4_PARAMETER_PROBLEM;
	return type >= ICMP6_UNREACHABLE && type <= ICMP6_PARAMETER_PROBLEM;
}

/*
 * Makes the packet one of the flow that it quotes, as that flow's client would send it: the quoted packet
 * went the other way. 0: it quotes nothing that a VIP of that address sent.
 */
always_inline int adopt_quoted(struct cursor *c, struct packet *p, enum family family)
{
	__u16 *ports;

	if (family == IPV4) {
		struct iphdr *quoted = take(c, struct iphdr);

		if (!quoted || quoted->ihl < 5 || quoted->frag_off & bpf_htons(IP_OFFSET) ||
		    quoted->saddr != p->ip4->daddr)
			return 0;
		p->source = &quoted->daddr;
		p->destination = &quoted->saddr;
		p->protocol = quoted->protocol;
		c->at = (void *)quoted + quoted->ihl * 4;
	} else {
		struct ipv6hdr *quoted = take(c, struct ipv6hdr);

		if (!quoted || __builtin_memcmp(&quoted->saddr, &p->ip6->daddr, sizeof(quoted->saddr)))
			return 0;
		p->source = &quoted->daddr;
		p->destination = &quoted->saddr;
		p->protocol = quoted->nexthdr;
	}
	ports = c->at;
	if ((p->protocol != IPPROTO_TCP && p->protocol != IPPROTO_UDP) || (void *)(ports + 2) > c->end)
		return 0;
	p->ports = ports[1] | (__u32)ports[0] << 16;
	p->quoted = 1;
	return 1;
}

always_inline void turn_echo(struct packet *p, enum family family)
{
	__u16 *word = (__u16 *)p->icmp, before = *word; /* type and code */

	p->icmp->type = family == IPV4 ? ICMP4_ECHO_REPLY : ICMP6_ECHO_REPLY;
	p->icmp->checksum = amend(p->icmp->checksum, before, *word);
}

/* Both addresses stand in the checksums, so that exchanging them changes none. */
always_inline void turn_addresses(struct packet *p, enum family family)
{
	__u8 mac[ETH_ALEN];

	__builtin_memcpy(mac, p->ethernet->h_dest, ETH_ALEN);
	__builtin_memcpy(p->ethernet->h_dest, p->ethernet->h_source, ETH_ALEN);
	__builtin_memcpy(p->ethernet->h_source, mac, ETH_ALEN);
	if (family == IPV4) {
		__be32 address = p->ip4->saddr;

		p->ip4->saddr = p->ip4->daddr;
		p->ip4->daddr = address;
	} else {
		struct in6_addr address = p->ip6->saddr;

		p->ip6->saddr = p->ip6->daddr;
		p->ip6->daddr = address;
	}
}

always_inline struct verdict answer_echo(struct packet *p, enum family family)
{
	turn_echo(p, family);
	turn_addresses(p, family);
	set_ttl(p, ICMP_TTL, family);
	return transmit(REASON_ICMP_ECHO_REQUEST);
}

/*
 * One more error in this tick? Each CPU has its own budget. Answers are as rare as senders are reasonable,
 * and must stay so when they are not.
 */
always_inline int may_answer(void)
{
	__u32 zero = 0, tick = now_ns() >> ICMP_TICK_SHIFT;
	struct icmp_budget *budget = bpf_map_lookup_elem(&icmp_budgets, &zero);

	if (!budget)
		return 0;
	if (budget->tick != tick) {
		budget->tick = tick;
		budget->spent = 0;
	}
	return budget->spent++ < settings.icmp_budget;
}

always_inline __u16 csum_of(const void *bytes, __u32 length, __u32 seed)
{
	return ~fold(bpf_csum_diff(NULL, 0, (__be32 *)bytes, length, seed));
}

/*
 * Makes of the packet an error about itself, from the address that it was sent to: RFC 792, RFC 4443. `rest`
 * is the second word of the ICMP header.
 */
always_inline int turn_into_error(struct xdp_md *ctx, __u8 type, __u8 code, __be32 rest, enum family family)
{
	const __u32 ip_size = family == IPV4 ? sizeof(struct iphdr) : sizeof(struct ipv6hdr);
	struct cursor c = { .at = (void *)(long)ctx->data, .end = (void *)(long)ctx->data_end };
	struct packet p = { .ctx = ctx };
	__u8 macs[2 * ETH_ALEN];
	__u32 length = c.end - c.at, quoted;
	struct ipv6hdr asked6;
	struct iphdr asked4;
	struct icmp *icmp;
	__be16 protocol;

	protocol = parse_ethernet(&c, &p);
	if (!p.ethernet || c.at + ip_size > c.end)
		return 0;
	__builtin_memcpy(macs, p.ethernet->h_source, ETH_ALEN);
	__builtin_memcpy(macs + ETH_ALEN, p.ethernet->h_dest, ETH_ALEN);
	quoted = sizeof(struct ethhdr) + p.tags * sizeof(struct tag) + ICMP_QUOTE;
	if (family == IPV4)
		asked4 = *(struct iphdr *)c.at;
	else
		asked6 = *(struct ipv6hdr *)c.at;
	if (length < quoted || bpf_xdp_adjust_tail(ctx, (int)(quoted - length)))
		return 0;
	if (bpf_xdp_adjust_head(ctx, -(int)(ip_size + sizeof(struct icmp))))
		return 0;

	c.at = (void *)(long)ctx->data;
	c.end = (void *)(long)ctx->data_end;
	if (!write_link(&c, macs, p.tags, p.outer_control, p.control, protocol))
		return 0;
	if (c.at + ip_size + sizeof(struct icmp) + ICMP_QUOTE > c.end)
		return 0;
	icmp = c.at + ip_size;
	icmp->type = type;
	icmp->code = code;
	icmp->checksum = 0;
	icmp->rest = rest;
	if (family == IPV4) {
		struct iphdr *ip = c.at;

		__builtin_memset(ip, 0, sizeof(*ip));
		ip->version = 4;
		ip->ihl = 5;
		ip->tot_len = bpf_htons(ip_size + sizeof(*icmp) + ICMP_QUOTE);
		ip->ttl = ICMP_TTL;
		ip->protocol = IPPROTO_ICMP;
		ip->saddr = asked4.daddr;
		ip->daddr = asked4.saddr;
		ip->check = csum_of(ip, sizeof(*ip), 0);
		icmp->checksum = csum_of(icmp, sizeof(*icmp) + ICMP_QUOTE, 0);
	} else {
		struct ipv6hdr *ip = c.at;
		__u32 pseudo;

		__builtin_memset(ip, 0, sizeof(*ip));
		ip->version = 6;
		ip->payload_len = bpf_htons(sizeof(*icmp) + ICMP_QUOTE);
		ip->nexthdr = IPPROTO_ICMPV6;
		ip->hop_limit = ICMP_TTL;
		ip->saddr = asked6.daddr;
		ip->daddr = asked6.saddr;
		pseudo = bpf_csum_diff(NULL, 0, (__be32 *)&ip->saddr, 32, ip->payload_len);
		pseudo = fold(pseudo) + bpf_htons(IPPROTO_ICMPV6);
		icmp->checksum = csum_of(icmp, sizeof(*icmp) + ICMP_QUOTE, pseudo);
	}
	return 1;
}

__noinline int too_big4(struct xdp_md *ctx, __u32 mtu)
{
	return turn_into_error(ctx, ICMP4_UNREACHABLE, ICMP4_FRAGMENTATION_NEEDED, bpf_htonl(mtu), IPV4);
}

__noinline int too_big6(struct xdp_md *ctx, __u32 mtu)
{
	return turn_into_error(ctx, ICMP6_PACKET_TOO_BIG, 0, bpf_htonl(mtu), IPV6);
}

/* The client is told how long its packets may be, as by any router: RFC 1191, RFC 8201. */
always_inline struct verdict answer_too_big(struct packet *p, enum family family)
{
	const int dont_fragment = family == IPV6 || p->ip4->frag_off & bpf_htons(IP_DONT_FRAGMENT);

	if (!may_answer())
		return drop(REASON_TOO_BIG_UNANSWERED);
	if (!(family == IPV4 ? too_big4(p->ctx, p->mtu) : too_big6(p->ctx, p->mtu)))
		return drop(REASON_ERR_ADJUST_FAILED);
	return transmit(dont_fragment ? REASON_TOO_BIG : REASON_TOO_BIG_FRAGMENTABLE);
}

#endif
