#include "server/accounts_impl.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "common/base/crypto.h"
#include "common/base/opts.h"

enum { PATH_LEN = ACCOUNTS_PATH_LEN, BUSY_MS = 5000, SKEW_S = 60 };

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
	"  id INTEGER PRIMARY KEY, at INTEGER NOT NULL, who TEXT NOT NULL, what TEXT NOT NULL);",
};
enum { SCHEMA = sizeof migrations / sizeof *migrations };

int say(char error_out[static ACCOUNTS_ERROR_LEN], const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(error_out, ACCOUNTS_ERROR_LEN, fmt, ap);
	va_end(ap);
	return -EIO;
}

int say_db(struct accounts *a, char error_out[static ACCOUNTS_ERROR_LEN])
{
	return say(error_out, "accounts database %s: %s", a->db_path, sqlite3_errmsg(a->db));
}

/* ---- opening ---- */

static int read_pepper(const char *path, uint8_t pepper_out[static TOKEN_PEPPER_LEN],
                       char error_out[static ACCOUNTS_ERROR_LEN])
{
	uint8_t bytes[TOKEN_PEPPER_LEN + 1] = { 0 };
	struct stat st = { 0 };
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0 && errno == ENOENT)
		return ERR_NOT_FOUND;
	ssize_t n = fd < 0 || fstat(fd, &st) < 0 ? -1 : read(fd, bytes, sizeof bytes);
	if (n < 0)
		say(error_out, "cannot read %s: %s", path, strerror(errno));
	else if (n != TOKEN_PEPPER_LEN)
		say(error_out, "%s has not %d bytes: restore it from a backup", path,
		    TOKEN_PEPPER_LEN);
	else if (st.st_mode & 077)
		say(error_out, "others may read %s: chmod 600 it", path);
	else
		memcpy(pepper_out, bytes, TOKEN_PEPPER_LEN);
	if (fd >= 0)
		close(fd);
	crypto_wipe(bytes, sizeof bytes);
	return n == TOKEN_PEPPER_LEN && !(st.st_mode & 077) ? 0 : -EIO;
}

static bool write_pepper(int fd)
{
	uint8_t pepper[TOKEN_PEPPER_LEN];

	crypto_random(pepper, sizeof pepper);
	bool ok = write(fd, pepper, sizeof pepper) == sizeof pepper && fsync(fd) == 0;
	crypto_wipe(pepper, sizeof pepper);
	return ok;
}

/* Two processes may start at once: the file appears whole, by link(2). */
static int make_pepper(const char *path, char error_out[static ACCOUNTS_ERROR_LEN])
{
	char tmp[PATH_LEN + 8];

	snprintf(tmp, sizeof tmp, "%s.XXXXXX", path);
	int fd = mkostemp(tmp, O_CLOEXEC);
	bool ok = fd >= 0 && write_pepper(fd) && (link(tmp, path) == 0 || errno == EEXIST);
	if (!ok)
		say(error_out, "cannot write %s: %s", path, strerror(errno));
	if (fd >= 0) {
		close(fd);
		unlink(tmp);
	}
	return ok ? 0 : -EIO;
}

/* The pepper is made before the database. A database without one has lost it:
 * with a new one every token would silently be wrong. */
static int load_pepper(struct accounts *a, const char *dir,
                       char error_out[static ACCOUNTS_ERROR_LEN])
{
	char path[PATH_LEN];

	snprintf(path, sizeof path, "%s/pepper", dir);
	int rc = read_pepper(path, a->pepper, error_out);
	if (rc != ERR_NOT_FOUND)
		return rc;
	bool had_db = access(a->db_path, F_OK) == 0;
	rc = read_pepper(path, a->pepper, error_out); /* somebody may have made both meanwhile */
	if (rc == ERR_NOT_FOUND && had_db)
		return say(error_out,
		           "%s is missing, and no token in %s works without it: restore it from a "
		           "backup, or remove the database to start anew",
		           path, a->db_path);
	if (rc == ERR_NOT_FOUND)
		rc = make_pepper(path, error_out);
	return rc < 0 ? rc : read_pepper(path, a->pepper, error_out);
}

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
	return say(error_out,
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
		rc = v >= 0 && step_up(a, v) == SQLITE_OK ? 0 : say_db(a, error_out);
	if (!sqlite3_get_autocommit(a->db))
		sqlite3_exec(a->db, "ROLLBACK", NULL, NULL, NULL);
	return rc;
}

static int open_db(struct accounts *a, char error_out[static ACCOUNTS_ERROR_LEN])
{
	static const char find[] = "SELECT a.name, t.hash, t.bound_id, t.expires, t.revoked "
	                           "FROM token t JOIN account a ON a.id = t.account "
	                           "WHERE t.kid = ?1";
	mode_t old = umask(077);
	int rc = sqlite3_open(a->db_path, &a->db);

	umask(old);
	if (rc != SQLITE_OK)
		return say(error_out, "cannot open %s: %s", a->db_path, sqlite3_errmsg(a->db));
	sqlite3_busy_timeout(a->db, BUSY_MS);
	/* WAL is a matter of speed: where it is refused the rest works too. */
	sqlite3_exec(a->db, "PRAGMA journal_mode = WAL", NULL, NULL, NULL);
	sqlite3_exec(a->db, "PRAGMA foreign_keys = ON", NULL, NULL, NULL);
	rc = migrate(a, error_out);
	if (rc < 0)
		return rc;
	if (sqlite3_prepare_v2(a->db, find, -1, &a->find, NULL) != SQLITE_OK)
		return say_db(a, error_out);
	return 0;
}

int accounts_open(const char *state_dir, struct accounts **accounts_out,
                  char error_out[static ACCOUNTS_ERROR_LEN])
{
	struct accounts *a = crypto_secret_new(sizeof *a); /* the pepper */
	int rc = a ? state_ensure(state_dir, error_out) : say(error_out, "out of memory");

	if (rc == 0) {
		snprintf(a->db_path, sizeof a->db_path, "%s/accounts.db", state_dir);
		rc = load_pepper(a, state_dir, error_out);
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

void accounts_close(struct accounts *a)
{
	if (!a)
		return;
	sqlite3_finalize(a->find);
	sqlite3_close(a->db);
	crypto_secret_free(a);
}

/* ---- commands ---- */

int accounts_count(struct accounts *a, unsigned *n_out, char error_out[static ACCOUNTS_ERROR_LEN])
{
	sqlite3_stmt *st;

	if (sqlite3_prepare_v2(a->db, "SELECT count(*) FROM account", -1, &st, NULL) != SQLITE_OK)
		return say_db(a, error_out);
	int rc = sqlite3_step(st) == SQLITE_ROW ? 0 : say_db(a, error_out);
	if (rc == 0)
		*n_out = (unsigned)sqlite3_column_int(st, 0);
	sqlite3_finalize(st);
	return rc;
}

static int bad_name(const char *what, const char *name, char error_out[static ACCOUNTS_ERROR_LEN])
{
	say(error_out, "%s is 1 to 63 of a-z, 0-9 and -, the first no -, not %s", what,
	    opts_quote(name).s);
	return ERR_INVALID;
}

int accounts_add(struct accounts *a, const char *name, char error_out[static ACCOUNTS_ERROR_LEN])
{
	sqlite3_stmt *st;

	if (!name_is_valid(str_of(name)))
		return bad_name("an account name", name, error_out);
	if (sqlite3_prepare_v2(a->db, "INSERT INTO account (name, created) VALUES (?1, ?2)", -1,
	                       &st, NULL) != SQLITE_OK)
		return say_db(a, error_out);
	sqlite3_bind_text(st, 1, name, -1, SQLITE_STATIC);
	sqlite3_bind_int64(st, 2, time(NULL));
	int rc = sqlite3_step(st);
	sqlite3_finalize(st);
	if (rc == SQLITE_CONSTRAINT)
		return say(error_out, "the account \"%s\" exists already", name);
	return rc == SQLITE_DONE ? 0 : say_db(a, error_out);
}

static int insert_token(struct accounts *a, const char *account, const char *id, int64_t expires,
                        struct str token, char error_out[static ACCOUNTS_ERROR_LEN])
{
	static const char insert[] =
	                "INSERT INTO token (kid, account, hash, bound_id, created, expires) "
	                "SELECT ?1, id, ?2, ?3, ?4, ?5 FROM account WHERE name = ?6";
	uint8_t hash[TOKEN_HASH_LEN];
	sqlite3_stmt *st;

	if (sqlite3_prepare_v2(a->db, insert, -1, &st, NULL) != SQLITE_OK)
		return say_db(a, error_out);
	token_hash(a->pepper, token_secret(token), hash);
	sqlite3_bind_text(st, 1, token_id(token).p, TOKEN_ID_LEN, SQLITE_STATIC);
	sqlite3_bind_blob(st, 2, hash, sizeof hash, SQLITE_STATIC);
	if (id)
		sqlite3_bind_text(st, 3, id, -1, SQLITE_STATIC);
	sqlite3_bind_int64(st, 4, time(NULL));
	if (expires)
		sqlite3_bind_int64(st, 5, expires);
	sqlite3_bind_text(st, 6, account, -1, SQLITE_STATIC);
	int rc = sqlite3_step(st);
	sqlite3_finalize(st);
	if (rc != SQLITE_DONE)
		return say_db(a, error_out);
	if (sqlite3_changes(a->db) == 0)
		return say(error_out, "there is no account \"%s\": tunn account add %s", account,
		           account);
	return 0;
}

int accounts_token_new(struct accounts *a, const char *account, const char *id,
                       int64_t expires_unix_s, char token_out[static TOKEN_LEN + 1],
                       char error_out[static ACCOUNTS_ERROR_LEN])
{
	if (id && !name_is_valid(str_of(id)))
		return bad_name("a tunnel id", id, error_out);
	if (!name_is_valid(str_of(account)))
		return bad_name("an account name", account, error_out);
	token_new(token_out);
	int rc = insert_token(a, account, id, expires_unix_s, (struct str){ token_out, TOKEN_LEN },
	                      error_out);
	if (rc < 0)
		crypto_wipe(token_out, TOKEN_LEN + 1);
	return rc;
}

/* ---- the question ---- */

/* False: out of memory. */
static bool copy_column(sqlite3_stmt *st, int column, char out[static NAME_MAX_LEN + 1])
{
	const unsigned char *text = sqlite3_column_text(st, column);

	snprintf(out, NAME_MAX_LEN + 1, "%s", text ? (const char *)text : "");
	return text != NULL;
}

static void take_identity(sqlite3_stmt *st, struct identity *who)
{
	bool ok = copy_column(st, 0, who->account);

	who->has_bound = sqlite3_column_type(st, 2) != SQLITE_NULL;
	if (who->has_bound)
		ok = copy_column(st, 2, who->bound_id) && ok;
	who->why = ok ? CLOSE_NONE : CLOSE_UNAVAILABLE;
}

void accounts_authenticate(struct accounts *a, struct str token, int64_t now_unix_s,
                           struct identity *identity_out)
{
	struct identity who = { .why = CLOSE_UNAUTHENTICATED };
	uint8_t hash[TOKEN_HASH_LEN], stored[TOKEN_HASH_LEN] = { 0 };
	bool known, alive = false;

	sqlite3_reset(a->find);
	int rc = sqlite3_bind_text(a->find, 1, token_id(token).p, TOKEN_ID_LEN, SQLITE_STATIC);
	rc = rc == SQLITE_OK ? sqlite3_step(a->find) : rc;
	known = rc == SQLITE_ROW && sqlite3_column_bytes(a->find, 1) == TOKEN_HASH_LEN;
	if (known) {
		memcpy(stored, sqlite3_column_blob(a->find, 1), TOKEN_HASH_LEN);
		int64_t expires = sqlite3_column_int64(a->find, 3);
		alive = (!expires || now_unix_s < expires + SKEW_S) &&
		        sqlite3_column_type(a->find, 4) == SQLITE_NULL;
	}
	/* Hashed and compared also for an id nobody has (A02). */
	token_hash(a->pepper, token_secret(token), hash);
	bool same = crypto_same(hash, stored, TOKEN_HASH_LEN);
	if (rc != SQLITE_ROW && rc != SQLITE_DONE) {
		who.why = CLOSE_UNAVAILABLE;
	} else if (known && same && alive) {
		take_identity(a->find, &who);
	}
	sqlite3_reset(a->find);
	sqlite3_clear_bindings(a->find);
	*identity_out = who;
}

const char *accounts_library_version(void) { return sqlite3_libversion(); }
