/*
 * The inside of the admin listener, shared by its files only:
 *   admin.c          the thread, its mail, whether workers answer
 *   admin_http.c     from requests to routes, and their answers
 *   admin_tunnels.c  /api/v1/tunnels: a page, from one worker after the other
 *   admin_accounts.c  /api/v1/accounts, /api/v1/usage
 *   admin_node.c     /api/v1/nodes, /healthz, /readyz, /metrics
 */
#ifndef TUNN_SERVER_ADMIN_IMPL_H
#define TUNN_SERVER_ADMIN_IMPL_H

#include <pthread.h>

#include "common/base/log.h"
#include "common/net/httpd.h"
#include "common/net/mailbox.h"
#include "server/admin/admin.h"
#include "server/admin/admin_guard.h"
#include "server/admin/admin_metrics.h"
#include "server/admin/admin_query.h"
#include "server/admin/admin_series.h"
#include "server/relay/survey.h"

enum { ADMIN_MAIL_STAGE = 100, ADMIN_MAIL_NEWS, ADMIN_MAIL_STOP, ADMIN_MAIL_ACCOUNTS };

/* A request whose answer takes mail. */
struct admin_wait {
	struct list node; /* in admin.waits */
	struct admin *admin;
	uint64_t number;
	struct httpd_request *request;
	struct timer *timer;
	void (*on_late)(struct admin_wait *);
	void (*free)(struct admin_wait *); /* what is behind it; NULL: nothing */
};

struct admin {
	struct admin_conf conf;
	admin_ask_accounts *ask_accounts; /* NULL: there are no accounts */
	void *accounts;
	bool accounts_busy; /* with a question of ours */
	struct addr listening[ADMIN_LISTENING_MAX], bound;
	struct loop *loop;
	struct mailbox *mailbox;
	struct httpd *httpd;
	struct timer *tick;
	struct letter *last; /* for ADMIN_MAIL_STOP */
	pthread_t thread;
	bool started;
	enum admin_stage stage;
	struct admin_guard guard;
	struct log_limit warnings; /* of wrong tokens */
	struct limits limits;
	struct series series;
	uint64_t started_ms;
	int64_t started_unix_s;
	struct list waits;
	uint64_t next_number;
	/* of each worker */
	struct admin_worker_state state[WORKERS_MAX];
	uint64_t asked_ms[WORKERS_MAX]; /* 0: it has answered */
	bool heard[WORKERS_MAX];        /* it has ever answered */
};

/* admin.c */
unsigned admin_n_workers(const struct admin *);
/* Before each request: all that it is answered from agrees on who answers. */
void admin_note_late(struct admin *);
/* NULL: ready; else why not, in words. */
const char *admin_why_not_ready(const struct admin *);
/* Answers may come until it is ended. -ENOMEM: the request is still to be answered. */
int admin_wait_begin(struct admin *, struct admin_wait *, struct httpd_request *);
void admin_wait_end(struct admin_wait *);                           /* frees it */
struct admin_wait *admin_wait_get(struct admin *, uint64_t number); /* NULL: it is over */

/* admin_http.c */
void admin_on_request(void *owner, struct httpd_request *);
void admin_on_answered(void *owner, int status);
/* Each answers the request. doc is taken; NULL: out of memory. */
void admin_answer_json(struct httpd_request *, int status, struct json *doc);
void admin_answer_text(struct httpd_request *, int status, const char *type, struct str body);
__attribute__((format(printf, 3, 4))) void admin_fail(struct httpd_request *, int status,
                                                      const char *fmt, ...);

/* admin_tunnels.c */
void admin_tunnels(struct admin *, struct httpd_request *);
void admin_on_survey(struct admin *, struct survey *); /* takes */

/* admin_node.c */
void admin_healthz(struct admin *, struct httpd_request *);
void admin_readyz(struct admin *, struct httpd_request *);
void admin_metrics(struct admin *, struct httpd_request *);
void admin_nodes(struct admin *, struct httpd_request *);
void admin_series(struct admin *, struct httpd_request *);

/* admin_accounts.c */
void admin_accounts(struct admin *, struct httpd_request *);
void admin_usage(struct admin *, struct httpd_request *);
void admin_on_accounts(struct admin *, uint64_t number, struct json *doc); /* takes */

#endif
