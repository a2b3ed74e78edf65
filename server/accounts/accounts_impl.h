/*
 * Shared by accounts*.c and nobody else: the database behind struct accounts.
 */
#ifndef TUNN_SERVER_ACCOUNTS_IMPL_H
#define TUNN_SERVER_ACCOUNTS_IMPL_H

#include <sqlite3.h>

#include "server/accounts/accounts.h"

enum { ACCOUNTS_PATH_LEN = STATE_DIR_MAX + 32 };

struct accounts {
	sqlite3 *db;
	char db_path[ACCOUNTS_PATH_LEN];
	uint8_t pepper[TOKEN_PEPPER_LEN];
	sqlite3_stmt *find; /* of accounts_authenticate() */
	char decoy[TOKEN_ID_LEN];
	unsigned audit_days; /* 0: lines of the audit stay */
};

/* Puts words into error_out; returns `rc`. */
int accounts_say(int rc, char error_out[static ACCOUNTS_ERROR_LEN], const char *fmt, ...)
                __attribute__((format(printf, 3, 4)));
/* -EIO, or ERR_AGAIN. */
int accounts_say_db(struct accounts *, char error_out[static ACCOUNTS_ERROR_LEN]);
int accounts_say_name(const char *what, const char *name,
                      char error_out[static ACCOUNTS_ERROR_LEN]); /* ERR_INVALID */

/* Who has the right to write to the database: "sqlite3 (pid 123)", or, where the kernel does not
 * tell, how to find out (accounts_holder.c). */
enum { ACCOUNTS_HOLDER_LEN = 64 };
void accounts_holder(const char *db_path, char out[static ACCOUNTS_HOLDER_LEN]);

/* NULL, with the words in error_out. Done with it: sqlite3_finalize(). */
sqlite3_stmt *accounts_prepare(struct accounts *, const char *sql,
                               char error_out[static ACCOUNTS_ERROR_LEN]);
/* Runs a statement that gives no rows and finalizes it (NULL: was not prepared). */
int accounts_run(struct accounts *, sqlite3_stmt *, char error_out[static ACCOUNTS_ERROR_LEN]);

/* Own limits and names, as columns from `at` on: relay, tunnels, rate, burst_ms, volume. */
#define ACCOUNTS_OWN_COLUMNS "a.relay, a.tunnels, a.rate, a.burst_ms, a.volume"
void accounts_take_own(sqlite3_stmt *, int at, struct account_overrides *out);
/* False: out of memory. */
bool accounts_take_text(sqlite3_stmt *, int column, char *out, size_t cap);

/* ---- the pepper (accounts_pepper.c) ---- */

/* Made before the database. A database without one has lost it: with a new one every
 * token would silently be wrong. 0 or negative. */
int accounts_load_pepper(const char *state_dir, const char *db_path,
                         uint8_t pepper_out[static TOKEN_PEPPER_LEN],
                         char error_out[static ACCOUNTS_ERROR_LEN]);
/* Is it the one that the tokens of the open database were made with? 0 or negative. */
int accounts_check_pepper(struct accounts *, char error_out[static ACCOUNTS_ERROR_LEN]);

#endif
