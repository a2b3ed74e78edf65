#include "tests/unit/said.h"

#include <errno.h>
#include <time.h>

#include "common/base/crypto.h"
#include "server/accounts/accounts.h"
#include "server/accounts/usage.h"
#include "tests/unit/server/accounts/database.h"

static struct account_record record_of(struct accounts *a, const char *name)
{
	struct account_record r;

	if (accounts_find(a, name, time(NULL), &r, words) < 0)
		fail_msg("%s", words);
	return r;
}

static void store(struct accounts *a, const struct account_record *r)
{
	if (accounts_store(a, r, words) < 0)
		fail_msg("%s", words);
}

static void token_of(struct accounts *a, const char *account, int64_t expires,
                     char token_out[static TOKEN_LEN + 1])
{
	if (accounts_token_new(a, account, NULL, expires, token_out, words) < 0)
		fail_msg("%s", words);
}

static int64_t number_in(const char *query)
{
	sqlite3 *db;
	sqlite3_stmt *st;

	assert_int_equal(sqlite3_open(in_dir("accounts.db"), &db), SQLITE_OK);
	assert_int_equal(sqlite3_prepare_v2(db, query, -1, &st, NULL), SQLITE_OK);
	assert_int_equal(sqlite3_step(st), SQLITE_ROW);
	int64_t n = sqlite3_column_int64(st, 0);
	sqlite3_finalize(st);
	sqlite3_close(db);
	return n;
}

static void identity_tells_what_the_account_may(void **state)
{
	struct accounts *a = with_account("main");
	struct account_record r = record_of(a, "main");
	char token[TOKEN_LEN + 1];
	struct identity who;

	(void)state;
	token_of(a, "main", 0, token);
	accounts_authenticate(a, str_of(token), time(NULL), &who);
	assert_int_equal(who.row, r.row);
	assert_string_equal(who.tier, "unlimited");
	assert_int_equal(who.own.has, 0);
	assert_false(who.suspended);
	assert_memory_equal(who.token_id, token_id(str_of(token)).p, TOKEN_ID_LEN);
	snprintf(r.tier, sizeof r.tier, "pro");
	r.suspended = true;
	assert_null(terms_read(&r.own, TERM_RATE, "8Mbit"));
	assert_null(terms_read(&r.own, TERM_VOLUME, "unlimited"));
	store(a, &r);
	accounts_authenticate(a, str_of(token), time(NULL), &who);
	assert_int_equal(who.why, CLOSE_NONE); /* the token is good: who asks decides */
	assert_string_equal(who.tier, "pro");
	assert_true(who.suspended);
	assert_int_equal(who.own.has, 1u << TERM_RATE | 1u << TERM_VOLUME);
	assert_int_equal(who.own.terms.rate, 1000000);
	assert_int_equal(who.own.terms.volume, 0);
	accounts_close(a);
}

static void what_is_stored_is_read_by_row_and_by_name(void **state)
{
	struct accounts *a = open_accounts();
	struct account_record r, again;

	(void)state;
	assert_int_equal(accounts_add(a, "acme", "pro", words), 0);
	r = record_of(a, "acme");
	assert_string_equal(r.tier, "pro");
	assert_false(r.suspended);
	assert_int_equal(r.n_tokens, 0);
	assert_int_equal(r.used.sent, 0);
	for (unsigned i = 0; i < TERM_N; i++)
		assert_false(terms_have(&r.own, (enum term)i));
	assert_null(terms_read(&r.own, TERM_RELAY, "no"));
	assert_null(terms_read(&r.own, TERM_TUNNELS, "unlimited"));
	assert_null(terms_read(&r.own, TERM_BURST, "5s"));
	store(a, &r);
	assert_int_equal(accounts_read(a, r.row, time(NULL), &again, words), 0);
	assert_int_equal(again.own.has, 1u << TERM_RELAY | 1u << TERM_TUNNELS | 1u << TERM_BURST);
	assert_false(again.own.terms.relay);
	assert_int_equal(again.own.terms.burst_ms, 5000);
	terms_forget(&again.own, TERM_RELAY); /* its tier's again */
	store(a, &again);
	assert_int_equal(record_of(a, "acme").own.has, 1u << TERM_TUNNELS | 1u << TERM_BURST);
	assert_int_equal(accounts_find(a, "other", time(NULL), &r, words), ERR_NOT_FOUND);
	assert_words("there is no account \"other\"");
	assert_int_equal(accounts_read(a, 99, time(NULL), &r, words), ERR_NOT_FOUND);
	assert_int_equal(accounts_find(a, "No", time(NULL), &r, words), ERR_INVALID);
	accounts_close(a);
}

static void usage_is_of_the_month_over_all_boots(void **state)
{
	struct accounts *a = with_account("main");
	struct account_record r;
	char text[400];

	(void)state;
	snprintf(text, sizeof text,
	         "INSERT INTO usage (account, month, boot, sent, received, packets_sent, "
	         "packets_received) SELECT id, 202610, 1, 7, 7, 7, 7 FROM account UNION "
	         "SELECT id, 202611, 1, 100, 20, 3, 4 FROM account UNION "
	         "SELECT id, 202611, 2, 1000, 200, 30, 40 FROM account");
	sql(text);
	int64_t november = 1795219200; /* 2026-11-21 */
	assert_int_equal(usage_month_of(november * 1000), 202611);
	assert_int_equal(accounts_find(a, "main", november, &r, words), 0);
	assert_int_equal(r.used.sent, 1100);
	assert_int_equal(r.used.received, 220);
	assert_int_equal(r.used.packets_sent, 33);
	assert_int_equal(r.used.packets_received, 44);
	assert_int_equal(accounts_find(a, "main", november + 30 * 86400, &r, words), 0);
	assert_int_equal(r.used.sent, 0);
	accounts_close(a);
}

static void months_begin_at_midnight_utc(void **state)
{
	(void)state;
	assert_int_equal(usage_month_of(1796083199000), 202611); /* 2026-11-30 23:59:59 */
	assert_int_equal(usage_month_of(1796083200000), 202612);
	assert_int_equal(usage_month_of(1798761600000), 202701);
}

static void list_gives_pages_by_name(void **state)
{
	struct accounts *a = open_accounts();
	struct account_record v[3];
	static const char *const names[] = { "c", "a", "e", "b", "d" };

	(void)state;
	for (unsigned i = 0; i < 5; i++)
		assert_int_equal(accounts_add(a, names[i], NULL, words), 0);
	assert_int_equal(accounts_list(a, "", "", time(NULL), v, 3, words), 3);
	assert_string_equal(v[0].name, "a");
	assert_string_equal(v[2].name, "c");
	assert_int_equal(accounts_list(a, "c", "", time(NULL), v, 3, words), 2);
	assert_string_equal(v[1].name, "e");
	assert_int_equal(accounts_list(a, "e", "", time(NULL), v, 3, words), 0);
	assert_int_equal(accounts_list(a, "", "d", time(NULL), v, 3, words), 1);
	assert_string_equal(v[0].name, "d");
	accounts_close(a);
}

static void account_with_valid_tokens_is_removed_only_with_force(void **state)
{
	struct accounts *a = with_account("main");
	char one[TOKEN_LEN + 1], two[TOKEN_LEN + 1], account[NAME_MAX_LEN + 1];
	struct identity who;
	int64_t row, now = time(NULL);

	(void)state;
	token_of(a, "main", 0, one);
	token_of(a, "main", now - 100, two); /* expired */
	sql("INSERT INTO usage SELECT id, 202611, 1, 1, 1, 1, 1 FROM account");
	struct account_record r = record_of(a, "main");
	assert_int_equal(r.n_tokens, 1);
	assert_int_equal(accounts_remove(a, &r, false, words), -EBUSY);
	assert_words("has 1 valid token");
	assert_words("--force");
	char kid[TOKEN_ID_LEN + 1] = "";
	memcpy(kid, token_id(str_of(one)).p, TOKEN_ID_LEN);
	assert_int_equal(accounts_token_revoke(a, kid, now, &row, account, words), 0);
	r = record_of(a, "main");
	assert_int_equal(r.n_tokens, 0);
	assert_int_equal(accounts_remove(a, &r, false, words), 0);
	assert_int_equal(number_in("SELECT count(*) FROM token"), 0);
	assert_int_equal(number_in("SELECT count(*) FROM usage"), 0);
	accounts_authenticate(a, str_of(one), now, &who);
	assert_int_equal(who.why, CLOSE_UNAUTHENTICATED);
	assert_int_equal(accounts_find(a, "main", now, &r, words), ERR_NOT_FOUND);
	assert_int_equal(accounts_add(a, "main", NULL, words), 0);
	token_of(a, "main", 0, one);
	r = record_of(a, "main");
	assert_int_equal(accounts_remove(a, &r, true, words), 0);
	accounts_close(a);
}

static void number_of_a_removed_account_is_never_anothers(void **state)
{
	struct accounts *a = with_account("main");
	struct account_record r = record_of(a, "main");
	int64_t first = r.row;

	(void)state;
	assert_int_equal(accounts_remove(a, &r, false, words), 0);
	assert_int_equal(accounts_add(a, "other", NULL, words), 0);
	r = record_of(a, "other");
	assert_true(r.row > first);
	accounts_close(a);
}

static void tokens_are_listed_with_what_became_of_them(void **state)
{
	struct accounts *a = with_account("main");
	char one[TOKEN_LEN + 1], two[TOKEN_LEN + 1], kid[TOKEN_ID_LEN + 1] = "",
	                                                                account[NAME_MAX_LEN + 1];
	struct token_record v[4];
	int64_t row;

	(void)state;
	assert_int_equal(accounts_token_new(a, "main", "kitchen", 4000000000, one, words), 0);
	token_of(a, "main", 0, two);
	memcpy(kid, token_id(str_of(two)).p, TOKEN_ID_LEN);
	assert_int_equal(accounts_token_revoke(a, kid, 1000, &row, account, words), 0);
	assert_int_equal(row, record_of(a, "main").row);
	assert_string_equal(account, "main");
	assert_int_equal(accounts_token_revoke(a, kid, 2000, &row, account, words), 0); /* again */
	assert_int_equal(accounts_tokens(a, row, "", v, 4, words), 2);
	const struct token_record *revoked = &v[strcmp(v[0].kid, kid) != 0];
	const struct token_record *bound = &v[strcmp(v[0].kid, kid) == 0];
	assert_int_equal(revoked->revoked_unix_s, 1000);
	assert_int_equal(revoked->expires_unix_s, 0);
	assert_string_equal(revoked->bound_id, "");
	assert_int_equal(bound->revoked_unix_s, 0);
	assert_int_equal(bound->expires_unix_s, 4000000000);
	assert_string_equal(bound->bound_id, "kitchen");
	assert_int_equal(accounts_token_revoke(a, "nobodys0", 1000, &row, account, words),
	                 ERR_NOT_FOUND);
	assert_words("nobodys0");
	accounts_close(a);
}

static void tokens_come_page_by_page_oldest_first(void **state)
{
	struct accounts *a = with_account("main");
	struct token_record v[3];
	char seen[200] = "";
	const char *after = "";
	int64_t row = record_of(a, "main").row;
	int n;

	(void)state;
	sql("INSERT INTO account (id, name, created) VALUES (99, 'other', 1);"
	    "INSERT INTO token (kid, account, hash, created) VALUES"
	    " ('e', 1, x'00', 10), ('a', 1, x'00', 30), ('d', 1, x'00', 20), ('b', 1, x'00', 20),"
	    " ('c', 1, x'00', 20), ('x', 99, x'00', 20), ('f', 1, x'00', 0)");
	assert_int_equal(row, 1);
	while ((n = accounts_tokens(a, row, after, v, 2, words)) > 0)
		for (int i = 0; i < n; i++, after = seen + strlen(seen) - 1)
			strcat(seen, v[i].kid);
	assert_int_equal(n, 0);
	assert_string_equal(seen, "febcda");
	assert_int_equal(accounts_tokens(a, 99, "", v, 3, words), 1);
	accounts_close(a);
}

static void audit_is_read_backwards_and_what_is_too_old_goes(void **state)
{
	struct accounts *a = with_account("main");
	struct audit_record v[3];

	(void)state;
	sql("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 250)"
	    "INSERT INTO audit (at, who, what) SELECT 1700000000 + i, 'uid=1', 'line ' || i FROM n");
	assert_int_equal(accounts_audit(a, "uid=0", "new", words), 0); /* nothing was asked for */
	assert_int_equal(number_in("SELECT count(*) FROM audit"), 251);
	assert_int_equal(accounts_audited(a, 0, v, 3, words), 3);
	assert_string_equal(v[0].what, "new");
	assert_string_equal(v[1].what, "line 250");
	assert_int_equal(v[1].at_unix_s, 1700000250);
	assert_string_equal(v[2].who, "uid=1");
	assert_int_equal(accounts_audited(a, v[2].id, v, 3, words), 3);
	assert_string_equal(v[0].what, "line 248");
	assert_int_equal(accounts_audited(a, 2, v, 3, words), 1);
	assert_int_equal(accounts_audited(a, 1, v, 3, words), 0);

	accounts_keep_audit(a, 30);
	assert_int_equal(accounts_audit(a, "uid=0", "newer", words), 0);
	assert_int_equal(number_in("SELECT min(id) FROM audit"), 101); /* not all at once */
	assert_int_equal(accounts_audit(a, "uid=0", "newest", words), 0);
	assert_int_equal(accounts_audit(a, "uid=0", "last", words), 0);
	assert_int_equal(number_in("SELECT count(*) FROM audit"), 4); /* the young stay */
	accounts_close(a);
}

static void A03_revoked_by_command_is_refused_at_once(void **state)
{
	struct accounts *a = with_account("main"), *server = open_accounts();
	char token[TOKEN_LEN + 1], kid[TOKEN_ID_LEN + 1] = "", account[NAME_MAX_LEN + 1];
	struct identity who;
	int64_t row;

	(void)state;
	token_of(a, "main", 0, token);
	memcpy(kid, token_id(str_of(token)).p, TOKEN_ID_LEN);
	accounts_authenticate(server, str_of(token), time(NULL), &who);
	assert_int_equal(who.why, CLOSE_NONE);
	assert_int_equal(accounts_token_revoke(a, kid, time(NULL), &row, account, words), 0);
	accounts_authenticate(server, str_of(token), time(NULL), &who);
	assert_int_equal(who.why, CLOSE_UNAUTHENTICATED);
	accounts_close(server);
	accounts_close(a);
}

static void what_was_begun_is_done_whole_or_not(void **state)
{
	struct accounts *a = with_account("main");
	struct account_record r = record_of(a, "main");
	unsigned n = 0;

	(void)state;
	assert_int_equal(accounts_begin(a, words), 0);
	assert_int_equal(accounts_add(a, "two", NULL, words), 0);
	assert_int_equal(accounts_remove(a, &r, false, words), 0);
	assert_int_equal(accounts_audit(a, "uid=0", "everything", words), 0);
	accounts_rollback(a);
	assert_int_equal(accounts_count(a, &n, words), 0);
	assert_int_equal(n, 1);
	assert_int_equal(number_in("SELECT count(*) FROM audit"), 0);
	assert_int_equal(accounts_begin(a, words), 0);
	assert_int_equal(accounts_audit(a, "uid=0", "something", words), 0);
	assert_int_equal(accounts_commit(a, words), 0);
	accounts_rollback(a); /* nothing is begun */
	assert_int_equal(number_in("SELECT count(*) FROM audit WHERE who = 'uid=0' AND "
	                           "what = 'something' AND at > 1795000000"),
	                 1);
	accounts_close(a);
}

/* As tunn 0.1 made it. */
static const char schema_1[] =
                "CREATE TABLE account (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, created "
                "INTEGER NOT NULL);"
                "CREATE TABLE token (kid TEXT PRIMARY KEY, account INTEGER NOT NULL REFERENCES "
                "account(id), hash BLOB NOT NULL, bound_id TEXT, created INTEGER NOT NULL, expires "
                "INTEGER, revoked INTEGER) WITHOUT ROWID;"
                "INSERT INTO account VALUES (1, 'main', 1700000000), (7, 'acme', 1700000001);"
                "PRAGMA user_version = 1;";

static void older_schema_is_migrated_with_all_that_is_in_it(void **state)
{
	uint8_t pepper[TOKEN_PEPPER_LEN] = { 1, 2, 3 }, hash[TOKEN_HASH_LEN];
	char token[TOKEN_LEN + 1], hex[2 * TOKEN_HASH_LEN + 1], text[400], name[64];
	struct identity who;

	(void)state;
	assert_int_equal(mkdir(dir, 0700), 0);
	token_new(token);
	token_hash(pepper, token_secret(str_of(token)), hash);
	hex_encode(hash, sizeof hash, hex);
	snprintf(name, sizeof name, "%.40s/pepper", strrchr(dir, 0x2f) + 1);
	file_with_bytes(name, pepper, sizeof pepper);
	sql(schema_1);
	snprintf(text, sizeof text,
	         "INSERT INTO token VALUES ('%.8s', 7, x'%s', 'kitchen', 1700000002, NULL, NULL)",
	         token_id(str_of(token)).p, hex);
	sql(text);
	struct accounts *a = open_accounts();
	accounts_authenticate(a, str_of(token), time(NULL), &who);
	assert_int_equal(who.why, CLOSE_NONE);
	assert_string_equal(who.account, "acme");
	assert_string_equal(who.bound_id, "kitchen");
	struct account_record r = record_of(a, "acme"); /* as free as it was */
	assert_string_equal(r.tier, "unlimited");
	assert_int_equal(r.row, 7);
	assert_int_equal(r.created_unix_s, 1700000001);
	assert_false(r.suspended);
	assert_int_equal(r.own.has, 0);
	assert_int_equal(accounts_add(a, "new", "pro", words), 0);
	assert_int_equal(record_of(a, "new").row, 8);
	accounts_close(a);
	assert_int_equal(number_in("PRAGMA user_version"), 3);
	accounts_close(open_accounts()); /* and once is enough */
}

static void schema_2_is_migrated_too(void **state)
{
	struct token_record v[2];
	char token[TOKEN_LEN + 1];
	struct identity who;

	(void)state;
	struct accounts *a = with_account("main");
	token_of(a, "main", 0, token);
	accounts_close(a);
	sql("DROP INDEX token_of_account; CREATE INDEX token_of_account ON token (account);"
	    "PRAGMA user_version = 2");
	a = open_accounts();
	accounts_authenticate(a, str_of(token), time(NULL), &who);
	assert_int_equal(who.why, CLOSE_NONE);
	assert_int_equal(accounts_tokens(a, who.row, "", v, 2, words), 1);
	assert_int_equal(number_in("SELECT count(*) FROM sqlite_master WHERE name = "
	                           "'token_of_account' AND sql LIKE '%created%'"),
	                 1);
	assert_int_equal(number_in("PRAGMA user_version"), 3);
	accounts_close(a);
}

struct tiers_seen {
	char text[200];
};

static void see_tier(void *owner, const char *tier, unsigned n)
{
	struct tiers_seen *s = owner;
	size_t len = strlen(s->text);

	snprintf(s->text + len, sizeof s->text - len, "%s=%u ", tier, n);
}

static void tiers_in_use_are_counted(void **state)
{
	struct accounts *a = with_account("main");
	struct tiers_seen s = { "" };

	(void)state;
	assert_int_equal(accounts_add(a, "b", "pro", words), 0);
	assert_int_equal(accounts_add(a, "c", "pro", words), 0);
	assert_int_equal(accounts_each_tier(a, see_tier, &s, words), 0);
	assert_string_equal(s.text, "pro=2 unlimited=1 ");
	accounts_close(a);
}

static void database_that_fails_is_said_and_nothing_changes(void **state)
{
	struct accounts *a = with_account("main");
	struct account_record r = record_of(a, "main"), v[2];
	char token[TOKEN_LEN + 1], account[NAME_MAX_LEN + 1];
	struct token_record t[2];
	struct audit_record lines[2];
	int64_t row;

	(void)state;
	sql("DROP TABLE token; DROP TABLE audit");
	assert_int_equal(accounts_find(a, "main", 1, v, words), -EIO);
	assert_words("no such table");
	assert_int_equal(accounts_read(a, 1, 1, v, words), -EIO);
	assert_int_equal(accounts_list(a, "", "", 1, v, 2, words), -EIO);
	assert_int_equal(accounts_remove(a, &r, true, words), -EIO);
	assert_int_equal(accounts_audit(a, "a", "b", words), -EIO);
	assert_int_equal(accounts_audited(a, 0, lines, 2, words), -EIO);
	assert_int_equal(accounts_tokens(a, 1, "", t, 2, words), -EIO);
	assert_int_equal(accounts_token_new(a, "main", NULL, 0, token, words), -EIO);
	assert_int_equal(accounts_token_revoke(a, "abcdefgh", 1, &row, account, words), -EIO);
	assert_int_equal(accounts_begin(a, words), 0); /* nothing was left open */
	accounts_rollback(a);
	assert_int_equal(number_in("SELECT count(*) FROM account"), 1);
	accounts_close(a);
}

#define T(name) cmocka_unit_test_setup(name, fresh)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(identity_tells_what_the_account_may),
		T(what_is_stored_is_read_by_row_and_by_name),
		T(usage_is_of_the_month_over_all_boots),
		T(months_begin_at_midnight_utc),
		T(list_gives_pages_by_name),
		T(account_with_valid_tokens_is_removed_only_with_force),
		T(number_of_a_removed_account_is_never_anothers),
		T(tokens_are_listed_with_what_became_of_them),
		T(tokens_come_page_by_page_oldest_first),
		T(audit_is_read_backwards_and_what_is_too_old_goes),
		T(A03_revoked_by_command_is_refused_at_once),
		T(what_was_begun_is_done_whole_or_not),
		T(older_schema_is_migrated_with_all_that_is_in_it),
		T(schema_2_is_migrated_too),
		T(tiers_in_use_are_counted),
		T(database_that_fails_is_said_and_nothing_changes),
	};

	if (crypto_start() < 0)
		return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
