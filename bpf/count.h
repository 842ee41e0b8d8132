/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* Counting, and the verdict: an XDP action and the one reason for it. */
#ifndef XVS_COUNT_H
#define XVS_COUNT_H

#include "flow.h"
#include "maps.h"
#include "parse.h"

struct verdict {
	__u32 action; /* enum xdp_action */
	__u32 reason; /* enum reason */
};

always_inline struct verdict pass(enum reason reason)
{
	return (struct verdict){ .action = XDP_PASS, .reason = reason };
}

always_inline struct verdict drop(enum reason reason)
{
	return (struct verdict){ .action = XDP_DROP, .reason = reason };
}

always_inline struct verdict transmit(enum reason reason)
{
	return (struct verdict){ .action = XDP_TX, .reason = reason };
}

/* Every packet, once, by its reason. */
always_inline int conclude(struct packet *p, struct verdict verdict)
{
	struct reason_counter *counter = bpf_map_lookup_elem(&reason_counters, &verdict.reason);

	if (counter) {
		counter->packets++;
		counter->octets += p->octets;
	}
	return verdict.action;
}

/* One more packet for that reason. */
always_inline void add_reason(struct service_counter *counter, __u64 reason)
{
	asm volatile("" : "+r"(reason)); /* or the compiler compares what the verifier cannot tell to be the same */
	if (reason < REASON_COUNT)
		counter->reasons[reason]++;
}

/* `owner` is a service, or a VIP for what belongs to none of its services. */
always_inline void count_reason(void *counters, __u32 owner, __u32 reason)
{
	struct service_counter *counter = bpf_map_lookup_elem(counters, &owner);

	if (counter)
		add_reason(counter, reason);
}

/* Fields that a service's counter and a destination's have in common. */
#define count_flow(counter, p, choice)                                                             \
	do {                                                                                       \
		(counter)->packets++;                                                              \
		(counter)->octets += (p)->octets;                                                  \
		(counter)->flows += (choice).began;                                                \
		if ((p)->tcp_flags & TCP_ACK)                                                      \
			(counter)->ack++;                                                          \
		if (unlikely((p)->tcp_flags & (TCP_SYN | TCP_FIN | TCP_RST))) {                    \
			(counter)->syn += !!((p)->tcp_flags & TCP_SYN);                            \
			(counter)->fin += !!((p)->tcp_flags & TCP_FIN);                            \
			(counter)->rst += !!((p)->tcp_flags & TCP_RST);                            \
		}                                                                                  \
	} while (0)

/* A packet for a destination that was not simply forwarded. */
__noinline int count_exception(__u32 slot, __u32 reason)
{
	struct destination_reason_key key = { .slot = slot, .generation = generation_of(slot), .reason = reason };
	struct destination_reason first = { .packets = 1 };
	struct destination_reason *known = bpf_map_lookup_elem(&destination_reasons, &key);

	if (known)
		__sync_fetch_and_add(&known->packets, 1);
	else if (key.generation)
		bpf_map_update_elem(&destination_reasons, &key, &first, BPF_NOEXIST);
	return 0;
}

/* A packet of a service, once its destination is chosen: what became of it. */
always_inline void count_service(struct packet *p, struct question *q, struct verdict verdict)
{
	struct service_counter *total = bpf_map_lookup_elem(&service_counters, &q->service);
	struct destination_counter *own;

	if (!total)
		return;
	if (unlikely(verdict.reason != REASON_FORWARDED)) {
		add_reason(total, verdict.reason);
		if (verdict.action != XDP_DROP) /* one that was answered will go on */
			total->flows += q->choice.began;
	} else {
		count_flow(total, p, q->choice);
	}
	own = bpf_map_lookup_elem(&destination_counters, &q->choice.slot);
	if (!own)
		return;
	if (likely(verdict.reason == REASON_FORWARDED)) {
		count_flow(own, p, q->choice);
		return;
	}
	if (verdict.action == XDP_DROP)
		own->errors++;
	else
		own->flows += q->choice.began;
	count_exception(q->choice.slot, verdict.reason);
}

#endif
