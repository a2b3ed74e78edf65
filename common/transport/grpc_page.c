#include <string.h>

#include "common/transport/grpc_impl.h"
#include "common/transport/pages.h"

struct page_call {
	const struct page *page;
	bool has_body, is_allowed;
};

static struct page_call *own(struct call *c) { return (struct page_call *)(void *)c->own; }

/* Not before the request has ended: what is wrong with its body is told as an
 * error of the stream, not lost behind an early answer. */
static void answer(struct call *c)
{
	struct page_call p = *own(c);
	const struct h2_field f[] = {
		{ STR(":status"), p.is_allowed ? STR("200") : STR("405") },
		{ STR("content-type"), str_of(p.page->content_type) },
		{ STR("allow"), STR("GET, HEAD") }, /* only with 405 */
	};
	struct h2 *h2 = c->chan.transport->h2;
	struct h2_stream *st = c->stream;

	call_retire(c);
	if (h2_respond(h2, st, f, p.is_allowed ? 2 : 3, !p.has_body) < 0 || !p.has_body)
		return;
	buf_add(h2_outgoing(st), p.page->body, strlen(p.page->body));
	h2_finish(h2, st, NULL, 0);
}

static const struct method plain = {
	.is_plain = true,
	.own_len = sizeof(struct page_call),
	.on_end = answer,
};

bool page_head(struct transport *t, struct h2_stream *st, const struct h2_head *head)
{
	const struct page *page = page_of(h2_head_get(head, ":path", NULL));
	struct str method = h2_head_get(head, ":method", NULL);
	bool is_get = str_eq(method, STR("GET"));

	if (!page || grpc_is_content_type(h2_head_get(head, "content-type", NULL)))
		return false;
	struct call *c = call_new(t, st, &plain);
	if (!c) {
		h2_reset(t->h2, st, H2_INTERNAL_ERROR);
		return true;
	}
	h2_set_user(st, c);
	*own(c) = (struct page_call){ page, is_get, is_get || str_eq(method, STR("HEAD")) };
	return true;
}
