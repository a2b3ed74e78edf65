/*
 * Login without copying tokens: the device authorisation flow of RFC 8628. A program asks
 * for a device code, which it keeps, and a user code, which a person reads off; who signs in
 * at /login with a token of the account, or the operator of the relay, approves the user code;
 * the program fetches its token by the device code, once. The token is made for the tunnel id
 * that was shown, and claims no other.
 *
 * A state machine without sockets and clock: a request in, an answer out. Nothing is
 * approved but by POST, of somebody who signed in, from a page of ours, with the form
 * token of that page. Codes, cookies and tries are in memory alone: a restart forgets them.
 * One thread, that of the accounts.
 */
#ifndef TUNN_SERVER_LOGIN_H
#define TUNN_SERVER_LOGIN_H

#include <stddef.h>
#include <stdint.h>

#include "common/base/key.h"
#include "common/net/addr.h"
#include "common/transport/transport.h"
#include "server/accounts/accounts.h"

enum {
	LOGIN_CODE_TEXT = 9, /* XXXX-XXXX */
	LOGIN_LIFE_S = 600,  /* of a pair of codes */
	LOGIN_PENDING_MAX = 1000,
	LOGIN_PENDING_PER_NET = 5, /* of a /24 or /64 */
	LOGIN_POLL_S = 5,          /* at first; 5 more for each poll that came too early */
	LOGIN_POLL_MAX_S = 60,
	LOGIN_TRIES_PER_MINUTE = 5, /* wrong codes and wrong tokens of a /24 or /64 */
	LOGIN_TRIES_PER_LIFE = 10,  /* the same, in LOGIN_LIFE_S */
	LOGIN_TRIES_ALL = 100,      /* wrong codes of everybody, in LOGIN_LIFE_S */
	LOGIN_SESSION_S = 900,      /* of who signed in */
	LOGIN_SESSIONS_MAX = 256,
	LOGIN_BODY_MAX = 8192,
};

struct login;

struct login_ask { /* borrowed for the call */
	const struct web_request *request;
	const struct addr *from;
	uint64_t now_ms;
	int64_t now_unix_s;
};

/* Leads into itself: not to be moved. May hold a token: wipe it. */
struct login_answer {
	struct web_answer web;
	struct web_field fields[WEB_FIELDS_MAX];
	char policy[200], cookie[200], location[64], body[LOGIN_BODY_MAX];
};

/* What waits for somebody's word. */
struct login_entry {
	char user_code[LOGIN_CODE_TEXT + 1];
	char address[ADDR_TEXT_LEN]; /* without port */
	char host[NAME_MAX_LEN + 1], id[NAME_MAX_LEN + 1];
	unsigned age_s;
};

struct login *login_new(struct accounts *); /* borrowed; NULL: out of memory */
void login_free(struct login *);            /* NULL allowed */

void login_serve(struct login *, const struct login_ask *, struct login_answer *answer_out);

/* The operator's word, for commands; `who` for the audit. The code as it was read off: case and
 * everything that is no letter do not matter. 0 (entry_out says what it was about), or negative
 * with words in error_out: ERR_NOT_FOUND, there is no such code, or not any more. */
int login_approve(struct login *, const char *user_code, const char *account, const char *who,
                  uint64_t now_ms, struct login_entry *entry_out,
                  char error_out[static ACCOUNTS_ERROR_LEN]);
int login_deny(struct login *, const char *user_code, const char *who, uint64_t now_ms,
               struct login_entry *entry_out, char error_out[static ACCOUNTS_ERROR_LEN]);
/* The oldest first. How many there are, of which the first `cap` are in entries_out. */
unsigned login_list(struct login *, uint64_t now_ms, struct login_entry *entries_out, unsigned cap);
/* Whatever changes for that account, a token of it revoked, or all of it suspended or removed:
 * whoever signed in for it has to do so again. */
void login_sign_out(struct login *, int64_t row);
/* Forgets what is over; about once a second, if somebody cares: every call does it too. */
void login_expire(struct login *, uint64_t now_ms);

#endif
