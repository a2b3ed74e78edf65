/*
 * A worker: one thread, one loop, its listeners, links, sessions and router. A
 * link lives and dies on the worker that accepted it. Other threads reach it
 * only through its mailbox; workers know each other as mates (mates.h).
 */
#ifndef TUNN_SERVER_WORKER_H
#define TUNN_SERVER_WORKER_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/base/limits.h"
#include "common/net/addr.h"
#include "common/net/mailbox.h"
#include "common/net/tls.h"
#include "common/transport/transport.h"

enum { WORKERS_MAX = 64 };

struct worker;
struct admit;
struct auth;
struct mesh_conf;
struct native_policy;
struct penalty;
struct shortage;

struct worker_conf {               /* borrowed while the worker lives */
	struct auth *auth;         /* NULL: open relay; may be filled in until worker_start() */
	struct mailbox *reports;   /* gets MAIL_ENDED and MAIL_ALIVE; NULL: nobody is told */
	struct admit *admit;       /* newcomers of all workers */
	struct penalty *penalty;   /* of networks, likewise */
	struct shortage *shortage; /* of memory, likewise */
	_Atomic uint64_t *seq;     /* of joins at all workers */
	const char *node;
	bool reflection;
	struct tls_ctx *tls; /* referenced */
	struct limits limits;
	bool penalty_on;
	struct derp_conf derp;        /* this relay's node key, and that of its mesh */
	struct native_policy *policy; /* referenced */
	struct tls_ctx *verify_tls;   /* to ask policy->verify_url by https; referenced */
	const struct mesh_conf *mesh; /* NULL: no other relays */
};

/* What a reload brings, on the heap; the worker that gets it by mail frees it. */
struct worker_news {
	struct tls_ctx *tls; /* references that go to the worker */
	struct native_policy *policy;
	struct limits limits;
	bool penalty_on; /* of the workers, who share it */
};

/* Set-up in the starting thread. 0 or -errno. */
int worker_new(const struct worker_conf *, struct worker **worker_out);
int worker_listen(struct worker *, int fd,
                  struct addr *bound_out); /* takes fd, of listener_bind() */
/* All workers of a server, ourselves at `self`; not needed by one that is alone. */
void worker_know_mates(struct worker *, struct worker *const *all, unsigned n, unsigned self);
int worker_start(struct worker *); /* 0 or -errno */

struct mailbox *worker_mailbox(struct worker *);
void worker_join(struct worker *); /* waits for the thread, which ends after MAIL_DRAIN */
void worker_free(struct worker *); /* after all have been joined, or never started; NULL allowed */

#endif
