/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * Telling other nodes of a flow that their ring alone would not give its destination. Only the client knows
 * who they are, and what a slot is called there.
 */
#ifndef XVS_SHARE_H
#define XVS_SHARE_H

#include "maps.h"
#include "parse.h"

always_inline void count_shared(int told)
{
	__u32 zero = 0;
	struct sharing_counter *counter = bpf_map_lookup_elem(&sharing_counters, &zero);

	if (!counter)
		return;
	if (told)
		counter->told++;
	else
		counter->lost++;
}

/* The key is a flow_key4 or a flow_key6. */
always_inline void share_flow(const void *key, const struct flow *flow, enum family family)
{
	const struct flow_key4 *key4 = key;
	const struct flow_key6 *key6 = key;
	struct shared_flow *told = bpf_ringbuf_reserve(&shared_flows, sizeof(*told), 0);

	count_shared(told != NULL);
	if (!told)
		return;
	__builtin_memset(told, 0, sizeof(*told));
	if (family == IPV4) {
		__builtin_memcpy(told->source, &key4->source, 4);
		__builtin_memcpy(told->destination, &key4->destination, 4);
		told->source_port = key4->source_port;
		told->destination_port = key4->destination_port;
		told->protocol = key4->protocol;
	} else {
		__builtin_memcpy(told->source, key6->source, 16);
		__builtin_memcpy(told->destination, key6->destination, 16);
		told->source_port = key6->source_port;
		told->destination_port = key6->destination_port;
		told->protocol = key6->protocol;
	}
	told->ipv6 = family == IPV6;
	told->slot = flow->slot;
	told->generation = flow->generation;
	told->seen = flow->seen;
	told->state = flow->state;
	bpf_ringbuf_submit(told, 0);
}

#endif
