#include "client/login.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/crypto.h"
#include "common/base/json.h"
#include "common/net/fetch.h"
#include "common/net/loop.h"

#define GRANT_TYPE "urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Adevice_code"

enum {
	EXIT_FAILED = 1,
	EXIT_REFUSED = 3,
	ANSWER_MS = 15000,
	ANSWER_MAX = 16384,
	TEXT_MAX = 512,
	INTERVAL_S = 5, /* RFC 8628 3.2 */
	INTERVAL_MAX_S = 300,
	SLOWER_S = 5, /* RFC 8628 3.5 */
	LIFE_MAX_S = 3600,
	URL_LEN = 400,
	BODY_LEN = 1024,
};

struct device_codes {
	char device[TEXT_MAX]; /* percent-encoded */
	char user[32], page[TEXT_MAX];
	int64_t life_s;
};

struct flow {
	const struct login_conf *conf;
	struct login_result *result;
	struct loop *loop;
	struct timer *timer;
	struct fetch *fetch; /* under way */
	struct device_codes codes;
	int64_t interval_s;
	uint64_t ends_ms; /* of the codes */
	bool is_over;     /* also before the loop runs */
};

/* ---- the end ---- */

static void over(struct flow *f, int code)
{
	f->is_over = true;
	loop_stop(f->loop, code);
}

__attribute__((format(printf, 3, 4))) static void fail(struct flow *f, int code, const char *fmt,
                                                       ...)
{
	char text[FETCH_ERROR_LEN + TEXT_MAX];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	fprintf(stderr, "tunn login: %s\n", text);
	over(f, code);
}

/* ---- what the relay says ---- */

static bool is_printable(struct str s)
{
	for (size_t i = 0; i < s.len; i++)
		if (s.p[i] <= ' ' || s.p[i] > '~')
			return false;
	return s.len > 0;
}

/* False: it is not there, or nothing to show to people. */
static bool read_text(const struct json *doc, const char *name, char *out, size_t cap)
{
	struct str s;

	if (json_as_text(json_get(doc, name), &s) != JSON_READ || !is_printable(s) || s.len >= cap)
		return false;
	memcpy(out, s.p, s.len);
	out[s.len] = 0;
	return true;
}

static struct json *parse(const struct fetch_answer *a)
{
	static const struct json_limits limits = { ANSWER_MAX, 4, 64 };
	struct json *doc;

	return json_parse(a->body, &limits, &doc, NULL) == 0 ? doc : NULL;
}

/* Words of the other side, made harmless. */
static void read_words(const struct json *doc, char out[static 200])
{
	struct str s = STR("");

	json_as_text(json_get(doc, "error_description"), &s);
	snprintf(out, 200, "%.*s", (int)s.len, s.p);
	make_printable(out, strlen(out));
}

/* ---- asking ---- */

static void post(struct flow *f, const char *path, struct str body, fetch_done *done)
{
	char url[URL_LEN], error[FETCH_ERROR_LEN];
	const struct fetch_conf conf = {
		.url = url,
		.method = "POST",
		.body = body,
		.type = "application/x-www-form-urlencoded",
		.tls = f->conf->tls,
		.proxy = f->conf->proxy,
		.timeout_ms = ANSWER_MS,
		.max_body = ANSWER_MAX,
	};

	snprintf(url, sizeof url, "https://%s/login/%s", f->conf->authority, path);
	if (fetch_start(f->loop, &conf, done, f, &f->fetch, error) < 0)
		fail(f, EXIT_FAILED, "%s", error);
}

static void wait_to_poll(struct flow *f);

static void take_token(struct flow *f, const struct json *doc)
{
	char token[TEXT_MAX], id[NAME_MAX_LEN + 1], account[NAME_MAX_LEN + 1];
	bool ok = read_text(doc, "access_token", token, sizeof token) &&
	          read_text(doc, "tunnel_id", id, sizeof id) &&
	          read_text(doc, "account", account, sizeof account) &&
	          token_check(str_of(token)) == 0 && strcmp(id, f->conf->id) == 0 &&
	          name_is_valid(str_of(account));

	if (ok) {
		memcpy(f->result->token, token, TOKEN_LEN + 1);
		memcpy(f->result->account, account, sizeof account);
	}
	crypto_wipe(token, sizeof token);
	if (ok)
		over(f, 0);
	else
		fail(f, EXIT_FAILED, "%s answered, but not with a token for %s", f->conf->authority,
		     f->conf->id);
}

static void fail_as_told(struct flow *f, const struct json *doc)
{
	char error[64] = "", words[200];

	read_text(doc, "error", error, sizeof error);
	read_words(doc, words);
	fail(f, EXIT_FAILED, "%s: %s%s%s", f->conf->authority,
	     error[0] ? error : "an answer without a token", words[0] ? ": " : "", words);
}

/* Of a poll. */
static void take_error(struct flow *f, const struct json *doc)
{
	char error[64] = "";

	read_text(doc, "error", error, sizeof error);
	if (strcmp(error, "slow_down") == 0)
		f->interval_s += SLOWER_S;
	if (strcmp(error, "slow_down") == 0 || strcmp(error, "authorization_pending") == 0 ||
	    strcmp(error, "temporarily_unavailable") == 0)
		wait_to_poll(f);
	else if (strcmp(error, "access_denied") == 0)
		fail(f, EXIT_REFUSED, "it was denied");
	else if (strcmp(error, "expired_token") == 0)
		fail(f, EXIT_FAILED, "nobody approved it in time: run it again");
	else
		fail_as_told(f, doc);
}

/* A connection that failed is tried again, less often (RFC 8628 3.5). */
static void on_polled(void *owner, const struct fetch_answer *a, const char *error)
{
	struct flow *f = owner;
	struct json *doc = a ? parse(a) : NULL;

	(void)error;
	f->fetch = NULL;
	if (!doc && (!a || a->status >= 500)) {
		f->interval_s *= 2;
		wait_to_poll(f);
	} else if (doc && a->status == 200) {
		take_token(f, doc);
	} else {
		take_error(f, doc);
	}
	json_free(doc);
}

static void on_timer(void *arg)
{
	struct flow *f = arg;
	char body[BODY_LEN];

	if (loop_now_ms(f->loop) >= f->ends_ms) {
		fail(f, EXIT_FAILED, "nobody approved it in time: run it again");
		return;
	}
	int n = snprintf(body, sizeof body, "grant_type=%s&client_id=tunn&device_code=%s",
	                 GRANT_TYPE, f->codes.device);
	post(f, "token", (struct str){ body, (size_t)n }, on_polled);
	crypto_wipe(body, sizeof body);
}

static void wait_to_poll(struct flow *f)
{
	if (f->interval_s > INTERVAL_MAX_S)
		f->interval_s = INTERVAL_MAX_S;
	timer_set(f->timer, (uint64_t)f->interval_s * 1000);
}

/* ---- codes ---- */

/* Whatever the relay's codes look like. */
static void encode(const char *text, char out[static TEXT_MAX])
{
	size_t n = 0;

	for (; *text && n + 4 < TEXT_MAX; text++)
		n += (size_t)snprintf(out + n, TEXT_MAX - n, "%%%02X", (unsigned char)*text);
	out[n] = 0;
}

static bool read_codes(struct flow *f, const struct json *doc)
{
	struct device_codes *c = &f->codes;
	char device[TEXT_MAX / 3 - 1];
	int64_t interval_s = INTERVAL_S;

	if (!read_text(doc, "device_code", device, sizeof device) ||
	    !read_text(doc, "user_code", c->user, sizeof c->user) ||
	    json_as_int(json_get(doc, "expires_in"), &c->life_s) != JSON_READ || c->life_s < 1)
		return false;
	encode(device, c->device);
	crypto_wipe(device, sizeof device);
	if (!read_text(doc, "verification_uri_complete", c->page, sizeof c->page) &&
	    !read_text(doc, "verification_uri", c->page, sizeof c->page))
		return false;
	json_as_int(json_get(doc, "interval"), &interval_s);
	f->interval_s = interval_s > 0 ? interval_s : INTERVAL_S;
	if (c->life_s > LIFE_MAX_S)
		c->life_s = LIFE_MAX_S;
	return strncmp(c->page, "https://", 8) == 0;
}

static void show(const struct flow *f)
{
	const struct device_codes *c = &f->codes;

	printf("tunn: open this address and sign in with a token of your account:\n"
	       "tunn:   %s\n"
	       "tunn: approve it if the page shows %s, machine %s, tunnel id %s; it ends in %lld "
	       "min\n"
	       "tunn: or, on the relay itself: tunn account approve %s\n",
	       c->page, c->user, f->conf->host, f->conf->id, (long long)((c->life_s + 59) / 60),
	       c->user);
	fflush(stdout);
}

static void on_codes(void *owner, const struct fetch_answer *a, const char *error)
{
	struct flow *f = owner;
	struct json *doc = a ? parse(a) : NULL;

	f->fetch = NULL;
	if (!a)
		fail(f, EXIT_FAILED, "%s", error);
	else if (!doc)
		fail(f, EXIT_FAILED,
		     "%s does not offer logins (status %d): it needs no token, is older than that, or "
		     "no tunn server",
		     f->conf->authority, a->status);
	else if (a->status != 200)
		fail_as_told(f, doc);
	else if (!read_codes(f, doc))
		fail(f, EXIT_FAILED, "%s answered, but not as RFC 8628 says", f->conf->authority);
	else {
		f->ends_ms = loop_now_ms(f->loop) + (uint64_t)f->codes.life_s * 1000;
		show(f);
		wait_to_poll(f);
	}
	json_free(doc);
}

/* ---- all of it ---- */

int login_run(const struct login_conf *conf, struct login_result *result_out)
{
	struct flow *f = crypto_secret_new(sizeof *f);
	char body[BODY_LEN];
	int rc = EXIT_FAILED;

	if (f) {
		*f = (struct flow){ .conf = conf, .result = result_out, .loop = loop_new() };
		f->timer = f->loop ? timer_new(f->loop, on_timer, f) : NULL;
	}
	if (f && f->timer) {
		int n = snprintf(body, sizeof body,
		                 "client_id=tunn&scope=tunnel&tunnel_id=%s&host_name=%s", conf->id,
		                 conf->host);
		post(f, "device_authorization", (struct str){ body, (size_t)n }, on_codes);
		rc = f->is_over ? EXIT_FAILED : loop_run(f->loop);
	} else {
		fprintf(stderr, "tunn login: out of memory\n");
	}
	if (f) {
		timer_free(f->timer);
		loop_free(f->loop);
	}
	crypto_secret_free(f);
	return rc;
}
