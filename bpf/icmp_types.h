/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* The ICMP header, and the numbers in it that matter here. */
#ifndef XVS_ICMP_TYPES_H
#define XVS_ICMP_TYPES_H

#include <linux/types.h>

/* RFC 792, RFC 4443. <linux/icmp.h> cannot be had without the C library's headers. */
struct icmp {
	__u8 type;
	__u8 code;
	__sum16 checksum;
	__be32 rest;
};

enum {
	ICMP4_ECHO_REPLY = 0,
	ICMP4_UNREACHABLE = 3,
	ICMP4_ECHO_REQUEST = 8,
	ICMP4_TIME_EXCEEDED = 11,
	ICMP4_PARAMETER_PROBLEM = 12,
	ICMP6_UNREACHABLE = 1,
	ICMP6_PACKET_TOO_BIG = 2,
	ICMP6_TIME_EXCEEDED = 3,
	ICMP6_PARAMETER_PROBLEM = 4,
	ICMP6_ECHO_REQUEST = 128,
	ICMP6_ECHO_REPLY = 129,
};

/* Codes of unreachable. */
enum {
	ICMP4_HOST = 1,
	ICMP4_PORT = 3,
	ICMP4_FRAGMENTATION_NEEDED = 4,
	ICMP6_ADDRESS = 3,
	ICMP6_PORT = 4,
};

#endif
