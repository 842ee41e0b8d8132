/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* The headers between an outer IP header, or the UDP header behind it, and the inner packet. */
#ifndef XVS_TUNNEL_H
#define XVS_TUNNEL_H

#include <linux/types.h>

/* RFC 2784. */
struct gre {
	__be16 flags; /* and version */
	__be16 protocol; /* an EtherType */
};

/* draft-ietf-intarea-gue, variant 0. */
struct gue {
	__u8 length; /* of options, in words; and variant and control bit, all 0 */
	__u8 protocol; /* as of IP */
	__be16 flags;
};

#endif
