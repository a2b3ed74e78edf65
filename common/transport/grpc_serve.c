#include "common/transport/grpc_impl.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "common/base/crypto.h"
#include "common/base/metric.h"

#define SERVICE "/tunn.v1.TunnelService/"
#define HEALTH  "/grpc.health.v1.Health/"

static const struct {
	const char *path;
	enum call_kind kind;
} methods[] = {
	/* exact match, nothing is decoded or normalised (S4) */
	{ SERVICE "EstablishTunnel", CALL_TUNNEL },
	{ HEALTH "Check", CALL_HEALTH_CHECK },
	{ HEALTH "Watch", CALL_HEALTH_WATCH },
};

/* ---- answering ---- */

static struct str content_type(void) { return STR("application/grpc"); }

/* status and message as fields; text and digits live in the caller's arrays. */
struct status_fields {
	struct h2_field f[4];
	unsigned n;
	char digits[8];
	char message[3 * GRPC_TEXT_MAX];
};

static void status_fields(struct status_fields *s, int status, const char *text)
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
}

/* One HEADERS frame with everything (gRPC Trailers-Only), on a stream that has
 * had no response. */
static void answer_only(struct transport *t, struct h2_stream *st, const char *http_status,
                        int status, const char *text)
{
	struct status_fields s;
	struct h2_field f[6] = { { STR(":status"), str_of(http_status) },
		                 { STR("content-type"), content_type() } };

	status_fields(&s, status, text);
	memcpy(f + 2, s.f, s.n * sizeof *f);
	h2_respond(t->h2, st, f, 2 + s.n, true);
}

static void respond(struct call *c)
{
	const struct h2_field f[] = { { STR(":status"), STR("200") },
		                      { STR("content-type"), content_type() } };

	if (!c->responded)
		h2_respond(c->chan.transport->h2, c->stream, f, 2, false);
	c->responded = true;
}

void serve_finish(struct call *c, int status, const char *text)
{
	struct transport *t = c->chan.transport;

	if (c->stream && !c->responded) {
		answer_only(t, c->stream, "200", status, text);
	} else if (c->stream) {
		struct status_fields s;
		status_fields(&s, status, text);
		h2_finish(t->h2, c->stream, s.f, s.n);
	}
	call_retire(c);
}

/* Ends the call for the reason a lower layer found, and tells the owner. */
static void broken(struct call *c, int err)
{
	struct transport *t = c->chan.transport;
	const char *text = "malformed message";
	int status = GRPC_INTERNAL;
	enum close_why why = CLOSE_PROTOCOL;

	if (err == ERR_TOO_BIG) {
		status = GRPC_RESOURCE_EXHAUSTED;
		why = CLOSE_TOO_BIG;
		text = "message larger than 66560 bytes or with too many fields";
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
	if (c->kind == CALL_TUNNEL && c->chan.up && c->state != CALL_OVER)
		t->events->ended(t->owner, &c->chan, why, text);
	serve_finish(c, status, text);
}

static void misplaced(struct call *c, const char *text)
{
	struct transport *t = c->chan.transport;

	if (c->chan.up)
		t->events->ended(t->owner, &c->chan, CLOSE_ORDER, text);
	serve_finish(c, GRPC_FAILED_PRECONDITION, text);
}

/* ---- requests ---- */

static void take_authorization(struct call *c, const struct h2_head *head)
{
	unsigned n;
	struct str v = h2_head_get(head, "authorization", &n);
	static const char scheme[] = "bearer ";
	size_t skip = sizeof scheme - 1;

	if (n == 0)
		return;
	if (n > 1 || v.len <= skip || v.len - skip > TOKEN_MAX_LEN ||
	    strncasecmp(v.p, scheme, skip) != 0) {
		c->bad_auth = true;
		return;
	}
	c->token = strndup(v.p + skip, v.len - skip);
	if (!c->token)
		c->bad_auth = true;
}

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

static int method_of(struct str path)
{
	for (unsigned i = 0; i < sizeof methods / sizeof *methods; i++)
		if (str_eq(path, str_of(methods[i].path)))
			return (int)methods[i].kind;
	return -1;
}

/* Answers a request that cannot become a call. False: it can. */
static bool turned_away(struct transport *t, struct h2_stream *st, const struct h2_head *head,
                        int *kind_out, uint64_t *deadline_out)
{
	const char *http_status, *text = unacceptable(head, &http_status);
	struct str path = h2_head_get(head, ":path", NULL);
	unsigned n_timeouts;
	struct str timeout = h2_head_get(head, "grpc-timeout", &n_timeouts);
	uint64_t ms = 0;

	if (text) {
		answer_only(t, st, http_status, GRPC_INTERNAL, text);
		return true;
	}
	*kind_out = method_of(path);
	if (*kind_out < 0) {
		char words[300];
		snprintf(words, sizeof words, "unknown method %.*s",
		         (int)(path.len < 256 ? path.len : 256), path.p ? path.p : "");
		answer_only(t, st, "200", GRPC_UNIMPLEMENTED, words);
		return true;
	}
	if (n_timeouts > 1 || (n_timeouts == 1 && grpc_timeout(timeout, &ms) < 0)) {
		answer_only(t, st, "400", GRPC_INTERNAL, "malformed grpc-timeout");
		return true;
	}
	if (n_timeouts == 1 && ms == 0) {
		answer_only(t, st, "200", GRPC_DEADLINE_EXCEEDED, "the deadline had passed");
		return true;
	}
	*deadline_out = n_timeouts ? t->now_ms + ms : 0;
	return false;
}

void serve_head(void *owner, struct h2_stream *st, const struct h2_head *head, bool end)
{
	struct transport *t = owner;
	struct call *c = h2_user(st);
	uint64_t deadline_ms;
	int kind;

	(void)end;
	if (c) /* trailers of a request carry nothing of ours */
		return;
	if (turned_away(t, st, head, &kind, &deadline_ms))
		return;
	c = call_new(t, st, (enum call_kind)kind);
	if (!c) {
		answer_only(t, st, "200", GRPC_RESOURCE_EXHAUSTED, "the relay is out of memory");
		return;
	}
	h2_set_user(st, c);
	c->deadline_ms = deadline_ms;
	struct str encoding = h2_head_get(head, "grpc-encoding", NULL);
	c->no_encoding = encoding.len == 0 || str_eq(encoding, STR("identity"));
	if (kind == CALL_TUNNEL) {
		take_authorization(c, head);
		respond(c); /* at once: tells a buffering proxy from a slow relay */
	} else {
		t->health_client = true;
	}
}

/* ---- registration ---- */

static const char *hello_error(const struct msg *m)
{
	if (m->tunnel_id.len && !name_is_valid(m->tunnel_id))
		return "tunnel_id must be 1 to 63 of a-z, 0-9 and -, not starting with -";
	if (m->n_peers == 0)
		return "relay.peer_ids must name at least one peer";
	for (unsigned i = 0; i < m->n_peers; i++)
		if (!peer_is_valid(m->peers[i]))
			return "a peer is written id, account/id or nodekey:HEX";
	if (m->instance.len != 0 && m->instance.len != INSTANCE_LEN)
		return "instance must be 16 bytes";
	if (m->token.len > TOKEN_MAX_LEN)
		return "auth_token is longer than a token";
	return NULL;
}

/* peer_id may repeat one of peer_ids: a union. */
static void without_doubles(struct msg *m)
{
	unsigned n = 0;

	for (unsigned i = 0; i < m->n_peers; i++) {
		unsigned k = 0;
		while (k < n && !str_eq(m->peers[k], m->peers[i]))
			k++;
		if (k == n)
			m->peers[n++] = m->peers[i];
	}
	m->n_peers = n;
}

static void tell_hello(struct call *c, const struct msg *m)
{
	struct transport *t = c->chan.transport;
	struct hello hello = {
		.id = m->tunnel_id,
		.token = c->token ? str_of(c->token) : m->token,
		.peer_address = str_of(t->conf->host_address),
		.has_instance = m->instance.len == INSTANCE_LEN,
		.version = m->version,
		.role = (enum role)m->role,
		.bidirectional = m->bidirectional,
		.n_peers = m->n_peers,
		.peers = m->peers,
	};

	if (hello.has_instance)
		memcpy(hello.instance, m->instance.p, INSTANCE_LEN);
	c->version = m->version;
	c->state = CALL_PENDING;
	t->events->hello(t->owner, &c->chan, &hello);
	if (c->token)
		crypto_wipe(c->token, strlen(c->token));
	free(c->token);
	c->token = NULL;
}

static void take_register(struct call *c, const uint8_t *data, size_t len)
{
	enum { TAG_REGISTER_CLIENT = 1 << 3 | 2 };
	struct transport *t = c->chan.transport;
	struct msg m;
	const char *error;

	/* Before authentication nothing else is ever unpacked. */
	if (len == 0 || data[0] != TAG_REGISTER_CLIENT) {
		misplaced(c, "the first message must be register_client");
		return;
	}
	int rc = msg_decode(&t->arena, data, len, &m);
	if (rc < 0) {
		broken(c, rc);
	} else if (m.kind != MSG_REGISTER) {
		misplaced(c, "the first message must be register_client");
	} else if (c->bad_auth) {
		serve_finish(c, GRPC_UNAUTHENTICATED, "authorization must be one `Bearer TOKEN`");
	} else if ((error = hello_error(&m)) != NULL) {
		serve_finish(c, GRPC_INVALID_ARGUMENT, error);
	} else {
		without_doubles(&m);
		rc = call_set_peers(c, m.tunnel_id, m.peers, m.n_peers);
		if (rc < 0)
			broken(c, rc);
		else
			tell_hello(c, &m);
	}
	arena_clear(&t->arena);
}

int serve_admit(struct chan *chan, const struct welcome *w)
{
	struct call *c = call_of(chan);
	struct msg m = {
		.kind = MSG_REGISTERED,
		.account = w->account,
		.node = w->node,
		.tunnel_id = w->id,
		.version = w->version,
		.max_payload = w->max_payload,
	};

	if (c->state != CALL_PENDING)
		return ERR_CLOSED;
	call_set_keys(c, w->peer_keys);
	c->state = CALL_OPEN;
	return call_say(c, &m);
}

void serve_refuse(struct chan *chan, enum close_why why, const char *text)
{
	serve_finish(call_of(chan), close_grpc_status(why), text);
}

/* ---- an open tunnel ---- */

static void on_control(struct call *c, const struct msg *m)
{
	switch (m->kind) {
	case MSG_HEALTH_CHECK:
		c->beats = true;
		call_answer_health(c, m);
		break;
	case MSG_HEALTH_ANSWER:
	case MSG_NONE: break;
	case MSG_REGISTER: misplaced(c, "already registered"); break;
	default: misplaced(c, "only the relay sends this message"); break;
	}
}

static void on_tunnel_message(struct call *c, const uint8_t *msg, size_t len)
{
	switch (c->state) {
	case CALL_AWAIT: take_register(c, msg, len); break;
	case CALL_PENDING: /* spoke before it was admitted: nothing is unpacked */
		metric_drop(DROP_NOT_READY);
		break;
	case CALL_OPEN: call_datagram(c, msg, len, on_control, broken); break;
	case CALL_OVER: break;
	}
}

/* ---- health ---- */

static enum health_state health_of(const struct transport *t, struct str service)
{
	if (service.len && !str_eq(service, STR("tunn.v1.TunnelService")) &&
	    !str_eq(service, STR("grpc.health.v1.Health")))
		return HEALTH_SERVICE_UNKNOWN;
	return t->serving ? HEALTH_SERVING : HEALTH_NOT_SERVING;
}

static void tell_health(struct call *c)
{
	struct transport *t = c->chan.transport;

	respond(c);
	if (health_answer_encode(health_of(t, c->health_service), h2_outgoing(c->stream)) == 0)
		h2_resume(t->h2, c->stream);
}

static void on_health_message(struct call *c, const uint8_t *msg, size_t len)
{
	struct transport *t = c->chan.transport;
	struct str service;
	int rc = c->state == CALL_AWAIT ? health_request_decode(&t->arena, msg, len, &service) : 0;

	if (c->state != CALL_AWAIT)
		serve_finish(c, GRPC_UNIMPLEMENTED, "more than one request message");
	else if (rc < 0)
		broken(c, rc);
	else if (service.len > sizeof c->health_name)
		serve_finish(c, GRPC_NOT_FOUND, "unknown service");
	if (c->state != CALL_OVER) {
		if (service.len)
			memcpy(c->health_name, service.p, service.len);
		c->health_service = (struct str){ c->health_name, service.len };
		c->state = CALL_OPEN;
	}
	arena_clear(&t->arena);
}

static void health_end(struct call *c)
{
	if (c->state == CALL_AWAIT) {
		serve_finish(c, GRPC_UNIMPLEMENTED, "no request message");
	} else if (c->kind == CALL_HEALTH_WATCH) {
		tell_health(c); /* an unknown service stays open and may appear */
	} else if (health_of(c->chan.transport, c->health_service) == HEALTH_SERVICE_UNKNOWN) {
		serve_finish(c, GRPC_NOT_FOUND, "unknown service");
	} else {
		tell_health(c);
		serve_finish(c, GRPC_OK, "");
	}
}

int serve_tell_serving(struct transport *t, bool serving)
{
	if (t->serving == serving)
		return 0;
	t->serving = serving;
	list_each(it, tmp, &t->calls) {
		struct call *c = container_of(it, struct call, node);
		if (c->kind == CALL_HEALTH_WATCH && c->responded)
			tell_health(c);
	}
	return 0;
}

/* ---- events of one stream ---- */

void serve_data(void *owner, struct h2_stream *st, const uint8_t *data, size_t len)
{
	struct call *c = h2_user(st);

	(void)owner;
	if (c)
		call_data(c, data, len,
		          c->kind == CALL_TUNNEL ? on_tunnel_message : on_health_message, broken);
}

void serve_end(void *owner, struct h2_stream *st)
{
	struct transport *t = owner;
	struct call *c = h2_user(st);

	if (!c)
		return;
	if (!deframer_is_between(&c->deframer)) {
		broken(c, ERR_PROTOCOL);
	} else if (c->kind != CALL_TUNNEL) {
		health_end(c);
	} else if (c->state == CALL_AWAIT) {
		misplaced(c, "the stream ended before register_client");
	} else {
		if (c->chan.up)
			t->events->ended(t->owner, &c->chan, CLOSE_DONE, "");
		serve_finish(c, GRPC_OK, "");
	}
}

void serve_end_call(struct call *c, enum close_why why, const char *text)
{
	struct msg m = { .kind = MSG_STREAM_CLOSED, .text = str_of(text) };

	if (c->state == CALL_OPEN)
		call_say(c, &m);
	serve_finish(c, close_grpc_status(why), text);
}

void serve_tick(struct call *c)
{
	struct transport *t = c->chan.transport;

	if (c->deadline_ms && t->now_ms >= c->deadline_ms) {
		if (c->stream)
			h2_reset(t->h2, c->stream, H2_CANCEL);
		call_ended(c, CLOSE_DEADLINE, "");
	} else if (call_is_late(c) || (c->state == CALL_AWAIT &&
	                               t->now_ms - c->opened_ms > t->conf->limits->register_ms)) {
		const char *text = "the message did not arrive in time";
		if (c->chan.up)
			t->events->ended(t->owner, &c->chan, CLOSE_SLOW_START, text);
		serve_finish(c, GRPC_DEADLINE_EXCEEDED, text);
	}
}

int serve_tell_peer(struct chan *chan, const struct peer_status *p)
{
	struct call *c = call_of(chan);
	int i = call_peer_by_key(c, &p->key);
	struct msg m = { .kind = MSG_PEER_STATUS,
		         .state = (int)p->state,
		         .text = p->text,
		         .role = (int)p->role };

	if (i < 0)
		return ERR_NOT_FOUND;
	m.peer_id = c->peers[i].name;
	return call_say(c, &m);
}

int serve_tell_notice(struct chan *chan, const struct notice *n)
{
	struct msg m = { .kind = MSG_NOTICE,
		         .within_ms = n->within_ms,
		         .percent = n->percent,
		         .resets_unix_s = n->resets_unix_s };

	m.notice = n->kind == NOTICE_DRAINING ? MSG_NOTICE_DRAINING :
	           n->kind == NOTICE_QUOTA    ? MSG_NOTICE_QUOTA :
	                                        MSG_NOTICE_SUPERSEDED;
	m.text = n->kind == NOTICE_DRAINING ? n->target : n->text;
	return call_say(call_of(chan), &m);
}
