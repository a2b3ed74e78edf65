/*
 * The admin listener: what an operator and their programs may see of a running relay,
 * by HTTP, read only: /healthz, /readyz, /metrics, /api/v1/ (docs/ADMIN.md). A thread and loop
 * of its own, so that whoever asks delays no datagram. What workers know comes by mail
 * (survey.h); who does not answer within ADMIN_WAIT_MS is named in the answer.
 *
 * All functions are the main thread's.
 */
#ifndef TUNN_SERVER_ADMIN_H
#define TUNN_SERVER_ADMIN_H

#include "common/base/json.h"
#include "common/base/limits.h"
#include "common/base/opts.h"
#include "common/net/addr.h"
#include "common/net/tls.h"
#include "server/admin/admin_query.h"
#include "server/relay/workers.h"

struct admin;

enum { ADMIN_WAIT_MS = 2000, ADMIN_LISTENING_MAX = 16 };

/* What the accounts thread is asked. */
enum admin_subject { ADMIN_ACCOUNTS, ADMIN_USAGE };
struct admin_question {
	enum admin_subject subject;
	struct query_page page;
};
/* Asks, from the admin thread, without waiting. 0: the answer is mailed to `reply` with that kind
 * and number, ptr a document (given) or NULL: it cannot be had now. Else a negative code,
 * ERR_NOT_FOUND: there is nothing of that here. The question is borrowed. */
typedef int admin_ask_accounts(void *owner, const struct admin_question *, struct mailbox *reply,
                               unsigned kind, uint64_t number);

struct admin_conf {                   /* borrowed while the admin lives, but for fd and limits */
	int fd;                       /* of listener_bind(); taken, also on failure */
	struct tls_ctx *tls;          /* referenced; NULL: plain */
	unsigned max_conns;           /* 0: as many as httpd.h has */
	struct str token;             /* empty: none is needed; borrowed for the call */
	const struct opt_list *names; /* by which we are reached, besides our addresses */
	const char *node;
	struct workers *workers;
	const struct addr *listening; /* of the relay; copied */
	unsigned n_listening;
	struct limits limits;
};

/* 0 or -errno. bound_out: where it listens. */
int admin_new(const struct admin_conf *, struct admin **admin_out, struct addr *bound_out);
/* Before admin_start(). */
void admin_set_accounts(struct admin *, admin_ask_accounts *, void *owner);
int admin_start(struct admin *); /* its thread; not ready before admin_serve(). 0 or -errno */

enum admin_stage { ADMIN_STARTING, ADMIN_SERVING, ADMIN_DRAINING };
void admin_tell(struct admin *, enum admin_stage); /* for /readyz; NULL allowed */
/* What a reload brings; tls NULL: plain, as before. NULL admin allowed. */
void admin_reload(struct admin *, struct tls_ctx *tls, const struct limits *);

void admin_stop(struct admin *); /* waits for the thread; before the workers are freed */
void admin_free(struct admin *); /* after they are; NULL allowed */

#endif
