#include <stddef.h>
#include <stdio.h>

#include "common/transport/grpc_impl.h"
#include "common/transport/pages.h"
#include "common/transport/web.h"

enum { FIELD_NAME_LEN = 40 };

static struct page *own(struct call *c) { return (struct page *)(void *)c->own; }

/* RFC 9113 8.2: lower case, and nothing of a connection. */
static struct h2_field lowered(struct http1_field f, char room[static FIELD_NAME_LEN])
{
	size_t n = 0;

	for (; n < f.name.len && n < FIELD_NAME_LEN; n++)
		room[n] = f.name.p[n] >= 'A' && f.name.p[n] <= 'Z' ? (char)(f.name.p[n] | 32) :
		                                                     f.name.p[n];
	return (struct h2_field){ { room, n }, f.value };
}

/* The last that is done for the call. */
static void say(struct call *c, const struct http1_answer *a)
{
	struct transport *t = c->chan.transport;
	struct h2_stream *st = c->stream;
	struct h2_field f[PAGE_FIELDS_MAX + 3];
	char names[PAGE_FIELDS_MAX][FIELD_NAME_LEN], status[12], len[24];
	bool has_body = a->body.len && !a->to_head;
	size_t n = 0;

	snprintf(status, sizeof status, "%d", a->status);
	snprintf(len, sizeof len, "%zu", a->body.len);
	f[n++] = (struct h2_field){ STR(":status"), str_of(status) };
	for (size_t i = 0; i < a->n_fields; i++)
		f[n++] = lowered(a->fields[i], names[i]);
	if (t->conf->date) /* RFC 9110 6.6.1 */
		f[n++] = (struct h2_field){ STR("date"), str_of(t->conf->date) };
	if (http1_has_length(a->status))
		f[n++] = (struct h2_field){ STR("content-length"), str_of(len) };
	if (h2_respond(t->h2, st, f, n, !has_body) == 0 && has_body) {
		if (buf_add(h2_outgoing(st), a->body.p, a->body.len) < 0)
			h2_reset(t->h2, st, H2_INTERNAL_ERROR); /* less than was announced */
		else
			h2_finish(t->h2, st, NULL, 0);
	}
	call_retire(c);
}

/* Not before the request has ended: what is wrong with its body is told as an
 * error of the stream, not lost behind an early answer. */
static void answer(struct call *c) { say(c, &own(c)->answer); }

static const struct method plain = {
	.is_plain = true,
	.own_len = sizeof(struct page),
	.on_end = answer,
};

/* ---- what the owner answers ---- */

static struct web_call *web_of(struct call *c) { return (struct web_call *)(void *)c->own; }

static struct call *call_of_web(struct web *web)
{
	return (struct call *)(void *)((char *)web - offsetof(struct call, own));
}

static void fault(struct call *c, int status)
{
	struct page page;

	page_for_fault(status, &page);
	page.answer.to_head = web_is_head(web_of(c));
	say(c, &page.answer);
}

void page_answer(struct web *web, const struct web_answer *a)
{
	struct call *c = call_of_web(web);
	struct page page;

	web_page(web_of(c), a, &page);
	say(c, &page.answer);
}

/* It counts like the halves of messages: anybody can begin one. */
static int count(struct call *c, size_t len)
{
	struct transport *t = c->chan.transport;

	if (t->halves + len > HALVES_MAX)
		return 503;
	t->halves += len;
	c->half += len;
	return 0;
}

/* What is wrong with it is told at its end, as of all pages. */
static void on_body(struct call *c, const uint8_t *data, size_t len)
{
	struct web_call *w = web_of(c);

	if (!w->fault && !w->body)
		w->fault = count(c, WEB_BODY_MAX);
	if (!w->fault)
		w->fault = web_take(w, data, len);
}

static void ask(struct call *c)
{
	struct transport *t = c->chan.transport;
	struct web_call *w = web_of(c);

	c->has_spoken = true;
	if (!w->fault)
		w->fault = web_ask(w, t->events, t->owner);
	if (w->fault)
		fault(c, w->fault);
}

static void forget(struct call *c)
{
	struct transport *t = c->chan.transport;

	web_done(web_of(c), t->events, t->owner);
}

static const struct method asked = {
	.is_plain = true,
	.own_len = sizeof(struct web_call),
	.on_message = on_body,
	.on_end = ask,
	.on_free = forget,
};

static void begin_web(struct transport *t, struct h2_stream *st, const struct h2_head *head,
                      struct web_request *q)
{
	struct call *c = call_new(t, st, &asked);
	struct web_call *w;

	if (!c) {
		h2_reset(t->h2, st, H2_INTERNAL_ERROR);
		return;
	}
	w = web_of(c);
	h2_set_user(st, c);
	q->host = h2_head_get(head, ":authority", NULL);
	if (!q->host.len)
		q->host = h2_head_get(head, "host", NULL);
	q->origin = h2_head_get(head, "origin", NULL);
	q->cookie = h2_head_get(head, "cookie", NULL);
	q->content_type = h2_head_get(head, "content-type", NULL);
	w->fault = count(c, web_head_len(q));
	if (!w->fault)
		w->fault = web_begin(w, t, &transport_grpc, q);
}

/* ---- requests ---- */

void page_head(struct transport *t, struct h2_stream *st, const struct h2_head *head)
{
	struct page_request q = { h2_head_get(head, ":method", NULL),
		                  h2_head_get(head, ":path", NULL),
		                  h2_head_get(head, "x-tailscale-challenge", NULL) };
	const char *mark = q.path.len ? memchr(q.path.p, '?', q.path.len) : NULL;
	struct str query = { NULL, 0 };

	if (mark) {
		query = (struct str){ mark + 1, (size_t)(q.path.p + q.path.len - mark - 1) };
		q.path.len = (size_t)(mark - q.path.p);
	}
	if (web_is_asked(t->events, q.path, query)) {
		struct web_request w = { .method = q.method, .path = q.path, .query = query };
		begin_web(t, st, head, &w);
		return;
	}
	struct call *c = call_new(t, st, &plain);
	if (!c) {
		h2_reset(t->h2, st, H2_INTERNAL_ERROR);
		return;
	}
	h2_set_user(st, c);
	page_for(&q, own(c));
}
