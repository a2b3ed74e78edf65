#include "common/transport/grpc_impl.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/transport/control.h"

/* ---- the request ---- */

static int say_hello(struct call *c, const struct hello *h)
{
	struct msg m = {
		.kind = MSG_REGISTER,
		.tunnel_id = h->id,
		.token = h->token,
		.version = 1,
		.bidirectional = h->bidirectional,
		.role = (int)h->role,
		.n_peers = h->n_peers,
		.peers = (struct str *)(uintptr_t)h->peers,
	};

	if (h->has_instance)
		m.instance = (struct str){ (const char *)h->instance, INSTANCE_LEN };
	return call_say(c, &m);
}

int dial_dial(struct transport *t, const struct hello *h, struct chan **c_out)
{
	/* Order of the gRPC spec: pseudo fields, te, content-type, the rest. */
	const struct h2_field f[] = {
		{ STR(":method"), STR("POST") },
		{ STR(":scheme"), STR("https") },
		{ STR(":path"), STR("/tunn.v1.TunnelService/EstablishTunnel") },
		{ STR(":authority"), str_of(t->conf->authority) },
		{ STR("te"), STR("trailers") },
		{ STR("content-type"), STR("application/grpc+proto") },
		{ STR("grpc-accept-encoding"), STR("identity") },
		{ STR("user-agent"), str_of(t->conf->user_agent) },
	};
	struct call *c = call_new(t, NULL, NULL);
	int rc;

	if (!c)
		return -ENOMEM;
	rc = call_set_peers(c, h->id, h->peers, h->n_peers);
	if (rc == 0)
		rc = h2_request(t->h2, f, sizeof f / sizeof *f, c, &c->stream);
	if (rc == 0)
		rc = say_hello(c, h);
	if (rc < 0) {
		call_retire(c);
		return rc;
	}
	answer_of(c)->status = -1;
	*c_out = &c->chan;
	return 0;
}

/* ---- what comes instead of a tunnel, or after it ---- */

static void take_status(struct call *c, const struct h2_head *head)
{
	struct answer *a = answer_of(c);
	unsigned n;
	struct str status = h2_head_get(head, "grpc-status", &n);

	if (n == 0)
		return;
	a->status = grpc_status_parse(status);
	grpc_message_decode(h2_head_get(head, "grpc-message", NULL), a->text, sizeof a->text);
	if (!a->text[0] && a->status == GRPC_UNKNOWN)
		snprintf(a->text, sizeof a->text, "grpc-status %.*s",
		         (int)(status.len < 64 ? status.len : 64), status.len ? status.p : "");
}

static void take_response(struct call *c, const struct h2_head *head)
{
	struct answer *a = answer_of(c);
	struct str status = h2_head_get(head, ":status", NULL);
	struct str type = h2_head_get(head, "content-type", NULL);

	if (status.len == 0 || c->responded)
		return; /* trailers */
	c->responded = true;
	if (str_eq(status, STR("200")) && grpc_is_content_type(type))
		return;
	a->not_grpc = true;
	c->deadline_ms = c->chan.transport->now_ms + BODY_MS;
	snprintf(a->http_status, sizeof a->http_status, "%.*s", (int)status.len, status.p);
}

/* HTTP without gRPC: the status is synthesised from that of HTTP. */
static void finished_by_another(struct call *c)
{
	struct answer *a = answer_of(c);
	char words[GRPC_TEXT_MAX + 128];

	snprintf(words, sizeof words, "HTTP %s, not a gRPC answer (captive portal or proxy?)%s%s",
	         a->http_status, a->n_snippet ? ": " : "", a->text);
	call_ended(c, grpc_close_why(grpc_status_of_http(str_of(a->http_status)), ""), words);
}

static void finished(struct call *c)
{
	struct answer *a = answer_of(c);

	if (a->status >= 0)
		call_ended(c, grpc_close_why(a->status, a->text), a->text);
	else if (a->not_grpc)
		finished_by_another(c);
	else
		call_ended(c, c->state == CALL_OPEN ? CLOSE_EOF : CLOSE_NOT_GRPC,
		           "the stream ended without a grpc-status");
}

void dial_head(void *owner, struct h2_stream *st, const struct h2_head *head, bool end)
{
	struct call *c = h2_user(st);

	(void)owner, (void)end;
	if (!c)
		return;
	take_response(c, head);
	take_status(c, head);
}

void dial_end(void *owner, struct h2_stream *st)
{
	struct call *c = h2_user(st);

	(void)owner;
	if (c)
		finished(c);
}

void dial_closed(struct call *c, uint32_t code)
{
	struct answer *a = answer_of(c);

	if (a->status >= 0 || a->not_grpc) {
		finished(c);
		return;
	}
	a->status = grpc_status_of_rst(code);
	snprintf(a->text, sizeof a->text, "the stream was reset (HTTP/2 code %u, %s)", code,
	         h2_code_name(code));
	/* Each middlebox kills idle streams with a code of its own, so no reset is
	 * ever a verdict (robustness.md, point 4). */
	call_ended(c, CLOSE_RESET, a->text);
}

/* ---- messages ---- */

static void broken(struct call *c, int err)
{
	struct transport *t = c->chan.transport;

	if (c->stream)
		h2_reset(t->h2, c->stream, H2_CANCEL);
	if (err == -ETIMEDOUT)
		call_ended(c, CLOSE_SLOW_START, "the relay stopped within a message");
	else if (err == -ENOMEM)
		call_ended(c, CLOSE_NOMEM, close_text(CLOSE_NOMEM));
	else
		call_ended(c, err == ERR_TOO_BIG ? CLOSE_TOO_BIG : CLOSE_PROTOCOL,
		           "the relay sent a message that cannot be read");
}

static void take_registered(struct call *c, const struct msg *m)
{
	struct transport *t = c->chan.transport;
	struct key *keys = calloc(c->n_peers, sizeof *keys);
	struct welcome w = {
		.account = m->account,
		.id = m->tunnel_id.len ? m->tunnel_id : c->id,
		.node = m->node,
		.max_payload = m->max_payload ? m->max_payload : PAYLOAD_MAX,
		.version = m->version,
		.n_peers = c->n_peers,
		.peer_keys = keys,
	};
	bool ok = keys && name_is_valid(m->account) && name_is_valid(w.id) &&
	          (m->node.len == 0 || utf8_is_valid(m->node.p, m->node.len));

	for (unsigned i = 0; ok && i < c->n_peers; i++)
		ok = key_of_peer(m->account, c->peers[i].name, &keys[i]) == 0;
	if (!ok) {
		broken(c, keys ? ERR_PROTOCOL : -ENOMEM);
		free(keys);
		return;
	}
	c->version = m->version;
	call_set_keys(c, keys);
	c->state = CALL_OPEN;
	t->events->ready(t->owner, &c->chan, &w);
	free(keys);
}

static void take_peer_status(struct call *c, const struct msg *m)
{
	struct transport *t = c->chan.transport;
	int i = call_peer_by_name(c, m->peer_id);
	struct peer_status p;

	if (i < 0 || !control_to_status(m, &p))
		return; /* a later relay may say more than this version knows */
	p.key = c->peers[i].key;
	t->events->peer(t->owner, &c->chan, &p);
}

static void take_notice(struct call *c, const struct msg *m)
{
	struct transport *t = c->chan.transport;
	struct notice n;

	if (!control_to_notice(m, &n))
		return;
	t->draining_told |= n.kind == NOTICE_DRAINING;
	t->events->notice(t->owner, &c->chan, &n);
}

static void on_control(struct call *c, const struct msg *m)
{
	switch (m->kind) {
	case MSG_HEALTH_CHECK: call_answer_health(c, m); break;
	case MSG_HEALTH_ANSWER: grpc_beat_answered(c->chan.transport); break;
	case MSG_PEER_STATUS: take_peer_status(c, m); break;
	case MSG_NOTICE: take_notice(c, m); break;
	case MSG_STREAM_CLOSED: /* the status that follows says it again */
	case MSG_NONE: break;
	default: broken(c, ERR_PROTOCOL); break;
	}
}

static void on_first_message(struct call *c, const uint8_t *msg, size_t len)
{
	struct transport *t = c->chan.transport;
	struct msg m;
	int rc = msg_decode(&t->arena, msg, len, &m);

	if (rc < 0 || m.kind != MSG_REGISTERED)
		broken(c, rc == -ENOMEM ? rc : ERR_PROTOCOL);
	else
		take_registered(c, &m);
	arena_clear(&t->arena);
}

static void on_message(struct call *c, const uint8_t *msg, size_t len)
{
	if (c->state == CALL_AWAIT)
		on_first_message(c, msg, len);
	else if (c->state == CALL_OPEN)
		call_datagram(c, msg, len, on_control, broken);
}

/* Enough is known of what is not gRPC. */
static void stop_reading(struct call *c)
{
	h2_reset(c->chan.transport->h2, c->stream, H2_CANCEL);
	finished(c);
}

/* Keeps the start of a body that is not gRPC: nearly always an error page. */
static void keep_snippet(struct call *c, const uint8_t *data, size_t len)
{
	struct answer *a = answer_of(c);

	if (a->status >= 0)
		return; /* the text is a status message */
	for (size_t i = 0; i < len && a->n_snippet < BODY_SNIPPET; i++) {
		bool printable = data[i] >= 0x20 && data[i] < 0x7f;
		a->text[a->n_snippet++] = printable ? (char)data[i] : ' ';
	}
	a->text[a->n_snippet] = 0;
	if (a->n_snippet == BODY_SNIPPET)
		stop_reading(c);
}

void dial_tick(struct call *c)
{
	if (c->deadline_ms && c->chan.transport->now_ms >= c->deadline_ms)
		stop_reading(c);
	else if (c->deaf)
		call_end_deaf(c);
	else if (call_is_late(c))
		broken(c, -ETIMEDOUT);
}

void dial_data(void *owner, struct h2_stream *st, const uint8_t *data, size_t len)
{
	struct call *c = h2_user(st);

	(void)owner;
	if (!c)
		return;
	if (answer_of(c)->not_grpc)
		keep_snippet(c, data, len);
	else
		call_data(c, data, len, on_message, broken);
}
