/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * Probes. What this host sends to a probe address comes in here by an interface of its own, gets the ends that
 * a client's packet would have, and goes to the one destination that the address stands for. All replies come
 * from the VIP; so that each still finds who asked, a probe's source port is one that no other probe has that
 * asks the same port of the same VIP, on whichever destination.
 */
#ifndef XVS_PROBE_H
#define XVS_PROBE_H

#include "icmp.h"

#define PROBE_TRIES 16 /* ports looked at for a flow; so many may want the same first one */
/* With what it loses on the way out it arrives with 1: only who has the VIP takes it, nobody passes it on. */
#define PROBE_TTL 2

/* Writes words over others; what that adds to a checksum over them. */
always_inline __u32 overwrite(void *at, const void *words, __u32 size)
{
	const __u32 sum = bpf_csum_diff(at, size, (__be32 *)words, size, 0);

	copy_words(at, words, size / 4);
	return fold(sum);
}

always_inline __u16 add_to_checksum(__u16 checksum, __u32 sum)
{
	return ~fold((__u16)~checksum + sum);
}

/* Ends of a packet, as in struct probe_key and the like. */
struct ends {
	__u32 source[4];
	__u32 destination[4];
	__be16 source_port;
	__be16 destination_port;
};

/* Gives a packet other addresses; what that adds to checksums over them. */
always_inline __u32 readdress(struct packet *p, struct ends *ends, enum family family)
{
	__u32 sum;

	if (family == IPV4) {
		const __u32 pair[] = { ends->source[0], ends->destination[0] };

		sum = overwrite(&p->ip4->saddr, pair, sizeof(pair));
		p->ip4->check = add_to_checksum(p->ip4->check, sum);
	} else {
		sum = overwrite(&p->ip6->saddr, ends, 32);
	}
	return sum;
}

/*
 * The header of `size` bytes that the cursor stands behind; NULL if the verifier could not see that it is there.
 * A pointer that was moved on it does not let be moved back.
 */
always_inline void *last_taken(struct cursor *c, struct packet *p, __u32 size)
{
	void *start = (void *)(long)p->ctx->data;
	__u64 offset = c->at - start - size;

	asm volatile("" : "+r"(offset));
	offset &= 2 * MAX_HEADERS - 1;
	return start + offset + size > c->end ? NULL : start + offset;
}

/*
 * The same with a packet of which the cursor stands behind the transport's header, and with its ports. Of a
 * datagram without a checksum it stays so. 0: it cannot be.
 */
always_inline int change_ends(struct cursor *c, struct packet *p, struct ends *ends, enum family family)
{
	const __u32 ports = ends->source_port | (__u32)ends->destination_port << 16;
	__u32 sum = readdress(p, ends, family);

	if (p->protocol == IPPROTO_TCP) {
		struct tcphdr *tcp = last_taken(c, p, sizeof(*tcp));

		if (!tcp)
			return 0;
		sum = fold(sum + overwrite(tcp, &ports, sizeof(ports)));
		tcp->check = add_to_checksum(tcp->check, sum);
	} else {
		struct udphdr *udp = last_taken(c, p, sizeof(*udp));

		if (!udp)
			return 0;
		sum = fold(sum + overwrite(udp, &ports, sizeof(ports)));
		if (!udp->check)
			return 1;
		udp->check = add_to_checksum(udp->check, sum);
		if (!udp->check)
			udp->check = 0xffff;
	}
	return 1;
}

always_inline int same_flow(const struct probe_flow *a, const struct probe_flow *b)
{
	return !__builtin_memcmp(a, b, __builtin_offsetof(struct probe_flow, seen));
}

/*
 * The port by which a flow goes; `key` comes without one. The host does not use a port towards an address again
 * too soon, nor does what becomes of it here. 0: there is none.
 */
__noinline __u32 port_of_probe(struct probe_key *asked, struct probe_flow *asking, __u32 number)
{
	struct probe_flow flow, *known;
	struct probe_key key;
	__u32 first, step, i, port, oldest = 0, age = 0, free = 0;

	if (!asked || !asking)
		return 0;
	/* Linux 6.1 takes no key or value out of what another function has on its stack. */
	key = *asked;
	flow = *asking;
	number *= 0x9e3779b1;
	first = bpf_ntohs(flow.port) + (number >> 16);
	step = (number & 0x7ffe) | 1;
	for (i = 0; i < PROBE_TRIES; i++) {
		port = PROBE_PORTS_FROM + (first + i * step) % PROBE_PORTS;
		key.port = bpf_htons(port);
		known = bpf_map_lookup_elem(&probe_flows, &key);
		if (!known) {
			if (!free)
				free = port;
		} else if (same_flow(known, &flow)) {
			known->seen = flow.seen;
			return port;
		} else if (flow.seen - known->seen >= age) {
			age = flow.seen - known->seen;
			oldest = port;
		}
	}
	port = free ? free : oldest;
	key.port = bpf_htons(port);
	return bpf_map_update_elem(&probe_flows, &key, &flow, BPF_ANY) ? 0 : port;
}

/* The number of a probe address; 0: the packet is to none. */
always_inline __u32 probe_number(struct packet *p, enum family family)
{
	const __be32 *address = p->destination;

	if (family == IPV4) {
		const __u32 mask = settings.probe_mask4;

		return (*address & ~bpf_htonl(mask)) == settings.probe_net4 ? bpf_ntohl(*address) & mask : 0;
	} else {
		const __be32 *net = (const __be32 *)settings.probe_net6;
		const __u32 mask = settings.probe_mask6;

		if (address[0] != net[0] || address[1] != net[1] || address[2] != net[2])
			return 0;
		return (address[3] & ~bpf_htonl(mask)) == net[3] ? bpf_ntohl(address[3]) & mask : 0;
	}
}

always_inline int has_source(struct probe *probe)
{
	const __u64 *words = (const __u64 *)probe->source;

	return words[0] || words[1];
}

/* The destination that a probe is for; NULL: nobody, or it cannot be reached. */
always_inline struct destination *probed(struct probe *probe, enum family family)
{
	struct destination *d;

	if (!probe || !probe->slot || probe->ipv6 != (family == IPV6) || !has_source(probe))
		return NULL;
	d = bpf_map_lookup_elem(&destinations, &probe->slot);
	return d && d->ifindex && d->generation == probe->generation ? d : NULL;
}

/* The host learns at once that there is no way. */
always_inline struct verdict answer_no_way(struct packet *p, enum family family)
{
	if (p->icmp || p->fragment == FRAGMENT_LATER)
		return drop(REASON_ERR_PROBE);
	return answer_error(p, family == IPV4 ? ICMP4_UNREACHABLE : ICMP6_UNREACHABLE,
			    family == IPV4 ? ICMP4_HOST : ICMP6_ADDRESS, 0, REASON_ERR_PROBE, family);
}

/* The port of the flow that a packet is of. 0: none. */
always_inline __u32 port_for(struct packet *p, struct probe *probe, __u32 number,
			     enum family family)
{
	const __u32 words = family == IPV4 ? 1 : 4;
	struct probe_key key aligned_words = { .protocol = p->protocol, .service_port = p->ports >> 16 };
	struct probe_flow flow aligned_words = { .port = p->ports, .seen = now_ns() >> FLOW_SEEN_SHIFT };

	copy_words(key.vip, probe->vip, words);
	copy_words(key.source, probe->source, words);
	copy_words(flow.source, p->source, words);
	copy_words(flow.address, p->destination, words);
	return port_of_probe(&key, &flow, number);
}

/* As forward(): once for all tunnels, since speed is no matter here. */
always_inline struct verdict travel(struct packet *p, struct destination *d, __u32 entropy, enum family family)
{
	if (d->tunnel == TUNNEL_NONE)
		return hand_over(p, d, family);
	if (d->tunnel >= TUNNEL_COUNT)
		return drop(REASON_ERR_TUNNEL_UNSUPPORTED);
	return send_through(p, d, entropy, d->tunnel, family);
}

/* A packet that the host sends to a probe address. */
always_inline struct verdict send_probe(struct cursor *c, struct packet *p, enum family family)
{
	enum reason reason = parse_ip(c, p, family);
	struct ends ends aligned_words = {};
	struct destination *d;
	struct verdict verdict;
	struct probe *probe;
	__u32 number, overhead, port = 0;

	if (reason == REASON_NOT_IP)
		return pass(reason);
	number = probe_number(p, family);
	if (!number)
		return pass(REASON_NOT_A_VIP);
	if (reason != REASON_FORWARDED || p->icmp)
		return drop(REASON_ERR_PROBE);
	probe = bpf_map_lookup_elem(&probes, &number);
	d = probed(probe, family);
	if (!probe || !d)
		return answer_no_way(p, family);
	overhead = d->tunnel == TUNNEL_NONE ? 0 :
					      overhead_of(d->tunnel, d->flags & DESTINATION_IPV6 ? IPV6 : IPV4);
	if (p->octets + overhead > d->mtu) { /* what is quoted must be as it was sent */
		p->mtu = d->mtu > overhead ? d->mtu - overhead : 0;
		return p->fragment == FRAGMENT_LATER ? drop(REASON_TOO_BIG) : tell_mtu(p, POLICY_REJECT, family);
	}
	copy_words(ends.source, probe->source, family == IPV4 ? 1 : 4);
	copy_words(ends.destination, probe->vip, family == IPV4 ? 1 : 4);
	if (p->fragment == FRAGMENT_LATER) {
		readdress(p, &ends, family);
	} else {
		port = port_for(p, probe, number, family);
		if (!port)
			return drop(REASON_ERR_INTERNAL);
		ends.source_port = bpf_htons(port);
		ends.destination_port = p->ports >> 16;
		if (!change_ends(c, p, &ends, family))
			return drop(REASON_ERR_INTERNAL);
	}
	set_ttl(p, PROBE_TTL, family);
	verdict = travel(p, d, port, family);
	if (verdict.reason != REASON_FORWARDED && verdict.reason != REASON_ERR_REDIRECT)
		return verdict;
	/* Never back to the host; and where clients' packets leave by a member of a bond, these leave by the bond. */
	return (struct verdict){ .action = bpf_redirect(d->ifindex, 0), .reason = REASON_PROBE };
}

#endif
