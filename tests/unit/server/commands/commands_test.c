#include "tests/unit/said.h"

#include <errno.h>

#include "common/base/clock.h"
#include "common/base/crypto.h"
#include "common/base/json.h"
#include "server/commands/commands.h"
#include "server/login/login.h"
#include "tests/unit/server/accounts/database.h"

enum { UID = 1234 };

/* A server's side of commands, and what it heard. */
static struct {
	struct tiers tiers;
	struct commands c;
	unsigned n_changed;
	int64_t row;
	char token_id[TOKEN_ID_LEN + 1];
	struct account_live live;
} s;
static char answer[8192];

static void on_changed(void *owner, int64_t row, const char *token_id)
{
	assert_ptr_equal(owner, &s);
	s.n_changed++;
	s.row = row;
	snprintf(s.token_id, sizeof s.token_id, "%s", token_id ? token_id : "");
}

static bool on_live(void *owner, int64_t row, struct account_live *out)
{
	(void)owner, (void)row;
	*out = s.live;
	return s.live.n_tunnels > 0;
}

static int begin(void **state)
{
	fresh(state);
	memset(&s, 0, sizeof s);
	tiers_builtin(&s.tiers);
	s.c = (struct commands){
		.accounts = open_accounts(), .tiers = &s.tiers, .owner = &s, .changed = on_changed
	};
	return 0;
}

static int end(void **state)
{
	(void)state;
	login_free(s.c.login);
	accounts_close(s.c.accounts);
	return 0;
}

/* Blanks for quotes: {'verb': 'account list'} */
static void ask_for(const char *request)
{
	char text[2048];
	snprintf(text, sizeof text, "%s", request);
	for (char *p = text; *p; p++)
		*p = *p == '\'' ? '"' : *p;
	struct json *j = commands_run_text(&s.c, str_of(text), UID);
	assert_non_null(j);
	assert_true(json_print(j, JSON_ONE_LINE, answer, sizeof answer) > 0);
	json_free(j);
}

static void assert_answer(const char *part)
{
	if (!strstr(answer, part))
		fail_msg("not answered: %s\nbut: %s", part, answer);
}

static void does(const char *request)
{
	ask_for(request);
	assert_answer("{\"ok\":true");
}

static void refuses(const char *request, const char *code, const char *part)
{
	char text[64];

	ask_for(request);
	assert_answer("{\"ok\":false,\"error\":");
	snprintf(text, sizeof text, "\"code\":\"%s\"", code);
	assert_answer(text);
	assert_answer(part);
}

/* Of the member of that name in the last answer. */
static void text_of(const char *member, char *out, size_t cap)
{
	static const struct json_limits limits = { 8192, 8, 1000 };
	struct json *doc;
	struct str text = STR("");

	assert_int_equal(json_parse(str_of(answer), &limits, &doc, NULL), 0);
	json_as_text(json_get(doc, member), &text);
	snprintf(out, cap, "%.*s", (int)text.len, text.p);
	json_free(doc);
}

static void audit_of(char *out, size_t cap)
{
	sqlite3 *db;
	sqlite3_stmt *st;

	out[0] = 0;
	assert_int_equal(sqlite3_open(in_dir("accounts.db"), &db), SQLITE_OK);
	assert_int_equal(sqlite3_prepare_v2(db, "SELECT who || ': ' || what FROM audit ORDER BY id",
	                                    -1, &st, NULL),
	                 SQLITE_OK);
	while (sqlite3_step(st) == SQLITE_ROW) {
		size_t n = strlen(out);
		snprintf(out + n, cap - n, "%s\n", (const char *)sqlite3_column_text(st, 0));
	}
	sqlite3_finalize(st);
	sqlite3_close(db);
}

static void account_is_added_with_its_tier_or_the_default_one(void **state)
{
	(void)state;
	does("{'verb': 'account add', 'name': 'acme', 'tier': 'pro'}");
	assert_answer("\"name\":\"acme\",\"tier\":\"pro\",\"tier_known\":true,\"suspended\":false");
	assert_answer("\"limits\":{\"relay\":true,\"tunnels\":10,\"rate_bits_per_s\":500000000,"
	              "\"burst_ms\":10000,\"volume_bytes\":50000000000},\"own_limits\":{}");
	snprintf(s.tiers.by_default, sizeof s.tiers.by_default, "free");
	does("{'verb': 'account add', 'name': 'bob'}");
	assert_answer("\"tier\":\"free\"");
	refuses("{'verb': 'account add', 'name': 'acme'}", "exists", "exists already");
	refuses("{'verb': 'account add', 'name': 'x', 'tier': 'gold'}", "invalid",
	        "there is no tier \\\"gold\\\" among free, pro, unlimited");
	refuses("{'verb': 'account add', 'name': 'No'}", "invalid", "a-z, 0-9 and -");
	refuses("{'verb': 'account add'}", "invalid", "no account is named");
	assert_int_equal(s.n_changed, 0); /* nobody has it so far */
}

static void set_changes_what_is_given_and_default_takes_it_away(void **state)
{
	(void)state;
	does("{'verb': 'account add', 'name': 'acme', 'tier': 'pro'}");
	does("{'verb': 'account set', 'name': 'acme', 'own': {'rate': '8Mbit', 'tunnels': "
	     "'unlimited', 'relay': 'no'}}");
	assert_answer("\"own_limits\":{\"relay\":false,\"tunnels\":null,\"rate_bits_per_s\":8000000}");
	assert_int_equal(s.n_changed, 1);
	assert_string_equal(s.token_id, "");
	int64_t row = s.row;
	does("{'verb': 'account set', 'name': 'acme', 'tier': 'free', 'own': {'rate': 'default'}}");
	assert_answer("\"tier\":\"free\"");
	assert_answer("\"own_limits\":{\"relay\":false,\"tunnels\":null}");
	assert_int_equal(s.row, row);
	refuses("{'verb': 'account set', 'name': 'acme'}", "invalid", "nothing is set");
	refuses("{'verb': 'account set', 'name': 'acme', 'own': {'rate': '0'}}", "invalid",
	        "rate must be 1Mbit");
	refuses("{'verb': 'account set', 'name': 'acme', 'own': {'speed': '0'}}", "invalid",
	        "no such limit");
	refuses("{'verb': 'account set', 'name': 'acme', 'own': {'rate': 5}}", "invalid",
	        "rate is no text");
	refuses("{'verb': 'account set', 'name': 'nobody', 'tier': 'pro'}", "not-found", "nobody");
	does("{'verb': 'account show', 'name': 'acme'}");
	assert_answer("\"own_limits\":{\"relay\":false,\"tunnels\":null}"); /* all or nothing */
	assert_int_equal(s.n_changed, 2);
}

static void suspend_and_resume_are_told(void **state)
{
	(void)state;
	does("{'verb': 'account add', 'name': 'acme'}");
	does("{'verb': 'account suspend', 'name': 'acme'}");
	assert_answer("\"suspended\":true");
	assert_int_equal(s.n_changed, 1);
	does("{'verb': 'account resume', 'name': 'acme'}");
	assert_answer("\"suspended\":false");
	assert_int_equal(s.n_changed, 2);
}

static void tokens_are_made_listed_and_revoked(void **state)
{
	char token[TOKEN_LEN + 1], id[TOKEN_ID_LEN + 1], request[200];

	(void)state;
	does("{'verb': 'account add', 'name': 'acme'}");
	does("{'verb': 'token new', 'name': 'acme', 'id': 'home', 'expires_s': 3600}");
	text_of("token", token, sizeof token);
	text_of("token_id", id, sizeof id);
	assert_int_equal(token_check(str_of(token)), 0);
	assert_memory_equal(token_id(str_of(token)).p, id, TOKEN_ID_LEN);
	does("{'verb': 'token new', 'name': 'acme'}");
	assert_answer("\"id\":null,\"expires_unix_s\":null");
	does("{'verb': 'token list', 'name': 'acme'}");
	assert_null(strstr(answer, "tunn_"));
	assert_answer(id);
	assert_answer("\"id\":\"home\"");
	snprintf(request, sizeof request, "{'verb': 'token revoke', 'token_id': '%s'}", id);
	does(request);
	assert_int_equal(s.n_changed, 1);
	assert_string_equal(s.token_id, id);
	does("{'verb': 'token list', 'name': 'acme'}");
	assert_answer("\"valid\":false");
	refuses("{'verb': 'token revoke', 'token_id': 'nobodys0'}", "not-found", "nobodys0");
	refuses("{'verb': 'token revoke', 'token_id': 'short'}", "invalid", "named by its id");
	refuses("{'verb': 'token revoke'}", "invalid", "named by its id");
	refuses("{'verb': 'token new', 'name': 'acme', 'id': 'A'}", "invalid", "a tunnel id");
	refuses("{'verb': 'token new', 'name': 'nobody'}", "not-found", "nobody");
	refuses("{'verb': 'token new', 'name': 'acme', 'expires_s': 0}", "invalid", "expires_s");
	refuses("{'verb': 'token new', 'name': 'acme', 'expires_s': 31622401}", "invalid",
	        "expires_s");
	refuses("{'verb': 'token new', 'name': 'acme', 'expires_s': '90d'}", "invalid",
	        "expires_s");
	assert_int_equal(s.n_changed, 1);
}

static void rm_wants_tokens_gone_or_force(void **state)
{
	(void)state;
	does("{'verb': 'account add', 'name': 'acme'}");
	does("{'verb': 'token new', 'name': 'acme'}");
	refuses("{'verb': 'account rm', 'name': 'acme'}", "busy", "--force");
	assert_int_equal(s.n_changed, 0);
	does("{'verb': 'account rm', 'name': 'acme', 'force': true}");
	assert_answer("\"removed\":\"acme\"");
	assert_int_equal(s.n_changed, 1);
	refuses("{'verb': 'account show', 'name': 'acme'}", "not-found", "acme");
	struct account_record r;
	assert_int_equal(accounts_read(s.c.accounts, s.row, 1, &r, words), ERR_NOT_FOUND);
}

static void the_account_that_derp_clients_count_for_stays(void **state)
{
	(void)state;
	does("{'verb': 'account add', 'name': 'derp'}");
	s.c.derp_account = "derp";
	refuses("{'verb': 'account rm', 'name': 'derp', 'force': true}", "busy",
	        "count for the account \\\"derp\\\": name another one (derp.account), or admit none "
	        "(derp.allow), and reload first");
	assert_int_equal(s.n_changed, 0);
	s.c.derp_account = NULL;
	does("{'verb': 'account rm', 'name': 'derp'}");
}

static void lists_come_in_pages(void **state)
{
	(void)state;
	does("{'verb': 'account add', 'name': 'acme'}");
	does("{'verb': 'token new', 'name': 'acme'}");
	does("{'verb': 'token list', 'name': 'acme', 'n': 1}");
	assert_answer("\"more\":false");
	does("{'verb': 'token new', 'name': 'acme'}");
	does("{'verb': 'token list', 'name': 'acme', 'n': 1}");
	assert_answer("\"more\":true");
	refuses("{'verb': 'token list', 'name': 'acme', 'n': 1001}", "invalid",
	        "n must be 1 to 1000");
	refuses("{'verb': 'token list', 'name': 'acme', 'after': 5}", "invalid",
	        "after is no text");
	does("{'verb': 'account log', 'n': 1}");
	assert_answer("\"more\":true");
	assert_answer("\"number\":3,");
	assert_answer("\"who\":\"uid=1234\",\"what\":\"token new acme token=");
	does("{'verb': 'account log', 'after': 2}");
	assert_answer("\"more\":false");
	assert_answer("[{\"number\":1,");
	refuses("{'verb': 'account log', 'n': 0}", "invalid", "n must be");
	refuses("{'verb': 'account log', 'after': 'x'}", "invalid", "after must be the number");
	refuses("{'verb': 'account log', 'after': -1}", "invalid", "after must be the number");
}

static void every_action_is_in_the_audit_and_no_secret(void **state)
{
	char token[TOKEN_LEN + 1], audit[2000];

	(void)state;
	does("{'verb': 'account add', 'name': 'acme', 'login': 'alice'}");
	does("{'verb': 'account set', 'name': 'acme', 'tier': 'pro', 'own': {'volume': '1GB'}}");
	does("{'verb': 'account suspend', 'name': 'acme', 'login': 'bad name\\n'}");
	does("{'verb': 'token new', 'name': 'acme', 'id': 'home'}");
	text_of("token", token, sizeof token);
	does("{'verb': 'account show', 'name': 'acme'}");
	refuses("{'verb': 'account set', 'name': 'acme', 'tier': 'gold'}", "invalid", "gold");
	does("{'verb': 'account rm', 'name': 'acme', 'force': true}");
	audit_of(audit, sizeof audit);
	char wanted[600];
	snprintf(wanted, sizeof wanted,
	         "uid=1234 login=alice: account add acme tier=unlimited\n"
	         "uid=1234: account set acme tier=pro volume=1GB\n"
	         "uid=1234: account suspend acme\n"
	         "uid=1234: token new acme token=%.8s id=home\n"
	         "uid=1234: account rm acme force\n",
	         token_id(str_of(token)).p);
	assert_string_equal(audit, wanted);
}

static void action_that_cannot_be_audited_is_not_done(void **state)
{
	(void)state;
	does("{'verb': 'account add', 'name': 'acme'}");
	sql("DROP TABLE audit");
	refuses("{'verb': 'account suspend', 'name': 'acme'}", "failed", "audit");
	does("{'verb': 'account show', 'name': 'acme'}");
	assert_answer("\"suspended\":false");
	assert_int_equal(s.n_changed, 0);
}

static void list_goes_page_by_page(void **state)
{
	(void)state;
	does("{'verb': 'account add', 'name': 'a'}");
	does("{'verb': 'account add', 'name': 'b'}");
	does("{'verb': 'account add', 'name': 'c'}");
	does("{'verb': 'account list', 'n': 2}");
	assert_answer("\"name\":\"a\"");
	assert_answer("\"name\":\"b\"");
	assert_null(strstr(answer, "\"name\":\"c\""));
	assert_answer("\"more\":true");
	does("{'verb': 'account list', 'n': 2, 'after': 'b'}");
	assert_answer("\"name\":\"c\"");
	assert_answer("\"more\":false");
	does("{'verb': 'account list', 'n': 2, 'after': 'c'}");
	assert_answer("\"accounts\":[],\"more\":false");
	refuses("{'verb': 'account list', 'n': 0}", "invalid", "n must be");
	refuses("{'verb': 'account list', 'n': 1001}", "invalid", "n must be");
	refuses("{'verb': 'account list', 'n': 'x'}", "invalid", "n must be");
}

static void a_running_server_tells_tunnels_and_newer_usage(void **state)
{
	(void)state;
	does("{'verb': 'account add', 'name': 'a'}");
	assert_answer("\"tunnels_now\":null");
	s.c.live = on_live;
	does("{'verb': 'account show', 'name': 'a'}");
	assert_answer("\"tunnels_now\":0");
	s.live = (struct account_live){ .n_tunnels = 3, .used = { 10, 20, 1, 2 } };
	does("{'verb': 'account show', 'name': 'a'}");
	assert_answer("\"tunnels_now\":3");
	assert_answer("\"usage\":{\"sent_bytes\":10,\"received_bytes\":20,\"sent_packets\":1,"
	              "\"received_packets\":2}");
}

static void tier_that_the_file_does_not_know_is_told(void **state)
{
	(void)state;
	assert_int_equal(accounts_add(s.c.accounts, "old", "gold", words), 0);
	snprintf(s.tiers.by_default, sizeof s.tiers.by_default, "free");
	does("{'verb': 'account show', 'name': 'old'}");
	assert_answer("\"tier\":\"gold\",\"tier_known\":false");
	assert_answer("\"limits\":{\"relay\":false,\"tunnels\":3,"); /* of the default one */
	assert_answer("\"default_tier\":\"free\"");
	said_begin();
	commands_warn_of_tiers(&s.c);
	said_end();
	assert_said("1 account has the tier gold, which the config file does not know: the terms of "
	            "free hold");
}

static void what_is_no_request_is_refused(void **state)
{
	static const char *const bad[] = { "",     "x",
		                           "[]",   "5",
		                           "{",    "{'verb': 'account list'} x",
		                           "null", "{'verb': {'a': {'b': {'c': 1}}}}" };

	(void)state;
	for (unsigned i = 0; i < sizeof bad / sizeof *bad; i++)
		refuses(bad[i], "invalid", "no JSON object");
	refuses("{}", "invalid", "the verb is not one");
	refuses("{'verb': 'account eat'}", "invalid", "the verb is not one");
	refuses("{'verb': 5}", "invalid", "verb is no text");
	refuses("{'verb': 'account show', 'name': 'a\\u0000b'}", "invalid", "name is no text");
	char request[400] = "{'verb': 'account show', 'name': '";
	memset(request + strlen(request), 'a', 128);
	strcat(request, "'}");
	refuses(request, "invalid", "name is no text of at most 127");
}

/* A program asks for a token; what it is to show. */
static void ask_login(char code_out[static LOGIN_CODE_TEXT + 1])
{
	static struct login_answer a;
	struct addr from;
	const struct web_request q = {
		.method = STR("POST"),
		.path = STR("/login/device_authorization"),
		.host = STR("relay.test"),
		.body = STR("client_id=tunn&tunnel_id=home-wg&host_name=laptop"),
	};

	assert_int_equal(addr_of_ip("192.0.2.7", 5, &from), 0);
	login_serve(s.c.login, &(struct login_ask){ &q, &from, clock_now_ms(), 0 }, &a);
	const char *code = strstr(a.body, "\"user_code\":\"");
	assert_non_null(code);
	snprintf(code_out, LOGIN_CODE_TEXT + 1, "%s", code + 13);
}

static void logins_that_wait_are_listed_approved_and_denied(void **state)
{
	char first[LOGIN_CODE_TEXT + 1], second[LOGIN_CODE_TEXT + 1], text[200], audit[2048];

	(void)state;
	s.c.login = login_new(s.c.accounts);
	assert_non_null(s.c.login);
	does("{'verb': 'account requests'}");
	assert_answer("\"requests\":[],\"waiting\":0");
	ask_login(first);
	ask_login(second);
	does("{'verb': 'account requests'}");
	snprintf(text, sizeof text,
	         "{\"code\":\"%s\",\"address\":\"192.0.2.7\",\"host\":\"laptop\",\"id\":\"home-wg\","
	         "\"age_s\":0}",
	         first);
	assert_answer(text);
	assert_answer("\"waiting\":2");
	snprintf(text, sizeof text, "{'verb': 'account approve', 'code': '%s'}", first);
	refuses(text, "invalid", "--account NAME");
	does("{'verb': 'account add', 'name': 'acme'}");
	does(text);
	assert_answer("\"account\":\"acme\"");
	refuses(text, "not-found", "work once");
	does("{'verb': 'account add', 'name': 'other'}");
	snprintf(text, sizeof text, "{'verb': 'account approve', 'code': '%s'}", second);
	refuses(text, "invalid", "--account NAME");
	snprintf(text, sizeof text, "{'verb': 'account approve', 'code': '%s', 'name': 'no'}",
	         second);
	refuses(text, "not-found", "no");
	snprintf(text, sizeof text, "{'verb': 'account deny', 'code': '%s'}", second);
	does(text);
	assert_answer("\"id\":\"home-wg\"");
	audit_of(audit, sizeof audit);
	const char *line = strstr(audit, "uid=1234: login approve acme id=home-wg token=");
	assert_non_null(line);
	assert_non_null(strstr(line, " host=laptop from=192.0.2.7\n"));
	assert_non_null(strstr(audit, "uid=1234: login deny id=home-wg host=laptop "
	                              "from=192.0.2.7\n"));
	does("{'verb': 'token list', 'name': 'acme'}");
	assert_answer("\"id\":\"home-wg\"");
}

static void a_login_that_cannot_be_audited_still_waits(void **state)
{
	char code[LOGIN_CODE_TEXT + 1], text[200];

	(void)state;
	s.c.login = login_new(s.c.accounts);
	assert_non_null(s.c.login);
	does("{'verb': 'account add', 'name': 'acme'}");
	ask_login(code);
	sql("ALTER TABLE audit RENAME TO away");
	snprintf(text, sizeof text, "{'verb': 'account approve', 'code': '%s'}", code);
	refuses(text, "failed", "audit");
	sql("ALTER TABLE away RENAME TO audit");
	does("{'verb': 'token list', 'name': 'acme'}");
	assert_answer("\"tokens\":[]");
	does(text);
}

static void no_login_waits_where_no_server_runs(void **state)
{
	(void)state;
	refuses("{'verb': 'account requests'}", "not-found", "no server runs");
	refuses("{'verb': 'account approve', 'code': 'BBBB-BBBB'}", "not-found", "no server runs");
	refuses("{'verb': 'account deny', 'code': 'BBBB-BBBB'}", "not-found", "no server runs");
}

#define T(name) cmocka_unit_test_setup_teardown(name, begin, end)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(account_is_added_with_its_tier_or_the_default_one),
		T(set_changes_what_is_given_and_default_takes_it_away),
		T(suspend_and_resume_are_told),
		T(tokens_are_made_listed_and_revoked),
		T(rm_wants_tokens_gone_or_force),
		T(the_account_that_derp_clients_count_for_stays),
		T(lists_come_in_pages),
		T(every_action_is_in_the_audit_and_no_secret),
		T(action_that_cannot_be_audited_is_not_done),
		T(list_goes_page_by_page),
		T(a_running_server_tells_tunnels_and_newer_usage),
		T(tier_that_the_file_does_not_know_is_told),
		T(what_is_no_request_is_refused),
		T(logins_that_wait_are_listed_approved_and_denied),
		T(a_login_that_cannot_be_audited_still_waits),
		T(no_login_waits_where_no_server_runs),
	};

	if (crypto_start() < 0)
		return 1;
	json_start();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
