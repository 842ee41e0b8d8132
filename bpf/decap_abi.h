/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * What the decapsulator and user space both see, in the manner of abi.h: lib/lb/decap_abi.gen.ts is
 * generated from it.
 */
#ifndef XVS_DECAP_ABI_H
#define XVS_DECAP_ABI_H

#include <linux/types.h>

/*
 * What became of a packet, and why. Each packet has exactly one reason, and each reason a counter. All
 * but the errors, which come last, are passed to the host; and all but the first of these untouched.
 */
enum decap_reason {
	DECAP_DECAPSULATED, /* passed to the host without its outer header */
	DECAP_NOT_IP, /* passed to the host untouched: neither IPv4 nor IPv6 */
	DECAP_NOT_A_TUNNEL, /* passed to the host untouched: IP, but no tunnel of a kind that balancers send */
	DECAP_UNREADABLE, /* passed to the host untouched: an outer header or a tunnel that is broken or cut short */
	DECAP_FRAGMENT, /* passed to the host untouched: a fragment of a tunnel packet; the balancer's MTU is too large */
	DECAP_NOT_LOCAL, /* passed to the host untouched: a tunnel packet to none of the outer addresses given */
	DECAP_NOT_A_VIP, /* passed to the host untouched: a tunnel packet with no VIP inside; somebody else's tunnel */
	DECAP_ERR_UNKNOWN_PEER, /* dropped: for a VIP, from an outer address that is no peer's; a forgery, or a balancer not listed */
	DECAP_ERR_MALFORMED, /* dropped: for a VIP, with an inner header that contradicts itself */
	DECAP_ERR_TOT_LEN, /* dropped: for a VIP, with an inner packet longer than the outer one */
	DECAP_ERR_CONGESTION, /* dropped: it met congestion on its way, and its flow has no other way to be told (RFC 6040) */
	DECAP_ERR_ADJUST_FAILED, /* dropped: the kernel did not take the outer header off */
	DECAP_COUNT,
};

/* Keys of the tries of peers. */
struct peer_key4 {
	__u32 length; /* of the prefix, in bits */
	__u8 address[4];
};
_Static_assert(sizeof(struct peer_key4) == 8, "peer_key4");

struct peer_key6 {
	__u32 length; /* of the prefix, in bits */
	__u8 address[16];
};
_Static_assert(sizeof(struct peer_key6) == 20, "peer_key6");

#endif
