/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* What the programs of bench.bpf.c and user space both see. */
#ifndef XVS_BENCH_H
#define XVS_BENCH_H

#include <linux/types.h>

struct bench {
	__u64 words[10]; /* of the template, at 0, 6, 14, 22, 30, 38, 46, and for IPv6 54, 62, 70 */
	__u64 runs;
	__u64 wrong; /* runs that found another growth than expected of the run before */
	__u64 failed; /* runs without a program under test */
	__u32 length; /* of the frame */
	__s32 growth; /* of the frame, by the program under test */
	__u32 ip_sum; /* IPv4: of the template's header, but for what varies */
	__u32 transport_sum; /* of the template's segment and pseudo-header, but for what varies */
	__u32 flows; /* how many, a power of two up to 2^30 */
	__u32 half; /* of the bits of a flow's number, rounded up */
	__u32 order; /* an odd number: flows come in another order with another one */
	__u32 next; /* which packet comes next */
	__u32 vips; /* how many, by the last two bytes of the destination; IPv4 only, else 1 */
	__u32 egress; /* for send4: index of an interface */
	__u8 outer[34]; /* for floor_encap: Ethernet and IPv4 */
	__u8 pad[6];
};
_Static_assert(sizeof(struct bench) == 184, "bench");

#endif
