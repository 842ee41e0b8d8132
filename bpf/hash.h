/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * The keyed hash of a flow: NH, the universal hash of UMAC (Black et al., CRYPTO '99: two flows collide
 * with probability 2^-32, whoever chose them without knowing the key), finished by splitmix64's mixer so
 * that no linear structure shows in who serves whom. lib/lb/flow_hash.ts computes the same.
 */
#ifndef XVS_HASH_H
#define XVS_HASH_H

#include "maps.h"
#include "parse.h"

always_inline __u64 nh(const __u32 *key, __u32 a, __u32 b)
{
	return (__u64)(a + key[0]) * (__u32)(b + key[1]);
}

always_inline __u64 mix(__u64 h)
{
	h ^= h >> 30;
	h *= 0xbf58476d1ce4e5b9ULL;
	h ^= h >> 27;
	h *= 0x94d049bb133111ebULL;
	return h ^ (h >> 31);
}

/* Of addresses, ports as they stand in a packet, and protocol. */
always_inline __u64 hash_of(const __u32 *source, const __u32 *destination, __u32 ports, __u32 protocol,
			    enum family family)
{
	const __u32 *key = settings.hash_key;
	__u64 sum = 0;

	if (family == IPV4) {
		sum += nh(key, source[0], destination[0]);
		sum += nh(key + 2, ports, protocol);
	} else {
		sum += nh(key, source[0], source[1]);
		sum += nh(key + 2, source[2], source[3]);
		sum += nh(key + 4, destination[0], destination[1]);
		sum += nh(key + 6, destination[2], destination[3]);
		sum += nh(key + 8, ports, protocol);
	}
	return mix(sum ^ settings.hash_final);
}

/* `sticky`: of the addresses alone, so that a client keeps its destination. */
always_inline __u64 flow_hash(struct packet *p, __u32 sticky, enum family family)
{
	return hash_of(p->source, p->destination, sticky ? 0 : p->ports, sticky ? 0 : p->protocol, family);
}

/* Where a hash falls on a ring of `size` entries. */
always_inline __u32 scale(__u64 hash, __u32 size)
{
	return ((hash >> 32) * size) >> 32;
}

#endif
