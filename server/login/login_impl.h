/*
 * The inside of the login, shared by its files only:
 *   login.c          codes: asked for, decided, fetched
 *   login_tries.c    who asks from where, and how often it was wrong
 *   login_session.c  who signed in
 *   login_web.c      requests and answers
 *   login_page.c     what people see
 */
#ifndef TUNN_SERVER_LOGIN_IMPL_H
#define TUNN_SERVER_LOGIN_IMPL_H

#include "common/base/list.h"
#include "common/base/log.h"
#include "common/base/map.h"
#include "server/login/login.h"

enum {
	CODE_LEN = 8,
	DIGEST_LEN = 32,      /* in memory are digests of codes and cookies, not they themselves */
	SECRET_TEXT_LEN = 64, /* 256 bits in hex */
	EXPIRED_LINGER_S = 120, /* who polls late is told why */
	KEPT_MAX = 2 * LOGIN_PENDING_MAX,
	SOURCES_MAX = 4096,
};

/* A /24 or /64: as long as it has pending codes or tries that count. */
struct login_source {
	uint8_t net[ADDR_NET_LEN];
	unsigned n_pending;
	uint64_t n_tries, tried_ms[LOGIN_TRIES_PER_LIFE]; /* a ring */
};

enum login_state { LOGIN_ASKED, LOGIN_APPROVED, LOGIN_DENIED, LOGIN_EXPIRED };

struct login_pending {
	struct list node; /* oldest first */
	uint8_t device[DIGEST_LEN];
	char code[CODE_LEN];
	enum login_state state;
	uint64_t since_ms, polled_ms; /* polled 0: never */
	unsigned interval_s;
	char host[NAME_MAX_LEN + 1], id[NAME_MAX_LEN + 1], address[ADDR_TEXT_LEN];
	struct login_source *source; /* while ASKED */
	char account[NAME_MAX_LEN + 1];
	char *token; /* APPROVED, or EXPIRED and not revoked yet: in memory of its own */
};

struct login_session {
	struct list node; /* oldest first */
	uint8_t cookie[DIGEST_LEN];
	char form[SECRET_TEXT_LEN + 1]; /* what its pages' forms have */
	char account[NAME_MAX_LEN + 1];
	int64_t row;
	int64_t expires_unix_s; /* of the token that signed in, 0: never: it makes none that last
	                           longer */
	uint64_t since_ms;
};

struct login {
	struct accounts *accounts;
	struct map by_device, by_code; /* by_code: those that are ASKED */
	struct list all;
	unsigned n, n_asked;
	struct map sources;
	uint64_t swept_ms;
	uint64_t n_tries, tried_ms[LOGIN_TRIES_ALL]; /* a ring, of everybody: wrong codes */
	struct list sessions;
	unsigned n_sessions;
	struct log_limit lines; /* that anybody can cause */
};

void login_digest(struct str secret, uint8_t out[static DIGEST_LEN]);
void login_secret(char out[static SECRET_TEXT_LEN + 1]); /* random, as text */

/* login.c */
/* A new pair of codes. 0, ERR_AGAIN: too many wait (of that net, or of all), or -ENOMEM. */
int login_begin(struct login *, const struct addr *from, struct str host, struct str id,
                uint64_t now_ms, char device_out[static SECRET_TEXT_LEN + 1],
                char user_out[static LOGIN_CODE_TEXT + 1]);
/* What was read off: its letters, or ERR_INVALID. */
int login_code_of(struct str text, char code_out[static CODE_LEN]);
void login_code_text(const char code[static CODE_LEN], char out[static LOGIN_CODE_TEXT + 1]);
struct login_pending *login_find(const struct login *, struct str user_code); /* ASKED, or NULL */
/* The word about it. account NULL: no. 0, or as login_approve(): then nothing has changed. */
struct login_word {
	const char *account;
	int64_t expires_unix_s;
	const char *who; /* for the audit */
};
int login_decide(struct login *, struct login_pending *, const struct login_word *,
                 char error_out[static ACCOUNTS_ERROR_LEN]);
/* ... and what it says to the program: NULL: it gets the token, and login_gone() is due;
 * else the error code of RFC 8628 3.5 or RFC 6749 5.2. */
const char *login_poll(struct login *, struct str device_code, uint64_t now_ms,
                       struct login_pending **pending_out);
void login_gone(struct login *, struct login_pending *);

/* login_tries.c */
struct login_source *login_source_of(struct login *, const struct addr *); /* NULL: no memory */
/* May somebody there be wrong once more? Only wrong codes, of 34 bits, count for everybody
 * together: who tries one has signed in. Strangers who try tokens shall not keep others out. */
enum login_try { LOGIN_TRY_CODE, LOGIN_TRY_TOKEN };
bool login_may_try(struct login *, enum login_try, const struct addr *, uint64_t now_ms);
void login_was_wrong(struct login *, enum login_try, const struct addr *, uint64_t now_ms);
void login_sweep_sources(struct login *, uint64_t now_ms);

/* login_session.c */
/* NULL: out of memory. The cookie is the text that its owner shows. */
struct login_session *login_sign_in(struct login *, const struct identity *, uint64_t now_ms,
                                    char cookie_out[static SECRET_TEXT_LEN + 1]);
/* Of the value of a Cookie field. NULL: nobody. */
struct login_session *login_session_of(const struct login *, struct str cookies);
void login_expire_sessions(struct login *, uint64_t now_ms);
void login_free_sessions(struct login *);

/* login_page.c: whole documents; a field of the head, both constants or in the answer */
void login_add_field(struct login_answer *, const char *name, const char *value);
void login_page_message(struct login_answer *, int status, const char *title, const char *words);
void login_page_sign_in(struct login_answer *, int status, const char *words, const char *code);
void login_page_code(struct login_answer *, int status, const char *words, const char *account);
void login_page_confirm(struct login_answer *, const struct login_session *,
                        const struct login_pending *, uint64_t now_ms);

#define LOGIN_COOKIE "__Host-tunn"

#endif
