/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* Writing what stands before an IP packet: MACs, tags, and the protocol. */
#ifndef XVS_LINK_H
#define XVS_LINK_H

#include "parse.h"

/* Writes up to two tags behind the MACs, and the protocol of what follows. 0: no room. */
__noinline int write_tags(struct xdp_md *ctx, __u32 tags, __u32 outer, __u32 vlan, __u32 protocol)
{
	struct cursor c = { .at = (void *)(long)ctx->data, .end = (void *)(long)ctx->data_end };
	__u32 *at = c.at + 2 * ETH_ALEN;

	if ((void *)(at + 2) > c.end)
		return 0;
	if (tags == 2)
		*at++ = outer;
	*at = vlan;
	if ((void *)(at + 2) > c.end)
		return 0;
	*(__be16 *)(at + 1) = protocol;
	return 1;
}

always_inline __u32 word_of(struct vlan vlan)
{
	return vlan.type | (__u32)vlan.control << 16;
}

/*
 * The frame's header, with its tags, at the cursor, which moves behind them. 0: no room. That the number of
 * tags is but a number, to the verifier too, spares it many ways to look at.
 */
always_inline int write_link(struct xdp_md *ctx, struct cursor *c, const void *macs, __u32 tags,
			     struct vlan outer, struct vlan vlan, __be16 protocol)
{
	struct ethhdr *ethernet = take(c, struct ethhdr);

	if (!ethernet)
		return 0;
	copy_words(ethernet, macs, 3);
	ethernet->h_proto = protocol;
	c->at += tags * sizeof(struct tag);
	return likely(!tags) || write_tags(ctx, tags, word_of(outer), word_of(vlan), protocol);
}

#endif
