#include "server/admin/status_ask.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/buf.h"
#include "common/base/json.h"

enum { N_PARTS = 3, ANSWER_MAX = 16 << 20, ANSWER_MS = 5000 };

static const char *const paths[N_PARTS] = { "/api/v1/nodes", "/api/v1/series?last=60",
	                                    "/api/v1/tunnels?limit=1000" };
_Static_assert(STATUS_SECONDS == 60 && STATUS_TUNNELS == 1000, "as the paths say");

struct status_ask {
	struct loop *loop;
	const struct status_place *place;
	status_ask_done *done;
	void *owner;
	struct fetch *fetch;
	struct task later; /* done never comes from inside of the start */
	unsigned part;
	struct buf bodies[N_PARTS];
	char words[STATUS_WORDS_LEN];
};

static struct str body_of(const struct status_ask *a, unsigned part)
{
	return (struct str){ (const char *)buf_data(&a->bodies[part]), buf_len(&a->bodies[part]) };
}

/* ---- the end ---- */

__attribute__((format(printf, 2, 3))) static void fail(struct status_ask *a, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(a->words, sizeof a->words, fmt, ap);
	va_end(ap);
	loop_defer(a->loop, LOOP_POST, &a->later);
}

static void on_later(struct task *t)
{
	struct status_ask *a = (struct status_ask *)(void *)((char *)t -
	                                                     offsetof(struct status_ask, later));

	a->done(a->owner, NULL, NULL, a->words);
}

/* Between the braces of an object. */
static struct str members(struct str object)
{
	const char *open = memchr(object.p, '{', object.len), *close = NULL;

	for (size_t i = object.len; i > 0 && !close; i--)
		close = object.p[i - 1] == '}' ? object.p + i - 1 : NULL;
	return open && close > open ? (struct str){ open + 1, (size_t)(close - open) - 1 } :
	                              STR("");
}

/* {"nodes": ..., "tunnels": ..., "next": ..., "series": {...}}; NULL: out of memory. */
static char *json_of(const struct status_ask *a)
{
	struct str nodes = members(body_of(a, 0)), tunnels = members(body_of(a, 2)),
	           series = members(body_of(a, 1));
	char *text = NULL;

	if (asprintf(&text, "{%.*s,%.*s,\"series\":{%.*s}}\n", (int)nodes.len, nodes.p,
	             (int)tunnels.len, tunnels.p, (int)series.len, series.p) < 0)
		return NULL;
	return text;
}

static void finish(struct status_ask *a)
{
	struct status *s = NULL;
	int rc = status_new(body_of(a, 0), body_of(a, 1), body_of(a, 2), loop_now_ms(a->loop), &s);
	char *json = rc == 0 ? json_of(a) : NULL;

	if (rc == 0 && json) {
		a->done(a->owner, s, json, "");
		return;
	}
	status_free(s);
	if (rc == -ENOMEM || rc == 0)
		fail(a, "out of memory");
	else
		fail(a, "%s answers, but not as the admin listener of a tunn relay",
		     a->place->base);
}

/* ---- asking ---- */

static void ask_part(struct status_ask *a);

/* The relay's own words, made printable. */
static void refused(struct status_ask *a, const struct fetch_answer *answer)
{
	static const struct json_limits limits = { 4096, 3, 32 };
	struct json *doc = NULL;
	struct str said = STR("");
	char words[200];

	if (json_parse(answer->body, &limits, &doc, NULL) == 0)
		json_as_text(json_get(doc, "error"), &said);
	snprintf(words, sizeof words, "%.*s", (int)said.len, said.p);
	make_printable(words, strlen(words));
	json_free(doc);
	if (answer->status == 401)
		fail(a,
		     "%s: the token is %s: --token-file FILE with what the server's "
		     "--admin-token-file holds",
		     a->place->base, a->place->token.len ? "not the right one" : "missing");
	else
		fail(a, "%s answers with status %d%s%s", a->place->base, answer->status,
		     words[0] ? ": " : "", words);
}

static void on_answer(void *owner, const struct fetch_answer *answer, const char *error)
{
	struct status_ask *a = owner;

	a->fetch = NULL;
	bool is_plain = strncmp(a->place->base, "http:", 5) == 0;
	if (!answer)
		fail(a,
		     "no answer from %s: %s; is the server running, with its admin listener "
		     "there (--admin%s)?",
		     a->place->base, error,
		     is_plain ? "; https://HOST:PORT where it speaks TLS" : "");
	else if (answer->status != 200)
		refused(a, answer);
	else if (buf_add(&a->bodies[a->part], answer->body.p, answer->body.len) < 0)
		fail(a, "out of memory");
	else if (++a->part < N_PARTS)
		ask_part(a);
	else
		finish(a);
}

static void ask_part(struct status_ask *a)
{
	char url[STATUS_URL_LEN + 64], error[FETCH_ERROR_LEN];
	const struct fetch_conf conf = { .url = url,
		                         .bearer = a->place->token,
		                         .tls = a->place->tls,
		                         .timeout_ms = ANSWER_MS,
		                         .max_body = ANSWER_MAX };

	snprintf(url, sizeof url, "%s%s", a->place->base, paths[a->part]);
	if (fetch_start(a->loop, &conf, on_answer, a, &a->fetch, error) < 0)
		fail(a, "%s: %s", a->place->base, error);
}

struct status_ask *status_ask_new(struct loop *loop, const struct status_place *place,
                                  status_ask_done *done, void *owner)
{
	struct status_ask *a = calloc(1, sizeof *a);

	if (a)
		*a = (struct status_ask){ .loop = loop,
			                  .place = place,
			                  .done = done,
			                  .owner = owner,
			                  .later.cb = on_later };
	return a;
}

void status_ask_start(struct status_ask *a)
{
	for (unsigned i = 0; i < N_PARTS; i++)
		buf_clear(&a->bodies[i]);
	a->part = 0;
	ask_part(a);
}

void status_ask_free(struct status_ask *a)
{
	if (!a)
		return;
	fetch_cancel(a->fetch);
	loop_undefer(a->loop, LOOP_POST, &a->later);
	for (unsigned i = 0; i < N_PARTS; i++)
		buf_done(&a->bodies[i]);
	free(a);
}
