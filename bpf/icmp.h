/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* ICMP to a VIP, and errors from one. */
#ifndef XVS_ICMP_H
#define XVS_ICMP_H

#include "forward.h"
#include "fragment.h"

#define ICMP_TTL 64
#define ICMP_QUOTE 504 /* bytes of the packet that an error quotes at most: RFC 1812, section 4.3.2.3 */
#define IPV6_MIN_MTU 1280
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

		if (!quoted || quoted->version != 4 || quoted->ihl < 5 ||
		    quoted->frag_off & bpf_htons(IP_OFFSET) || quoted->saddr != p->ip4->daddr)
			return 0;
		p->source = &quoted->daddr;
		p->destination = &quoted->saddr;
		p->protocol = quoted->protocol;
		c->at = (void *)quoted + quoted->ihl * 4;
	} else {
		struct ipv6hdr *quoted = take(c, struct ipv6hdr);

		if (!quoted || quoted->version != 6 ||
		    __builtin_memcmp(&quoted->saddr, &p->ip6->daddr, sizeof(quoted->saddr)))
			return 0;
		p->source = &quoted->daddr;
		p->destination = &quoted->saddr;
		p->protocol = quoted->nexthdr;
	}
	ports = c->at;
	if ((p->protocol != IPPROTO_TCP && p->protocol != IPPROTO_UDP) || (void *)(ports + 2) > c->end)
		return 0;
	if ((void *)(ports + 2) - (void *)p->ip4 > p->octets) /* padding quotes nothing */
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

/* The MACs of a frame's answer. */
always_inline void turn_macs(__u32 macs[3], const struct ethhdr *ethernet)
{
	const __u32 *word = (const void *)ethernet;

	macs[0] = word[1] >> 16 | word[2] << 16;
	macs[1] = word[2] >> 16 | word[0] << 16;
	macs[2] = word[0] >> 16 | word[1] << 16;
}

/* Both addresses stand in the checksums, so that exchanging them changes none. */
always_inline void turn_addresses(struct packet *p, enum family family)
{
	__u32 macs[3];

	turn_macs(macs, p->ethernet);
	copy_words(p->ethernet, macs, 3);
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

/*
 * One more answer in this tick? Each CPU has its own budget. Answers are as rare as senders are reasonable,
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

/* Whether one host sent the packet, and to us: RFC 1122, section 3.2.2; RFC 4443, section 2.4 (e). */
always_inline int has_sender(struct packet *p, enum family family)
{
	if (p->ethernet->h_dest[0] & 1) /* to a group of hosts */
		return 0;
	if (family == IPV4) {
		const __u8 first = *(__u8 *)&p->ip4->saddr;

		return first && first != 127 && first < 224;
	} else {
		const __be32 *word = p->ip6->saddr.in6_u.u6_addr32;

		if (p->ip6->saddr.in6_u.u6_addr8[0] == 0xff)
			return 0;
		return word[0] | word[1] | word[2] || bpf_ntohl(word[3]) > 1;
	}
}

/*
 * A ping longer than the MTU comes in parts, which make the answer once each is turned round: the checksum, in the
 * first one, is that of all, and only the type has changed. `nobody` is noted as their
 * destination. Each counts, as a part may be forged as often as a ping.
 */
always_inline struct verdict answer_echo(struct packet *p, struct question *nobody, enum family family)
{
	if (!has_sender(p, family))
		return drop(REASON_ERR_MALFORMED);
	if (!may_answer())
		return drop(REASON_ICMP_LIMITED);
	if (p->fragment == FRAGMENT_FIRST)
		family == IPV4 ? note_fragments4(p, nobody) : note_fragments6(p, nobody);
	if (p->icmp) /* a later part has none */
		turn_echo(p, family);
	turn_addresses(p, family);
	set_ttl(p, ICMP_TTL, family);
	return transmit(REASON_ICMP_ECHO_REQUEST);
}

/* The one's complement sum of what `ip6` adds to the checksum of an ICMPv6 message: RFC 8200, section 8.1. */
always_inline __u32 pseudo_header(struct ipv6hdr *ip6)
{
	__u32 sum = bpf_csum_diff(NULL, 0, (__be32 *)&ip6->saddr, 32, ip6->payload_len);

	return fold(sum) + bpf_htons(IPPROTO_ICMPV6);
}

/*
 * Makes of the packet an error about itself, from the address that it was sent to: RFC 792, RFC 4443. `rest`
 * is the second word of the ICMP header. 0: it could not be done, and the packet is of no more use.
 */
always_inline int turn_into_error(struct xdp_md *ctx, __u8 type, __u8 code, __be32 rest, enum family family)
{
	const __u32 ip_size = family == IPV4 ? sizeof(struct iphdr) : sizeof(struct ipv6hdr);
	struct cursor c = { .at = (void *)(long)ctx->data, .end = (void *)(long)ctx->data_end };
	__u32 frame = bpf_xdp_get_buff_len(ctx), link, quoted;
	struct packet p = { .ctx = ctx };
	__u32 macs[3];
	struct ipv6hdr *ip6;
	struct iphdr *ip4;
	struct icmp *icmp;
	const struct ipv6hdr *asked6;
	const struct iphdr *asked4;
	__be16 protocol;

	protocol = parse_ethernet(&c, &p);
	if (!p.ethernet || c.at + ip_size > c.end)
		return 0;
	turn_macs(macs, p.ethernet);
	asked4 = c.at;
	asked6 = c.at;
	quoted = family == IPV4 ? bpf_ntohs(asked4->tot_len) : ip_size + bpf_ntohs(asked6->payload_len);
	if (quoted > ICMP_QUOTE)
		quoted = ICMP_QUOTE;
	link = sizeof(struct ethhdr) + p.tags * sizeof(struct tag);
	if (link + quoted != frame && bpf_xdp_adjust_tail(ctx, (int)(link + quoted - frame)))
		return 0;
	if (bpf_xdp_adjust_head(ctx, -(int)(ip_size + sizeof(struct icmp))))
		return 0;

	c.at = (void *)(long)ctx->data;
	c.end = (void *)(long)ctx->data_end;
	if (!write_link(ctx, &c, macs, p.tags, p.outer, p.vlan, protocol) ||
	    c.at + 2 * ip_size + sizeof(*icmp) > c.end)
		return 0;
	ip4 = c.at;
	ip6 = c.at;
	asked4 = c.at + ip_size + sizeof(*icmp); /* read there, since the stack of Linux 6.1 is short */
	asked6 = c.at + ip_size + sizeof(*icmp);
	__builtin_memset(c.at, 0, ip_size);
	if (family == IPV4) {
		ip4->version = 4;
		ip4->ihl = 5;
		ip4->tot_len = bpf_htons(ip_size + sizeof(*icmp) + quoted);
		ip4->ttl = ICMP_TTL;
		ip4->protocol = IPPROTO_ICMP;
		ip4->saddr = asked4->daddr;
		ip4->daddr = asked4->saddr;
		ip4->check = ~fold(bpf_csum_diff(NULL, 0, c.at, sizeof(*ip4), 0));
	} else {
		ip6->version = 6;
		ip6->payload_len = bpf_htons(sizeof(*icmp) + quoted);
		ip6->nexthdr = IPPROTO_ICMPV6;
		ip6->hop_limit = ICMP_TTL;
		ip6->saddr = asked6->daddr;
		ip6->daddr = asked6->saddr;
	}
	c.at += ip_size;
	icmp = take(&c, struct icmp);
	if (!icmp)
		return 0;
	icmp->type = type;
	icmp->code = code;
	icmp->checksum = 0;
	icmp->rest = rest;
	icmp->checksum = ~fold(sum_octets(ctx, link + ip_size, sizeof(*icmp) + quoted) +
			       (family == IPV4 ? 0 : pseudo_header(ip6)));
	return 1;
}

__noinline int turn_into_error4(struct xdp_md *ctx, __u32 type, __u32 code, __u32 rest)
{
	return turn_into_error(ctx, type, code, rest, IPV4);
}

__noinline int turn_into_error6(struct xdp_md *ctx, __u32 type, __u32 code, __u32 rest)
{
	return turn_into_error(ctx, type, code, rest, IPV6);
}

/* Answers with an error, if that is in the budget. */
always_inline struct verdict answer_error(struct packet *p, __u32 type, __u32 code, __be32 rest,
					  enum reason reason, enum family family)
{
	int done;

	if (!may_answer())
		return drop(REASON_ICMP_LIMITED);
	done = family == IPV4 ? turn_into_error4(p->ctx, type, code, rest) :
				turn_into_error6(p->ctx, type, code, rest);
	return done ? transmit(reason) : drop(REASON_ERR_ADJUST_FAILED);
}

/* Never about an ICMP error, nor about any but the first fragment: RFC 1122, section 3.2.2. */
always_inline int deserves_answer(struct packet *p, enum family family)
{
	return !p->quoted && p->fragment != FRAGMENT_LATER && has_sender(p, family);
}

/*
 * The sender is told how long its packets may be, as by any router: RFC 1191, RFC 8201. `policy` is that for
 * packets that a router would have fragmented.
 */
always_inline struct verdict tell_mtu(struct packet *p, __u32 policy, enum family family)
{
	enum reason reason = REASON_TOO_BIG;
	__be32 mtu = bpf_htonl(p->mtu);

	if (family == IPV6) {
		/* Nobody sends less than RFC 8200, section 5, has every network carry, whatever he is told: RFC 8201. */
		if (p->mtu < IPV6_MIN_MTU) {
			if (p->octets <= IPV6_MIN_MTU)
				return drop(reason);
			mtu = bpf_htonl(IPV6_MIN_MTU);
		}
		return answer_error(p, ICMP6_PACKET_TOO_BIG, 0, mtu, reason, family);
	}
	if (!(p->ip4->frag_off & bpf_htons(IP_DONT_FRAGMENT))) {
		reason = REASON_TOO_BIG_FRAGMENTABLE;
		if ((policy ?: settings.fragmentable) != POLICY_REJECT)
			return drop(reason);
	}
	return answer_error(p, ICMP4_UNREACHABLE, ICMP4_FRAGMENTATION_NEEDED, mtu, reason, family);
}

always_inline struct verdict answer_too_big(struct packet *p, __u32 policy, enum family family)
{
	return deserves_answer(p, family) ? tell_mtu(p, policy, family) : drop(REASON_TOO_BIG);
}

always_inline struct verdict answer_expired(struct packet *p, __u32 policy, enum family family)
{
	if ((policy ?: settings.expired) != POLICY_REJECT || !deserves_answer(p, family))
		return drop(REASON_ERR_EXPIRED);
	return answer_error(p, family == IPV4 ? ICMP4_TIME_EXCEEDED : ICMP6_TIME_EXCEEDED, 0, 0,
			    REASON_ERR_EXPIRED, family);
}

/* What is passed to the host is the host's to judge; all else ends here, and its TTL may do so first. */
always_inline struct verdict answer_unknown_port(struct packet *p, __u32 policy, enum family family)
{
	policy = policy ?: settings.unknown_port;
	if (policy == POLICY_PASS)
		return pass(REASON_ERR_SERVICE_NOT_FOUND);
	if (expired(p, family))
		return answer_expired(p, POLICY_DEFAULT, family);
	if (policy != POLICY_REJECT || !deserves_answer(p, family))
		return drop(REASON_ERR_SERVICE_NOT_FOUND);
	return answer_error(p, family == IPV4 ? ICMP4_UNREACHABLE : ICMP6_UNREACHABLE,
			    family == IPV4 ? ICMP4_PORT : ICMP6_PORT, 0, REASON_ERR_SERVICE_NOT_FOUND, family);
}

#endif
