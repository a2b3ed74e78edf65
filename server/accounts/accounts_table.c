#include <errno.h>
#include <string.h>
#include <time.h>

#include "server/accounts/accounts_impl.h"
#include "server/accounts/usage.h"

/* ?1: now, less the grace for clocks; ?2: the month */
#define USED(column)                                                                               \
	"(SELECT sum(" #column ") FROM usage u WHERE u.account = a.id AND u.month = ?2)"
#define RECORD                                                                                     \
	"SELECT a.id, a.name, a.tier, a.suspended, a.created, " ACCOUNTS_OWN_COLUMNS ", "          \
	"(SELECT count(*) FROM token t WHERE t.account = a.id AND t.revoked IS NULL AND "          \
	" (t.expires IS NULL OR t.expires > ?1)), " USED(sent) ", " USED(received) ", " USED(      \
	                packets_sent) ", " USED(packets_received) " FROM account a "

int accounts_count(struct accounts *a, unsigned *n_out, char error_out[static ACCOUNTS_ERROR_LEN])
{
	sqlite3_stmt *st = accounts_prepare(a, "SELECT count(*) FROM account", error_out);

	if (!st)
		return -EIO;
	int rc = sqlite3_step(st) == SQLITE_ROW ? 0 : accounts_say_db(a, error_out);
	if (rc == 0)
		*n_out = (unsigned)sqlite3_column_int(st, 0);
	sqlite3_finalize(st);
	return rc;
}

int accounts_add(struct accounts *a, const char *name, const char *tier,
                 char error_out[static ACCOUNTS_ERROR_LEN])
{
	static const char sql[] =
	                "INSERT INTO account (id, name, created, tier) SELECT 1 + max("
	                "coalesce((SELECT max(id) FROM account), 0), (SELECT max(account) FROM gone)), "
	                "?1, ?2, ?3";

	if (!name_is_valid(str_of(name)))
		return accounts_say_name("an account name", name, error_out);
	if (tier && !name_is_valid(str_of(tier)))
		return accounts_say_name("a tier", tier, error_out);
	sqlite3_stmt *st = accounts_prepare(a, sql, error_out);
	if (!st)
		return -EIO;
	sqlite3_bind_text(st, 1, name, -1, SQLITE_STATIC);
	sqlite3_bind_int64(st, 2, time(NULL));
	sqlite3_bind_text(st, 3, tier ? tier : "unlimited", -1, SQLITE_STATIC);
	int rc = sqlite3_step(st);
	sqlite3_finalize(st);
	if (rc == SQLITE_CONSTRAINT)
		return accounts_say(-EEXIST, error_out, "the account \"%s\" exists already", name);
	return rc == SQLITE_DONE ? 0 : accounts_say_db(a, error_out);
}

/* ---- reading ---- */

/* False: out of memory. */
static bool take_record(sqlite3_stmt *st, struct account_record *out)
{
	enum { OWN = 5, N_TOKENS = OWN + TERM_N, USAGE };
	struct account_record r = { .row = sqlite3_column_int64(st, 0),
		                    .suspended = sqlite3_column_int(st, 3),
		                    .created_unix_s = sqlite3_column_int64(st, 4),
		                    .n_tokens = (unsigned)sqlite3_column_int(st, N_TOKENS) };

	bool ok = accounts_take_text(st, 1, r.name, sizeof r.name) &&
	          accounts_take_text(st, 2, r.tier, sizeof r.tier);

	accounts_take_own(st, OWN, &r.own);
	r.used = (struct account_usage){ (uint64_t)sqlite3_column_int64(st, USAGE),
		                         (uint64_t)sqlite3_column_int64(st, USAGE + 1),
		                         (uint64_t)sqlite3_column_int64(st, USAGE + 2),
		                         (uint64_t)sqlite3_column_int64(st, USAGE + 3) };
	*out = r;
	return ok;
}

static void bind_now(sqlite3_stmt *st, int64_t now_unix_s)
{
	sqlite3_bind_int64(st, 1, now_unix_s - TOKEN_SKEW_S);
	sqlite3_bind_int(st, 2, (int)usage_month_of(now_unix_s * 1000));
}

/* The one row of the statement, which is finalized (NULL: was not prepared). */
static int take_one(struct accounts *a, sqlite3_stmt *st, struct account_record *out,
                    char error_out[static ACCOUNTS_ERROR_LEN])
{
	int rc = st ? sqlite3_step(st) : SQLITE_ERROR;

	if (rc == SQLITE_ROW && !take_record(st, out))
		rc = SQLITE_NOMEM;
	if (st && rc != SQLITE_DONE && rc != SQLITE_ROW)
		accounts_say_db(a, error_out);
	sqlite3_finalize(st);
	return rc == SQLITE_ROW ? 0 : rc == SQLITE_DONE ? ERR_NOT_FOUND : -EIO;
}

int accounts_read(struct accounts *a, int64_t row, int64_t now_unix_s, struct account_record *out,
                  char error_out[static ACCOUNTS_ERROR_LEN])
{
	sqlite3_stmt *st = accounts_prepare(a, RECORD "WHERE a.id = ?3", error_out);

	bind_now(st, now_unix_s);
	sqlite3_bind_int64(st, 3, row);
	int rc = take_one(a, st, out, error_out);
	if (rc == ERR_NOT_FOUND)
		accounts_say(rc, error_out, "the account was removed");
	return rc;
}

int accounts_find(struct accounts *a, const char *name, int64_t now_unix_s,
                  struct account_record *out, char error_out[static ACCOUNTS_ERROR_LEN])
{
	if (!name_is_valid(str_of(name)))
		return accounts_say_name("an account name", name, error_out);
	sqlite3_stmt *st = accounts_prepare(a, RECORD "WHERE a.name = ?3", error_out);
	bind_now(st, now_unix_s);
	sqlite3_bind_text(st, 3, name, -1, SQLITE_STATIC);
	int rc = take_one(a, st, out, error_out);
	if (rc == ERR_NOT_FOUND)
		accounts_say(rc, error_out,
		             "there is no account \"%s\": tunn account list shows them", name);
	return rc;
}

int accounts_list(struct accounts *a, const char *after, const char *part, int64_t now_unix_s,
                  struct account_record *v, unsigned n, char error_out[static ACCOUNTS_ERROR_LEN])
{
	sqlite3_stmt *st = accounts_prepare(
	                a,
	                RECORD "WHERE a.name > ?3 AND instr(a.name, ?5) ORDER BY a.name LIMIT ?4",
	                error_out);
	unsigned got = 0;
	int rc = SQLITE_DONE;

	if (!st)
		return -EIO;
	bind_now(st, now_unix_s);
	sqlite3_bind_text(st, 3, after, -1, SQLITE_STATIC);
	sqlite3_bind_int64(st, 4, n);
	sqlite3_bind_text(st, 5, part, -1, SQLITE_STATIC);
	while (got < n && (rc = sqlite3_step(st)) == SQLITE_ROW)
		if (!take_record(st, &v[got++])) {
			rc = SQLITE_NOMEM;
			break;
		}
	if (rc != SQLITE_ROW && rc != SQLITE_DONE)
		accounts_say_db(a, error_out);
	sqlite3_finalize(st);
	return rc == SQLITE_ROW || rc == SQLITE_DONE ? (int)got : -EIO;
}

int accounts_each_tier(struct accounts *a, void (*each)(void *owner, const char *tier, unsigned n),
                       void *owner, char error_out[static ACCOUNTS_ERROR_LEN])
{
	sqlite3_stmt *st = accounts_prepare(a, "SELECT tier, count(*) FROM account GROUP BY tier",
	                                    error_out);
	char tier[NAME_MAX_LEN + 1];
	int rc;

	if (!st)
		return -EIO;
	while ((rc = sqlite3_step(st)) == SQLITE_ROW) {
		accounts_take_text(st, 0, tier, sizeof tier);
		each(owner, tier, (unsigned)sqlite3_column_int(st, 1));
	}
	if (rc != SQLITE_DONE)
		accounts_say_db(a, error_out);
	sqlite3_finalize(st);
	return rc == SQLITE_DONE ? 0 : -EIO;
}

/* ---- changing ---- */

int accounts_store(struct accounts *a, const struct account_record *r,
                   char error_out[static ACCOUNTS_ERROR_LEN])
{
	sqlite3_stmt *st = accounts_prepare(
	                a,
	                "UPDATE account SET tier = ?2, suspended = ?3, relay = ?4, tunnels = ?5, "
	                "rate = ?6, burst_ms = ?7, volume = ?8 WHERE id = ?1",
	                error_out);

	sqlite3_bind_int64(st, 1, r->row);
	sqlite3_bind_text(st, 2, r->tier, -1, SQLITE_STATIC);
	sqlite3_bind_int(st, 3, r->suspended);
	for (int i = 0; i < TERM_N; i++)
		if (terms_have(&r->own, (enum term)i))
			sqlite3_bind_int64(st, 4 + i,
			                   (int64_t)terms_number(&r->own.terms, (enum term)i));
	int rc = accounts_run(a, st, error_out);
	if (rc == 0 && sqlite3_changes(a->db) == 0)
		return accounts_say(ERR_NOT_FOUND, error_out, "the account \"%s\" was removed",
		                    r->name);
	return rc;
}

/* The rows of other tables first: they refer to the account's. */
static int delete_all(struct accounts *a, int64_t row, char error_out[static ACCOUNTS_ERROR_LEN])
{
	static const char *const steps[] = { "DELETE FROM token WHERE account = ?1",
		                             "DELETE FROM usage WHERE account = ?1",
		                             "DELETE FROM account WHERE id = ?1",
		                             "UPDATE gone SET account = max(account, ?1)" };
	int rc = 0;

	for (unsigned i = 0; rc == 0 && i < sizeof steps / sizeof *steps; i++) {
		sqlite3_stmt *st = accounts_prepare(a, steps[i], error_out);
		sqlite3_bind_int64(st, 1, row);
		rc = accounts_run(a, st, error_out);
	}
	return rc;
}

int accounts_remove(struct accounts *a, const struct account_record *r, bool force,
                    char error_out[static ACCOUNTS_ERROR_LEN])
{
	bool begun = !sqlite3_get_autocommit(a->db);

	if (r->n_tokens && !force)
		return accounts_say(
		                -EBUSY, error_out,
		                "the account \"%s\" has %u valid token%s: revoke %s first (tunn "
		                "token list %s), or remove it with --force",
		                r->name, r->n_tokens, r->n_tokens == 1 ? "" : "s",
		                r->n_tokens == 1 ? "it" : "them", r->name);
	int rc = begun ? 0 : accounts_begin(a, error_out);
	if (rc == 0)
		rc = delete_all(a, r->row, error_out);
	if (rc == 0 && !begun)
		rc = accounts_commit(a, error_out);
	if (rc < 0 && !begun)
		accounts_rollback(a);
	return rc;
}
