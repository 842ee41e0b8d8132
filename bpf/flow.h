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
#include "share.h"

#define BUDGET_TICK_SHIFT 26 /* ns: 67 ms */

/* Tests set the clock themselves; otherwise the verifier removes it. */
const volatile __u8 manual_clock = 0;
__u64 manual_clock_ns = 0;

always_inline __u64 now_ns(void)
{
	return manual_clock ? manual_clock_ns : bpf_ktime_get_coarse_ns();
}

/*
 * What flow.seen of a packet is. The coarse clock moves with the tick, and it costs more to read than all else about
 * a flow that is known: so each CPU reads it once a tick. What it finds is late by a tick at most, half a unit of
 * flow.seen; where windows end the clock itself is asked.
 */
always_inline __u32 seen_now(void)
{
	const __u64 jiffies = bpf_jiffies64();
	struct last_look *last;
	__u32 zero = 0;

	if (manual_clock)
		return manual_clock_ns >> FLOW_SEEN_SHIFT;
	last = bpf_map_lookup_elem(&last_looks, &zero);
	if (!last)
		return 0;
	if (unlikely(last->jiffies != jiffies)) {
		last->seen = now_ns() >> FLOW_SEEN_SHIFT;
		barrier(); /* whoever interrupts a test run in between looks for itself */
		last->jiffies = jiffies;
	}
	return last->seen;
}

struct choice {
	__u32 slot;
	__u32 began; /* flows that this packet stands for, if it is the first of one */
	__u32 entropy; /* of the flow, for whoever spreads flows further on */
};

/*
 * What the ring says of a flow, and the answer of the flow table. It goes to global functions, which cannot
 * follow pointers in it.
 */
struct question {
	struct choice choice;
	__u32 current; /* of the ring's entry */
	__u64 hash;
	__u32 service; /* id */
	__u8 sticky;
	__u8 tcp_flags;
	__u8 quoted;
	__u8 pad;
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

/* Where the previous ring, of `size` entries, sent the flow; 0 if that destination has gone. */
always_inline __u32 previous_slot(void *ring, __u32 size, __u64 hash)
{
	__u32 index = RING_HEADER + scale(hash, size);
	struct ring_entry *entry = bpf_map_lookup_elem(ring, &index);

	return entry && generation_of(entry->previous) ? entry->previous : 0;
}

always_inline int within_window(void *ring, __u64 now)
{
	__u32 index = 0;
	struct ring_window *window = bpf_map_lookup_elem(ring, &index);

	return window && now < window->end_ns;
}

always_inline __u32 state_after(__u8 tcp_flags, __u32 state)
{
	if (tcp_flags & (TCP_FIN | TCP_RST))
		return FLOW_CLOSING;
	return state == FLOW_SYN || state == FLOW_TOLD ? FLOW_OPEN : state;
}

/* The hash that a flow had when ports counted, or did not. */
always_inline __u64 other_hash(const void *key, __u32 sticky, enum family family)
{
	const struct flow_key4 *key4 = key;
	const struct flow_key6 *key6 = key;

	if (family == IPV4)
		return hash_of(&key4->source, &key4->destination, sticky ? 0 : *(__u32 *)&key4->source_port,
			       sticky ? 0 : key4->protocol, family);
	return hash_of((void *)key6->source, (void *)key6->destination,
		       sticky ? 0 : *(__u32 *)&key6->source_port, sticky ? 0 : key6->protocol, family);
}

/*
 * Where the previous ring would send it; within a window alone, and 0 if that destination has gone. Should the
 * ring be replaced meanwhile, the new one's past says of the flow what the old one did.
 */
always_inline __u32 claimed_by(struct question *q, const void *key, __u64 now, enum family family)
{
	struct ring_past *past;
	__u64 hash = q->hash;
	__u32 index = 1, service = q->service; /* a copy: see ask_flows6() */
	void *ring;

	if (!(q->current & RING_TRACKED))
		return q->current;
	ring = bpf_map_lookup_elem(&rings, &service);
	if (!ring || !within_window(ring, now))
		return q->current & ~RING_TRACKED;
	past = bpf_map_lookup_elem(ring, &index);
	if (!past)
		return 0;
	if (unlikely(past->sticky != q->sticky))
		hash = other_hash(key, past->sticky, family);
	return previous_slot(ring, past->size, hash);
}

/* Would the ring alone send the flow elsewhere, now or after a change? */
always_inline int exceptional(struct question *q, __u32 slot, const void *key, __u64 now, enum family family)
{
	const __u32 current = q->current & ~RING_TRACKED;

	return slot != current || claimed_by(q, key, now, family) != current;
}

/*
 * Are other nodes to hear of the flow again? Once in an interval, lest they think that it fell silent; and once
 * after each change of the ring, since they may not have kept what they heard before.
 */
always_inline int is_news(struct question *q, __u32 seen_before, __u32 seen)
{
	__u32 index = 3, service = q->service; /* Linux 6.1 takes no key from an argument's memory */
	struct ring_change *change;
	void *ring;

	if (likely(!settings.share) || !(q->current & RING_TRACKED))
		return 0;
	if (seen_before >> FLOW_SHARE_SHIFT != seen >> FLOW_SHARE_SHIFT)
		return 1;
	ring = bpf_map_lookup_elem(&rings, &service);
	if (!ring)
		return 0;
	change = bpf_map_lookup_elem(ring, &index);
	return change && seen_before <= (__u32)(change->at_ns >> FLOW_SEEN_SHIFT);
}

/* A packet of a flow that is known; the line is shared by CPUs, so written only where it changes. */
always_inline void follow(struct question *q, struct flow *flow, const void *key, __u32 weight,
			  enum family family)
{
	const __u32 seen = seen_now(), before = flow->seen;
	const __u32 state = state_after(q->tcp_flags, flow->state);

	q->choice.slot = flow->slot;
	if (q->quoted)
		return;
	if (flow->state == FLOW_SYN)
		q->choice.began = weight;
	if (flow->state != state)
		flow->state = state;
	if (before == seen)
		return;
	flow->seen = seen;
	if (unlikely(is_news(q, before, seen)) && exceptional(q, flow->slot, key, now_ns(), family))
		share_flow(key, flow, family);
}

/* The destination of a flow that the ring alone cannot tell, or that belongs to the sample. */
always_inline void ask_flows(struct question *q, void *flows, const void *key, enum family family)
{
	const __u8 tcp_flags = q->tcp_flags;
	const __u32 syn = (tcp_flags & (TCP_SYN | TCP_ACK)) == TCP_SYN;
	const __u32 sample_mask = settings.sample_mask;
	const __u32 sampled = !((__u32)q->hash & sample_mask), weight = sampled ? sample_mask + 1 : 0;
	struct flow *flow = bpf_map_lookup_elem(flows, key);
	__u32 previous, ambiguous;
	struct flow fresh = {};
	__u64 now;

	if (!syn && flow && alive(flow->slot, flow->generation)) {
		follow(q, flow, key, weight, family);
		return;
	}
	now = now_ns();
	fresh.seen = now >> FLOW_SEEN_SHIFT;
	previous = claimed_by(q, key, now, family);
	ambiguous = previous != q->choice.slot;
	if (!syn) {
		/* Silent since the change, or new to this program: it may have been there. */
		if (previous)
			q->choice.slot = previous;
		/* What somebody says about a flow does not begin one. */
		if (q->quoted)
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
	if (!fresh.generation)
		return;
	/* What is there takes no more room. Of a flow that is not, later packets go by the previous ring. */
	if (!flow && !may_remember(now, !ambiguous, sample_mask)) {
		if (previous)
			q->choice.slot = previous;
		return;
	}
	bpf_map_update_elem(flows, key, &fresh, BPF_ANY);
	/* The sample is nobody else's business; but others may know this flow as something else. */
	if (unlikely(settings.share) && (q->current & RING_TRACKED) && (ambiguous || flow))
		share_flow(key, &fresh, family);
}

/* Global functions: the verifier looks into them once, and not for every kind of packet that asks. */
__noinline int ask_flows4(struct question *q, __u32 source, __u32 destination, __u32 ports, __u32 protocol)
{
	struct flow_key4 key = {
		.source = source,
		.destination = destination,
		.source_port = ports,
		.destination_port = ports >> 16,
		.protocol = protocol,
	};

	if (q)
		ask_flows(q, &flows4, &key, IPV4);
	return 0;
}

__noinline int ask_flows6(struct question *q, struct flow_key6 *key)
{
	struct flow_key6 copy; /* Linux 6.1 takes no key from an argument's memory */

	if (!q || !key)
		return 0;
	copy_words(&copy, key, sizeof(copy) / 4);
	ask_flows(q, &flows6, &copy, IPV6);
	return 0;
}

static __noinline int ask6(struct packet *p, struct question *q)
{
	struct flow_key6 key aligned_words = { .protocol = p->protocol };

	copy_words(key.source, p->source, 4);
	copy_words(key.destination, p->destination, 4);
	copy_words(&key.source_port, &p->ports, 1);
	return ask_flows6(q, &key);
}

/*
 * Answers with the destination's slot, 0 if there is none. An established flow in an entry that no change has
 * touched is answered by the ring alone.
 */
always_inline void choose(struct packet *p, struct service *service, struct question *q, enum family family)
{
	void *ring = bpf_map_lookup_elem(&rings, &service->id);
	struct ring_entry *entry;
	__u32 index;

	q->service = service->id;
	if (!ring)
		return;
	q->hash = flow_hash(p, service->sticky, family);
	index = RING_HEADER + scale(q->hash, service->ring_size);
	entry = bpf_map_lookup_elem(ring, &index);
	if (!entry)
		return;
	q->current = entry->current;
	q->choice.slot = q->current & ~RING_TRACKED;
	q->choice.entropy = q->hash;
	if (likely(!(q->current & RING_TRACKED) && ((__u32)q->hash & settings.sample_mask)))
		return;
	q->sticky = service->sticky;
	q->tcp_flags = p->tcp_flags;
	q->quoted = p->quoted;
	if (family == IPV4)
		ask_flows4(q, *(__be32 *)p->source, *(__be32 *)p->destination, p->ports, p->protocol);
	else
		ask6(p, q);
}

#endif
