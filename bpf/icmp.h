/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* ICMP to a VIP. */
#ifndef XVS_ICMP_H
#define XVS_ICMP_H

#include "forward.h"

#define ECHO_TTL 64

always_inline int is_echo_request(struct packet *p, enum family family)
{
	return p->icmp->type == (family == IPV4 ? ICMP4_ECHO_REQUEST : ICMP6_ECHO_REQUEST) && p->icmp->code == 0;
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

always_inline struct verdict answer_icmp(struct packet *p, enum family family)
{
	if (!is_echo_request(p, family))
		return drop(REASON_ERR_ICMP_UNSUPPORTED);
	turn_echo(p, family);
	turn_addresses(p, family);
	set_ttl(p, ECHO_TTL, family);
	return transmit(REASON_ICMP_ECHO_REQUEST);
}

#endif
