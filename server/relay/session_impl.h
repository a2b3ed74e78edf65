/*
 * The inside of sessions, shared by their files only:
 *   session.c         life, named tunnels, packets
 *   session_account.c what its account allows: entering, rate, volume
 *   session_penalty.c whose network guesses tokens or floods
 *   session_native.c  native DERP ends: who may enter, what they ask of the relay
 */
#ifndef TUNN_SERVER_SESSION_IMPL_H
#define TUNN_SERVER_SESSION_IMPL_H

#include "common/base/bucket.h"
#include "common/base/token.h"
#include "server/relay/derp_verify.h"
#include "server/relay/session.h"

struct session {
	struct member member; /* first: the router's owner pointer is this session */
	struct sessions *all;
	struct list node; /* in all->named or natives */
	struct lane *lane;
	uint64_t number;
	bool asked;                     /* auth has not answered yet */
	struct derp_question *question; /* native: to the URL that admits, not answered yet */
	bool has_id;
	bool is_home;         /* native: NotePreferred */
	struct str *peers;    /* as declared; text behind it */
	struct bucket absent; /* native: PeerGone frames for keys that nobody has */
	uint64_t joined_ms;
	char address[ADDR_TEXT_LEN];
	uint64_t packets_in, packets_out, bytes_in, bytes_out;
	char token_id[TOKEN_ID_LEN + 1]; /* by which it came in; empty: none */
	int64_t expires_unix_s;          /* that token; 0: never */
	struct presence *lender;         /* whose slot it has, until it is in; a reference */
	struct vouched *vouched;         /* its network is exempt from penalties; or NULL */
	/* While its account is over its rate: what came, and that it is read more slowly. */
	struct pktq held;
	struct list holding; /* in all->holding, if anything is held */
	uint64_t waited_ms;  /* when it last had to */
	uint64_t narrowed_ms;
	bool narrow;
};

struct session *session_new(struct sessions *, struct lane *, const struct hello *);
void session_refuse(struct session *, enum close_why, const char *text); /* it is gone */
/* Puts it at the router and lets it in, or refuses it. The key is filled in. */
void session_join(struct session *);
/* Out of the router, its lane ended: it is gone. */
void session_dismiss(struct session *, enum close_why, const char *text);

/* session_account.c; of sessions whose presence has a payer, where not said otherwise */
bool session_enter(struct session *);    /* of any; false: it was refused, and is gone */
void session_settle(struct session *);   /* of any: it has joined; its slot is its own */
void session_withdraw(struct session *); /* of any: it goes; what it has of its account is free */
/* Takes the packet: passes it on, or holds it until the account's rate allows it. The
 * session may be gone afterwards. */
void session_spend(struct session *, struct pkt *);
/* Takes what is paid for: to the router. False: the session is gone. */
bool session_pass(struct session *, struct pkt *);
void session_drop_held(struct session *);     /* of any: it waits no more */
void session_check_account(struct session *); /* ended, if its account may not be here */
void session_tell_quota(struct session *);    /* of any: how much is used, if that is much */
void session_watch_expiry(struct session *);  /* of any: ended when its token expires */
void sessions_release(void *sessions);        /* handlers of all->release and expire */
void sessions_expire(void *sessions);

/* session_penalty.c */
/* False: its network is refused for a while. It was told, and is gone, its link closes. */
bool session_may_ask(struct session *);
void session_vouch(struct session *); /* it is in */
void session_unvouch(struct session *);
void session_was_known(struct session *); /* its link ends for a flood */

/* session_native.c */
int native_on_hello(struct sessions *, struct lane *, const struct hello *);
void native_joined(struct session *);
void native_left(struct session *);
/* May it be told that? PeerGone for unknown keys are few (derp.md 3.4). */
bool native_may_tell(struct session *, const struct peer_status *);

#endif
