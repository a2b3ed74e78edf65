#include "server/accounts/accounts_usage.h"

#include <errno.h>
#include <stdlib.h>

#include "server/accounts/accounts_impl.h"

enum { STATEMENTS = 4, N_COLUMNS = 4 };

enum statement { PUT, MONTH, MERGE, FORGET };

struct accounts_usage {
	struct accounts *accounts;
	sqlite3_stmt *st[STATEMENTS];
};

/* Rows of one old boot, always the same ones until something changes. */
#define OLD                                                                                        \
	"SELECT account, month, boot FROM usage WHERE boot <> 0 AND boot = coalesce("              \
	"(SELECT boot FROM usage WHERE boot <> 0 AND boot > ?1 ORDER BY boot LIMIT 1), "           \
	"(SELECT boot FROM usage WHERE boot <> 0 AND boot < ?1 ORDER BY boot LIMIT 1)) "           \
	"ORDER BY account, month LIMIT ?2"

static const char *const statements[STATEMENTS] = {
	[PUT] = "INSERT INTO usage (account, month, boot, sent, received, packets_sent, "
	        "packets_received) SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7 "
	        "WHERE EXISTS (SELECT 1 FROM account WHERE id = ?1) "
	        "ON CONFLICT (account, month, boot) DO UPDATE SET "
	        "sent = max(sent, excluded.sent), received = max(received, excluded.received), "
	        "packets_sent = max(packets_sent, excluded.packets_sent), "
	        "packets_received = max(packets_received, excluded.packets_received) "
	        "WHERE excluded.sent > sent OR excluded.received > received "
	        "OR excluded.packets_sent > packets_sent "
	        "OR excluded.packets_received > packets_received",
	[MONTH] = "SELECT boot, sent, received, packets_sent, packets_received FROM usage "
	          "WHERE account = ?1 AND month = ?2",
	[MERGE] = "INSERT INTO usage (account, month, boot, sent, received, packets_sent, "
	          "packets_received) SELECT account, month, 0, sent, received, packets_sent, "
	          "packets_received FROM usage WHERE (account, month, boot) IN (" OLD
	          ") ON CONFLICT (account, month, boot) DO UPDATE SET "
	          "sent = sent + excluded.sent, received = received + excluded.received, "
	          "packets_sent = packets_sent + excluded.packets_sent, "
	          "packets_received = packets_received + excluded.packets_received",
	[FORGET] = "DELETE FROM usage WHERE (account, month, boot) IN (" OLD ")",
};

/* ---- life ---- */

int accounts_usage_open(struct accounts *a, struct accounts_usage **usage_out,
                        char error_out[static ACCOUNTS_ERROR_LEN])
{
	struct accounts_usage *u = calloc(1, sizeof *u);
	int rc = u ? 0 : accounts_say(-ENOMEM, error_out, "out of memory");

	if (u)
		u->accounts = a;
	for (unsigned i = 0; i < STATEMENTS && rc == 0; i++)
		if (sqlite3_prepare_v3(a->db, statements[i], -1, SQLITE_PREPARE_PERSISTENT,
		                       &u->st[i], NULL) != SQLITE_OK)
			rc = accounts_say_db(a, error_out);
	if (rc < 0) {
		accounts_usage_close(u);
		return rc;
	}
	*usage_out = u;
	return 0;
}

void accounts_usage_close(struct accounts_usage *u)
{
	if (!u)
		return;
	for (unsigned i = 0; i < STATEMENTS; i++)
		sqlite3_finalize(u->st[i]);
	free(u);
}

/* ---- folding ---- */

static int run(struct accounts_usage *u, const char *sql, char error_out[static ACCOUNTS_ERROR_LEN])
{
	return sqlite3_exec(u->accounts->db, sql, NULL, NULL, NULL) == SQLITE_OK ?
	                       0 :
	                       accounts_say_db(u->accounts, error_out);
}

/* The journal is deleted on the word of COMMIT: it has to be on the disk by then. */
int accounts_usage_begin(struct accounts_usage *u, char error_out[static ACCOUNTS_ERROR_LEN])
{
	int rc = run(u, "PRAGMA synchronous = FULL", error_out);

	return rc < 0 ? rc : run(u, "BEGIN IMMEDIATE", error_out);
}

int accounts_usage_commit(struct accounts_usage *u, char error_out[static ACCOUNTS_ERROR_LEN])
{
	return run(u, "COMMIT", error_out);
}

/* Some errors have rolled back already. */
void accounts_usage_roll_back(struct accounts_usage *u)
{
	if (!sqlite3_get_autocommit(u->accounts->db))
		sqlite3_exec(u->accounts->db, "ROLLBACK", NULL, NULL, NULL);
}

static int64_t column_value(uint64_t v) { return v > INT64_MAX ? INT64_MAX : (int64_t)v; }

/* The code of its last step, SQLITE_DONE when all went well. */
static int step_once(sqlite3_stmt *st)
{
	int rc = sqlite3_step(st);

	sqlite3_reset(st);
	return rc;
}

int accounts_usage_put(struct accounts_usage *u, int64_t boot, const struct usage_total *t,
                       char error_out[static ACCOUNTS_ERROR_LEN])
{
	const uint64_t v[N_COLUMNS] = { t->usage.sent, t->usage.received, t->usage.packets_sent,
		                        t->usage.packets_received };
	sqlite3_stmt *st = u->st[PUT];

	sqlite3_bind_int64(st, 1, t->row);
	sqlite3_bind_int64(st, 2, t->month);
	sqlite3_bind_int64(st, 3, boot);
	for (int i = 0; i < N_COLUMNS; i++)
		sqlite3_bind_int64(st, 4 + i, column_value(v[i]));
	return step_once(st) == SQLITE_DONE ? 0 : accounts_say_db(u->accounts, error_out);
}

/* ---- a month ---- */

static struct account_usage usage_of_row(sqlite3_stmt *st)
{
	return (struct account_usage){ .sent = (uint64_t)sqlite3_column_int64(st, 1),
		                       .received = (uint64_t)sqlite3_column_int64(st, 2),
		                       .packets_sent = (uint64_t)sqlite3_column_int64(st, 3),
		                       .packets_received = (uint64_t)sqlite3_column_int64(st, 4) };
}

int accounts_usage_month(struct accounts_usage *u, int64_t row, uint32_t month, int64_t boot,
                         struct account_usage *all_out, struct account_usage *boot_out,
                         char error_out[static ACCOUNTS_ERROR_LEN])
{
	struct account_usage all = { 0 }, own = { 0 };
	sqlite3_stmt *st = u->st[MONTH];
	int rc;

	sqlite3_bind_int64(st, 1, row);
	sqlite3_bind_int64(st, 2, month);
	while ((rc = sqlite3_step(st)) == SQLITE_ROW) {
		struct account_usage one = usage_of_row(st);
		all = usage_plus(&all, &one);
		if (sqlite3_column_int64(st, 0) == boot)
			own = one;
	}
	sqlite3_reset(st);
	if (rc != SQLITE_DONE)
		return accounts_say_db(u->accounts, error_out);
	*all_out = all;
	*boot_out = own;
	return 0;
}

/* ---- merging ---- */

/* How many rows it was about. */
static int run_merge(struct accounts_usage *u, enum statement which, int64_t boot, unsigned most,
                     char error_out[static ACCOUNTS_ERROR_LEN])
{
	sqlite3_bind_int64(u->st[which], 1, boot);
	sqlite3_bind_int64(u->st[which], 2, most);
	if (step_once(u->st[which]) != SQLITE_DONE)
		return accounts_say_db(u->accounts, error_out);
	return sqlite3_changes(u->accounts->db);
}

int accounts_usage_merge(struct accounts_usage *u, int64_t boot, unsigned most,
                         char error_out[static ACCOUNTS_ERROR_LEN])
{
	int rc = accounts_usage_begin(u, error_out), n = 0;

	if (rc == 0)
		rc = run_merge(u, MERGE, boot, most, error_out);
	if (rc > 0)
		rc = n = run_merge(u, FORGET, boot, most, error_out);
	if (rc >= 0)
		rc = accounts_usage_commit(u, error_out);
	if (rc < 0)
		accounts_usage_roll_back(u);
	return rc < 0 ? rc : n;
}
