/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * Everything that the program and user space both see. This is its one definition, and so longer than 400 lines:
 * lib/lb/abi.gen.ts is generated from the BTF of the built object, so no offset is ever written by hand.
 *
 * Addresses, ports and MACs are in network byte order; all else is in the host's. An IPv4 address in a
 * 16-byte field takes the first four bytes, the others are zero. Padding is explicit, and zero.
 */
#ifndef XVS_ABI_H
#define XVS_ABI_H

#include <linux/types.h>

enum {
	ABI_VERSION = 3, /* grows with every change of layout or meaning in this file */
};

/*
 * Why a packet got its verdict. Each packet has exactly one reason, and each reason a counter.
 * A name that xvs uses keeps its meaning. The text behind a name is what the metrics help says.
 */
enum reason {
	REASON_FORWARDED, /* sent to a destination */
	REASON_NOT_IP, /* passed to the host: neither IPv4 nor IPv6, or cut short before its addresses */
	REASON_NOT_A_VIP, /* passed to the host untouched: to an address that is no VIP */
	REASON_WATCHDOG, /* passed to the host: the client has given no sign of life for too long */
	REASON_ICMP_ECHO_REQUEST, /* a ping of a VIP, answered here */
	REASON_ICMP_ERROR, /* an ICMP error about a flow, sent to the destination that the flow belongs to */
	REASON_PROBE, /* sent to the destination that this host probes */
	REASON_PROBE_REPLY, /* handed to the host: what answers a probe */
	REASON_TOO_BIG, /* answered, if that can help: on its way to its destination it would exceed the MTU; path MTU discovery at work */
	REASON_TOO_BIG_FRAGMENTABLE, /* dropped, or answered as too_big, though it came without DF; that client may never learn */
	REASON_ICMP_LIMITED, /* dropped without the ICMP answer that was due: more than settings.icmp_budget; a flood */
	REASON_ERR_DENIED, /* dropped: to a VIP, from a prefix that is blocked */
	REASON_ERR_MALFORMED, /* dropped: an IP header that contradicts itself, or a ping from an address that no host has; a broken or hostile sender */
	REASON_ERR_TOT_LEN, /* dropped: the IP length is more than the frame holds; cut on its way */
	REASON_ERR_FRAGMENTED, /* dropped: a fragment that came before its first one, or too long after it */
	REASON_ERR_EXTENSIONS, /* dropped: IPv6 with extension headers cut short, or more than are looked behind; hardly well meant */
	REASON_ERR_EXPIRED, /* dropped or answered: TTL or hop limit used up; a routing loop, or a traceroute */
	REASON_ERR_L4_UNSUPPORTED, /* dropped: to a VIP, but neither TCP, UDP nor ICMP */
	REASON_ERR_TCP_HEADER, /* dropped: a TCP header that is cut short or too small */
	REASON_ERR_UDP_HEADER, /* dropped: a UDP header that is cut short */
	REASON_ERR_ICMP_HEADER, /* dropped: an ICMP header that is cut short */
	REASON_ERR_ICMP_UNSUPPORTED, /* dropped: to a VIP, ICMP that is neither an echo request nor an error */
	REASON_ERR_ICMP_UNRELATED, /* dropped: an ICMP error about nothing that a service of the VIP sent; forged, or late */
	REASON_ERR_SERVICE_NOT_FOUND, /* dropped, passed or answered: no service at that port of a VIP; a scan, or one not set up */
	REASON_ERR_NO_BACKEND, /* dropped: the service has no enabled destination with a known next hop */
	REASON_ERR_BACKEND_INVALID, /* dropped: the chosen destination was removed an instant ago */
	REASON_ERR_ADJUST_FAILED, /* dropped: no room before the frame for the outer header; a driver with little headroom */
	REASON_ERR_TUNNEL_UNSUPPORTED, /* dropped: a tunnel this program does not know; program and client disagree */
	REASON_ERR_REDIRECT, /* dropped: the interface towards the destination is not one of the instance's */
	REASON_ERR_PROBE, /* answered or dropped: a probe of nobody, with no way there, or of neither TCP nor UDP */
	REASON_ERR_INTERNAL, /* dropped: a map entry that must exist does not; a bug, please report it */
	REASON_COUNT,
};

/* How a packet travels to its destination. */
enum tunnel {
	TUNNEL_NONE, /* layer 2: the frame itself, with the destination's MAC */
	TUNNEL_IPIP, /* RFC 2003, 2473 and 4213: IP in IP, in any mix of families */
	TUNNEL_GRE, /* RFC 2784: without key, sequence number and checksum */
	TUNNEL_FOU, /* IP directly in UDP; also what variant 1 of GUE is */
	TUNNEL_GUE, /* draft-ietf-intarea-gue, variant 0 without options */
	TUNNEL_COUNT,
};

/* What becomes of packets that cannot be forwarded. */
enum policy {
	POLICY_DEFAULT, /* what the instance's settings say; there it is POLICY_DROP */
	POLICY_DROP, /* dropped */
	POLICY_PASS, /* passed to the host */
	POLICY_REJECT, /* answered by an ICMP error */
};

/*
 * What user space may set while packets flow. One per instance; a global variable of the program. In every
 * version of this file abi_version comes first, so that any client can tell whose instance it meets.
 */
struct settings {
	__u32 abi_version; /* ABI_VERSION of the program */
	__u32 sample_mask; /* flows whose hash has none of these bits are counted one by one; ~0: none */
	__u32 flow_budget; /* new flows that a CPU may remember per tick of 2^26 ns */
	__u32 sample_budget; /* new flows of the sample that a CPU may remember until it halves the sample */
	__u32 icmp_budget; /* ICMP answers that a CPU may give per tick of 2^24 ns */
	__u8 unknown_port; /* enum policy, for ports of a VIP without a service */
	__u8 expired; /* enum policy, for packets whose TTL is used up; POLICY_PASS is POLICY_DROP */
	__u8 deny; /* whether any prefix is blocked */
	__u8 share; /* whether other nodes are told of flows, see struct shared_flow */
	__u32 hash_key[10]; /* NH key of the flow hash, see hash.h */
	__u64 hash_final; /* added between NH and its finaliser */
	__be32 source_mask4; /* bits of the outer IPv4 source that the flow's hash fills */
	__be32 source_mask6; /* those of the last 32 of the outer IPv6 source */
	__u64 watchdog_ns; /* CLOCK_MONOTONIC: when everything is to be passed to the host; 0: never */
	__u64 revision; /* grows by two with every change by a client; odd while one is under way */
	__u8 object_hash[32]; /* SHA-256 of the object that the program comes from */
	__u32 probe_ifindex; /* where probes come from, and replies go to; 0: nobody probes */
	__be32 probe_net4; /* the network of probe addresses */
	__u32 probe_mask4; /* bits of such an address that are its number */
	__u32 probe_mask6; /* those of the last 32 of an IPv6 one */
	__u8 probe_net6[16];
	__u8 probe_mac[6]; /* of the interface that the host sends probes by, at the other end of probe_ifindex */
	__u8 bonding; /* whether packets leave by the interface that they came in by, whichever that is */
	__u8 fragmentable; /* enum policy, for IPv4 packets too long that came without DF; POLICY_PASS is POLICY_DROP */
};
_Static_assert(sizeof(struct settings) == 168, "settings");

/* Keys of the tries of blocked sources, as BPF_MAP_TYPE_LPM_TRIE wants them. */
struct prefix4 {
	__u32 length;
	__be32 address;
};
_Static_assert(sizeof(struct prefix4) == 8, "prefix4");

struct prefix6 {
	__u32 length;
	__u8 address[16];
};
_Static_assert(sizeof(struct prefix6) == 20, "prefix6");

struct denied {
	__u64 packets;
};
_Static_assert(sizeof(struct denied) == 8, "denied");

struct service_key4 {
	__be32 address;
	__be16 port;
	__u8 protocol;
	__u8 pad;
};
_Static_assert(sizeof(struct service_key4) == 8, "service_key4");

struct service_key6 {
	__u8 address[16];
	__be16 port;
	__u8 protocol;
	__u8 pad;
};
_Static_assert(sizeof(struct service_key6) == 20, "service_key6");

/*
 * What the program needs to know of a service before its ring. It changes only while every entry of
 * the ring is tracked, so that a packet that meets the old value with the new ring is still right.
 */
struct service {
	__u32 id; /* of its ring, its record and its counters */
	__u32 ring_size;
	__u32 vip;
	__u8 sticky; /* hash the addresses alone: a client keeps its destination */
	__u8 expired; /* enum policy, as in settings */
	__u8 fragmentable; /* enum policy, as in settings */
	__u8 pad;
};
_Static_assert(sizeof(struct service) == 16, "service");

enum {
	VIP_FILTER_BITS = 16, /* of a hash of an address; as many bits as that counts to tell what may be a VIP */
};

/* A port without a service is nobody's but the VIP's. */
struct vip {
	__u32 id; /* of its counters */
	__u32 services; /* how many services it has; gone with the last */
	__u8 unknown_port; /* enum policy, as in settings */
	__u8 pad[3];
};
_Static_assert(sizeof(struct vip) == 12, "vip");

/*
 * A ring is an array of 8-byte entries: ring_window, ring_past, ring_present, ring_change, then ring_entry
 * times the larger of its two sizes. It is replaced whole: a packet sees the old ring or the new one, never a
 * mixture.
 */
enum {
	RING_HEADER = 4, /* entries before the first ring_entry */
	RING_TRACKED = 0x80000000, /* bit of ring_entry.current: look its flows up */
};

struct ring_window {
	__u64 end_ns; /* until then (CLOCK_MONOTONIC) an unknown flow is taken for one of the previous ring */
};
_Static_assert(sizeof(struct ring_window) == 8, "ring_window");

struct ring_past {
	__u32 size; /* of the previous ring: its index function may differ from the current one's */
	__u32 sticky;
};
_Static_assert(sizeof(struct ring_past) == 8, "ring_past");

/* The same as struct service says, for clients: the program has it from there. */
struct ring_present {
	__u32 size;
	__u32 sticky;
};
_Static_assert(sizeof(struct ring_present) == 8, "ring_present");

struct ring_change {
	__u64 at_ns; /* CLOCK_MONOTONIC: since then the ring has been so */
};
_Static_assert(sizeof(struct ring_change) == 8, "ring_change");

struct ring_entry {
	__u32 current; /* destination slot, 0: none; RING_TRACKED */
	__u32 previous; /* destination slot, 0: none */
};
_Static_assert(sizeof(struct ring_entry) == 8, "ring_entry");

enum {
	DESTINATION_IPV6 = 1, /* the outer header is an IPv6 one */
	DESTINATION_NO_CHECKSUM = 2, /* the outer UDP checksum is left out */
	DESTINATION_SPREAD = 4, /* the flow's hash fills some bits of the outer source: settings.source_mask... */
};

/* One cache line, all that forwarding needs. Slot 0 is nobody. */
struct destination {
	__u32 generation; /* of the slot: whoever remembers another one remembers somebody gone; 0: free */
	__u32 ifindex; /* egress interface; 0: next hop not known */
	__u8 destination_mac[6];
	__u8 source_mac[6];
	__u16 vlan; /* 0: untagged */
	__u16 mtu; /* the longest IP packet on the way there */
	__be16 tunnel_port;
	__u8 tunnel; /* enum tunnel */
	__u8 flags; /* DESTINATION_... */
	__u16 outer_sum; /* one's complement sum of the outer IPv4 header but for its length and TOS */
	__u16 udp_sum; /* that of pseudo-header, port and tunnel header but for lengths and source port */
	__u8 outer_source[16];
	__u8 outer_destination[16];
};
_Static_assert(sizeof(struct destination) == 64, "destination");

/* Flows are remembered only where the ring alone would not tell: design "just enough state". */
struct flow_key4 {
	__be32 source;
	__be32 destination;
	__be16 source_port;
	__be16 destination_port;
	__u8 protocol;
	__u8 pad[3];
};
_Static_assert(sizeof(struct flow_key4) == 16, "flow_key4");

struct flow_key6 {
	__u8 source[16];
	__u8 destination[16];
	__be16 source_port;
	__be16 destination_port;
	__u8 protocol;
	__u8 pad[3];
};
_Static_assert(sizeof(struct flow_key6) == 40, "flow_key6");

/* A datagram in fragments: all follow the first, which alone has ports. */
struct fragment_key4 {
	__be32 source;
	__be32 destination;
	__u32 id;
	__u32 protocol;
};
_Static_assert(sizeof(struct fragment_key4) == 16, "fragment_key4");

struct fragment_key6 {
	__u8 source[16];
	__u8 destination[16];
	__u32 id; /* of whatever protocol: RFC 8200, section 4.5 */
	__u32 pad;
};
_Static_assert(sizeof(struct fragment_key6) == 40, "fragment_key6");

struct fragment_value {
	__u32 slot; /* 0: of a ping, which is answered here */
	__u32 generation;
	__u32 service;
	__u32 entropy;
};
_Static_assert(sizeof(struct fragment_value) == 16, "fragment_value");

enum flow_state {
	FLOW_SYN, /* only its SYN was seen */
	FLOW_OPEN,
	FLOW_CLOSING, /* the client sent FIN or RST */
	FLOW_TOLD, /* another node told of it, and nothing of it was seen here */
};

enum {
	FLOW_SEEN_SHIFT = 24, /* flow.seen counts units of 2^24 ns of CLOCK_MONOTONIC: 16.8 ms */
	FLOW_SHARE_SHIFT = 9, /* an interval, in which others are told of a flow once, is 2^9 of these: 8.6 s */
};

struct flow {
	__u32 slot;
	__u32 generation;
	__u32 seen; /* last packet, see FLOW_SEEN_SHIFT */
	__u32 state; /* enum flow_state */
};
_Static_assert(sizeof(struct flow) == 16, "flow");

/*
 * What a probe address stands for, by its number: a VIP on one destination. Number 0 is nobody's: in its
 * place, `slot` is the number that was given out last.
 */
struct probe {
	__u32 slot; /* of the destination; 0: the number is free */
	__u32 generation; /* of the slot */
	__u8 vip[16];
	__u8 source[16]; /* of this host, to which replies come; zeroes: it has none of the VIP's family */
	__u8 destination[16]; /* its address; the client's own */
	__u8 ipv6; /* the family of VIP and source */
	__u8 destination_ipv6;
	__u8 pad[2];
};
_Static_assert(sizeof(struct probe) == 60, "probe");

enum {
	PROBE_PORTS_FROM = 1024, /* source ports of probes, below those that Linux gives its own sockets */
	PROBE_PORTS = 31744, /* as many */
};

/* Who is to have a reply. */
struct probe_key {
	__u8 vip[16];
	__u8 source[16]; /* of this host, see struct probe */
	__be16 service_port;
	__be16 port; /* one of PROBE_PORTS, which tells the destination */
	__u32 protocol;
};
_Static_assert(sizeof(struct probe_key) == 40, "probe_key");

struct probe_flow {
	__u8 source[16]; /* of the packets that the host sent */
	__u8 address[16]; /* the probe address that it sent them to */
	__be16 port; /* that it sent them from */
	__u16 pad;
	__u32 seen; /* last packet, see FLOW_SEEN_SHIFT */
};
_Static_assert(sizeof(struct probe_flow) == 40, "probe_flow");

/*
 * What other nodes are told: the destination of a flow that the ring alone would not give. It holds for
 * all of an interval, in which the flow may speak again without a word to others.
 */
struct shared_flow {
	__u8 source[16];
	__u8 destination[16];
	__be16 source_port;
	__be16 destination_port;
	__u8 protocol;
	__u8 ipv6;
	__u8 pad[2];
	__u32 slot; /* from here on as in struct flow */
	__u32 generation;
	__u32 seen;
	__u32 state;
};
_Static_assert(sizeof(struct shared_flow) == 56, "shared_flow");

struct sharing_counter {
	__u64 told;
	__u64 lost; /* nobody read them, and there was no room for more */
};
_Static_assert(sizeof(struct sharing_counter) == 16, "sharing_counter");

/* Per-CPU counters, added up by user space. Octets are those of the IP packet that came in. */
struct reason_counter {
	__u64 packets;
	__u64 octets;
};
_Static_assert(sizeof(struct reason_counter) == 16, "reason_counter");

struct destination_counter {
	__u64 packets;
	__u64 octets;
	__u64 flows; /* flows that began, by sample */
	__u64 syn;
	__u64 ack;
	__u64 fin;
	__u64 rst;
	__u64 errors; /* packets that were for it and could not be sent */
};
_Static_assert(sizeof(struct destination_counter) == 64, "destination_counter");

/* Which packets for a destination were not simply forwarded; few destinations have any, and those few reasons. */
struct destination_reason_key {
	__u32 slot;
	__u32 generation; /* of the destination, lest the slot's next owner inherits */
	__u32 reason; /* enum reason */
};
_Static_assert(sizeof(struct destination_reason_key) == 12, "destination_reason_key");

struct destination_reason {
	__u64 packets;
};
_Static_assert(sizeof(struct destination_reason) == 8, "destination_reason");

/* For a service, and for a VIP what belongs to none of its services. */
struct service_counter {
	__u64 packets;
	__u64 octets;
	__u64 flows;
	__u64 syn;
	__u64 ack;
	__u64 fin;
	__u64 rst;
	__u64 reasons[REASON_COUNT]; /* packets */
};

/* Records: what was asked for, kept by user space for itself and for other processes. */
struct service_record {
	__u8 address[16];
	__be16 port;
	__u8 protocol; /* 0: the record is free */
	__u8 ipv6;
	__u8 sticky;
	__u8 expired; /* enum policy */
	__u8 fragmentable; /* enum policy */
	__u8 pad;
	__u64 idle_timeout_ns; /* the window after a change */
	__u64 settle_ns; /* CLOCK_MONOTONIC: when its ring may be settled; 0: nothing of it is tracked */
	__u32 serial; /* services are listed in the order of these */
	__u32 marks; /* how often entries of the ring in place were made tracked, for want of which it is read again */
};
_Static_assert(sizeof(struct service_record) == 48, "service_record");

struct destination_record {
	__u8 address[16];
	__u32 service; /* id */
	__u32 generation; /* as in destination; survives the freeing of the slot */
	__u16 weight;
	__be16 tunnel_port;
	__u8 tunnel; /* enum tunnel */
	__u8 flags; /* DESTINATION_... */
	__u8 disabled;
	__u8 used; /* 0: the record is free */
	__u16 mtu; /* as asked for; 0: the interface's */
	__u16 pad;
	__u32 serial; /* destinations are listed in the order of these */
	__u32 ifindex; /* of the next hop, as all that follows; 0: not known */
	__u32 path_mtu; /* the longest IP packet that fits */
	__u8 interface[16]; /* its name */
	__u8 destination_mac[6];
	__u8 source_mac[6];
	__u16 vlan;
	__u8 on_link; /* on the interface's own network, not behind a router */
	__u8 sources; /* which of the following two are there: SOURCE_... */
	__u8 source4[4];
	__u8 source6[16];
};
_Static_assert(sizeof(struct destination_record) == 100, "destination_record");

enum {
	SOURCE_IPV4 = 1,
	SOURCE_IPV6 = 2,
};

/* Documents: JSON in UTF-8, zeroes at its end, kept by clients for each other. */
enum {
	DOCUMENT_INSTANCE = 0, /* its configuration, and the interfaces that it is attached to */
};

#endif
