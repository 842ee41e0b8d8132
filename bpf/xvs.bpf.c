/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * The balancer. For an established flow, in this order: parse.h reads the packet, service.h finds its service,
 * hash.h and flow.h choose the destination, forward.h sends the packet there, count.h counts.
 */
#include "abi.h"
#include "count.h"
#include "flow.h"
#include "forward.h"
#include "fragment.h"
#include "icmp.h"
#include "maps.h"
#include "parse.h"
#include "probe.h"
#include "probe_reply.h"
#include "service.h"

/* The longest blocked prefix that the source is in. */
always_inline struct denied *denied_by(struct packet *p, enum family family)
{
	if (family == IPV4) {
		struct prefix4 key = { .length = 32, .address = p->ip4->saddr };

		return bpf_map_lookup_elem(&denied4, &key);
	} else {
		struct prefix6 key aligned_words = { .length = 128 };

		copy_words(key.address, &p->ip6->saddr, 4);
		return bpf_map_lookup_elem(&denied6, &key);
	}
}

static __noinline struct denied *denied_by4(struct packet *p)
{
	return denied_by(p, IPV4);
}

static __noinline struct denied *denied_by6(struct packet *p)
{
	return denied_by(p, IPV6);
}

/* What there is to do with a packet. */
struct errand {
	struct question question; /* which service, and where to */
	struct service *owner; /* if its destination is still to be chosen */
	__u32 sent_as; /* the reason if it can be sent */
	__u32 vip; /* id, if it meets none of its services */
	__u32 unknown_port; /* policy of that VIP */
	struct verdict verdict; /* if there is nothing to send */
};

/* A packet of a flow of the service. */
always_inline void choose_for(struct packet *p, struct service *service, struct errand *errand,
			      enum family family)
{
	if (expired(p, family)) { /* begins no flow; deliver() says so */
		errand->question.service = service->id;
		return;
	}
	choose(p, service, &errand->question, family);
	if (unlikely(p->fragment) && errand->question.choice.slot)
		family == IPV4 ? note_fragments4(p, &errand->question) : note_fragments6(p, &errand->question);
}

/* An error about a flow goes to whoever has the flow. */
always_inline int route_error(struct cursor *c, struct packet *p, struct errand *errand, enum family family)
{
	struct service *service;

	if (!adopt_quoted(c, p, family))
		return 0;
	service = find_service(p, p->ports >> 16, family);
	if (!service)
		service = find_service(p, 0, family);
	if (!service)
		return 0;
	errand->owner = service;
	errand->sent_as = REASON_ICMP_ERROR;
	return 1;
}

/*
 * What met no service by its own port. `reason` says why if it was not for want of one. 1: there is
 * somewhere to send it to; 0: there is a verdict.
 */
always_inline int take_up(struct cursor *c, struct packet *p, struct errand *errand, enum reason reason,
			  enum family family)
{
	struct vip *vip = find_vip(p, family);
	struct service *service;
	struct denied *denied;

	if (!vip) {
		errand->verdict = pass(REASON_NOT_A_VIP);
		return 0;
	}
	errand->vip = vip->id;
	errand->unknown_port = vip->unknown_port;
	if (reason != REASON_FORWARDED) {
		denied = reason == REASON_ERR_DENIED ? (family == IPV4 ? denied_by4(p) : denied_by6(p)) : NULL;
		if (denied)
			__sync_fetch_and_add(&denied->packets, 1);
		errand->verdict = drop(reason);
	} else if (p->fragment == FRAGMENT_LATER) {
		if (follow_first(p, &errand->question, family))
			return 1;
		errand->verdict = follows_ping(p, family) ? answer_echo(p, &errand->question, family) :
							    drop(REASON_ERR_FRAGMENTED);
	} else if (!p->icmp) {
		service = find_service(p, 0, family);
		if (service) {
			errand->owner = service;
			return 1;
		}
		errand->verdict = drop(REASON_ERR_SERVICE_NOT_FOUND);
	} else if (is_echo_request(p, family)) {
		errand->verdict = answer_echo(p, &errand->question, family);
	} else if (is_error(p, family)) {
		if (route_error(c, p, errand, family))
			return 1;
		errand->verdict = drop(REASON_ERR_ICMP_UNRELATED);
	} else {
		errand->verdict = drop(REASON_ERR_ICMP_UNSUPPORTED);
	}
	return 0;
}

static __noinline int take_up4(struct cursor *c, struct packet *p, struct errand *errand, enum reason reason)
{
	return take_up(c, p, errand, reason, IPV4);
}

static __noinline int take_up6(struct cursor *c, struct packet *p, struct errand *errand, enum reason reason)
{
	return take_up(c, p, errand, reason, IPV6);
}

/* What becomes of a packet for which there was nowhere to send it to. */
always_inline struct verdict dismiss(struct packet *p, struct errand *errand, enum family family)
{
	struct verdict verdict = errand->verdict;

	if (verdict.reason == REASON_NOT_A_VIP)
		return pass_or_reply(p, family);
	if (verdict.reason == REASON_ERR_SERVICE_NOT_FOUND)
		verdict = answer_unknown_port(p, errand->unknown_port, family);
	count_reason(&vip_counters, errand->vip, verdict.reason);
	return verdict;
}

/* To the destination chosen, or why not. `service` is NULL for fragments that follow their first. */
always_inline struct verdict deliver(struct packet *p, struct service *service, struct errand *errand,
				     enum family family)
{
	struct choice *choice = &errand->question.choice;
	struct destination *d = bpf_map_lookup_elem(&destinations, &choice->slot);
	struct verdict verdict;

	if (expired(p, family))
		return answer_expired(p, service ? service->expired : POLICY_DEFAULT, family);
	if (!choice->slot)
		return drop(REASON_ERR_NO_BACKEND);
	if (!d || !d->ifindex)
		return drop(REASON_ERR_BACKEND_INVALID);
	verdict = forward(p, d, choice->entropy, family);
	if (likely(verdict.reason == REASON_FORWARDED))
		verdict.reason = errand->sent_as;
	else if (verdict.reason == REASON_TOO_BIG)
		verdict = answer_too_big(p, service ? service->fragmentable : POLICY_DEFAULT, family);
	return verdict;
}

always_inline struct verdict balance(struct cursor *c, struct packet *p, struct errand *errand,
				     enum family family)
{
	enum reason reason = parse_ip(c, p, family);
	struct service *service = NULL;
	struct verdict verdict;
	int with_ports;

	if (reason == REASON_NOT_IP)
		return pass(reason);
	if (unlikely(settings.watchdog_ns) && now_ns() > settings.watchdog_ns)
		return pass(REASON_WATCHDOG);
	if (unlikely(settings.deny) && (family == IPV4 ? denied_by4(p) : denied_by6(p)))
		reason = REASON_ERR_DENIED;
	with_ports = reason == REASON_FORWARDED && !p->icmp && likely(p->fragment != FRAGMENT_LATER);
	if (with_ports)
		service = recall(p, p->ports >> 16, family);
	if (unlikely(!service)) {
		if (!may_be_vip(p, family))
			return pass_or_reply(p, family);
		if (with_ports)
			service = look_up(p, p->ports >> 16, family);
	}
	if (unlikely(!service)) {
		if (!(family == IPV4 ? take_up4(c, p, errand, reason) : take_up6(c, p, errand, reason)))
			return dismiss(p, errand, family);
		service = errand->owner;
	}
	if (likely(service))
		choose_for(p, service, errand, family);
	verdict = deliver(p, service, errand, family);
	count_service(p, &errand->question, verdict);
	return verdict;
}

/* "frags": of frames that take several buffers, as jumbo frames do, the headers are in the first. */
SEC("xdp.frags")
int xvs(struct xdp_md *ctx)
{
	struct cursor c = { .at = (void *)(long)ctx->data, .end = (void *)(long)ctx->data_end };
	struct packet p = { .ctx = ctx, .octets = c.end - c.at };
	struct errand errand = { .sent_as = REASON_FORWARDED };

	switch (parse_ethernet(&c, &p)) {
	case bpf_htons(ETH_P_IP):
		return conclude(&p, balance(&c, &p, &errand, IPV4));
	case bpf_htons(ETH_P_IPV6):
		return conclude(&p, balance(&c, &p, &errand, IPV6));
	default:
		return conclude(&p, pass(REASON_NOT_IP));
	}
}

/*
 * On the interface that this host's own probes come in by, without tags. At its other end, where replies come out,
 * veth takes what native XDP redirects to it only if there is a program too; this one does nothing there.
 */
SEC("xdp")
int probe(struct xdp_md *ctx)
{
	struct cursor c = { .at = (void *)(long)ctx->data, .end = (void *)(long)ctx->data_end };
	struct packet p = { .ctx = ctx, .octets = c.end - c.at };

	if (ctx->ingress_ifindex != settings.probe_ifindex)
		return XDP_PASS;
	p.ethernet = take(&c, struct ethhdr);
	if (p.ethernet && p.ethernet->h_proto == bpf_htons(ETH_P_IP))
		return conclude(&p, send_probe(&c, &p, IPV4));
	if (p.ethernet && p.ethernet->h_proto == bpf_htons(ETH_P_IPV6))
		return conclude(&p, send_probe(&c, &p, IPV6));
	return conclude(&p, pass(REASON_NOT_IP));
}

/* Types that no map or variable mentions, kept in the BTF for the generator of abi.gen.ts. */
struct abi {
	enum reason reason;
	enum tunnel tunnel;
	enum policy policy;
	enum flow_state flow_state;
	struct ring_window ring_window;
	struct ring_past ring_past;
	struct ring_present ring_present;
	struct ring_change ring_change;
	struct shared_flow shared_flow;
	struct sharing_counter sharing_counter;
	struct ring_entry ring_entry;
} abi __attribute__((unused));

char _license[] SEC("license") = "Dual MIT/GPL";
