/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * Just enough state: a flow is remembered only where the ring alone would not give the right answer, or
 * where it is one of the sample by which connections are counted. The invariant: no flow that speaks at
 * least once per window changes its destination while that destination stays.
 */
#ifndef XVS_FLOW_H
#define XVS_FLOW_H

#include "hash.h"
#include "maps.h"

#define BUDGET_TICK_SHIFT 26 /* ns: 67 ms */

/* Tests set the clock themselves; otherwise the verifier removes it. */
const volatile __u8 manual_clock = 0;
__u64 manual_clock_ns = 0;

always_inline __u64 now_ns(void)
{
	return manual_clock ? manual_clock_ns : bpf_ktime_get_coarse_ns();
}

struct choice {
	__u32 slot;
	__u32 began; /* flows that this packet stands for, if it is the first of one */
	__u32 entropy; /* of the flow, for whoever spreads flows further on */
};

/* What the ring says of a flow, all that is needed to ask the flow table, and the answer. */
struct question {
	struct choice choice;
	struct packet *packet;
	struct service *service;
	void *ring;
	__u64 hash;
	__u32 current;
};

/*
 * May this CPU remember one more flow? A refusal costs accuracy, never a packet: the flow goes where the
 * ring says. Flows that are remembered for the sample alone coarsen it when they are too many, for all CPUs,
 * each of which then counts anew; the client makes it finer again.
 */
always_inline int may_remember(__u64 now, __u32 for_sample, __u32 sample_mask)
{
	__u32 zero = 0, tick = now >> BUDGET_TICK_SHIFT;
	struct flow_budget *budget = bpf_map_lookup_elem(&flow_budgets, &zero);

	if (!budget)
		return 0;
	if (budget->tick != tick) {
		budget->tick = tick;
		budget->spent = 0;
	}
	if (budget->sample_mask != sample_mask) {
		budget->sample_mask = sample_mask;
		budget->sampled = 0;
	}
	if (for_sample && ++budget->sampled > settings.sample_budget)
		settings.sample_mask = sample_mask * 2 + 1;
	return budget->spent++ < settings.flow_budget;
}

always_inline int alive(__u32 slot, __u32 generation)
{
	struct destination *d = bpf_map_lookup_elem(&destinations, &slot);

	return d && slot && d->generation == generation;
}

/* The generation of whoever has the slot, 0 if nobody. */
always_inline __u32 generation_of(__u32 slot)
{
	struct destination *d = bpf_map_lookup_elem(&destinations, &slot);

	return d && slot ? d->generation : 0;
}

/* Where the flow went before the last change; 0 if that destination has gone. */
always_inline __u32 previous_slot(struct question *q, enum family family)
{
	__u32 index = 1;
	struct ring_past *past = bpf_map_lookup_elem(q->ring, &index);
	struct ring_entry *entry;
	__u64 hash = q->hash;

	if (!past)
		return 0;
	if (unlikely(past->sticky != q->service->sticky))
		hash = flow_hash(q->packet, past->sticky, family);
	index = RING_HEADER + scale(hash, past->size);
	entry = bpf_map_lookup_elem(q->ring, &index);
	return entry && generation_of(entry->previous) ? entry->previous : 0;
}

always_inline int within_window(struct question *q, __u64 now)
{
	__u32 index = 0;
	struct ring_window *window = bpf_map_lookup_elem(q->ring, &index);

	return window && now < window->end_ns;
}

always_inline __u32 state_after(__u8 tcp_flags, __u32 state)
{
	if (tcp_flags & (TCP_FIN | TCP_RST))
		return FLOW_CLOSING;
	return state == FLOW_SYN ? FLOW_OPEN : state;
}

/* Where the previous ring would send it; within a window alone, and 0 if that destination has gone. */
always_inline __u32 claimed_by(struct question *q, __u64 now, enum family family)
{
	if (!(q->current & RING_TRACKED) || !within_window(q, now))
		return q->choice.slot;
	return previous_slot(q, family);
}

/* A packet of a flow that is known; the line is shared by CPUs, so written only where it changes. */
always_inline void follow(struct question *q, struct flow *flow, __u64 now, __u32 weight)
{
	const __u32 seen = now >> FLOW_SEEN_SHIFT;
	const __u32 state = state_after(q->packet->tcp_flags, flow->state);

	q->choice.slot = flow->slot;
	if (q->packet->quoted)
		return;
	if (flow->state == FLOW_SYN)
		q->choice.began = weight;
	if (flow->seen != seen)
		flow->seen = seen;
	if (flow->state != state)
		flow->state = state;
}

/* The destination of a flow that the ring alone cannot tell, or that belongs to the sample. */
always_inline void ask_flows(struct question *q, void *flows, const void *key, enum family family)
{
	const __u8 tcp_flags = q->packet->tcp_flags;
	const __u32 syn = (tcp_flags & (TCP_SYN | TCP_ACK)) == TCP_SYN;
	const __u32 sample_mask = settings.sample_mask;
	const __u32 sampled = !((__u32)q->hash & sample_mask), weight = sampled ? sample_mask + 1 : 0;
	const __u64 now = now_ns();
	struct flow *flow = bpf_map_lookup_elem(flows, key);
	struct flow fresh = { .seen = now >> FLOW_SEEN_SHIFT };
	__u32 previous, ambiguous;

	if (!syn && flow && alive(flow->slot, flow->generation)) {
		follow(q, flow, now, weight);
		return;
	}
	previous = claimed_by(q, now, family);
	ambiguous = previous != q->choice.slot;
	if (!syn) {
		/* Silent since the change, or new to this program: it may have been there. */
		if (previous)
			q->choice.slot = previous;
		/* What somebody says about a flow does not begin one. */
		if (q->packet->quoted)
			return;
		if (!flow)
			q->choice.began = weight;
		fresh.state = state_after(tcp_flags, FLOW_SYN);
	}
	/* A SYN begins a new connection, whatever its 5-tuple was used for before. */
	if (!ambiguous && !flow && (syn || !sampled))
		return;
	fresh.slot = q->choice.slot;
	fresh.generation = generation_of(fresh.slot);
	if (fresh.generation && may_remember(now, !ambiguous, sample_mask))
		bpf_map_update_elem(flows, key, &fresh, BPF_ANY);
}

static __noinline int ask_flows4(struct question *q)
{
	struct packet *p = q->packet;
	struct flow_key4 key = {
		.source = *(__be32 *)p->source,
		.destination = *(__be32 *)p->destination,
		.source_port = p->ports,
		.destination_port = p->ports >> 16,
		.protocol = p->protocol,
	};

	ask_flows(q, &flows4, &key, IPV4);
	return 0;
}

static __noinline int ask_flows6(struct question *q)
{
	struct packet *p = q->packet;
	struct flow_key6 key = {
		.source_port = p->ports,
		.destination_port = p->ports >> 16,
		.protocol = p->protocol,
	};

	__builtin_memcpy(key.source, p->source, sizeof(key.source));
	__builtin_memcpy(key.destination, p->destination, sizeof(key.destination));
	ask_flows(q, &flows6, &key, IPV6);
	return 0;
}

/*
 * The destination's slot, 0 if there is none. An established flow in an entry that no change has touched
 * is answered by the ring alone.
 */
always_inline struct choice choose(struct packet *p, struct service *service, enum family family)
{
	struct question q = { .packet = p, .service = service };
	struct ring_entry *entry;
	__u32 index;

	q.ring = bpf_map_lookup_elem(&rings, &service->id);
	if (!q.ring)
		return q.choice;
	q.hash = flow_hash(p, service->sticky, family);
	index = RING_HEADER + scale(q.hash, service->ring_size);
	entry = bpf_map_lookup_elem(q.ring, &index);
	if (!entry)
		return q.choice;
	q.current = entry->current;
	q.choice.slot = q.current & ~RING_TRACKED;
	q.choice.entropy = q.hash;
	if (unlikely((q.current & RING_TRACKED) || !((__u32)q.hash & settings.sample_mask))) {
		if (family == IPV4)
			ask_flows4(&q);
		else
			ask_flows6(&q);
	}
	return q.choice;
}

#endif
