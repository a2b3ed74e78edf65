#include <stdio.h>

#include "common/transport/grpc_impl.h"
#include "common/transport/pages.h"

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

static void say(struct h2 *h2, struct h2_stream *st, const struct http1_answer *a)
{
	struct h2_field f[PAGE_FIELDS_MAX + 3];
	char names[PAGE_FIELDS_MAX][FIELD_NAME_LEN], status[12], len[24];
	bool has_body = a->body.len && !a->to_head;
	size_t n = 0;

	snprintf(status, sizeof status, "%d", a->status);
	snprintf(len, sizeof len, "%zu", a->body.len);
	f[n++] = (struct h2_field){ STR(":status"), str_of(status) };
	for (size_t i = 0; i < a->n_fields; i++)
		f[n++] = lowered(a->fields[i], names[i]);
	if (a->date.len)
		f[n++] = (struct h2_field){ STR("date"), a->date };
	if (http1_has_length(a->status))
		f[n++] = (struct h2_field){ STR("content-length"), str_of(len) };
	if (h2_respond(h2, st, f, n, !has_body) < 0 || !has_body)
		return;
	if (buf_add(h2_outgoing(st), a->body.p, a->body.len) < 0)
		h2_reset(h2, st, H2_INTERNAL_ERROR); /* less than was announced */
	else
		h2_finish(h2, st, NULL, 0);
}

/* Not before the request has ended: what is wrong with its body is told as an
 * error of the stream, not lost behind an early answer. */
static void answer(struct call *c)
{
	struct transport *t = c->chan.transport;

	own(c)->answer.date = str_of(t->conf->date);
	say(t->h2, c->stream, &own(c)->answer);
	call_retire(c);
}

static const struct method plain = {
	.is_plain = true,
	.own_len = sizeof(struct page),
	.on_end = answer,
};

void page_head(struct transport *t, struct h2_stream *st, const struct h2_head *head)
{
	struct page_request q = { h2_head_get(head, ":method", NULL),
		                  h2_head_get(head, ":path", NULL),
		                  h2_head_get(head, "x-tailscale-challenge", NULL) };
	const char *query = q.path.len ? memchr(q.path.p, '?', q.path.len) : NULL;
	struct call *c = call_new(t, st, &plain);

	if (!c) {
		h2_reset(t->h2, st, H2_INTERNAL_ERROR);
		return;
	}
	if (query)
		q.path.len = (size_t)(query - q.path.p);
	h2_set_user(st, c);
	page_for(&q, own(c));
}
