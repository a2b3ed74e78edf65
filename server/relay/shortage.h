/*
 * What workers do while the relay is short of memory: newcomers are turned away at accept;
 * each second (MAIL_SHED) the newest of those without a registered end are closed. When none
 * of these is left and it is not enough, some ends of the lowest tier, the newest first, are
 * sent away with words, so that they come again later. The lowest is that of all workers: each says
 * which it has.
 *
 * Shared by the main thread and the workers; each word is right by itself (relaxed).
 */
#ifndef TUNN_SERVER_SHORTAGE_H
#define TUNN_SERVER_SHORTAGE_H

#include <stdatomic.h>
#include <stdbool.h>

#include "server/relay/session.h"
#include "server/relay/worker.h"

enum {
	SHORTAGE_NEWCOMERS = 256, /* are closed at most, each second, of each worker */
	RANK_NONE = ~0u >> 1,     /* no end is there that could go */
};

struct shortage {
	atomic_bool shut;                /* newcomers are turned away */
	atomic_uint rank;                /* of the tier whose ends may go */
	atomic_uint lowest[WORKERS_MAX]; /* of the ends of each, when it was last asked */
};

void shortage_init(struct shortage *);
static inline bool shortage_turns_away(struct shortage *s)
{
	return atomic_load_explicit(&s->shut, memory_order_relaxed);
}
/* The lowest of n workers, or RANK_NONE. */
unsigned shortage_lowest(struct shortage *, unsigned n);

/* Sends away up to n of the newest ends of that rank. Connections that carry no other one are
 * closed. How many went. */
unsigned sessions_shed(struct sessions *, unsigned rank, unsigned n);
unsigned sessions_lowest_rank(const struct sessions *); /* of all that are in; or RANK_NONE */

#endif
