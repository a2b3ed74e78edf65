/*
 * Accounts and their tokens, in SQLite (the one door to it): STATE/accounts.db,
 * with the pepper of the token hashes beside it in STATE/pepper, so that a
 * copy of the database alone holds no usable token. Several processes may have
 * it open. Everything blocks: commands, and the accounts thread; never a worker.
 *
 * Errors are negative with error_out in words: ERR_INVALID a name outside its grammar,
 * ERR_NOT_FOUND, -EEXIST, -EBUSY (the words say what first), ERR_AGAIN (another program
 * changes the database, the words say which), -EIO the database.
 */
#ifndef TUNN_SERVER_ACCOUNTS_H
#define TUNN_SERVER_ACCOUNTS_H

#include <stdbool.h>
#include <stdint.h>

#include "common/base/err.h"
#include "common/base/key.h"
#include "common/base/token.h"
#include "server/accounts/account.h"
#include "server/state.h"
#include "server/accounts/terms.h"

struct accounts;

enum { ACCOUNTS_ERROR_LEN = STATE_ERROR_LEN };

/* Who a token speaks for. */
struct identity {
	/* CLOSE_NONE: valid. CLOSE_UNAUTHENTICATED with an account: it was, until it expired or
	 * was revoked; without: nobody's. Else the rest is empty. */
	enum close_why why;
	bool revoked;
	int64_t row; /* of the account, never used again for another */
	char account[NAME_MAX_LEN + 1];
	char tier[NAME_MAX_LEN + 1];
	struct account_overrides own;
	bool suspended; /* the token is valid all the same */
	bool has_bound;
	char bound_id[NAME_MAX_LEN + 1]; /* the only id it may claim */
	char token_id[TOKEN_ID_LEN + 1];
	int64_t expires_unix_s; /* 0: never */
	struct account *payer;  /* a reference that goes with it; NULL: nobody counts */
};

int accounts_open(const char *state_dir, struct accounts **accounts_out,
                  char error_out[static ACCOUNTS_ERROR_LEN]);
void accounts_close(struct accounts *); /* NULL allowed */
/* From now on ERR_AGAIN comes at once, not after 5 s: for a thread on which others wait. Who
 * only reads waits for nobody (WAL). */
void accounts_never_wait(struct accounts *);
/* A token that passed token_check(). The same steps whether its id is known or
 * not. CLOSE_UNAVAILABLE when the database cannot be read. */
void accounts_authenticate(struct accounts *, struct str token, int64_t now_unix_s,
                           struct identity *identity_out);

/* Several changes in one, all or none: nobody else writes meanwhile. Each change below is one
 * by itself where none was begun. */
int accounts_begin(struct accounts *, char error_out[static ACCOUNTS_ERROR_LEN]);
int accounts_commit(struct accounts *, char error_out[static ACCOUNTS_ERROR_LEN]);
void accounts_rollback(struct accounts *); /* what was begun, if anything was */

/* ---- who did what, without secrets (accounts_audit.c) ---- */

enum { AUDIT_WHO_LEN = 256, AUDIT_WHAT_LEN = 512 };

struct audit_record {
	int64_t id, at_unix_s;
	char who[AUDIT_WHO_LEN], what[AUDIT_WHAT_LEN];
};

/* Lines older than that go as new ones come. 0, as in the beginning: they stay. */
void accounts_keep_audit(struct accounts *, unsigned days);
int accounts_audit(struct accounts *, const char *who, const char *what,
                   char error_out[static ACCOUNTS_ERROR_LEN]);
/* The last ones before that id (0: of all), newest first, up to n. How many, or negative. */
int accounts_audited(struct accounts *, int64_t before, struct audit_record *v, unsigned n,
                     char error_out[static ACCOUNTS_ERROR_LEN]);

/* ---- accounts (accounts_table.c) ---- */

struct account_record {
	int64_t row;
	char name[NAME_MAX_LEN + 1];
	char tier[NAME_MAX_LEN + 1];
	bool suspended;
	struct account_overrides own;
	int64_t created_unix_s;
	unsigned n_tokens;         /* that are valid */
	struct account_usage used; /* in the month asked for, as far as it is in the database */
};

int accounts_count(struct accounts *, unsigned *n_out, char error_out[static ACCOUNTS_ERROR_LEN]);
/* tier NULL: unlimited. */
int accounts_add(struct accounts *, const char *name, const char *tier,
                 char error_out[static ACCOUNTS_ERROR_LEN]);
/* By row, or by name. ERR_NOT_FOUND: it was removed. */
int accounts_read(struct accounts *, int64_t row, int64_t now_unix_s, struct account_record *out,
                  char error_out[static ACCOUNTS_ERROR_LEN]);
int accounts_find(struct accounts *, const char *name, int64_t now_unix_s,
                  struct account_record *out, char error_out[static ACCOUNTS_ERROR_LEN]);
/* The next by name after that one ("" begins) that have `part` in their names, up to n. How
 * many, or negative. */
int accounts_list(struct accounts *, const char *after, const char *part, int64_t now_unix_s,
                  struct account_record *v, unsigned n, char error_out[static ACCOUNTS_ERROR_LEN]);
/* Stores tier, suspended and own limits as they are in the record. */
int accounts_store(struct accounts *, const struct account_record *,
                   char error_out[static ACCOUNTS_ERROR_LEN]);
/* With its tokens and usage. -EBUSY while it has valid tokens, but with `force`. */
int accounts_remove(struct accounts *, const struct account_record *, bool force,
                    char error_out[static ACCOUNTS_ERROR_LEN]);
/* Calls `each` for every tier that accounts have. */
int accounts_each_tier(struct accounts *, void (*each)(void *owner, const char *tier, unsigned n),
                       void *owner, char error_out[static ACCOUNTS_ERROR_LEN]);

/* ---- tokens (accounts_token.c) ---- */

struct token_record {
	char kid[TOKEN_ID_LEN + 1];
	char bound_id[NAME_MAX_LEN + 1];                        /* "": any */
	int64_t created_unix_s, expires_unix_s, revoked_unix_s; /* 0: never, not */
};
/* Until when a token that expired still passes: clocks differ (A03). */
enum { TOKEN_SKEW_S = 60 };
static inline bool token_has_expired(int64_t expires_unix_s, int64_t now_unix_s)
{
	return expires_unix_s && now_unix_s >= expires_unix_s + TOKEN_SKEW_S;
}

/* id NULL: not bound. expires_unix_s 0: never. */
int accounts_token_new(struct accounts *, const char *account, const char *id,
                       int64_t expires_unix_s, char token_out[static TOKEN_LEN + 1],
                       char error_out[static ACCOUNTS_ERROR_LEN]);
/* The next, oldest first, behind the one of that id ("" begins), also what is revoked or expired,
 * up to n. How many, or negative. */
int accounts_tokens(struct accounts *, int64_t row, const char *after, struct token_record *v,
                    unsigned n, char error_out[static ACCOUNTS_ERROR_LEN]);
/* Who had it is given; once more does nothing, and the first time stays. */
int accounts_token_revoke(struct accounts *, const char *kid, int64_t now_unix_s, int64_t *row_out,
                          char account_out[static NAME_MAX_LEN + 1],
                          char error_out[static ACCOUNTS_ERROR_LEN]);

const char *accounts_library_version(void);

#endif
