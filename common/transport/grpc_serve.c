#include "common/transport/grpc_impl.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "common/base/metric.h"
#include "common/base/token.h"

enum { PATH_TOLD_MAX = 256 }; /* of a path that is unknown */

/* ---- answering ---- */

static struct str content_type(void) { return STR("application/grpc"); }

/* status and message as fields; text and digits live in the caller's arrays. */
struct status_fields {
	struct h2_field f[3 + SERVE_METADATA_MAX];
	unsigned n;
	char digits[8];
	char message[3 * GRPC_TEXT_MAX];
};

static void status_fields(struct status_fields *s, int status, const char *text,
                          const struct metadata *more)
{
	struct str full = str_of(text);

	if (full.len > GRPC_TEXT_MAX)
		full.len = GRPC_TEXT_MAX;
	size_t len = grpc_message_encode(full, s->message, sizeof s->message);
	snprintf(s->digits, sizeof s->digits, "%d", status);
	s->n = 0;
	s->f[s->n++] = (struct h2_field){ STR("grpc-status"), str_of(s->digits) };
	if (len)
		s->f[s->n++] = (struct h2_field){ STR("grpc-message"), { s->message, len } };
	if (status == GRPC_UNIMPLEMENTED)
		s->f[s->n++] = (struct h2_field){ STR("grpc-accept-encoding"), STR("identity") };
	for (unsigned i = 0; more && i < more->n; i++)
		s->f[s->n++] = more->f[i];
}

/* One HEADERS frame with everything (gRPC Trailers-Only), on a stream that has
 * had no response. */
static void answer_only_with(struct transport *t, struct h2_stream *st, const char *http_status,
                             int status, const char *text, const struct metadata *more)
{
	struct status_fields s;
	struct h2_field f[2 + sizeof s.f / sizeof *s.f] = {
		{ STR(":status"), str_of(http_status) }, { STR("content-type"), content_type() }
	};

	status_fields(&s, status, text, more);
	memcpy(f + 2, s.f, s.n * sizeof *f);
	h2_respond(t->h2, st, f, 2 + s.n, true);
}

static void answer_only(struct transport *t, struct h2_stream *st, const char *http_status,
                        int status, const char *text)
{
	answer_only_with(t, st, http_status, status, text, NULL);
}

void serve_respond_with(struct call *c, const struct metadata *more)
{
	struct h2_field f[2 + SERVE_METADATA_MAX] = { { STR(":status"), STR("200") },
		                                      { STR("content-type"), content_type() } };
	unsigned n = more ? more->n : 0;

	if (n)
		memcpy(f + 2, more->f, n * sizeof *f);
	if (!c->responded)
		h2_respond(c->chan.transport->h2, c->stream, f, 2 + n, false);
	c->responded = true;
}

void serve_respond(struct call *c) { serve_respond_with(c, NULL); }

void serve_finish(struct call *c, int status, const char *text)
{
	serve_finish_with(c, status, text, NULL);
}

void serve_finish_with(struct call *c, int status, const char *text, const struct metadata *more)
{
	struct transport *t = c->chan.transport;

	if (c->stream && !c->responded) {
		answer_only_with(t, c->stream, "200", status, text, more);
	} else if (c->stream) {
		struct status_fields s;
		status_fields(&s, status, text, more);
		h2_finish(t->h2, c->stream, s.f, s.n);
	}
	call_retire(c);
}

/* Ends the call for the reason a lower layer found, and tells the owner. */
void serve_broken(struct call *c, int err)
{
	struct transport *t = c->chan.transport;
	const char *text = "malformed message";
	int status = GRPC_INTERNAL;
	enum close_why why = CLOSE_PROTOCOL;

	if (err == ERR_TOO_BIG) {
		status = GRPC_RESOURCE_EXHAUSTED;
		why = CLOSE_TOO_BIG;
		text = "message larger than 66560 bytes or with too many fields";
	} else if (err == ERR_FLOOD) {
		status = GRPC_RESOURCE_EXHAUSTED;
		why = CLOSE_FLOOD;
		text = "too many unfinished messages on one connection";
	} else if (err == GRPC_COMPRESSED && c->no_encoding) {
		text = "a message is flagged as compressed, but grpc-encoding names nothing";
	} else if (err == GRPC_COMPRESSED) {
		status = GRPC_UNIMPLEMENTED;
		why = CLOSE_UNIMPLEMENTED;
		text = "compressed messages are not supported, send identity";
	} else if (err == ERR_INVALID) {
		status = GRPC_INVALID_ARGUMENT;
		why = CLOSE_INVALID;
		text = "a number or enum is out of range";
	} else if (err == -ENOMEM) {
		status = GRPC_RESOURCE_EXHAUSTED;
		why = CLOSE_NOMEM;
		text = "the relay is out of memory";
	}
	if (c->chan.up && c->state != CALL_OVER)
		t->events->ended(t->owner, &c->chan, why, text);
	serve_finish(c, status, text);
}

/* ---- requests ---- */

static const char *unacceptable(const struct h2_head *head, const char **http_status_out)
{
	struct str method = h2_head_get(head, ":method", NULL);

	if (!str_eq(method, STR("POST"))) {
		*http_status_out = "405";
		return "gRPC requests are POST";
	}
	if (!grpc_is_content_type(h2_head_get(head, "content-type", NULL))) {
		*http_status_out = "415";
		return "content-type must be application/grpc";
	}
	return NULL;
}

bool service_is_offered(const struct transport *t, const struct service *s)
{
	return !s->is_offered || s->is_offered(t);
}

const struct service *service_named(const struct transport *t, struct str name)
{
	for (unsigned i = 0; services[i]; i++)
		if (str_eq(name, str_of(services[i]->name)) && service_is_offered(t, services[i]))
			return services[i];
	return NULL;
}

/* Exact match before anything else looks at the path; nothing is decoded or
 * normalised (S4). */
static const struct method *method_of(const struct transport *t, struct str path)
{
	for (unsigned i = 0; services[i]; i++) {
		const struct service *s = services[i];
		for (unsigned k = 0; k < s->n_methods; k++)
			if (str_eq(path, str_of(s->methods[k].path)))
				return service_is_offered(t, s) ? &s->methods[k] : NULL;
	}
	return NULL;
}

static void answer_unknown(struct transport *t, struct h2_stream *st, struct str path)
{
	char words[300] = "unknown method ", id[TOKEN_ID_LEN + 1];
	size_t n = strlen(words);

	if (token_in(path, id)) { /* who sees it could use it (A12) */
		if (t->events->exposed)
			t->events->exposed(t->owner, id);
		answer_only(t, st, "200", GRPC_UNIMPLEMENTED,
		            "no token belongs in a path: revoke it");
		return;
	}

	for (size_t i = 0; i < path.len && i < PATH_TOLD_MAX; i++)
		words[n++] = path.p[i] >= 0x20 && path.p[i] < 0x7f ? path.p[i] : '?';
	answer_only(t, st, "200", GRPC_UNIMPLEMENTED, words);
}

static bool ends_in_bin(struct str name)
{
	return name.len > 4 && memcmp(name.p + name.len - 4, "-bin", 4) == 0;
}

/* What is wrong with the fields that gRPC defines, or NULL. The deadline is 0
 * without grpc-timeout. */
static const char *malformed(const struct transport *t, const struct h2_head *head,
                             uint64_t *deadline_out)
{
	unsigned n;
	struct str timeout = h2_head_get(head, "grpc-timeout", &n);
	uint64_t ms = 0;

	if (n > 1 || (n == 1 && grpc_timeout(timeout, &ms) < 0))
		return "malformed grpc-timeout";
	for (size_t i = 0; i < head->n; i++)
		if (ends_in_bin(head->fields[i].name) && !grpc_is_bin(head->fields[i].value))
			return "a -bin field is not base64";
	h2_head_get(head, "te", &n); /* other values than trailers have not come this far (S3) */
	if (n == 0)
		metric_add(METRIC_NO_TE, 1);
	*deadline_out = timeout.len ? t->now_ms + ms : 0;
	return NULL;
}

/* Answers a request that cannot become a call. False: it can. */
static bool turned_away(struct transport *t, struct h2_stream *st, const struct h2_head *head,
                        const struct method **method_out, uint64_t *deadline_out)
{
	const char *http_status, *text = unacceptable(head, &http_status);
	struct str path = h2_head_get(head, ":path", NULL);

	if (text)
		answer_only(t, st, http_status, GRPC_INTERNAL, text);
	else if (!(*method_out = method_of(t, path)))
		answer_unknown(t, st, path);
	else if ((text = malformed(t, head, deadline_out)) != NULL)
		answer_only(t, st, "400", GRPC_INTERNAL, text);
	else if (*deadline_out && *deadline_out <= t->now_ms)
		answer_only(t, st, "200", GRPC_DEADLINE_EXCEEDED, "the deadline had passed");
	else
		return false;
	return true;
}

/* Others are served pages. Who asks for a method of ours is told what is wrong with the
 * rest of the request, as S1 and S2 want it. */
static bool is_for_grpc(const struct transport *t, const struct h2_head *head)
{
	struct str type = h2_head_get(head, "content-type", NULL);
	struct str begin = STR("application/grpc");

	return (type.len >= begin.len && memcmp(type.p, begin.p, begin.len) == 0) ||
	       method_of(t, h2_head_get(head, ":path", NULL));
}

void serve_head(void *owner, struct h2_stream *st, const struct h2_head *head, bool end)
{
	struct transport *t = owner;
	struct call *c = h2_user(st);
	uint64_t deadline_ms;
	const struct method *m;

	(void)end;
	if (c) /* trailers of a request carry nothing of ours */
		return;
	if (!is_for_grpc(t, head)) {
		page_head(t, st, head);
		return;
	}
	if (turned_away(t, st, head, &m, &deadline_ms))
		return;
	c = call_new(t, st, m);
	if (!c) {
		answer_only(t, st, "200", GRPC_RESOURCE_EXHAUSTED, "the relay is out of memory");
		return;
	}
	h2_set_user(st, c);
	c->deadline_ms = deadline_ms;
	struct str encoding = h2_head_get(head, "grpc-encoding", NULL);
	c->no_encoding = encoding.len == 0 || str_eq(encoding, STR("identity"));
	t->companion |= !m->is_channel;
	if (m->on_start)
		m->on_start(c, head);
}

/* ---- events of one stream ---- */

static bool is_one_request(const struct method *m)
{
	return m->streaming == UNARY || m->streaming == SERVER_STREAMING;
}

static void on_message(struct call *c, const uint8_t *msg, size_t len)
{
	if (c->has_spoken && is_one_request(c->method)) {
		serve_finish(c, GRPC_UNIMPLEMENTED, "more than one request message");
		return;
	}
	c->has_spoken = true;
	c->method->on_message(c, msg, len);
}

void serve_data(void *owner, struct h2_stream *st, const uint8_t *data, size_t len)
{
	struct call *c = h2_user(st);

	(void)owner;
	if (c && c->method->is_plain && c->method->on_message)
		c->method->on_message(c, data, len);
	else if (c && !c->method->is_plain)
		call_data(c, data, len, on_message, serve_broken);
}

void serve_end(void *owner, struct h2_stream *st)
{
	struct call *c = h2_user(st);

	(void)owner;
	if (!c)
		return;
	if (c->method->is_plain)
		c->method->on_end(c);
	else if (!deframer_is_between(&c->deframer))
		serve_broken(c, ERR_PROTOCOL);
	else if (!c->has_spoken && is_one_request(c->method))
		serve_finish(c, GRPC_UNIMPLEMENTED, "no request message");
	else
		c->method->on_end(c);
}

void serve_tick(struct call *c)
{
	struct transport *t = c->chan.transport;

	if (c->deadline_ms && t->now_ms >= c->deadline_ms) {
		if (c->stream)
			h2_reset(t->h2, c->stream, H2_CANCEL);
		call_ended(c, CLOSE_DEADLINE, "");
	} else if (c->deaf) {
		call_end_deaf(c);
	} else if (call_is_late(c) ||
	           (!c->has_spoken && t->now_ms - c->opened_ms > t->conf->limits->register_ms)) {
		const char *text = "the message did not arrive in time";
		if (c->method->is_plain) {
			h2_reset(t->h2, c->stream, H2_CANCEL);
			call_retire(c);
			return;
		}
		if (c->chan.up)
			t->events->ended(t->owner, &c->chan, CLOSE_SLOW_START, text);
		serve_finish(c, GRPC_DEADLINE_EXCEEDED, text);
	}
}
