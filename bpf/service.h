/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * Which service a packet is for. A packet mostly follows others of its service on its CPU, so each CPU keeps
 * the services that it found last: the hash lookup, half of what a packet costs, is for the first of them.
 *
 * What is kept is as good as the table. It holds for one settings.revision, which a client makes odd before it
 * changes anything and even, and another one, when all is done: a packet that meets an odd one uses the table, and
 * keeps nothing. A packet under way since before a change may use what was kept then, as one may that had its
 * service from the table an instant before; clients that free an id wait for both alike, when they replace its ring.
 */
#ifndef XVS_SERVICE_H
#define XVS_SERVICE_H

#include "maps.h"
#include "parse.h"

#define SPREAD 0x9E3779B1u /* 2^32 by the golden ratio: a product's upper bits depend on all of the factor's */
#define NO_REVISION (~0ULL)

/* Of an address, in 32 bits. */
always_inline __u32 fold_address(const void *address, enum family family)
{
	const __u32 *words = address;

	return family == IPV4 ? words[0] : words[0] ^ words[1] ^ words[2] ^ words[3];
}

/* 0: certainly no VIP's address. Whoever sends through us without being for a VIP shall not wait for tables. */
always_inline int may_be_vip(struct packet *p, enum family family)
{
	const __u32 bit = fold_address(p->destination, family) * SPREAD >> (32 - VIP_FILTER_BITS);
	__u32 index = bit / 64;
	__u64 *word = bpf_map_lookup_elem(&vip_filter, &index);

	return word && *word >> (bit % 64) & 1;
}

/* Where a CPU keeps a service, if it does. */
always_inline __u32 place_of(struct packet *p, __be16 port, enum family family)
{
	return (fold_address(p->destination, family) ^ port << 16 ^ p->protocol) * SPREAD >> (32 - RECENT_BITS);
}

/*
 * Zero, but known only after `revision` is: an address that is made of it is not read from before. Of a reader's
 * two loads without such a tie arm64 may do the second first.
 */
always_inline __u8 zero_after(__u64 revision)
{
	__u64 zero = revision;

	asm volatile("%0 ^= %1" : "+r"(zero) : "r"(revision));
	return zero;
}

#define current_revision() (*(volatile __u64 *)&settings.revision)

/* What was found last for packets like this one, if it still holds. No key is made for it: it would take stack. */
always_inline struct service *recall(struct packet *p, __be16 port, enum family family)
{
	__u32 place = place_of(p, port, family);

	if (family == IPV4) {
		struct recent_service4 *recent = bpf_map_lookup_elem(&recent_services4, &place);

		if (!recent || recent->key.address != *(__be32 *)p->destination || recent->key.port != port ||
		    recent->key.protocol != p->protocol || recent->revision != current_revision())
			return NULL;
		return &recent->service;
	} else {
		struct recent_service6 *recent = bpf_map_lookup_elem(&recent_services6, &place);
		const __u32 *ours = p->destination, *kept;

		if (!recent)
			return NULL;
		kept = (__u32 *)recent->key.address;
		if (kept[0] != ours[0] || kept[1] != ours[1] || kept[2] != ours[2] || kept[3] != ours[3] ||
		    recent->key.port != port || recent->key.protocol != p->protocol ||
		    recent->revision != current_revision())
			return NULL;
		return &recent->service;
	}
}

/* The order of stores is for whoever interrupts a test run. */
#define keep(recent, of_key, found, at_revision)                                                   \
	({                                                                                         \
		(recent)->revision = NO_REVISION;                                                  \
		barrier();                                                                         \
		(recent)->key = (of_key);                                                          \
		(recent)->service = *(found);                                                      \
		barrier();                                                                         \
		(recent)->revision = (at_revision)&1 ? NO_REVISION : (at_revision);                \
		&(recent)->service;                                                                \
	})

/* From the table, and kept. */
static __noinline struct service *look_up4(struct packet *p, __be16 port)
{
	const __u64 revision = current_revision();
	struct service_key4 key = {
		.address = *(__be32 *)p->destination,
		.port = port,
		.protocol = p->protocol,
		.pad = zero_after(revision),
	};
	__u32 place = place_of(p, port, IPV4);
	struct recent_service4 *recent = bpf_map_lookup_elem(&recent_services4, &place);
	struct service *found = bpf_map_lookup_elem(&services4, &key);

	return found && recent ? keep(recent, key, found, revision) : NULL;
}

static __noinline struct service *look_up6(struct packet *p, __be16 port)
{
	const __u64 revision = current_revision();
	struct service_key6 key aligned_words = {
		.port = port,
		.protocol = p->protocol,
		.pad = zero_after(revision),
	};
	__u32 place = place_of(p, port, IPV6);
	struct recent_service6 *recent = bpf_map_lookup_elem(&recent_services6, &place);
	struct service *found;

	copy_words(key.address, p->destination, 4);
	found = bpf_map_lookup_elem(&services6, &key);
	return found && recent ? keep(recent, key, found, revision) : NULL;
}

always_inline struct service *look_up(struct packet *p, __be16 port, enum family family)
{
	return family == IPV4 ? look_up4(p, port) : look_up6(p, port);
}

always_inline struct service *find_service(struct packet *p, __be16 port, enum family family)
{
	struct service *service = recall(p, port, family);

	return service ? service : look_up(p, port, family);
}

always_inline struct vip *find_vip(struct packet *p, enum family family)
{
	return family == IPV4 ? bpf_map_lookup_elem(&vips4, p->destination) :
				bpf_map_lookup_elem(&vips6, p->destination);
}

#endif
