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

#include "common/base/list.h"
#include "common/net/loop.h"
#include "server/relay/worker.h"

struct sessions;

enum {
	SHORTAGE_NEWCOMERS = 256,     /* are closed at most, each second, of each worker */
	RANK_NONE = ~0u >> 1,         /* no end is there that could go */
	RANK_UNKNOWN = RANK_NONE - 1, /* not all ends were looked at since memory is short */
};

struct shortage {
	atomic_bool shut;                /* newcomers are turned away */
	atomic_uint rank;                /* of the tier whose ends may go */
	atomic_uint lowest[WORKERS_MAX]; /* of the ends of each, when it last looked at them */
};

void shortage_init(struct shortage *);
/* Are newcomers turned away from now on? Where that begins, nothing is known of ends. Main thread.
 */
void shortage_shut(struct shortage *, bool shut);
static inline bool shortage_turns_away(struct shortage *s)
{
	return atomic_load_explicit(&s->shut, memory_order_relaxed);
}
/* The lowest of n workers; RANK_NONE also as long as one of them is unknown. */
unsigned shortage_lowest(struct shortage *, unsigned n);

/* A worker's look at all its sessions, the newest first, some of them in each turn. In struct
 * sessions; zero-initialise. */
struct shedding {
	struct task task;
	struct list *named, *natives; /* the next; NULL: nobody looks */
	unsigned rank, n_left;        /* so many of that rank may still go */
	unsigned lowest;              /* of those that were seen, and stay */
	atomic_uint *lowest_out;
};

/* Sends away up to n of the newest ends of that rank, and then says which is the lowest rank of
 * those that are in, or RANK_NONE. Connections that carry no other end are closed. Nothing, as long
 * as the look before is not over. */
void sessions_shed(struct sessions *, unsigned rank, unsigned n, atomic_uint *lowest_out);
void shedding_pass(struct sessions *, struct list *session_node); /* which goes */
void shedding_end(struct sessions *);

#endif
