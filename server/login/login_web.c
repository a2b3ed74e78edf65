#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "common/base/crypto.h"
#include "server/accounts/account.h"
#include "server/login/form.h"
#include "server/login/login_impl.h"

#define GRANT_TYPE "urn:ietf:params:oauth:grant-type:device_code"
#define CLIENT_ID  "tunn"
#define SCOPE      "tunnel"

enum { LINES = 100, LINES_MS = 10000, TOKEN_TEXT = 256, HOST_MAX = 255 };

/* One request and what is made of it. */
struct serving {
	struct login *login;
	const struct login_ask *ask;
	const struct web_request *q;
	struct login_answer *a;
};

/* ---- answers ---- */

/* Of all answers. A policy of no-referrer would make browsers say `Origin: null` in our own
 * forms (Fetch 3.2). */
static void guard(struct login_answer *a)
{
	login_add_field(a, "Cache-Control", "no-store");
	login_add_field(a, "Pragma", "no-cache"); /* RFC 6749 5.1 */
	login_add_field(a, "X-Frame-Options", "DENY");
	login_add_field(a, "X-Content-Type-Options", "nosniff");
	login_add_field(a, "Referrer-Policy", "same-origin");
	login_add_field(a, "Strict-Transport-Security", "max-age=63072000; includeSubDomains");
}

static void say_json(struct login_answer *a, int status)
{
	a->web.status = status;
	a->web.body = str_of(a->body);
	login_add_field(a, "Content-Type", "application/json");
}

/* RFC 6749 5.2. The words are ours: nothing of the request. */
static void refuse(struct serving *v, int status, const char *error, const char *words)
{
	snprintf(v->a->body, sizeof v->a->body, "{\"error\":\"%s\",\"error_description\":\"%s\"}\n",
	         error, words);
	say_json(v->a, status);
}

static void redirect(struct login_answer *a, const char *code)
{
	snprintf(a->location, sizeof a->location, "/login%s%s", code[0] ? "?user_code=" : "", code);
	a->web.status = 303;
	login_add_field(a, "Location", a->location);
}

static bool may_log(struct serving *v)
{
	unsigned unsaid;

	return log_limit_pass(&v->login->lines, v->ask->now_ms, LINES, LINES_MS, &unsaid);
}

static const char *from(const struct serving *v, char text[static ADDR_TEXT_LEN])
{
	return addr_text(v->ask->from, text);
}

/* ---- where it comes from ---- */

static bool is_host(struct str host)
{
	static const char others[] = "-.:[]";

	for (size_t i = 0; i < host.len; i++) {
		char c = host.p[i], low = (char)(c | 32);
		if (!(c >= '0' && c <= '9') && !(low >= 'a' && low <= 'z') &&
		    !memchr(others, c, sizeof others - 1))
			return false;
	}
	return host.len && host.len <= HOST_MAX;
}

/* A page of another site cannot know what ours says, but could send forms to us. */
static bool is_our_origin(const struct web_request *q)
{
	struct str origin = q->origin, https = STR("https://");

	return origin.len == https.len + q->host.len && memcmp(origin.p, https.p, https.len) == 0 &&
	       strncasecmp(origin.p + https.len, q->host.p, q->host.len) == 0;
}

static bool is_method(const struct serving *v, const char *method)
{
	return str_eq(v->q->method, str_of(method));
}

/* ---- for programs: RFC 8628 3.1, 3.2 ---- */

static bool is_machine(const char *host)
{
	for (const char *p = host; *p; p++)
		if (!(*p >= '0' && *p <= '9') && !((*p | 32) >= 'a' && (*p | 32) <= 'z') &&
		    !strchr("-._", *p))
			return false;
	return host[0] != 0;
}

/* Also of browsers' pages of other sites: they have no business here. */
static bool is_client(struct serving *v)
{
	char id[32];

	if (v->q->origin.len && !is_our_origin(v->q)) {
		refuse(v, 403, "invalid_request", "this is not for pages of other sites");
		return false;
	}
	if (form_get(v->q->body, "client_id", id, sizeof id) == 0 && strcmp(id, CLIENT_ID) == 0)
		return true;
	/* 401 is for who tried to authenticate (RFC 6749 5.2), and names a scheme (RFC 9110 15.5.2)
	 */
	refuse(v, 400, "invalid_client", "client_id has to be " CLIENT_ID);
	return false;
}

static bool is_scope(const struct serving *v)
{
	char scope[32];
	int rc = form_get(v->q->body, "scope", scope, sizeof scope);

	return rc == ERR_NOT_FOUND ||
	       (rc == 0 && (!scope[0] || strcmp(scope, SCOPE) == 0)); /* RFC 6749 3.1 */
}

static void say_codes(struct serving *v, const char *device, const char *user)
{
	const struct str host = v->q->host;

	snprintf(v->a->body, sizeof v->a->body,
	         "{\"device_code\":\"%s\",\"user_code\":\"%s\","
	         "\"verification_uri\":\"https://%.*s/login\","
	         "\"verification_uri_complete\":\"https://%.*s/login?user_code=%s\","
	         "\"expires_in\":%d,\"interval\":%d}\n",
	         device, user, (int)host.len, host.p, (int)host.len, host.p, user, LOGIN_LIFE_S,
	         LOGIN_POLL_S);
	say_json(v->a, 200);
}

static void authorize(struct serving *v)
{
	char host[NAME_MAX_LEN + 1], id[NAME_MAX_LEN + 1], text[ADDR_TEXT_LEN];
	char device[SECRET_TEXT_LEN + 1], user[LOGIN_CODE_TEXT + 1];

	if (!is_client(v))
		return;
	if (!is_scope(v)) {
		refuse(v, 400, "invalid_scope", "the only scope is " SCOPE);
		return;
	}
	if (form_get(v->q->body, "tunnel_id", id, sizeof id) < 0 || !name_is_valid(str_of(id)) ||
	    form_get(v->q->body, "host_name", host, sizeof host) < 0 || !is_machine(host)) {
		refuse(v, 400, "invalid_request",
		       "tunnel_id is 1 to 63 of a-z, 0-9 and -, host_name 1 to 63 of letters, "
		       "digits, dots, - and _");
		return;
	}
	int rc = login_begin(v->login, v->ask->from, str_of(host), str_of(id), v->ask->now_ms,
	                     device, user);
	if (rc < 0) {
		refuse(v, rc == ERR_AGAIN ? 429 : 503, "temporarily_unavailable",
		       "too many logins wait for approval: try again in some minutes");
		return;
	}
	say_codes(v, device, user);
	crypto_wipe(device, sizeof device);
	if (may_log(v))
		log_info("login asked for id=%s host=%s from=%s", id, host, from(v, text));
}

/* ---- for programs: RFC 8628 3.4, 3.5 ---- */

static const char *words_of(const char *error)
{
	if (strcmp(error, "authorization_pending") == 0)
		return "nobody has approved or denied it yet";
	if (strcmp(error, "slow_down") == 0)
		return "from now on wait 5 s longer";
	if (strcmp(error, "access_denied") == 0)
		return "it was denied";
	if (strcmp(error, "expired_token") == 0)
		return "nobody approved it in time: begin anew";
	return "no such device code, or its token was fetched already";
}

static void say_token(struct serving *v, struct login_pending *p)
{
	char text[ADDR_TEXT_LEN];

	snprintf(v->a->body, sizeof v->a->body,
	         "{\"access_token\":\"%s\",\"token_type\":\"Bearer\",\"scope\":\"" SCOPE "\","
	         "\"account\":\"%s\",\"tunnel_id\":\"%s\"}\n",
	         p->token, p->account, p->id);
	say_json(v->a, 200);
	log_info("login token delivered id=%s account=%s host=%s from=%s", p->id, p->account,
	         p->host, from(v, text));
	login_gone(v->login, p);
}

static void token(struct serving *v)
{
	char grant[64], device[SECRET_TEXT_LEN + 1];
	struct login_pending *p;

	if (!is_client(v))
		return;
	if (form_get(v->q->body, "grant_type", grant, sizeof grant) < 0) {
		refuse(v, 400, "invalid_request", "grant_type is missing");
		return;
	}
	if (strcmp(grant, GRANT_TYPE) != 0) {
		refuse(v, 400, "unsupported_grant_type", "the only one is " GRANT_TYPE);
		return;
	}
	int rc = form_get(v->q->body, "device_code", device, sizeof device);
	if (rc == ERR_NOT_FOUND || rc == ERR_INVALID) {
		refuse(v, 400, "invalid_request", "device_code is missing, there twice or garbled");
		return;
	}
	const char *error = rc < 0 ? "invalid_grant" :
	                             login_poll(v->login, str_of(device), v->ask->now_ms, &p);
	crypto_wipe(device, sizeof device);
	if (error)
		refuse(v, 400, error, words_of(error));
	else
		say_token(v, p);
}

/* ---- for people ---- */

#define TOO_OFTEN "Too many wrong codes or tokens from here: wait some minutes."

static bool may_try(const struct serving *v, enum login_try what)
{
	return login_may_try(v->login, what, v->ask->from, v->ask->now_ms);
}

static void was_wrong(const struct serving *v, enum login_try what)
{
	login_was_wrong(v->login, what, v->ask->from, v->ask->now_ms);
}

/* In the form in which it is shown, "" if it can be no code. */
static void read_code(struct str form, char code_out[static LOGIN_CODE_TEXT + 1])
{
	char text[32], code[CODE_LEN];

	code_out[0] = 0;
	if (form_get(form, "user_code", text, sizeof text) == 0 &&
	    login_code_of(str_of(text), code) == 0)
		login_code_text(code, code_out);
}

static bool has_code(struct str form)
{
	char text[2];
	int rc = form_get(form, "user_code", text, sizeof text);

	return rc != ERR_NOT_FOUND && (rc < 0 || text[0]);
}

/* What waits with the code that the form has; NULL: the page that says why not. Who did not
 * sign in is never told. */
static struct login_pending *find(struct serving *v, struct str form, const struct login_session *s)
{
	char code[LOGIN_CODE_TEXT + 1];
	struct login_pending *p;

	if (!may_try(v, LOGIN_TRY_CODE)) {
		login_page_code(v->a, 429, TOO_OFTEN, s->account);
		return NULL;
	}
	read_code(form, code);
	p = login_find(v->login, str_of(code));
	if (!p) {
		was_wrong(v, LOGIN_TRY_CODE);
		login_page_code(v->a, 404,
		                "No login waits with that code: codes end after 10 minutes and "
		                "work once.",
		                s->account);
	}
	return p;
}

static void show(struct serving *v)
{
	const struct login_session *s = login_session_of(v->login, v->q->cookie);
	char code[LOGIN_CODE_TEXT + 1];
	struct login_pending *p;

	if (!s) {
		read_code(v->q->query, code);
		login_page_sign_in(v->a, 200, "", code);
	} else if (!has_code(v->q->query)) {
		login_page_code(v->a, 200, "", s->account);
	} else if ((p = find(v, v->q->query, s)) != NULL) {
		login_page_confirm(v->a, s, p, v->ask->now_ms);
	}
}

/* NULL: who it is; else what to say. A token that is bound to one id makes no tokens for
 * others: else whoever finds it on one machine has them all. */
static const char *authenticate(struct serving *v, struct identity *who)
{
	char token_text[TOKEN_TEXT];
	const char *wrong = "The token is not valid here.";
	int rc = form_get(v->q->body, "token", token_text, sizeof token_text);
	size_t len = strcspn(token_text, " "); /* of a line that was copied whole */

	who->why = CLOSE_UNAUTHENTICATED;
	if (rc == 0 && token_check((struct str){ token_text, len }) == 0)
		accounts_authenticate(v->login->accounts, (struct str){ token_text, len },
		                      v->ask->now_unix_s, who);
	crypto_wipe(token_text, sizeof token_text);
	if (who->why == CLOSE_UNAVAILABLE)
		return "The accounts cannot be read at the moment: try again.";
	if (who->why != CLOSE_NONE)
		return wrong;
	if (who->suspended)
		return "The account is suspended.";
	return who->has_bound ? "This token is bound to one tunnel id: sign in with one that is "
	                        "not." :
	                        NULL;
}

static void let_in(struct serving *v, const struct identity *who, const char *code)
{
	char cookie[SECRET_TEXT_LEN + 1], text[ADDR_TEXT_LEN];

	if (!login_sign_in(v->login, who, v->ask->now_ms, cookie)) {
		login_page_sign_in(v->a, 503, "The relay is out of memory: try again.", code);
		return;
	}
	snprintf(v->a->cookie, sizeof v->a->cookie,
	         LOGIN_COOKIE "=%s; Path=/; Max-Age=%d; Secure; HttpOnly; SameSite=Strict", cookie,
	         LOGIN_SESSION_S);
	crypto_wipe(cookie, sizeof cookie);
	login_add_field(v->a, "Set-Cookie", v->a->cookie);
	redirect(v->a, code);
	log_info("login signed in account=%s from=%s", who->account, from(v, text));
}

static bool is_from_us(struct serving *v)
{
	if (is_our_origin(v->q))
		return true;
	login_page_message(v->a, 403, "Not from here",
	                   "This form came from another site, or your browser hides where it came "
	                   "from. Open /login here and try again.");
	return false;
}

static void sign_in(struct serving *v)
{
	struct identity who = { 0 };
	char code[LOGIN_CODE_TEXT + 1], text[ADDR_TEXT_LEN];

	if (!is_from_us(v))
		return;
	read_code(v->q->body, code);
	if (!may_try(v, LOGIN_TRY_TOKEN)) {
		login_page_sign_in(v->a, 429, TOO_OFTEN, code);
		return;
	}
	const char *words = authenticate(v, &who);
	if (!words) {
		let_in(v, &who, code);
	} else {
		was_wrong(v, LOGIN_TRY_TOKEN);
		login_page_sign_in(v->a, 403, words, code);
		if (may_log(v))
			log_info("login refused from=%s: a token that may not sign in",
			         from(v, text));
	}
	account_unref(who.payer);
}

/* Who signed in, if the form is of a page that was made for it; else the page that says so. */
static const struct login_session *session_of(struct serving *v)
{
	const struct login_session *s = login_session_of(v->login, v->q->cookie);
	char form[SECRET_TEXT_LEN + 1], code[LOGIN_CODE_TEXT + 1];

	read_code(v->q->body, code);
	if (!s) {
		login_page_sign_in(v->a, 403, "You are not signed in, or not any more.", code);
		return NULL;
	}
	form_get(v->q->body, "form", form, sizeof form);
	if (strlen(form) == SECRET_TEXT_LEN && crypto_same(form, s->form, SECRET_TEXT_LEN))
		return s;
	login_page_code(v->a, 403, "That page was an old one: enter the code again.", s->account);
	return NULL;
}

static void decide(struct serving *v, bool approve)
{
	char error[ACCOUNTS_ERROR_LEN], text[ADDR_TEXT_LEN];
	char who[ADDR_TEXT_LEN + NAME_MAX_LEN + 20];
	const struct login_session *s = is_from_us(v) ? session_of(v) : NULL;
	struct login_pending *p = s ? find(v, v->q->body, s) : NULL;

	if (!p)
		return;
	const struct login_word w = { .account = approve ? s->account : NULL,
		                      .expires_unix_s = s->expires_unix_s,
		                      .who = who };
	snprintf(who, sizeof who, "account=%s from=%s", s->account, from(v, text));
	if (login_decide(v->login, p, &w, error) < 0) {
		log_error("login cannot be decided id=%s account=%s: %s", p->id, s->account, error);
		login_page_code(v->a, 503, "It could not be written down: try again later.",
		                s->account);
		return;
	}
	login_page_message(
	                v->a, 200, approve ? "Approved" : "Denied",
	                approve ? "The program gets its token within some seconds. This page can "
	                          "be closed." :
	                          "The program is told so. This page can be closed.");
}

static void approve(struct serving *v) { decide(v, true); }
static void deny(struct serving *v) { decide(v, false); }

/* ---- which ---- */

static const struct route {
	const char *path, *method;
	void (*serve)(struct serving *);
} routes[] = {
	{ "/login", "GET", show },         { "/login", "HEAD", show },
	{ "/login", "POST", sign_in },     { "/login/approve", "POST", approve },
	{ "/login/deny", "POST", deny },   { "/login/device_authorization", "POST", authorize },
	{ "/login/token", "POST", token },
};

static void serve(struct serving *v)
{
	bool known = false;

	for (size_t i = 0; i < sizeof routes / sizeof *routes; i++) {
		if (!str_eq(v->q->path, str_of(routes[i].path)))
			continue;
		known = true;
		if (is_method(v, routes[i].method)) {
			routes[i].serve(v);
			return;
		}
	}
	if (known)
		login_add_field(v->a, "Allow",
		                str_eq(v->q->path, STR("/login")) ? "GET, HEAD, POST" : "POST");
	login_page_message(v->a, known ? 405 : 404, known ? "Not like this" : "Nothing here",
	                   known ? "This address takes other methods." :
	                           "There is no such page: open /login.");
}

/* Whoever logs requests on the way has the token now (A12). Its id is no secret. */
static bool has_token(struct serving *v, struct str s)
{
	char id[TOKEN_ID_LEN + 1], words[300], text[ADDR_TEXT_LEN];

	if (!token_in(s, id))
		return false;
	snprintf(words, sizeof words,
	         "A token does not belong in an address: programs on the way and histories keep it. "
	         "Whoever can read them could use it now, so revoke it: tunn token revoke %s",
	         id[0] ? id : "ID");
	login_page_message(v->a, 400, "Revoke that token", words);
	if (may_log(v))
		log_warn("a token came in the address of a request and was refused: revoke it, tunn "
		         "token revoke %s (from=%s)",
		         id[0] ? id : "ID", from(v, text));
	return true;
}

void login_serve(struct login *l, const struct login_ask *ask, struct login_answer *answer_out)
{
	struct serving v = { .login = l, .ask = ask, .q = ask->request, .a = answer_out };

	answer_out->web = (struct web_answer){ 0 };
	login_expire(l, ask->now_ms);
	guard(answer_out);
	if (has_token(&v, v.q->path) || has_token(&v, v.q->query))
		return;
	if (!is_host(v.q->host))
		login_page_message(answer_out, 400, "Which relay?",
		                   "The request does not say by which name it reached this relay.");
	else
		serve(&v);
}
