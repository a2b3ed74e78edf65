/*
 * All workers of a server: made together, told the same things. Main thread.
 */
#ifndef TUNN_SERVER_WORKERS_H
#define TUNN_SERVER_WORKERS_H

#include "server/relay/watermark.h"
#include "server/relay/worker.h"

struct workers;

unsigned workers_default(void); /* one for each CPU that we may use */

/* n from 1 to WORKERS_MAX; of the conf, admit and seq are filled in here. 0 or -errno. */
int workers_new(const struct worker_conf *, unsigned n, struct workers **workers_out);
/* Every worker listens there. Takes fd, which listens already: one of listener_bind()
 * is joined by others for the same port (SO_REUSEPORT), one from elsewhere is shared. */
int workers_listen(struct workers *, int fd, struct addr *bound_out);
/* auth: see worker_conf. Negative: some may run, drain and join them. */
int workers_start(struct workers *, struct auth *);
unsigned workers_count(const struct workers *);
struct mailbox *const *workers_mailboxes(const struct workers *); /* of each; they live as long */

/* All or none of them get it: 0 or -ENOMEM. */
int workers_reload(struct workers *, const struct worker_news *); /* its references are borrowed */
/* Those that were started; once; cannot fail; NULL allowed. */
void workers_drain(struct workers *, uint32_t within_ms);

/* How short of memory the relay is, again each second while it is. At WATERMARK_ENDS, and
 * without newcomers, some n_ends of the lowest tier that has any go: its rank, or RANK_NONE
 * (shortage.h). */
unsigned workers_shed(struct workers *, enum watermark_level, unsigned n_ends);

/* Asks all whether they still read their mail; each answers with MAIL_ALIVE, which
 * goes to workers_answered(). True: that was the last answer. */
void workers_ask(struct workers *);
bool workers_answered(struct workers *, const struct mail *);

/* MAIL_ENDED came. True: none is left. */
bool workers_ended(struct workers *);
void workers_join(struct workers *); /* waits for those that were drained; NULL allowed */
void workers_free(struct workers *); /* after that, or never started; NULL allowed */

#endif
