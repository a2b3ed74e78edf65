/*
 * A session: the server's side of one end. Admits it (token, id, peers), counts
 * for it, and ties its lane to the router. A session belongs to its worker.
 *
 *   ASKED -> JOINED -> gone      ASKED: the token is with the accounts thread
 */
#ifndef TUNN_SERVER_SESSION_H
#define TUNN_SERVER_SESSION_H

#include "common/base/log.h"
#include "common/base/map.h"
#include "common/link.h"
#include "server/login/login_desk.h"
#include "server/relay/penalty.h"
#include "server/relay/router.h"
#include "server/relay/shortage.h"

struct auth;
struct derp_verify;
struct native_policy;
struct identity;
struct mailbox;

/* What the sessions of one worker share. Filled in by the worker. */
struct sessions {
	struct loop *loop;
	struct router *router;
	struct mailbox *mailbox; /* where answers of auth come in */
	struct penalty *penalty; /* of the whole relay; NULL: nobody is punished */
	struct auth *auth;       /* NULL: open relay, nobody needs a token */
	const char *node;
	const struct native_policy *policy; /* of native DERP ends */
	struct account *native_payer;       /* what they count for; a reference, or NULL */
	struct derp_verify *verify;         /* NULL: no URL is asked about them */
	struct key own_key;                 /* this relay's node key */
	struct map by_number;               /* those whose token is with auth */
	struct list named, natives;         /* all of them, by kind */
	struct list surveys;                /* that are not finished (survey.h) */
	struct shedding shedding;           /* while memory is short */
	uint64_t next_number;
	unsigned worker;            /* our number, for counting */
	struct list holding;        /* those whose account is over its rate; ... */
	struct timer *release;      /* ... looks at them again */
	struct session *passing;    /* whose packet is on its way through the router */
	struct timer *expire;       /* set for when the next token of them ends, */
	uint64_t expire_ms;         /* which is then */
	const struct link *known;   /* that ends for a flood, with an authenticated end on it */
	struct log_limit strangers; /* lines that anybody can cause */
	struct login_desk desk;     /* for who logs in by plain HTTP */
};

int sessions_init(struct sessions *, struct loop *); /* 0 or -ENOMEM */
void sessions_done(struct sessions *);               /* after the links are gone */

/* Whether a line may be logged that needs no account to cause: at most 500 in 10 s
 * of a worker, so that strangers fill no disk. How many were left out is said with the
 * next one. */
bool sessions_may_log(struct sessions *);

extern const struct router_events session_router_events;

/* Handlers of link_events; owner is a struct sessions. */
int session_on_hello(void *owner, struct lane *, const struct hello *);
void session_on_packet(void *owner, struct lane *, struct pkt *);
void session_on_ended(void *owner, struct lane *, enum close_why, const char *text);
void session_on_wish(void *owner, struct lane *, const struct wish *);
void session_on_forward(void *owner, struct lane *, struct pkt *);
/* What is true of native ends from now on; borrowed until the next. */
void sessions_take_policy(struct sessions *, const struct native_policy *);
/* The answer of auth for the session of that number, which may be gone. Borrows. */
void session_on_auth(struct sessions *, uint64_t number, const struct identity *);

/* News of the accounts thread. Native ends that come count for that account (takes). What
 * an account (NULL: any) may has changed; so much of its volume is
 * used; a token of it is not valid any more. */
void sessions_take_payer(struct sessions *, struct account *);
void sessions_on_account(struct sessions *, const struct account *);
void sessions_on_percent(struct sessions *, const struct account *, unsigned percent);
void sessions_on_revoked(struct sessions *, const char *token_id);

/* That came over the link, which closes if its network is refused. A flood is told when the
 * link has ended, right after its ends, and is none of a link that had an authenticated one. */
void sessions_offend(struct sessions *, struct link *, enum offence);

/* Tells every end that the relay stops; then ends them. */
void sessions_tell_draining(struct sessions *, uint32_t within_ms);
/* Is an end left that leaves because it was told? DERP has no word for native ones. */
bool sessions_may_leave(const struct sessions *);
void sessions_end_all(struct sessions *, enum close_why);

#endif
