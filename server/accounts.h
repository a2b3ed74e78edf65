/*
 * Accounts and their tokens, in SQLite (the one door to it): STATE/accounts.db,
 * with the pepper of the token hashes beside it in STATE/pepper, so that a
 * copy of the database alone holds no usable token. Several processes may have
 * it open. Everything blocks: commands, and the auth thread; never a worker.
 */
#ifndef TUNN_SERVER_ACCOUNTS_H
#define TUNN_SERVER_ACCOUNTS_H

#include <stdbool.h>
#include <stdint.h>

#include "common/base/err.h"
#include "common/base/key.h"
#include "common/base/token.h"
#include "server/state.h"

struct account;
struct accounts;

enum { ACCOUNTS_ERROR_LEN = STATE_ERROR_LEN };

/* Who a token speaks for. */
struct identity {
	enum close_why why; /* CLOSE_NONE: valid; else the rest is empty */
	char account[NAME_MAX_LEN + 1];
	bool has_bound;
	char bound_id[NAME_MAX_LEN + 1]; /* the only id it may claim */
	char token_id[TOKEN_ID_LEN + 1];
	struct account *payer; /* a reference that goes with it; NULL: nobody counts */
};

/* Errors are negative with error_out in words; ERR_INVALID is a name outside its
 * grammar. */
int accounts_open(const char *state_dir, struct accounts **accounts_out,
                  char error_out[static ACCOUNTS_ERROR_LEN]);
void accounts_close(struct accounts *); /* NULL allowed */
int accounts_count(struct accounts *, unsigned *n_out, char error_out[static ACCOUNTS_ERROR_LEN]);
int accounts_add(struct accounts *, const char *name, char error_out[static ACCOUNTS_ERROR_LEN]);
/* id NULL: not bound. expires_unix_s 0: never. */
int accounts_token_new(struct accounts *, const char *account, const char *id,
                       int64_t expires_unix_s, char token_out[static TOKEN_LEN + 1],
                       char error_out[static ACCOUNTS_ERROR_LEN]);
/* A token that passed token_check(). The same steps whether its id is known or
 * not. CLOSE_UNAVAILABLE when the database cannot be read. */
void accounts_authenticate(struct accounts *, struct str token, int64_t now_unix_s,
                           struct identity *identity_out);

const char *accounts_library_version(void);

#endif
