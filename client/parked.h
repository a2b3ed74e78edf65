/*
 * Packets that wait for the uplink to become ready: a few, and only young ones.
 * A reconnect of a round trip or two then loses nothing, and no datagram older
 * than 250 ms is ever replayed. Pure; one thread; owns what it holds.
 */
#ifndef TUNN_CLIENT_PARKED_H
#define TUNN_CLIENT_PARKED_H

#include "common/base/pkt.h"

enum { PARKED_MAX = 64, PARKED_AGE_MS = 250 };

struct parked { /* zero-initialised is empty */
	struct pkt *pkt[PARKED_MAX];
	unsigned peer[PARKED_MAX];
	unsigned first, n;
};

/* Takes; the oldest makes room, those past their age go (DROP_NOT_READY). */
void parked_add(struct parked *, unsigned peer, struct pkt *, uint64_t now_ms);
/* Gives the oldest that is still young (drops older ones, DROP_STALE), or NULL. */
struct pkt *parked_take(struct parked *, uint64_t now_ms, unsigned *peer_out);
void parked_drop_all(struct parked *);

#endif
