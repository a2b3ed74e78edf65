/*
 * The other workers of the same server, as one worker sees them: news for all,
 * packets for each, collected during a turn and posted at its end (LOOP_POST).
 * Belongs to its worker's thread.
 */
#ifndef TUNN_SERVER_MATES_H
#define TUNN_SERVER_MATES_H

#include "common/base/pkt.h"
#include "common/net/loop.h"
#include "common/net/mailbox.h"
#include "server/relay/mail.h"
#include "server/relay/presence.h"
#include "server/relay/worker.h"

struct mates {
	struct loop *loop;
	unsigned self, n; /* n workers with us */
	struct mailbox *box[WORKERS_MAX];
	struct pktq staged[WORKERS_MAX];
	struct task post;
	struct list unsaid;  /* presences whose leaving could not be told for want of memory */
	struct timer *again; /* it is tried again */
};

int mates_init(struct mates *, struct loop *); /* 0 or -ENOMEM */
void mates_done(struct mates *);               /* never initialised: allowed */

/* All or none are told: 0 or -ENOMEM. A LEAVE is told later then, and 0. Borrows the
 * presence. */
int mates_tell(struct mates *, enum mail_kind, struct presence *);
void mates_forward(struct mates *, unsigned worker, struct pkt *); /* takes */
/* The newcomer of that number, which came to that worker, has to go (admit.h). */
void mates_evict(struct mates *, unsigned worker, uint64_t number);

#endif
