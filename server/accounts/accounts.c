#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "common/base/crypto.h"
#include "common/base/opts.h"
#include "server/accounts/accounts_impl.h"

enum { BUSY_MS = 5000 };

/* Schema n is reached by running entry n - 1; only ever append. */
static const char *const migrations[] = {
	"CREATE TABLE account ("
	"  id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, created INTEGER NOT NULL);"
	"CREATE TABLE token ("
	"  kid TEXT PRIMARY KEY, account INTEGER NOT NULL REFERENCES account(id),"
	"  hash BLOB NOT NULL, bound_id TEXT, created INTEGER NOT NULL, expires INTEGER,"
	"  revoked INTEGER) WITHOUT ROWID;",
	/* Accounts of before tiers were a self-hoster's: without limits they stay. */
	"ALTER TABLE account ADD COLUMN tier TEXT NOT NULL DEFAULT 'unlimited';"
	"ALTER TABLE account ADD COLUMN suspended INTEGER NOT NULL DEFAULT 0;"
	"ALTER TABLE account ADD COLUMN relay INTEGER;" /* its own limits; NULL: the tier's */
	"ALTER TABLE account ADD COLUMN tunnels INTEGER;"
	"ALTER TABLE account ADD COLUMN rate INTEGER;"
	"ALTER TABLE account ADD COLUMN burst_ms INTEGER;"
	"ALTER TABLE account ADD COLUMN volume INTEGER;"
	"CREATE INDEX token_of_account ON token (account);"
	/* Totals of one account and UTC month (202611) that one run of the server counted. */
	"CREATE TABLE usage ("
	"  account INTEGER NOT NULL REFERENCES account(id), month INTEGER NOT NULL,"
	"  boot INTEGER NOT NULL, sent INTEGER NOT NULL, received INTEGER NOT NULL,"
	"  packets_sent INTEGER NOT NULL, packets_received INTEGER NOT NULL,"
	"  PRIMARY KEY (account, month, boot)) WITHOUT ROWID;"
	"CREATE INDEX usage_of_boots ON usage (boot) WHERE boot <> 0;" /* those to be merged */
	"CREATE TABLE audit ("
	"  id INTEGER PRIMARY KEY, at INTEGER NOT NULL, who TEXT NOT NULL, what TEXT NOT NULL);"
	/* The greatest id of an account that was removed: no later one gets it, or it would
	 * inherit what is still counted for the former. */
	"CREATE TABLE gone (account INTEGER NOT NULL);"
	"INSERT INTO gone VALUES (0);"
	"CREATE TABLE pepper (mark BLOB NOT NULL);", /* what is known of it: one row */
	/* The tokens of an account, oldest first, page by page. */
	("DROP INDEX token_of_account;"
	 "CREATE INDEX token_of_account ON token (account, created, kid);"),
};
enum { SCHEMA = sizeof migrations / sizeof *migrations };

int accounts_say(int rc, char error_out[static ACCOUNTS_ERROR_LEN], const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(error_out, ACCOUNTS_ERROR_LEN, fmt, ap);
	va_end(ap);
	return rc;
}

int accounts_say_db(struct accounts *a, char error_out[static ACCOUNTS_ERROR_LEN])
{
	char holder[ACCOUNTS_HOLDER_LEN];

	if (sqlite3_errcode(a->db) != SQLITE_BUSY)
		return accounts_say(-EIO, error_out, "accounts database %s: %s", a->db_path,
		                    sqlite3_errmsg(a->db));
	accounts_holder(a->db_path, holder);
	return accounts_say(
	                ERR_AGAIN, error_out,
	                "accounts database %s is held by %s, which changes it: let that end first",
	                a->db_path, holder);
}

int accounts_say_name(const char *what, const char *name, char error_out[static ACCOUNTS_ERROR_LEN])
{
	return accounts_say(ERR_INVALID, error_out,
	                    "%s is 1 to 63 of a-z, 0-9 and -, the first no -, not %s", what,
	                    opts_quote(name).s);
}

/* ---- opening ---- */

static int schema_version(struct accounts *a)
{
	sqlite3_stmt *st;
	int v = -1;

	if (sqlite3_prepare_v2(a->db, "PRAGMA user_version", -1, &st, NULL) != SQLITE_OK)
		return -1;
	if (sqlite3_step(st) == SQLITE_ROW)
		v = sqlite3_column_int(st, 0);
	sqlite3_finalize(st);
	return v;
}

static int too_new(struct accounts *a, int v, char error_out[static ACCOUNTS_ERROR_LEN])
{
	return accounts_say(
	                -EIO, error_out,
	                "the accounts database %s has schema %d, this tunn knows up to %d: use the newer "
	                "tunn that wrote it",
	                a->db_path, v, (int)SCHEMA);
}

static int step_up(struct accounts *a, int v)
{
	char pragma[64];
	int rc = SQLITE_OK;

	for (; v < (int)SCHEMA && rc == SQLITE_OK; v++)
		rc = sqlite3_exec(a->db, migrations[v], NULL, NULL, NULL);
	snprintf(pragma, sizeof pragma, "PRAGMA user_version = %d", (int)SCHEMA);
	if (rc == SQLITE_OK)
		rc = sqlite3_exec(a->db, pragma, NULL, NULL, NULL);
	return rc == SQLITE_OK ? sqlite3_exec(a->db, "COMMIT", NULL, NULL, NULL) : rc;
}

static int migrate(struct accounts *a, char error_out[static ACCOUNTS_ERROR_LEN])
{
	int v = schema_version(a), rc;

	if (v == (int)SCHEMA)
		return 0;
	if (v >= 0 && sqlite3_exec(a->db, "BEGIN IMMEDIATE", NULL, NULL, NULL) != SQLITE_OK)
		v = -1;
	if (v >= 0)
		v = schema_version(a); /* under the lock: another process may have been first */
	if (v > (int)SCHEMA)
		rc = too_new(a, v, error_out);
	else
		rc = v >= 0 && step_up(a, v) == SQLITE_OK ? 0 : accounts_say_db(a, error_out);
	if (!sqlite3_get_autocommit(a->db))
		sqlite3_exec(a->db, "ROLLBACK", NULL, NULL, NULL);
	return rc;
}

/* Who copied it here may have left it open to others: the names of accounts are nobody's
 * business. Its journals get the same mode from SQLite. */
static int keep_private(const char *path, char error_out[static ACCOUNTS_ERROR_LEN])
{
	struct stat st;

	if (stat(path, &st) < 0 || !(st.st_mode & 077) || chmod(path, 0600) == 0)
		return 0;
	return accounts_say(-errno, error_out, "others may read %s: chmod 600 it", path);
}

/* Any token that is there. */
static int take_decoy(struct accounts *a, char error_out[static ACCOUNTS_ERROR_LEN])
{
	sqlite3_stmt *st = accounts_prepare(a, "SELECT kid FROM token LIMIT 1", error_out);

	if (!st)
		return -EIO;
	if (sqlite3_step(st) == SQLITE_ROW && sqlite3_column_bytes(st, 0) == TOKEN_ID_LEN)
		memcpy(a->decoy, sqlite3_column_blob(st, 0), TOKEN_ID_LEN);
	sqlite3_finalize(st);
	return 0;
}

static int open_db(struct accounts *a, char error_out[static ACCOUNTS_ERROR_LEN])
{
	static const char find[] =
	                "SELECT a.name, t.hash, t.bound_id, t.expires, t.revoked, a.id, a.tier, "
	                "a.suspended, t.kid, " ACCOUNTS_OWN_COLUMNS " "
	                "FROM token t JOIN account a ON a.id = t.account WHERE t.kid = ?1";
	mode_t old = umask(077);
	int rc = sqlite3_open(a->db_path, &a->db);

	umask(old);
	if (rc != SQLITE_OK)
		return accounts_say(-EIO, error_out, "cannot open %s: %s", a->db_path,
		                    sqlite3_errmsg(a->db));
	rc = keep_private(a->db_path, error_out);
	if (rc < 0)
		return rc;
	sqlite3_busy_timeout(a->db, BUSY_MS);
	/* WAL is a matter of speed: where it is refused the rest works too. */
	sqlite3_exec(a->db, "PRAGMA journal_mode = WAL", NULL, NULL, NULL);
	sqlite3_exec(a->db, "PRAGMA foreign_keys = ON", NULL, NULL, NULL);
	rc = migrate(a, error_out);
	if (rc < 0)
		return rc;
	rc = accounts_check_pepper(a, error_out);
	if (rc < 0)
		return rc;
	a->find = accounts_prepare(a, find, error_out);
	return a->find ? take_decoy(a, error_out) : -EIO;
}

int accounts_open(const char *state_dir, struct accounts **accounts_out,
                  char error_out[static ACCOUNTS_ERROR_LEN])
{
	struct accounts *a = crypto_secret_new(sizeof *a); /* the pepper */
	int rc = a ? state_ensure(state_dir, error_out) :
	             accounts_say(-ENOMEM, error_out, "out of memory");

	if (rc == 0) {
		snprintf(a->db_path, sizeof a->db_path, "%s/accounts.db", state_dir);
		rc = accounts_load_pepper(state_dir, a->db_path, a->pepper, error_out);
	}
	if (rc == 0)
		rc = open_db(a, error_out);
	if (rc < 0) {
		accounts_close(a);
		return rc;
	}
	*accounts_out = a;
	return 0;
}

void accounts_never_wait(struct accounts *a) { sqlite3_busy_timeout(a->db, 0); }

void accounts_close(struct accounts *a)
{
	if (!a)
		return;
	sqlite3_finalize(a->find);
	sqlite3_close(a->db);
	crypto_secret_free(a);
}

/* ---- statements ---- */

sqlite3_stmt *accounts_prepare(struct accounts *a, const char *sql,
                               char error_out[static ACCOUNTS_ERROR_LEN])
{
	sqlite3_stmt *st = NULL;

	if (sqlite3_prepare_v2(a->db, sql, -1, &st, NULL) == SQLITE_OK)
		return st;
	accounts_say_db(a, error_out);
	return NULL;
}

int accounts_run(struct accounts *a, sqlite3_stmt *st, char error_out[static ACCOUNTS_ERROR_LEN])
{
	int rc = st && sqlite3_step(st) == SQLITE_DONE ? 0 : -EIO;

	if (st && rc < 0)
		rc = accounts_say_db(a, error_out);
	sqlite3_finalize(st);
	return rc;
}

bool accounts_take_text(sqlite3_stmt *st, int column, char *out, size_t cap)
{
	const unsigned char *text = sqlite3_column_text(st, column);

	snprintf(out, cap, "%s", text ? (const char *)text : "");
	return text != NULL;
}

/* The columns are in the order of enum term. */
void accounts_take_own(sqlite3_stmt *st, int at, struct account_overrides *out)
{
	struct account_overrides own = { 0 };

	for (int i = 0; i < TERM_N; i++) {
		if (sqlite3_column_type(st, at + i) == SQLITE_NULL)
			continue;
		terms_put(&own.terms, (enum term)i, (uint64_t)sqlite3_column_int64(st, at + i));
		own.has |= 1u << i;
	}
	*out = own;
}

/* ---- several changes in one ---- */

static int exec(struct accounts *a, const char *sql, char error_out[static ACCOUNTS_ERROR_LEN])
{
	return sqlite3_exec(a->db, sql, NULL, NULL, NULL) == SQLITE_OK ?
	                       0 :
	                       accounts_say_db(a, error_out);
}

int accounts_begin(struct accounts *a, char error_out[static ACCOUNTS_ERROR_LEN])
{
	return exec(a, "BEGIN IMMEDIATE", error_out);
}

int accounts_commit(struct accounts *a, char error_out[static ACCOUNTS_ERROR_LEN])
{
	return exec(a, "COMMIT", error_out);
}

void accounts_rollback(struct accounts *a)
{
	if (!sqlite3_get_autocommit(a->db))
		sqlite3_exec(a->db, "ROLLBACK", NULL, NULL, NULL);
}

/* ---- the question ---- */

static void take_identity(sqlite3_stmt *st, struct identity *who)
{
	bool ok = accounts_take_text(st, 0, who->account, sizeof who->account) &&
	          accounts_take_text(st, 6, who->tier, sizeof who->tier) &&
	          accounts_take_text(st, 8, who->token_id, sizeof who->token_id);

	who->has_bound = sqlite3_column_type(st, 2) != SQLITE_NULL;
	if (who->has_bound)
		ok = accounts_take_text(st, 2, who->bound_id, sizeof who->bound_id) && ok;
	who->expires_unix_s = sqlite3_column_int64(st, 3);
	who->row = sqlite3_column_int64(st, 5);
	who->suspended = sqlite3_column_int(st, 7);
	accounts_take_own(st, 9, &who->own);
	who->why = CLOSE_NONE;
	if (!ok)
		*who = (struct identity){ .why = CLOSE_UNAVAILABLE };
}

struct found {  /* a row of a token */
	int rc; /* of SQLite */
	bool known, alive;
	uint8_t hash[TOKEN_HASH_LEN];
};

static void look_up(struct accounts *a, const char kid[static TOKEN_ID_LEN], int64_t now_unix_s,
                    struct found *out)
{
	*out = (struct found){ 0 };
	sqlite3_reset(a->find);
	out->rc = sqlite3_bind_text(a->find, 1, kid, TOKEN_ID_LEN, SQLITE_TRANSIENT);
	if (out->rc == SQLITE_OK)
		out->rc = sqlite3_step(a->find);
	out->known = out->rc == SQLITE_ROW && sqlite3_column_bytes(a->find, 1) == TOKEN_HASH_LEN;
	if (!out->known)
		return;
	memcpy(out->hash, sqlite3_column_blob(a->find, 1), TOKEN_HASH_LEN);
	out->alive = !token_has_expired(sqlite3_column_int64(a->find, 3), now_unix_s) &&
	             sqlite3_column_type(a->find, 4) == SQLITE_NULL;
}

/* One that is there and one that is not, whichever was asked for: who guesses learns nothing
 * from the time either (A02, T15). tests/bench/guess.c measures it. */
static void look_up_evenly(struct accounts *a, const char kid[static TOKEN_ID_LEN],
                           int64_t now_unix_s, struct found *out)
{
	static const char nobody[TOKEN_ID_LEN + 1] = "________"; /* is in no alphabet of ids */
	struct found other;

	look_up(a, kid, now_unix_s, out);
	look_up(a, out->known ? nobody : a->decoy, now_unix_s, &other);
	if (out->known)
		memcpy(a->decoy, kid, TOKEN_ID_LEN);
}

/* Those that were good once have an account too. */
static void identify(struct accounts *a, const char kid[static TOKEN_ID_LEN], int64_t now_unix_s,
                     struct identity *who)
{
	struct found f;

	look_up(a, kid, now_unix_s, &f);
	if (f.rc != SQLITE_ROW)
		return;
	take_identity(a->find, who);
	who->revoked = sqlite3_column_type(a->find, 4) != SQLITE_NULL;
	if (who->why == CLOSE_NONE && !f.alive)
		who->why = CLOSE_UNAUTHENTICATED;
}

void accounts_authenticate(struct accounts *a, struct str token, int64_t now_unix_s,
                           struct identity *identity_out)
{
	const char *kid = token_id(token).p;
	struct identity who = { .why = CLOSE_UNAUTHENTICATED };
	uint8_t hash[TOKEN_HASH_LEN];
	struct found f;

	look_up_evenly(a, kid, now_unix_s, &f);
	/* Hashed and compared also for an id nobody has. */
	token_hash(a->pepper, token_secret(token), hash);
	bool same = crypto_same(hash, f.hash, TOKEN_HASH_LEN);
	if (f.rc != SQLITE_ROW && f.rc != SQLITE_DONE)
		who.why = CLOSE_UNAVAILABLE;
	else if (f.known && same)
		identify(a, kid, now_unix_s, &who);
	sqlite3_reset(a->find);
	sqlite3_clear_bindings(a->find);
	*identity_out = who;
}

const char *accounts_library_version(void) { return sqlite3_libversion(); }
