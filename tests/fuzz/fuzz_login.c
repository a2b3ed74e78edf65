/* Logins: each line of an input is a request. Its first byte says which (bits 0 to 2), with our
 * Origin (bit 3), with the cookie (bit 4), from which network (bits 5 and 6); the second how
 * many seconds later; the rest is its form or query, in which the bytes 1 to 5 stand for what was
 * answered last and no mutation finds. Whatever is asked: pages hold no markup but ours, JSON is
 * JSON, fields are one line, and nothing is approved but by cookie, form token and Origin. */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/base/crypto.h"
#include "common/base/json.h"
#include "common/base/log.h"
#include "server/login/login.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

enum { LINES_MAX = 40, TEXT_MAX = 2 * WEB_BODY_MAX, ELSEWHERE = 7 };

static const struct {
	const char *method, *path;
} routes[] = {
	{ "GET", "/login" },
	{ "POST", "/login" },
	{ "POST", "/login/approve" },
	{ "POST", "/login/deny" },
	{ "POST", "/login/device_authorization" },
	{ "POST", "/login/token" },
	{ "HEAD", "/login" },
	{ "POST", NULL }, /* the text is the path */
};

static struct {
	struct accounts *accounts;
	char token[TOKEN_LEN + 1]; /* of the account */
	/* of one input */
	struct login *login;
	uint64_t now_ms;
	struct login_answer answer;
	char device[80], user[16], form[80], cookie[96];
	unsigned n_approved; /* and not fetched */
} s;

static void need(int truth)
{
	if (!truth)
		abort();
}

static char dir[] = "/tmp/tunn-fuzz-XXXXXX";

static void tear_down(void)
{
	struct dirent *e;
	DIR *d = opendir(dir);

	accounts_close(s.accounts);
	while (d && (e = readdir(d)) != NULL)
		unlinkat(dirfd(d), e->d_name, 0);
	if (d)
		closedir(d);
	rmdir(dir);
}

static void set_up(void)
{
	char error[ACCOUNTS_ERROR_LEN];

	need(crypto_start() == 0 && mkdtemp(dir));
	atexit(tear_down);
	json_start();
	log_set_level(LOG_ERROR);
	need(accounts_open(dir, &s.accounts, error) == 0);
	need(accounts_add(s.accounts, "acme", NULL, error) == 0);
	need(accounts_token_new(s.accounts, "acme", NULL, 0, s.token, error) == 0);
}

/* ---- what is asked ---- */

static size_t put_in(char *out, size_t n, const char *text)
{
	size_t len = strlen(text);

	if (n + len > TEXT_MAX)
		return n;
	memcpy(out + n, text, len);
	return n + len;
}

static struct str fill_in(struct str text, char out[static TEXT_MAX])
{
	const char *const known[] = { s.device, s.user, s.form, s.token, s.cookie };
	size_t n = 0;

	for (size_t i = 0; i < text.len && n < TEXT_MAX; i++)
		if (text.p[i] >= 1 && text.p[i] <= 5)
			n = put_in(out, n, known[text.p[i] - 1]);
		else
			out[n++] = text.p[i];
	return (struct str){ out, n };
}

static bool has(struct str text, const char *part)
{
	return *part && text.len && memmem(text.p, text.len, part, strlen(part));
}

/* ---- what is answered ---- */

/* What stands between two texts; unchanged if they are not there. */
static void cut(struct str body, const char *before, char after, char *out, size_t cap)
{
	const char *from = body.len ? memmem(body.p, body.len, before, strlen(before)) : NULL;

	if (!from)
		return;
	from += strlen(before);
	const char *to = memchr(from, after, (size_t)(body.p + body.len - from));
	need(to && (size_t)(to - from) < cap);
	snprintf(out, cap, "%.*s", (int)(to - from), from);
}

static bool is_tag(struct str tag)
{
	static const char *const tags[] = { "!DOCTYPE", "html", "head", "meta", "title",  "style",
		                            "body",     "main", "h1",   "p",    "form",   "label",
		                            "input",    "dl",   "dt",   "dd",   "button", "code" };
	size_t n = 0;

	if (tag.len && *tag.p == '/')
		tag.p++, tag.len--;
	while (n < tag.len && tag.p[n] != ' ')
		n++;
	for (size_t i = 0; i < sizeof tags / sizeof *tags; i++)
		if (str_eq((struct str){ tag.p, n }, str_of(tags[i])))
			return true;
	return false;
}

/* Tags of ours with quotes in pairs, from the first byte to the last. */
static void check_page(struct str body)
{
	while (body.len) {
		const char *open = memchr(body.p, '<', body.len);
		if (!open)
			break;
		size_t left = (size_t)(body.p + body.len - open), quotes = 0;
		const char *close = memchr(open, '>', left);
		need(close && is_tag((struct str){ open + 1, (size_t)(close - open) - 1 }));
		for (const char *p = open; p < close; p++)
			quotes += *p == '"';
		need(quotes % 2 == 0);
		body.p = close + 1;
		body.len = left - (size_t)(close + 1 - open);
	}
	need(body.len && body.p[body.len - 1] == '\n');
}

static void check_json(struct str body)
{
	static const struct json_limits limits = { LOGIN_BODY_MAX, 1, 20 };
	struct json *doc;

	need(json_parse(body, &limits, &doc, NULL) == 0);
	json_free(doc);
}

static void check(const struct web_answer *a)
{
	bool is_page = false;

	need(a->status >= 200 && a->status <= 503 && a->n_fields <= WEB_FIELDS_MAX);
	for (size_t i = 0; i < a->n_fields; i++) {
		struct str v = a->fields[i].value;
		need(v.len > 0);
		for (size_t k = 0; k < v.len; k++)
			need(v.p[k] >= ' ' && v.p[k] <= '~');
		is_page |= has(v, "text/html");
		if (str_eq(a->fields[i].name, STR("Set-Cookie")))
			snprintf(s.cookie, sizeof s.cookie, "%.*s",
			         (int)((char *)memchr(v.p, ';', v.len) - v.p), v.p);
	}
	need(!has(a->body, s.token));
	if (is_page)
		check_page(a->body);
	else if (a->body.len)
		check_json(a->body);
	else
		need(a->status == 303);
}

static void learn(struct str body)
{
	cut(body, "\"device_code\":\"", '"', s.device, sizeof s.device);
	cut(body, "\"user_code\":\"", '"', s.user, sizeof s.user);
	cut(body, "name=\"form\" value=\"", '"', s.form, sizeof s.form);
	if (has(body, "\"access_token\"")) {
		need(s.n_approved > 0);
		s.n_approved--;
	}
}

/* ---- a line ---- */

static void ask_one(unsigned how, struct str text)
{
	static const char *const from[] = { "192.0.2.1", "192.0.2.200", "198.51.100.1",
		                            "2001:db8::1" };
	char room[TEXT_MAX];
	struct addr addr;
	unsigned which = how & 7;
	struct web_request q = { .method = str_of(routes[which].method),
		                 .path = text,
		                 .host = STR("relay.test"),
		                 .content_type = STR("application/x-www-form-urlencoded") };
	struct login_ask ask = { &q, &addr, s.now_ms, 1700000000 + (int64_t)(s.now_ms / 1000) };

	text = fill_in(text, room);
	if (which == ELSEWHERE)
		q.path = text;
	else
		q.path = str_of(routes[which].path);
	*(str_eq(q.method, STR("POST")) ? &q.body : &q.query) = text;
	if (q.body.len > WEB_BODY_MAX)
		q.body.len = WEB_BODY_MAX;
	if (how & 8)
		q.origin = STR("https://relay.test");
	if (how & 16)
		q.cookie = str_of(s.cookie);
	addr_of_ip(from[how >> 5 & 3], 1234, &addr);
	login_serve(s.login, &ask, &s.answer);
	check(&s.answer.web);
	if (has(s.answer.web.body, "<h1>Approved")) {
		need(str_eq(q.path, STR("/login/approve")) && q.origin.len && q.cookie.len &&
		     has(q.body, s.form));
		s.n_approved++;
	}
	learn(s.answer.web.body);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	const char *p = (const char *)data, *end = p + len;

	if (!s.accounts)
		set_up();
	s.now_ms = 1000000;
	s.n_approved = 0;
	s.device[0] = s.user[0] = s.form[0] = s.cookie[0] = 0;
	need((s.login = login_new(s.accounts)) != NULL);
	for (unsigned n = 0; n < LINES_MAX && end - p >= 2; n++) {
		const char *line_end = memchr(p, '\n', (size_t)(end - p));
		size_t n_line = (size_t)((line_end ? line_end : end) - p);
		if (n_line >= 2) {
			s.now_ms += (uint8_t)p[1] * 1000U;
			ask_one((uint8_t)p[0], (struct str){ p + 2, n_line - 2 });
		}
		p += n_line + (line_end != NULL);
	}
	login_free(s.login);
	return 0;
}
