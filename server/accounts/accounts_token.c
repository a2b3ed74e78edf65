#include <errno.h>
#include <time.h>

#include "common/base/crypto.h"
#include "server/accounts/accounts_impl.h"

static int insert(struct accounts *a, const char *account, const char *id, int64_t expires,
                  struct str token, char error_out[static ACCOUNTS_ERROR_LEN])
{
	static const char sql[] =
	                "INSERT INTO token (kid, account, hash, bound_id, created, expires) "
	                "SELECT ?1, id, ?2, ?3, ?4, ?5 FROM account WHERE name = ?6";
	sqlite3_stmt *st = accounts_prepare(a, sql, error_out);
	uint8_t hash[TOKEN_HASH_LEN];

	token_hash(a->pepper, token_secret(token), hash);
	sqlite3_bind_text(st, 1, token_id(token).p, TOKEN_ID_LEN, SQLITE_STATIC);
	sqlite3_bind_blob(st, 2, hash, sizeof hash, SQLITE_STATIC);
	if (id)
		sqlite3_bind_text(st, 3, id, -1, SQLITE_STATIC);
	sqlite3_bind_int64(st, 4, time(NULL));
	if (expires)
		sqlite3_bind_int64(st, 5, expires);
	sqlite3_bind_text(st, 6, account, -1, SQLITE_STATIC);
	int rc = accounts_run(a, st, error_out);
	if (rc == 0 && sqlite3_changes(a->db) == 0)
		rc = accounts_say(ERR_NOT_FOUND, error_out,
		                  "there is no account \"%s\": tunn account add %s", account,
		                  account);
	return rc;
}

int accounts_token_new(struct accounts *a, const char *account, const char *id,
                       int64_t expires_unix_s, char token_out[static TOKEN_LEN + 1],
                       char error_out[static ACCOUNTS_ERROR_LEN])
{
	if (id && !name_is_valid(str_of(id)))
		return accounts_say_name("a tunnel id", id, error_out);
	if (!name_is_valid(str_of(account)))
		return accounts_say_name("an account name", account, error_out);
	token_new(token_out);
	int rc = insert(a, account, id, expires_unix_s, (struct str){ token_out, TOKEN_LEN },
	                error_out);
	if (rc < 0)
		crypto_wipe(token_out, TOKEN_LEN + 1);
	return rc;
}

int accounts_tokens(struct accounts *a, int64_t row, const char *after, struct token_record *v,
                    unsigned n, char error_out[static ACCOUNTS_ERROR_LEN])
{
	sqlite3_stmt *st = accounts_prepare(
	                a,
	                "SELECT kid, bound_id, created, expires, revoked FROM token "
	                "WHERE account = ?1 AND (created, kid) > "
	                "(IFNULL((SELECT created FROM token WHERE kid = ?2), -1), ?2) "
	                "ORDER BY created, kid LIMIT ?3",
	                error_out);
	int rc = SQLITE_DONE;
	unsigned i = 0;

	if (!st)
		return -EIO;
	sqlite3_bind_int64(st, 1, row);
	sqlite3_bind_text(st, 2, after, -1, SQLITE_STATIC);
	sqlite3_bind_int64(st, 3, n);
	for (; i < n && (rc = sqlite3_step(st)) == SQLITE_ROW; i++) {
		v[i] = (struct token_record){ .created_unix_s = sqlite3_column_int64(st, 2),
			                      .expires_unix_s = sqlite3_column_int64(st, 3),
			                      .revoked_unix_s = sqlite3_column_int64(st, 4) };
		accounts_take_text(st, 0, v[i].kid, sizeof v[i].kid);
		accounts_take_text(st, 1, v[i].bound_id, sizeof v[i].bound_id);
	}
	if (rc != SQLITE_ROW && rc != SQLITE_DONE)
		accounts_say_db(a, error_out);
	sqlite3_finalize(st);
	return rc == SQLITE_ROW || rc == SQLITE_DONE ? (int)i : -EIO;
}

static int owner_of(struct accounts *a, const char *kid, int64_t *row_out,
                    char account_out[static NAME_MAX_LEN + 1],
                    char error_out[static ACCOUNTS_ERROR_LEN])
{
	sqlite3_stmt *st = accounts_prepare(a,
	                                    "SELECT a.id, a.name FROM token t JOIN account a ON "
	                                    "a.id = t.account WHERE t.kid = ?1",
	                                    error_out);
	if (!st)
		return -EIO;
	sqlite3_bind_text(st, 1, kid, -1, SQLITE_STATIC);
	int rc = sqlite3_step(st);
	if (rc == SQLITE_ROW) {
		*row_out = sqlite3_column_int64(st, 0);
		accounts_take_text(st, 1, account_out, NAME_MAX_LEN + 1);
	} else if (rc != SQLITE_DONE) {
		accounts_say_db(a, error_out);
	}
	sqlite3_finalize(st);
	return rc == SQLITE_ROW ? 0 : rc == SQLITE_DONE ? ERR_NOT_FOUND : -EIO;
}

int accounts_token_revoke(struct accounts *a, const char *kid, int64_t now_unix_s, int64_t *row_out,
                          char account_out[static NAME_MAX_LEN + 1],
                          char error_out[static ACCOUNTS_ERROR_LEN])
{
	int rc = owner_of(a, kid, row_out, account_out, error_out);

	if (rc == ERR_NOT_FOUND)
		return accounts_say(rc, error_out,
		                    "there is no token with the id \"%s\": tunn token list ACCOUNT "
		                    "shows them",
		                    kid);
	if (rc < 0)
		return rc;
	sqlite3_stmt *st = accounts_prepare(
	                a, "UPDATE token SET revoked = ?2 WHERE kid = ?1 AND revoked IS NULL",
	                error_out);
	sqlite3_bind_text(st, 1, kid, -1, SQLITE_STATIC);
	sqlite3_bind_int64(st, 2, now_unix_s);
	return accounts_run(a, st, error_out);
}
