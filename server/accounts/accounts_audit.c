#include <errno.h>
#include <time.h>

#include "server/accounts/accounts_impl.h"

enum { PRUNED_AT_ONCE = 100, DAY_S = 86400 };

void accounts_keep_audit(struct accounts *a, unsigned days) { a->audit_days = days; }

/* Of the oldest lines alone, so that it costs the same whatever there is. Each line that comes lets
 * up to a hundred go. */
static int prune(struct accounts *a, int64_t now_unix_s, char error_out[static ACCOUNTS_ERROR_LEN])
{
	sqlite3_stmt *st = accounts_prepare(a,
	                                    "DELETE FROM audit WHERE at < ?1 AND id < "
	                                    "(SELECT MIN(id) FROM audit) + ?2",
	                                    error_out);

	sqlite3_bind_int64(st, 1, now_unix_s - (int64_t)a->audit_days * DAY_S);
	sqlite3_bind_int(st, 2, PRUNED_AT_ONCE);
	return accounts_run(a, st, error_out);
}

int accounts_audit(struct accounts *a, const char *who, const char *what,
                   char error_out[static ACCOUNTS_ERROR_LEN])
{
	int64_t now_unix_s = time(NULL);
	sqlite3_stmt *st = accounts_prepare(
	                a, "INSERT INTO audit (at, who, what) VALUES (?1, ?2, ?3)", error_out);

	sqlite3_bind_int64(st, 1, now_unix_s);
	sqlite3_bind_text(st, 2, who, -1, SQLITE_STATIC);
	sqlite3_bind_text(st, 3, what, -1, SQLITE_STATIC);
	int rc = accounts_run(a, st, error_out);
	return rc == 0 && a->audit_days ? prune(a, now_unix_s, error_out) : rc;
}

int accounts_audited(struct accounts *a, int64_t before, struct audit_record *v, unsigned n,
                     char error_out[static ACCOUNTS_ERROR_LEN])
{
	sqlite3_stmt *st = accounts_prepare(a,
	                                    "SELECT id, at, who, what FROM audit WHERE id < ?1 "
	                                    "ORDER BY id DESC LIMIT ?2",
	                                    error_out);
	int rc = SQLITE_DONE;
	unsigned i = 0;

	if (!st)
		return -EIO;
	sqlite3_bind_int64(st, 1, before ? before : INT64_MAX);
	sqlite3_bind_int64(st, 2, n);
	for (; i < n && (rc = sqlite3_step(st)) == SQLITE_ROW; i++) {
		v[i].id = sqlite3_column_int64(st, 0);
		v[i].at_unix_s = sqlite3_column_int64(st, 1);
		accounts_take_text(st, 2, v[i].who, sizeof v[i].who);
		accounts_take_text(st, 3, v[i].what, sizeof v[i].what);
	}
	if (rc != SQLITE_ROW && rc != SQLITE_DONE)
		accounts_say_db(a, error_out);
	sqlite3_finalize(st);
	return rc == SQLITE_ROW || rc == SQLITE_DONE ? (int)i : -EIO;
}
