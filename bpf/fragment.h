/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* Fragments follow their first one, which alone has ports. */
#ifndef XVS_FRAGMENT_H
#define XVS_FRAGMENT_H

#include "flow.h"
#include "maps.h"
#include "parse.h"

/* Finds what is known of a datagram, or takes note of it. */
always_inline struct fragment_value *datagram(struct packet *p, struct fragment_value *note, enum family family)
{
	if (family == IPV4) {
		struct fragment_key4 key = {
			.source = p->ip4->saddr,
			.destination = p->ip4->daddr,
			.id = p->fragment_id,
			.protocol = p->protocol,
		};

		if (!note)
			return bpf_map_lookup_elem(&fragments4, &key);
		bpf_map_update_elem(&fragments4, &key, note, BPF_ANY);
	} else {
		struct fragment_key6 key = { .id = p->fragment_id };

		__builtin_memcpy(key.source, &p->ip6->saddr, sizeof(key.source));
		__builtin_memcpy(key.destination, &p->ip6->daddr, sizeof(key.destination));
		if (!note)
			return bpf_map_lookup_elem(&fragments6, &key);
		bpf_map_update_elem(&fragments6, &key, note, BPF_ANY);
	}
	return NULL;
}

/* The first fragment, whose destination is chosen. */
always_inline void note_fragments(struct packet *p, __u32 service, struct choice choice, enum family family)
{
	struct fragment_value note = {
		.slot = choice.slot,
		.generation = generation_of(choice.slot),
		.service = service,
		.entropy = choice.entropy,
	};

	datagram(p, &note, family);
}

/* Where the first fragment went; slot 0 if that is not known, or its destination has gone. */
always_inline struct choice follow_first(struct packet *p, __u32 *service, enum family family)
{
	struct fragment_value *known = datagram(p, NULL, family);
	struct choice choice = {};

	if (!known || !alive(known->slot, known->generation))
		return choice;
	*service = known->service;
	choice.slot = known->slot;
	choice.entropy = known->entropy;
	return choice;
}

#endif
