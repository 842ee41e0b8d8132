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
			.protocol = p->ip4->protocol, /* that of the packet, not of one that it quotes */
		};

		if (!note)
			return bpf_map_lookup_elem(&fragments4, &key);
		bpf_map_update_elem(&fragments4, &key, note, BPF_ANY);
	} else {
		struct fragment_key6 key aligned_words = { .id = p->fragment_id };

		copy_words(key.source, &p->ip6->saddr, 4);
		copy_words(key.destination, &p->ip6->daddr, 4);
		if (!note)
			return bpf_map_lookup_elem(&fragments6, &key);
		bpf_map_update_elem(&fragments6, &key, note, BPF_ANY);
	}
	return NULL;
}

/* The first fragment, whose destination is chosen. */
always_inline void note_fragments(struct packet *p, struct question *q, enum family family)
{
	struct fragment_value note = {
		.slot = q->choice.slot,
		.generation = generation_of(q->choice.slot),
		.service = q->service,
		.entropy = q->choice.entropy,
	};

	datagram(p, &note, family);
}

/* Off the common path, with stacks of their own. */
static __noinline int note_fragments4(struct packet *p, struct question *q)
{
	note_fragments(p, q, IPV4);
	return 0;
}

static __noinline int note_fragments6(struct packet *p, struct question *q)
{
	note_fragments(p, q, IPV6);
	return 0;
}

/* Does it follow the first fragment of a ping, and was that answered? */
always_inline int follows_ping(struct packet *p, enum family family)
{
	struct fragment_value *known = datagram(p, NULL, family);

	return known && !known->slot;
}

/* Where the first fragment went; 0 if that is not known, or its destination has gone. */
always_inline int follow_first(struct packet *p, struct question *q, enum family family)
{
	struct fragment_value *known = datagram(p, NULL, family);

	if (!known || !alive(known->slot, known->generation))
		return 0;
	q->service = known->service;
	q->choice.slot = known->slot;
	q->choice.entropy = known->entropy;
	return 1;
}

#endif
