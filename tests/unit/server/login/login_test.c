/* The device flow at a clock of our own; tokens of a real database. */
#include "tests/unit/said.h"

#include <sqlite3.h>
#include <time.h>

#include "common/base/crypto.h"
#include "common/base/err.h"
#include "common/base/log.h"
#include "server/login/form.h"
#include "server/login/login.h"

#define GRANT  "urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Adevice_code"
#define HOST   "relay.test:8443"
#define ORIGIN "https://relay.test:8443"
#define FORM   "application/x-www-form-urlencoded"

enum { S = 1000, UNIX_S = 1700000000 };

static struct accounts *accounts;
static char account_token[TOKEN_LEN + 1], bound_token[TOKEN_LEN + 1], words[ACCOUNTS_ERROR_LEN];
static struct login *login;
static struct login_answer answer;
static uint64_t now_ms;

/* ---- a relay and who asks ---- */

static struct str text_of(const char *s) { return s ? str_of(s) : (struct str){ NULL, 0 }; }

/* One request; everything of it is set but what a test changes. */
struct web_ask {
	const char *method, *path, *query, *body, *origin, *cookie, *host, *from;
};

static void serve(const struct web_ask *a)
{
	struct addr from;
	const struct web_request q = { .method = text_of(a->method),
		                       .path = text_of(a->path),
		                       .query = text_of(a->query),
		                       .host = text_of(a->host ? a->host : HOST),
		                       .origin = text_of(a->origin),
		                       .cookie = text_of(a->cookie),
		                       .content_type = STR(FORM),
		                       .body = text_of(a->body) };

	assert_int_equal(addr_of_ip(a->from ? a->from : "192.0.2.1", 4711, &from), 0);
	const struct login_ask ask = { &q, &from, now_ms, UNIX_S + (int64_t)(now_ms / 1000) };
	memset(&answer, 0x5a, sizeof answer);
	login_serve(login, &ask, &answer);
	assert_true(answer.web.n_fields <= WEB_FIELDS_MAX);
	assert_true(answer.web.body.len < sizeof answer.body);
	answer.body[answer.web.body.len] = 0;
}

static void assert_status(int status)
{
	if (answer.web.status != status)
		fail_msg("status %d, not %d: %s", answer.web.status, status, answer.body);
}

static void assert_body(const char *text)
{
	if (!strstr(answer.body, text))
		fail_msg("not in the answer: %s\n%s", text, answer.body);
}

static void assert_error(int status, const char *error)
{
	char text[80];

	snprintf(text, sizeof text, "{\"error\":\"%s\",", error);
	assert_status(status);
	assert_body(text);
}

static const char *field(const char *name)
{
	static char value[256];

	for (size_t i = 0; i < answer.web.n_fields; i++)
		if (str_eq(answer.web.fields[i].name, str_of(name))) {
			snprintf(value, sizeof value, "%.*s", (int)answer.web.fields[i].value.len,
			         answer.web.fields[i].value.p);
			return value;
		}
	return NULL;
}

/* What stands between two texts in the answer. */
static void cut(const char *before, const char *after, char *out, size_t cap)
{
	const char *from = strstr(answer.body, before);

	assert_non_null(from);
	from += strlen(before);
	const char *to = strstr(from, after);
	assert_non_null(to);
	assert_true((size_t)(to - from) < cap);
	snprintf(out, cap, "%.*s", (int)(to - from), from);
}

struct codes {
	char device[128], user[32];
};

static int ask_from(const char *from, struct codes *c)
{
	serve(&(struct web_ask){ .method = "POST",
	                         .path = "/login/device_authorization",
	                         .body = "client_id=tunn&tunnel_id=home-wg&host_name=Laptop_1.lan",
	                         .from = from });
	if (answer.web.status != 200)
		return answer.web.status;
	cut("\"device_code\":\"", "\"", c->device, sizeof c->device);
	cut("\"user_code\":\"", "\"", c->user, sizeof c->user);
	return 200;
}

static void ask_codes(struct codes *c) { assert_int_equal(ask_from(NULL, c), 200); }

static void poll(const char *device)
{
	char body[400];

	snprintf(body, sizeof body, "client_id=tunn&grant_type=%s&device_code=%s", GRANT, device);
	serve(&(struct web_ask){ .method = "POST", .path = "/login/token", .body = body });
}

struct browser {
	char cookie[120], form[80];
};

static void sign_in(struct browser *b)
{
	char body[200];

	snprintf(body, sizeof body, "user_code=&token=%s", account_token);
	serve(&(struct web_ask){
	                .method = "POST", .path = "/login", .body = body, .origin = ORIGIN });
	assert_status(303);
	snprintf(b->cookie, sizeof b->cookie, "%.*s", (int)strcspn(field("Set-Cookie"), ";"),
	         field("Set-Cookie"));
}

static void look(struct browser *b, const char *user, const char *from)
{
	char query[64];

	snprintf(query, sizeof query, "user_code=%s", user);
	serve(&(struct web_ask){ .method = "GET",
	                         .path = "/login",
	                         .query = query,
	                         .cookie = b->cookie,
	                         .from = from });
	if (answer.web.status == 200 && strstr(answer.body, "name=\"form\""))
		cut("name=\"form\" value=\"", "\"", b->form, sizeof b->form);
}

static void press(const struct browser *b, const char *button, const char *user, const char *origin)
{
	char body[200], path[40];

	snprintf(body, sizeof body, "form=%s&user_code=%s", b->form, user);
	snprintf(path, sizeof path, "/login/%s", button);
	serve(&(struct web_ask){ .method = "POST",
	                         .path = path,
	                         .body = body,
	                         .cookie = b->cookie,
	                         .origin = origin });
}

static void token_of_answer(char out[static TOKEN_LEN + 1])
{
	assert_status(200);
	cut("\"access_token\":\"", "\"", out, TOKEN_LEN + 1);
}

static void assert_waits(const char *device)
{
	now_ms += 60 * S; /* never too early */
	poll(device);
	assert_error(400, "authorization_pending");
}

static int begin(void **state)
{
	(void)state;
	now_ms = 5000000;
	login = login_new(accounts);
	return login ? 0 : -1;
}

static int end(void **state)
{
	(void)state;
	login_free(login);
	return 0;
}

/* ---- codes ---- */

static void codes_are_of_256_bit_and_of_8_letters_that_form_no_words(void **state)
{
	struct codes a, b;

	(void)state;
	ask_codes(&a);
	assert_body("\"verification_uri\":\"https://" HOST "/login\"");
	assert_body("\"expires_in\":600,\"interval\":5}");
	assert_string_equal(field("Content-Type"), "application/json");
	assert_string_equal(field("Cache-Control"), "no-store");
	assert_int_equal(strlen(a.device), 64);
	assert_int_equal(strlen(a.user), 9);
	assert_int_equal(a.user[4], '-');
	for (unsigned i = 0; i < 9; i++)
		assert_true(i == 4 || strchr("BCDFGHJKLMNPQRSTVWXZ", a.user[i]));
	ask_codes(&b);
	assert_string_not_equal(a.device, b.device);
	assert_string_not_equal(a.user, b.user);
}

static void who_asks_for_codes_says_which_program_and_for_which_id(void **state)
{
	static const struct {
		const char *body;
		int status;
		const char *error;
	} wrong[] = {
		{ "", 400, "invalid_client" },
		{ "client_id=other&tunnel_id=a&host_name=b", 400, "invalid_client" },
		{ "client_id=tunn&client_id=tunn&tunnel_id=a&host_name=b", 400, "invalid_client" },
		{ "client_id=tunn&tunnel_id=a&host_name=b&scope=admin", 400, "invalid_scope" },
		{ "client_id=tunn&tunnel_id=A&host_name=b", 400, "invalid_request" },
		{ "client_id=tunn&tunnel_id=a%2fb&host_name=b", 400, "invalid_request" },
		{ "client_id=tunn&host_name=b", 400, "invalid_request" },
		{ "client_id=tunn&tunnel_id=a", 400, "invalid_request" },
		{ "client_id=tunn&tunnel_id=a&host_name=", 400, "invalid_request" },
		{ "client_id=tunn&tunnel_id=a&host_name=%3Cb%3E", 400, "invalid_request" },
		{ "client_id=tunn&tunnel_id=a&host_name=%zz", 400, "invalid_request" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
		serve(&(struct web_ask){ .method = "POST",
		                         .path = "/login/device_authorization",
		                         .body = wrong[i].body });
		assert_error(wrong[i].status, wrong[i].error);
	}
	assert_int_equal(login_list(login, now_ms, NULL, 0), 0);
	serve(&(struct web_ask){ .method = "POST",
	                         .path = "/login/device_authorization",
	                         .body = "client_id=tunn&tunnel_id=a&host_name=b&scope=tunnel" });
	assert_status(200);
}

static void codes_end_after_10_minutes(void **state)
{
	struct login_entry e;
	struct codes c;

	(void)state;
	ask_codes(&c);
	now_ms += 599 * S;
	poll(c.device);
	assert_error(400, "authorization_pending");
	now_ms += 1 * S;
	assert_int_equal(login_list(login, now_ms, NULL, 0), 0);
	assert_int_equal(login_approve(login, c.user, "acme", "uid=0", now_ms, &e, words),
	                 ERR_NOT_FOUND);
	poll(c.device);
	assert_error(400, "expired_token");
	now_ms += 120 * S;
	poll(c.device);
	assert_error(400, "invalid_grant");
}

static unsigned n_valid_tokens(void)
{
	struct account_record r;

	assert_int_equal(accounts_find(accounts, "acme", UNIX_S, &r, words), 0);
	return r.n_tokens;
}

static void a_token_that_nobody_fetched_ends_with_its_code(void **state)
{
	unsigned before = n_valid_tokens();
	struct login_entry e;
	struct codes c;

	(void)state;
	ask_codes(&c);
	assert_int_equal(login_approve(login, c.user, "acme", "uid=0", now_ms, &e, words), 0);
	assert_int_equal(n_valid_tokens(), before + 1);
	now_ms += 600 * S;
	poll(c.device);
	assert_error(400, "expired_token");
	assert_int_equal(n_valid_tokens(), before);
}

static sqlite3 *other_program(void)
{
	sqlite3 *db;

	assert_int_equal(sqlite3_open(file_path("state/accounts.db"), &db), SQLITE_OK);
	assert_int_equal(sqlite3_exec(db, "BEGIN IMMEDIATE", NULL, NULL, NULL), SQLITE_OK);
	return db;
}

static void a_token_that_nobody_fetched_ends_when_the_database_is_free(void **state)
{
	unsigned before = n_valid_tokens();
	struct login_entry e;
	struct codes c;

	(void)state;
	accounts_never_wait(accounts);
	ask_codes(&c);
	assert_int_equal(login_approve(login, c.user, "acme", "uid=0", now_ms, &e, words), 0);
	sqlite3 *db = other_program();
	now_ms += 600 * S;
	poll(c.device);
	assert_error(400, "expired_token");
	now_ms += 600 * S;
	login_expire(login, now_ms);
	assert_int_equal(n_valid_tokens(), before + 1);
	assert_int_equal(sqlite3_close(db), SQLITE_OK);
	login_expire(login, now_ms);
	assert_int_equal(n_valid_tokens(), before);
	poll(c.device);
	assert_error(400, "invalid_grant");
}

static void a_token_that_nobody_fetched_ends_with_the_relay(void **state)
{
	unsigned before = n_valid_tokens();
	struct login_entry e;
	struct codes c;

	(void)state;
	ask_codes(&c);
	assert_int_equal(login_approve(login, c.user, "acme", "uid=0", now_ms, &e, words), 0);
	login_free(login);
	login = NULL;
	assert_int_equal(n_valid_tokens(), before);
}

static void five_of_a_network_may_wait(void **state)
{
	struct login_entry e;
	struct codes c, last;

	(void)state;
	for (unsigned i = 0; i < 5; i++)
		assert_int_equal(ask_from(i % 2 ? "192.0.2.9" : "192.0.2.200", &c), 200);
	assert_int_equal(ask_from("192.0.2.77", &last), 429);
	assert_error(429, "temporarily_unavailable");
	assert_int_equal(ask_from("192.0.3.77", &last), 200);
	for (unsigned i = 0; i < 5; i++)
		assert_int_equal(ask_from("2001:db8::1", &last), 200);
	assert_int_equal(ask_from("2001:db8::2", &last), 429);
	assert_int_equal(ask_from("2001:db8:0:1::2", &last), 200);
	assert_int_equal(login_deny(login, c.user, "uid=0", now_ms, &e, words), 0);
	assert_int_equal(ask_from("192.0.2.77", &last), 200);
	now_ms += 600 * S;
	for (unsigned i = 0; i < 5; i++)
		assert_int_equal(ask_from("192.0.2.77", &last), 200);
}

static void a_thousand_of_all_may_wait(void **state)
{
	struct codes c;
	char from[32];

	(void)state;
	for (unsigned i = 0; i < 1000; i++) {
		snprintf(from, sizeof from, "10.%u.%u.1", i / 200, i % 200);
		assert_int_equal(ask_from(from, &c), 200);
	}
	assert_int_equal(login_list(login, now_ms, NULL, 0), 1000);
	assert_int_equal(ask_from("172.16.0.1", &c), 429);
	now_ms += 600 * S;
	assert_int_equal(ask_from("172.16.0.1", &c), 200);
}

/* ---- polling ---- */

static void who_polls_too_early_has_to_wait_longer(void **state)
{
	struct codes c;

	(void)state;
	ask_codes(&c);
	poll(c.device);
	assert_error(400, "authorization_pending");
	now_ms += 5 * S;
	poll(c.device);
	assert_error(400, "authorization_pending");
	now_ms += 4 * S;
	poll(c.device);
	assert_error(400, "slow_down");
	now_ms += 9 * S; /* 10 s it is now */
	poll(c.device);
	assert_error(400, "slow_down");
	now_ms += 15 * S;
	poll(c.device);
	assert_error(400, "authorization_pending");
}

static void who_polls_too_early_gets_the_token_all_the_same(void **state)
{
	struct login_entry e;
	struct codes c;

	(void)state;
	ask_codes(&c);
	poll(c.device);
	assert_int_equal(login_approve(login, c.user, "acme", "uid=0", now_ms, &e, words), 0);
	poll(c.device);
	assert_status(200);
}

static void a_poll_needs_the_grant_type_and_a_device_code_of_ours(void **state)
{
	static const struct {
		const char *body, *error;
		int status;
	} wrong[] = {
		{ "grant_type=" GRANT "&device_code=a", "invalid_client", 400 },
		{ "client_id=tunn&device_code=a", "invalid_request", 400 },
		{ "client_id=tunn&grant_type=password&device_code=a", "unsupported_grant_type",
		  400 },
		{ "client_id=tunn&grant_type=" GRANT, "invalid_request", 400 },
		{ "client_id=tunn&grant_type=" GRANT "&device_code=a&device_code=a",
		  "invalid_request", 400 },
		{ "client_id=tunn&grant_type=" GRANT "&device_code=a", "invalid_grant", 400 },
	};

	(void)state;
	for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
		serve(&(struct web_ask){
		                .method = "POST", .path = "/login/token", .body = wrong[i].body });
		assert_error(wrong[i].status, wrong[i].error);
	}
}

static void a_token_is_delivered_once_and_bound_to_its_id(void **state)
{
	struct identity who;
	struct login_entry e;
	struct codes c;
	char token[TOKEN_LEN + 1];

	(void)state;
	ask_codes(&c);
	assert_int_equal(login_approve(login, c.user, "acme", "uid=0", now_ms, &e, words), 0);
	poll(c.device);
	token_of_answer(token);
	assert_body("\"token_type\":\"Bearer\"");
	assert_body("\"account\":\"acme\",\"tunnel_id\":\"home-wg\"");
	assert_string_equal(field("Cache-Control"), "no-store");
	accounts_authenticate(accounts, str_of(token), UNIX_S, &who);
	assert_int_equal(who.why, CLOSE_NONE);
	assert_string_equal(who.account, "acme");
	assert_true(who.has_bound);
	assert_string_equal(who.bound_id, "home-wg");
	poll(c.device);
	assert_error(400, "invalid_grant");
}

/* ---- the operator ---- */

static void the_operator_sees_who_waits_and_says_yes_or_no(void **state)
{
	struct login_entry v[2], e;
	struct codes a, b;

	(void)state;
	ask_codes(&a);
	now_ms += 7 * S;
	assert_int_equal(ask_from("2001:db8::7", &b), 200);
	now_ms += 2 * S;
	assert_int_equal(login_list(login, now_ms, v, 2), 2);
	assert_string_equal(v[0].user_code, a.user);
	assert_string_equal(v[0].address, "192.0.2.1");
	assert_string_equal(v[0].host, "Laptop_1.lan");
	assert_string_equal(v[0].id, "home-wg");
	assert_int_equal(v[0].age_s, 9);
	assert_string_equal(v[1].address, "2001:db8::7");
	assert_int_equal(v[1].age_s, 2);
	assert_int_equal(login_approve(login, b.user, "acme", "uid=0", now_ms, &e, words), 0);
	assert_string_equal(e.address, "2001:db8::7");
	assert_int_equal(login_deny(login, a.user, "uid=0", now_ms, &e, words), 0);
	assert_int_equal(login_list(login, now_ms, v, 2), 0);
	poll(a.device);
	assert_error(400, "access_denied");
	poll(a.device);
	assert_error(400, "invalid_grant");
	assert_int_equal(login_approve(login, b.user, "acme", "uid=0", now_ms, &e, words),
	                 ERR_NOT_FOUND);
}

static void a_code_is_read_whatever_its_case_and_dashes(void **state)
{
	struct login_entry e;
	struct codes c;
	char typed[32];

	(void)state;
	ask_codes(&c);
	for (unsigned i = 0; i < 9; i++)
		typed[i] = i == 4 ? ' ' : (char)(c.user[i] | 32);
	typed[9] = 0;
	assert_int_equal(login_approve(login, typed, "acme", "uid=0", now_ms, &e, words), 0);
}

static void approval_for_an_account_that_is_not_there_leaves_the_code(void **state)
{
	struct login_entry e;
	struct codes c;

	(void)state;
	ask_codes(&c);
	assert_true(login_approve(login, c.user, "nobody", "uid=0", now_ms, &e, words) < 0);
	assert_non_null(strstr(words, "nobody"));
	assert_waits(c.device);
	assert_int_equal(login_approve(login, c.user, "acme", "uid=0", now_ms, &e, words), 0);
}

/* ---- pages ---- */

static void who_signed_in_sees_what_it_is_and_approves_it(void **state)
{
	struct browser b;
	struct codes c;
	char token[TOKEN_LEN + 1];

	(void)state;
	ask_codes(&c);
	sign_in(&b);
	look(&b, c.user, NULL);
	assert_status(200);
	assert_body("192.0.2.1");
	assert_body("Laptop_1.lan");
	assert_body("home-wg");
	assert_body("acme");
	press(&b, "approve", c.user, ORIGIN);
	assert_status(200);
	poll(c.device);
	token_of_answer(token);
}

static void who_signed_in_may_deny(void **state)
{
	struct browser b;
	struct codes c;

	(void)state;
	ask_codes(&c);
	sign_in(&b);
	look(&b, c.user, NULL);
	press(&b, "deny", c.user, ORIGIN);
	assert_status(200);
	poll(c.device);
	assert_error(400, "access_denied");
}

static void nothing_is_approved_without_cookie_form_token_and_our_origin(void **state)
{
	static const char *const origins[] = { NULL,
		                               "null",
		                               "https://evil.test",
		                               "http://relay.test:8443",
		                               "https://relay.test",
		                               ORIGIN ".evil.test" };
	struct browser b, other, changed;
	struct codes c;

	(void)state;
	ask_codes(&c);
	sign_in(&b);
	sign_in(&other);
	look(&b, c.user, NULL);
	look(&other, c.user, NULL);
	for (size_t i = 0; i < sizeof origins / sizeof *origins; i++) {
		press(&b, "approve", c.user, origins[i]);
		assert_status(403);
	}
	changed = b;
	changed.cookie[0] = 0;
	press(&changed, "approve", c.user, ORIGIN);
	assert_status(403);
	memcpy(changed.cookie, other.cookie, sizeof changed.cookie); /* whose form it is not */
	press(&changed, "approve", c.user, ORIGIN);
	assert_status(403);
	changed = b;
	changed.form[0] = 0;
	press(&changed, "approve", c.user, ORIGIN);
	assert_status(403);
	assert_waits(c.device);
	press(&b, "approve", c.user, ORIGIN);
	assert_status(200);
}

static void nothing_is_approved_by_GET(void **state)
{
	struct browser b;
	struct codes c;
	char query[200];

	(void)state;
	ask_codes(&c);
	sign_in(&b);
	look(&b, c.user, NULL);
	snprintf(query, sizeof query, "form=%s&user_code=%s", b.form, c.user);
	serve(&(struct web_ask){ .method = "GET",
	                         .path = "/login/approve",
	                         .query = query,
	                         .cookie = b.cookie,
	                         .origin = ORIGIN });
	assert_status(405);
	assert_string_equal(field("Allow"), "POST");
	assert_waits(c.device);
}

static void somebody_is_signed_in_for_15_minutes(void **state)
{
	struct browser b;

	(void)state;
	sign_in(&b);
	assert_non_null(strstr(field("Set-Cookie"),
	                       "; Path=/; Max-Age=900; Secure; HttpOnly; SameSite=Strict"));
	assert_int_equal(strncmp(b.cookie, "__Host-tunn=", 12), 0);
	now_ms += 899 * S;
	look(&b, "", NULL);
	assert_body("Signed in as account acme");
	now_ms += 1 * S;
	look(&b, "", NULL);
	assert_body("Sign in to approve");
}

static void only_tokens_that_claim_any_id_sign_somebody_in(void **state)
{
	const char *const wrong[] = { "", "tunn_", bound_token };
	char body[200];

	(void)state;
	for (unsigned i = 0; i < 3; i++) {
		snprintf(body, sizeof body, "token=%s", wrong[i]);
		serve(&(struct web_ask){ .method = "POST",
		                         .path = "/login",
		                         .body = body,
		                         .origin = ORIGIN });
		assert_status(403);
		assert_null(field("Set-Cookie"));
	}
	snprintf(body, sizeof body, "token=%s", account_token);
	serve(&(struct web_ask){ .method = "POST", .path = "/login", .body = body });
	assert_status(403); /* of another site, perhaps */
	assert_null(field("Set-Cookie"));
}

static void who_did_not_sign_in_learns_nothing_of_codes(void **state)
{
	struct browser nobody = { .cookie = "__Host-tunn=0" };
	struct codes c;
	size_t len;

	(void)state;
	ask_codes(&c);
	look(&nobody, c.user, NULL);
	assert_status(200);
	assert_null(strstr(answer.body, "home-wg"));
	len = answer.web.body.len;
	look(&nobody, "BBBB-BBBB", NULL);
	assert_int_equal(answer.web.body.len, len);
}

static void every_answer_is_guarded(void **state)
{
	static const char *const paths[] = { "/login", "/login/", "/login/x", "/login/approve",
		                             "/login/token" };

	(void)state;
	for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) {
		serve(&(struct web_ask){ .method = "GET", .path = paths[i] });
		assert_string_equal(field("Cache-Control"), "no-store");
		assert_string_equal(field("X-Frame-Options"), "DENY");
		assert_string_equal(field("X-Content-Type-Options"), "nosniff");
		assert_non_null(strstr(field("Content-Security-Policy"), "default-src 'none';"));
		assert_null(strstr(answer.body, "<script"));
	}
}

static void a_host_that_is_none_gets_no_codes(void **state)
{
	static const char *const hosts[] = { "a\"b", "a b", "", "a/b", "a@b" };

	(void)state;
	for (size_t i = 0; i < sizeof hosts / sizeof *hosts; i++) {
		serve(&(struct web_ask){ .method = "POST",
		                         .path = "/login/device_authorization",
		                         .host = hosts[i],
		                         .body = "client_id=tunn&tunnel_id=a&host_name=b" });
		assert_status(400);
		assert_null(strstr(answer.body, "device_code"));
	}
}

static void A12_a_token_in_an_address_is_refused_and_logged_without_its_secret(void **state)
{
	char query[120], path[120];

	(void)state;
	snprintf(query, sizeof query, "a=b&token=%s", account_token);
	snprintf(path, sizeof path, "/x/%s", account_token);
	for (unsigned i = 0; i < 2; i++) {
		said_begin();
		serve(&(struct web_ask){ .method = "GET",
		                         .path = i ? path : "/login",
		                         .query = i ? NULL : query });
		said_end();
		assert_status(400);
		assert_body("revoke it: tunn token revoke");
		assert_said("revoke it, tunn token revoke");
		assert_not_said(account_token + 14);
		assert_null(strstr(answer.body, account_token + 14));
	}
}

static void whoever_signed_in_is_out_when_the_account_changes(void **state)
{
	struct identity who;
	struct browser b;
	struct codes c;

	(void)state;
	accounts_authenticate(accounts, str_of(account_token), UNIX_S, &who);
	ask_codes(&c);
	sign_in(&b);
	look(&b, c.user, NULL);
	login_sign_out(login, who.row + 1);
	look(&b, c.user, NULL);
	assert_body("Approve this login?");
	login_sign_out(login, who.row);
	press(&b, "approve", c.user, ORIGIN);
	assert_status(403);
	assert_waits(c.device);
}

static void a_suspended_account_signs_nobody_in(void **state)
{
	struct account_record r;
	char body[200];

	(void)state;
	assert_int_equal(accounts_find(accounts, "acme", UNIX_S, &r, words), 0);
	r.suspended = true;
	assert_int_equal(accounts_store(accounts, &r, words), 0);
	snprintf(body, sizeof body, "token=%s", account_token);
	serve(&(struct web_ask){
	                .method = "POST", .path = "/login", .body = body, .origin = ORIGIN });
	r.suspended = false;
	assert_int_equal(accounts_store(accounts, &r, words), 0);
	assert_status(403);
	assert_body("suspended");
	assert_null(field("Set-Cookie"));
}

static void a_token_lasts_no_longer_than_the_one_that_approved_it(void **state)
{
	char lasting[TOKEN_LEN + 1], token[TOKEN_LEN + 1];
	struct identity who;
	struct browser b;
	struct codes c;

	(void)state;
	memcpy(lasting, account_token, sizeof lasting);
	assert_int_equal(accounts_token_new(accounts, "acme", NULL, UNIX_S + 1000000, account_token,
	                                    words),
	                 0);
	ask_codes(&c);
	sign_in(&b);
	memcpy(account_token, lasting, sizeof lasting);
	look(&b, c.user, NULL);
	press(&b, "approve", c.user, ORIGIN);
	poll(c.device);
	token_of_answer(token);
	accounts_authenticate(accounts, str_of(token), UNIX_S, &who);
	assert_int_equal(who.why, CLOSE_NONE);
	assert_int_equal(who.expires_unix_s, UNIX_S + 1000000);
}

/* ---- guessing ---- */

static void five_wrong_codes_of_a_network_in_a_minute_are_enough(void **state)
{
	struct browser b;
	struct codes c;

	(void)state;
	ask_codes(&c);
	sign_in(&b);
	for (unsigned i = 0; i < 5; i++) {
		look(&b, i % 2 ? "BBBB-BBBB" : "nonsense", i % 2 ? "192.0.2.3" : "192.0.2.4");
		assert_status(404);
		now_ms += 11 * S;
	}
	look(&b, c.user, "192.0.2.5");
	assert_status(429);
	look(&b, c.user, "192.0.3.5");
	assert_status(200);
	now_ms += 5 * S; /* a minute since the first */
	look(&b, c.user, "192.0.2.5");
	assert_status(200);
}

static void ten_wrong_codes_of_a_network_last_for_10_minutes(void **state)
{
	struct browser b;

	(void)state;
	sign_in(&b);
	for (unsigned i = 0; i < 10; i++) {
		look(&b, "BBBB-BBBB", NULL);
		assert_status(404);
		now_ms += 30 * S;
	}
	look(&b, "BBBB-BBBB", NULL);
	assert_status(429);
	now_ms += 299 * S;
	look(&b, "BBBB-BBBB", NULL);
	assert_status(429);
	now_ms += 1 * S;
	look(&b, "BBBB-BBBB", NULL);
	assert_status(404);
}

static void a_hundred_wrong_codes_of_all_are_enough(void **state)
{
	struct browser b;
	char from[32];

	(void)state;
	sign_in(&b);
	for (unsigned i = 0; i < 101; i++) {
		snprintf(from, sizeof from, "10.0.%u.1", i);
		look(&b, "BBBB-BBBB", from);
		assert_status(i < 100 ? 404 : 429);
	}
	now_ms += 600 * S;
	sign_in(&b);
	look(&b, "BBBB-BBBB", from);
	assert_status(404);
}

static void wrong_tokens_count_like_wrong_codes(void **state)
{
	char body[200];

	(void)state;
	for (unsigned i = 0; i < 6; i++) {
		serve(&(struct web_ask){ .method = "POST",
		                         .path = "/login",
		                         .body = "token=x",
		                         .origin = ORIGIN });
		assert_status(i < 5 ? 403 : 429);
	}
	snprintf(body, sizeof body, "token=%s", account_token);
	serve(&(struct web_ask){
	                .method = "POST", .path = "/login", .body = body, .origin = ORIGIN });
	assert_status(429);
}

static void wrong_tokens_of_many_networks_keep_nobody_out(void **state)
{
	struct codes c;
	struct browser b;
	char from[32];

	(void)state;
	ask_codes(&c);
	for (unsigned i = 0; i < 5000; i++) {
		snprintf(from, sizeof from, "10.%u.%u.1", i / 250, i % 250);
		serve(&(struct web_ask){ .method = "POST",
		                         .path = "/login",
		                         .body = "token=x",
		                         .origin = ORIGIN,
		                         .from = from });
		assert_status(403);
	}
	sign_in(&b);
	look(&b, c.user, "203.0.113.1");
	assert_status(200);
	press(&b, "approve", c.user, ORIGIN);
	assert_status(200);
}

static void wrong_codes_at_the_button_count_too(void **state)
{
	struct browser b;
	struct codes c;

	(void)state;
	ask_codes(&c);
	sign_in(&b);
	look(&b, c.user, NULL);
	for (unsigned i = 0; i < 5; i++) {
		press(&b, "approve", "BBBB-BBBB", ORIGIN);
		assert_status(404);
	}
	press(&b, "approve", c.user, ORIGIN);
	assert_status(429);
	assert_waits(c.device);
}

static void an_account_that_signs_in_often_loses_its_oldest_only(void **state)
{
	struct browser b[10];

	(void)state;
	for (unsigned i = 0; i < 9; i++)
		sign_in(&b[i]);
	look(&b[0], "", NULL);
	assert_body("Sign in to approve");
	look(&b[1], "", NULL);
	assert_body("Signed in as");
}

/* ---- forms ---- */

static void forms_are_decoded_strictly(void **state)
{
	static const struct {
		const char *form;
		int rc;
		const char *value;
	} cases[] = {
		{ "a=b", 0, "b" },
		{ "x=1&a=b+c%20d%2bE&y", 0, "b c d+E" },
		{ "a=", 0, "" },
		{ "a", 0, "" },
		{ "b=a", ERR_NOT_FOUND, "" },
		{ "", ERR_NOT_FOUND, "" },
		{ "a=1&a=2", ERR_INVALID, "" },
		{ "a=%", ERR_INVALID, "" },
		{ "a=%4", ERR_INVALID, "" },
		{ "a=%g0", ERR_INVALID, "" },
		{ "a=%00", ERR_INVALID, "" },
		{ "a=%0a", ERR_INVALID, "" },
		{ "a=12345678", ERR_TOO_BIG, "" },
		{ "a=1234567", 0, "1234567" },
		{ "&&a=b&", 0, "b" },
	};
	char value[8];

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		assert_int_equal(form_get(str_of(cases[i].form), "a", value, sizeof value),
		                 cases[i].rc);
		assert_string_equal(value, cases[i].value);
	}
}

static int start(void **state)
{
	(void)state;
	if (crypto_start() < 0 || accounts_open(file_path("state"), &accounts, words) < 0 ||
	    accounts_add(accounts, "acme", NULL, words) < 0 ||
	    accounts_token_new(accounts, "acme", NULL, 0, account_token, words) < 0 ||
	    accounts_token_new(accounts, "acme", "home-wg", 0, bound_token, words) < 0)
		return -1;
	log_set_level(LOG_WARN);
	tzset(); /* what libc keeps for the time of the first log line is no leak of a test */
	return 0;
}

static int stop(void **state)
{
	(void)state;
	accounts_close(accounts);
	return 0;
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(codes_are_of_256_bit_and_of_8_letters_that_form_no_words),
		TEST(who_asks_for_codes_says_which_program_and_for_which_id),
		TEST(codes_end_after_10_minutes),
		TEST(a_token_that_nobody_fetched_ends_with_its_code),
		TEST(a_token_that_nobody_fetched_ends_when_the_database_is_free),
		TEST(a_token_that_nobody_fetched_ends_with_the_relay),
		TEST(five_of_a_network_may_wait),
		TEST(a_thousand_of_all_may_wait),
		TEST(who_polls_too_early_has_to_wait_longer),
		TEST(who_polls_too_early_gets_the_token_all_the_same),
		TEST(a_poll_needs_the_grant_type_and_a_device_code_of_ours),
		TEST(a_token_is_delivered_once_and_bound_to_its_id),
		TEST(the_operator_sees_who_waits_and_says_yes_or_no),
		TEST(a_code_is_read_whatever_its_case_and_dashes),
		TEST(approval_for_an_account_that_is_not_there_leaves_the_code),
		TEST(who_signed_in_sees_what_it_is_and_approves_it),
		TEST(who_signed_in_may_deny),
		TEST(nothing_is_approved_without_cookie_form_token_and_our_origin),
		TEST(nothing_is_approved_by_GET),
		TEST(somebody_is_signed_in_for_15_minutes),
		TEST(only_tokens_that_claim_any_id_sign_somebody_in),
		TEST(who_did_not_sign_in_learns_nothing_of_codes),
		TEST(every_answer_is_guarded),
		TEST(a_host_that_is_none_gets_no_codes),
		TEST(A12_a_token_in_an_address_is_refused_and_logged_without_its_secret),
		TEST(whoever_signed_in_is_out_when_the_account_changes),
		TEST(a_suspended_account_signs_nobody_in),
		TEST(a_token_lasts_no_longer_than_the_one_that_approved_it),
		TEST(five_wrong_codes_of_a_network_in_a_minute_are_enough),
		TEST(ten_wrong_codes_of_a_network_last_for_10_minutes),
		TEST(a_hundred_wrong_codes_of_all_are_enough),
		TEST(wrong_tokens_count_like_wrong_codes),
		TEST(wrong_tokens_of_many_networks_keep_nobody_out),
		TEST(wrong_codes_at_the_button_count_too),
		TEST(an_account_that_signs_in_often_loses_its_oldest_only),
		cmocka_unit_test(forms_are_decoded_strictly),
	};
	return cmocka_run_group_tests(tests, start, stop);
}
