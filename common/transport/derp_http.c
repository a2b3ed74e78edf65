/* Server: HTTP/1.1 until a request becomes a conversation (derp.md 1.3, 1.4, 1.10). */
#include "common/transport/derp_impl.h"

#include <errno.h>
#include <stdlib.h>

#include "common/base/metric.h"
#include "common/base/token.h"
#include "common/transport/pages.h"
#include "common/transport/web.h"

/* RFC 9110 6.6.1; but the 101 is four fields and no more (derp.md 1.4). */
static int respond(struct transport *t, struct http1_answer *a)
{
	if (a->status != 101)
		a->date = str_of(t->conf->date);
	return http1_respond(&t->out, a);
}

/* ---- conversations ---- */

static int switch_protocols(struct transport *t)
{
	char hex[2 * KEY_LEN + 1];
	struct http1_field f[] = { { STR("Upgrade"), STR("DERP") },
		                   { STR("Connection"), STR("Upgrade") },
		                   { STR("Derp-Version"), STR("2") },
		                   { STR("Derp-Public-Key"), { hex, sizeof hex - 1 } } };
	struct http1_answer a = { .status = 101, .fields = f, .n_fields = 4 };

	hex_encode(t->conf->derp.public.b, KEY_LEN, hex);
	return respond(t, &a);
}

static void note_wishes(struct transport *t, const struct http1_request *q)
{
	t->not_ideal = q->field[HTTP1_IDEAL_NODE].len > 0;
	t->marked = str_eq(q->field[HTTP1_TUNN_VERSION], STR("1"));
}

/* Frames follow at once on the same stream; ServerKey leaves in one record with the 101,
 * which one client needs (derp.md 8). */
static int begin_derp(struct transport *t, const struct http1_request *q)
{
	note_wishes(t, q);
	if (!str_eq(q->field[HTTP1_DERP_FAST_START], STR("1")) && switch_protocols(t) < 0)
		return derp_fail(t, -ENOMEM, "out of memory");
	return derp_serve_begin(t);
}

static int take_payload(void *owner, const uint8_t *data, size_t len)
{
	return derp_take_in(owner, data, len);
}

static int begin_ws(struct transport *t, const struct http1_request *q, struct cursor *in)
{
	struct ws_answer a;

	ws_accept(q, &a);
	if (respond(t, &a.answer) < 0)
		return derp_fail(t, -ENOMEM, "out of memory");
	if (a.answer.status != 101) {
		t->stage = DERP_OVER;
		return 0;
	}
	note_wishes(t, q);
	if (ws_new(take_payload, t, &t->ws) < 0)
		return derp_fail(t, -ENOMEM, "out of memory");
	metric_add(METRIC_DERP_WEBSOCKETS, 1);
	/* The answer is no message: it goes before the first. */
	t->plain_len = buf_len(&t->out);
	if (a.no_protocol) {
		ws_close(t->ws, WS_POLICY);
		t->stage = DERP_OVER;
		return 0;
	}
	int rc = derp_serve_begin(t);
	size_t left = cursor_left(in);
	return rc < 0 ? rc : derp_ws_input(t, cursor_take(in, left), left);
}

int derp_ws_input(struct transport *t, const uint8_t *data, size_t len)
{
	int rc = ws_input(t->ws, data, len);

	for (unsigned n = ws_n_controls(t->ws); rc == 0 && n; n--)
		rc = derp_spend(t);
	if (rc == 0 || t->failed)
		return t->failed;
	return derp_fail(t, rc, rc == ERR_CLOSED ? "" : "WebSocket messages that cannot be read");
}

int derp_ws_flush(struct transport *t, struct buf *out)
{
	size_t len = buf_len(&t->out);
	int rc = buf_add(out, buf_data(&t->out), t->plain_len);

	if (rc == 0 && len > t->plain_len)
		rc = ws_send(t->ws, buf_data(&t->out) + t->plain_len, len - t->plain_len, out);
	buf_clear(&t->out);
	t->plain_len = 0;
	if (rc == ERR_CLOSED)
		rc = 0;
	if (rc == 0 && t->stage == DERP_OVER) /* behind all that was sent */
		rc = ws_close(t->ws, WS_NORMAL);
	return rc < 0 ? rc : ws_flush(t->ws, out);
}

/* ---- requests ---- */

static void answer(struct transport *t, const struct http1_request *q)
{
	const struct page_request pq = { q->method, q->path,
		                         q->field[HTTP1_X_TAILSCALE_CHALLENGE] };
	struct page page;

	page_for(&pq, &page);
	page.answer.close |= !q->keep_alive;
	page.answer.say_keep_alive = q->say_keep_alive;
	t->skip = page.answer.close ? 0 : q->body_len;
	if (page.answer.close)
		t->stage = DERP_OVER;
	if (respond(t, &page.answer) < 0)
		derp_fail(t, -ENOMEM, "out of memory");
}

/* ---- what the owner answers ---- */

void derp_web_free(struct transport *t)
{
	web_done(t->web, t->events, t->owner);
	free(t->web);
	t->web = NULL;
}

/* The connection ends behind it: there is one such request at a time, and nothing waits
 * behind it. */
static int say_last(struct transport *t, struct page *page)
{
	page->answer.close = true;
	t->partial_ms = 0;
	t->stage = DERP_OVER;
	return respond(t, &page->answer) < 0 ? derp_fail(t, -ENOMEM, "out of memory") : 0;
}

static int say_fault(struct transport *t, int status, bool to_head)
{
	struct page page;

	derp_web_free(t);
	page_for_fault(status, &page);
	page.answer.to_head = to_head;
	return say_last(t, &page);
}

void derp_answer(struct web *web, const struct web_answer *a)
{
	struct transport *t = web->transport;
	struct page page;

	web_page(t->web, a, &page);
	say_last(t, &page);
	derp_web_free(t);
}

/* The owner is asked once the body is there. */
static int take_body(struct transport *t, struct cursor *in)
{
	size_t n = cursor_left(in) < t->skip ? cursor_left(in) : t->skip;
	int status = web_take(t->web, cursor_take(in, n), n);

	t->skip -= (uint32_t)n;
	if (!status && t->skip) {
		t->partial_ms = t->partial_ms ? t->partial_ms : t->now_ms;
		return 0;
	}
	t->partial_ms = 0;
	t->stage = DERP_ASKED;
	if (!status)
		status = web_ask(t->web, t->events, t->owner);
	return status ? say_fault(t, status, web_is_head(t->web)) : 0;
}

static int begin_web(struct transport *t, const struct http1_request *q, struct cursor *in)
{
	const struct web_request w = {
		.method = q->method,
		.path = q->path,
		.query = q->query,
		.host = q->field[HTTP1_HOST],
		.origin = q->field[HTTP1_ORIGIN],
		.cookie = q->field[HTTP1_COOKIE],
		.content_type = q->field[HTTP1_CONTENT_TYPE],
	};
	bool to_head = str_eq(q->method, STR("HEAD"));
	int status = q->is_chunked ? 411 : q->expects && q->content_len ? 417 : 0;

	if (!status)
		status = web_check(&w, q->content_len);
	if (!status && (t->web = calloc(1, sizeof *t->web)) == NULL)
		status = 503;
	if (!status)
		status = web_begin(t->web, t, &transport_derp, &w);
	t->skip = status ? 0 : (uint32_t)q->content_len;
	http1_reader_next(t->reader);
	return status ? say_fault(t, status, to_head) : take_body(t, in);
}

/* The tests of the original mount DERP on "/" (derp.md 6.1). */
static bool is_for_derp(const struct http1_request *q)
{
	struct str upgrade = q->field[HTTP1_UPGRADE];

	return (str_eq(q->path, STR("/derp")) || str_eq(q->path, STR("/"))) &&
	       (http1_has_token(upgrade, STR("derp")) ||
	        http1_has_token(upgrade, STR("websocket")));
}

static int on_request(struct transport *t, struct cursor *in)
{
	const struct http1_request *q = http1_reader_request(t->reader);
	char id[TOKEN_ID_LEN + 1];

	if (derp_spend(t) < 0)
		return t->failed;
	if (is_for_derp(q) && !token_in(q->query, id))
		return ws_is_asked_for(q) ? begin_ws(t, q, in) : begin_derp(t, q);
	if (web_is_asked(t->events, q->path, q->query))
		return begin_web(t, q, in);
	answer(t, q);
	http1_reader_next(t->reader);
	return t->failed;
}

static int on_fault(struct transport *t)
{
	struct page page;

	page_for_fault(http1_reader_fault(t->reader), &page);
	respond(t, &page.answer);
	return derp_fail(t, ERR_PROTOCOL, "a request that is not HTTP/1.1");
}

/* True: all that came belongs to a body. */
static bool skip_body(struct transport *t, struct cursor *in)
{
	size_t n = cursor_left(in) < t->skip ? cursor_left(in) : t->skip;

	cursor_take(in, n);
	t->skip -= (uint32_t)n;
	return cursor_left(in) == 0;
}

int derp_http_input(struct transport *t, struct cursor *in)
{
	if (t->web)
		return take_body(t, in);
	if (t->skip && skip_body(t, in))
		return 0;
	if (!t->reader && http1_reader_new(&t->reader) < 0)
		return derp_fail(t, -ENOMEM, "out of memory");
	size_t left = cursor_left(in), used = left;
	int rc = http1_reader_feed(t->reader, in->p, left, &used);
	cursor_take(in, rc == 0 ? used : left);
	bool inside = rc == ERR_AGAIN && http1_reader_is_inside(t->reader);
	t->partial_ms = !inside ? 0 : t->partial_ms ? t->partial_ms : t->now_ms;
	if (rc == ERR_AGAIN)
		return 0;
	return rc == 0 ? on_request(t, in) : on_fault(t);
}
