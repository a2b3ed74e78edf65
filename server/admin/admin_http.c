#include "server/admin/admin_impl.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/metric.h"
#include "server/admin/page.h"

enum { WORDS_LEN = 320, WARN_MS = 10000 };

#define TYPE_TEXT "text/plain; charset=utf-8"
#define TYPE_JSON "application/json"

/* ---- answers ---- */

static const struct httpd_field common_fields[] = {
	{ STR("X-Content-Type-Options"), STR("nosniff") },
	{ STR("X-Frame-Options"), STR("DENY") },
	{ STR("Referrer-Policy"), STR("no-referrer") },
	{ STR("Cross-Origin-Resource-Policy"), STR("same-origin") },
};
enum { N_COMMON = sizeof common_fields / sizeof *common_fields, N_MORE = 3 };
_Static_assert(N_COMMON + N_MORE <= HTTPD_FIELDS_MAX, "room for all fields");

static void answer_fields(struct httpd_request *r, int status, const char *type, struct str body,
                          const struct httpd_field *more, size_t n_more)
{
	struct httpd_field fields[N_COMMON + N_MORE];
	struct httpd_answer a = { .status = status,
		                  .type = type,
		                  .fields = fields,
		                  .n_fields = N_COMMON + n_more,
		                  .body = body };

	memcpy(fields, common_fields, sizeof common_fields);
	memcpy(fields + N_COMMON, more, n_more * sizeof *more);
	httpd_answer(r, &a);
}

/* more: one field beside those that keep the answer to who asked; NULL: none. */
static void answer_with(struct httpd_request *r, int status, const char *type, struct str body,
                        const struct httpd_field *more)
{
	struct httpd_field own[N_MORE] = {
		{ STR("Cache-Control"), STR("no-store") },
		{ STR("Content-Security-Policy"),
		  STR("default-src 'none'; frame-ancestors 'none'") },
	};

	if (more)
		own[2] = *more;
	answer_fields(r, status, type, body, own, more ? 3 : 2);
}

void admin_answer_text(struct httpd_request *r, int status, const char *type, struct str body)
{
	answer_with(r, status, type ? type : TYPE_TEXT, body, NULL);
}

/* Without memory for the words the status says enough. doc NULL: likewise. */
static void answer_json(struct httpd_request *r, int status, const struct json *doc,
                        const struct httpd_field *more)
{
	size_t len = 0;
	char *text = doc ? json_text(doc, JSON_ONE_LINE, &len) : NULL;

	if (text)
		text[len++] = '\n'; /* where the NUL was */
	answer_with(r, text ? status : 503, TYPE_JSON, (struct str){ text, len }, more);
	free(text);
}

static void fail_with(struct httpd_request *r, int status, const char *words,
                      const struct httpd_field *more)
{
	struct json *doc = json_new_object();

	if (json_put(doc, "error", json_new_text(str_of(words))) < 0) {
		json_free(doc);
		doc = NULL;
	}
	answer_json(r, status, doc, more);
	json_free(doc);
}

void admin_fail(struct httpd_request *r, int status, const char *fmt, ...)
{
	char words[WORDS_LEN];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(words, sizeof words, fmt, ap);
	va_end(ap);
	fail_with(r, status, words, NULL);
}

void admin_answer_json(struct httpd_request *r, int status, struct json *doc)
{
	answer_json(r, status, doc, NULL);
	json_free(doc);
}

void admin_on_answered(void *owner, int status)
{
	(void)owner;
	metric_add(status >= 500 ? METRIC_ADMIN_5XX :
	           status >= 400 ? METRIC_ADMIN_4XX :
	                           METRIC_ADMIN_2XX,
	           1);
}

/* ---- who may ---- */

/* Whatever was wrong with it: the same status, fields and words. */
static void refuse_token(struct admin *a, struct httpd_request *r)
{
	static const struct httpd_field how = { STR("WWW-Authenticate"),
		                                STR("Bearer realm=\"tunn admin\"") };
	char from[ADDR_TEXT_LEN];
	unsigned unsaid;

	metric_add(METRIC_ADMIN_WRONG_TOKENS, 1);
	if (log_limit_pass(&a->warnings, loop_now_ms(a->loop), 1, WARN_MS, &unsaid))
		log_warn("admin: a request without the token of --admin-token-file from=%s, and %u "
		         "since it was last said",
		         addr_text(&r->peer, from), unsaid);
	fail_with(r, 401, "the token of --admin-token-file is needed: Authorization: Bearer TOKEN",
	          &how);
}

/* False: it was answered. */
static bool judge(struct admin *a, struct httpd_request *r, enum admin_verdict verdict)
{
	switch (verdict) {
	case ADMIN_PASS: return true;
	case ADMIN_BAD_REQUEST: admin_fail(r, 400, "a header field is there twice"); break;
	case ADMIN_MISDIRECTED:
		admin_fail(r, 421,
		           "the Host of the request is none of ours: use the address of --admin, "
		           "localhost, or a --name of the relay");
		break;
	case ADMIN_CROSS_SITE: admin_fail(r, 403, "pages of other sites may not ask here"); break;
	case ADMIN_NO_TOKEN: refuse_token(a, r); break;
	}
	return false;
}

/* ---- routes ---- */

static const struct route {
	struct str path;
	void (*serve)(struct admin *, struct httpd_request *);
} routes[] = {
	{ STR("/healthz"), admin_healthz },          { STR("/readyz"), admin_readyz },
	{ STR("/metrics"), admin_metrics },          { STR("/api/v1/tunnels"), admin_tunnels },
	{ STR("/api/v1/accounts"), admin_accounts }, { STR("/api/v1/usage"), admin_usage },
	{ STR("/api/v1/nodes"), admin_nodes },       { STR("/api/v1/series"), admin_series },
};

/* Kept by the browser, and asked for again with what it has. */
static void serve_page(struct httpd_request *r, const struct page_file *f)
{
	const struct httpd_field own[N_MORE] = {
		{ STR("Cache-Control"), STR("no-cache") },
		{ STR("Content-Security-Policy"), STR(PAGE_POLICY) },
		{ STR("ETag"), str_of(f->etag) },
	};

	if (page_has(f, r->if_none_match))
		answer_fields(r, 304, NULL, STR(""), own, N_MORE);
	else
		answer_fields(r, 200, f->type, f->body, own, N_MORE);
}

void admin_on_request(void *owner, struct httpd_request *r)
{
	struct admin *a = owner;
	const struct page_file *f = page_find(r->path);

	if (f) { /* nothing of the relay is in it, and it asks for the token */
		if (judge(a, r, admin_guard_check_host(&a->guard, r)))
			serve_page(r, f);
		return;
	}
	if (!judge(a, r, admin_guard_check(&a->guard, r)))
		return;
	admin_note_late(a);
	for (size_t i = 0; i < sizeof routes / sizeof *routes; i++) {
		if (!str_eq(r->path, routes[i].path))
			continue;
		routes[i].serve(a, r);
		return;
	}
	admin_fail(r, 404,
	           "nothing is here; there are /, /healthz, /readyz, /metrics and "
	           "/api/v1/{tunnels,accounts,usage,nodes,series}");
}
