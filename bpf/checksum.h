/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* The Internet checksum. */
#ifndef XVS_CHECKSUM_H
#define XVS_CHECKSUM_H

#include "parse.h"

/* One's complement, RFC 1071. */
always_inline __u16 fold(__u32 sum)
{
	sum = (sum & 0xffff) + (sum >> 16);
	return (sum & 0xffff) + (sum >> 16);
}

/* The checksum of a header in which the 16-bit word `from` became `to`: RFC 1624, equation 3. */
always_inline __u16 amend(__u16 checksum, __u16 from, __u16 to)
{
	return ~fold((__u16)~checksum + (__u16)~from + to);
}

#endif
