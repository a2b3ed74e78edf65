/*
 * What waits for one lane: a FIFO for each source, served in turn by deficit
 * round robin with new sources first (RFC 8290 4.1 and 4.2, without its CoDel:
 * datagrams of one destination may answer to no congestion control, and its law
 * takes seconds to catch up with them). Every packet that is pushed is taken or
 * counted as dropped.
 *
 *   - A source that says little does not wait behind those that say much.
 *   - A WireGuard handshake goes ahead of all data, as long as its source has not
 *     used up its share of the round: who sends only handshakes gains nothing.
 *     Within a source some data goes between its handshakes.
 *   - The oldest packet of who has most goes when there is no room.
 *   - A burst may wait for 100 ms. Who is served for longer without ever running empty sends
 *     more than the way takes, and what waits is delay for all of it and of use to none
 *     (RFC 8289 1): only the newest 25 ms are kept, until none is left waiting.
 *   - Order within a source is kept, but for handshakes.
 *
 * A source is who shares the way to this destination with others. While there is
 * only one, its packets are one FIFO and nothing else; an empty queue has no memory
 * but itself. One thread; sources come from a pool of the thread.
 */
#ifndef TUNN_LINK_QUEUE_H
#define TUNN_LINK_QUEUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/pkt.h"

enum {
	LINK_QUEUE_PACKETS_MAX = 512,
	LINK_QUEUE_AGE_MS = 100,           /* an older datagram is worth less than its successor */
	LINK_QUEUE_STANDING_AGE_MS = 25,   /* of a source that did not run empty in that time */
	LINK_QUEUE_HANDSHAKE_AGE_MS = 250, /* their successor comes after 5 s */
	LINK_QUEUE_QUANTUM = 1514,         /* bytes of a turn, RFC 8290 5.2.3: a full datagram */
	LINK_QUEUE_PACKET_COST =
	                24,        /* bytes that a turn is charged for a datagram beside its own */
	LINK_QUEUE_AHEAD_MAX = 16, /* handshakes of a source between two of its data */
};

enum link_sharing {                    /* what a source is */
	            SHARED_BY_SENDERS, /* at a relay: the end's key; it chooses its flows at will */
	            SHARED_BY_FLOWS,   /* at an end: the peer's key and the flow, a local program */
};

struct link_ring { /* circular, by its last: the next of it is the first */
	struct link_ring *next;
};

struct link_queue {                    /* zero-initialise; link_queue_drop_all() before it goes */
	struct pkt *first, *final;     /* of the only source; then there are no others */
	uint64_t served_ms;            /* of it: as in struct link_source */
	struct link_ring *fresh, *old; /* sources: in their first turn; in later ones */
	struct link_ring *urgent;      /* those with handshakes, and a share left */
	struct link_source *last;      /* who got the last packet, or NULL */
	uint64_t n_dropped;
	uint64_t n_stale, n_full; /* of those */
	size_t bytes;             /* payload that waits */
	unsigned n;               /* packets that wait */
	unsigned n_kept;          /* so many of them whatever their age; set by the owner */
};

/* Takes the packet. Beyond LINK_QUEUE_PACKETS_MAX the oldest goes, of who has most packets. */
void link_queue_push(struct link_queue *, enum link_sharing, struct pkt *);
/* Gives the next packet that is still worth sending; those that are too old are
 * dropped on the way. NULL: none, or it is longer than len_max. */
struct pkt *link_queue_take(struct link_queue *, size_t len_max, uint64_t now_ms);
/* Drops the oldest packet of who has most bytes. False: the queue is empty. */
bool link_queue_drop(struct link_queue *, enum drop_why);
void link_queue_drop_all(struct link_queue *, enum drop_why);
void link_queue_thread_done(void); /* gives the thread's pool back */

#endif
