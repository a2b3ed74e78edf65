/* tunn.v1.TunnelService: what lets ends in, and their open tunnels. */
#include "common/transport/grpc_impl.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "common/base/crypto.h"
#include "common/base/metric.h"
#include "common/transport/control.h"

static void misplaced(struct call *c, const char *text)
{
	struct transport *t = c->chan.transport;

	if (c->chan.up)
		t->events->ended(t->owner, &c->chan, CLOSE_ORDER, text);
	serve_finish(c, GRPC_FAILED_PRECONDITION, text);
}

/* ---- registration ---- */

static int take_authorization(struct call *c, const struct h2_head *head)
{
	unsigned n;
	struct str v = h2_head_get(head, "authorization", &n);
	static const char scheme[] = "bearer ";
	size_t skip = sizeof scheme - 1;

	if (n == 0)
		return 0;
	if (n > 1 || v.len <= skip || v.len - skip > TOKEN_MAX_LEN ||
	    strncasecmp(v.p, scheme, skip) != 0) {
		c->bad_auth = true;
		return 0;
	}
	c->token = strndup(v.p + skip, v.len - skip);
	return c->token ? 0 : -ENOMEM;
}

static void on_start(struct call *c, const struct h2_head *head)
{
	int rc = take_authorization(c, head);

	serve_respond(c); /* at once: tells a buffering proxy from a slow relay */
	if (rc < 0)
		serve_broken(c, rc);
}

static struct hello hello_of(const struct call *c, const struct msg *m)
{
	struct hello hello = {
		.id = m->tunnel_id,
		.token = c->token ? str_of(c->token) : m->token,
		.peer_address = str_of(c->chan.transport->conf->host_address),
		.has_instance = m->instance.len == INSTANCE_LEN,
		.version = m->version,
		.role = (enum role)m->role,
		.bidirectional = m->bidirectional,
		.n_peers = m->n_peers,
		.peers = m->peers,
	};

	if (hello.has_instance)
		memcpy(hello.instance, m->instance.p, INSTANCE_LEN);
	return hello;
}

static void tell_hello(struct call *c, const struct hello *hello)
{
	struct transport *t = c->chan.transport;

	c->version = hello->version;
	c->state = CALL_PENDING;
	t->events->hello(t->owner, &c->chan, hello);
	if (c->token)
		crypto_wipe(c->token, strlen(c->token));
	free(c->token);
	c->token = NULL;
}

static void register_end(struct call *c, const struct msg *m)
{
	unsigned n_peers = hello_without_doubles(m->peers, m->n_peers);
	struct hello hello = hello_of(c, m);
	const char *error;

	hello.n_peers = n_peers;
	error = m->instance.len != 0 && m->instance.len != INSTANCE_LEN ?
	                        "instance must be 16 bytes" :
	                        hello_error(&hello);
	if (error) {
		serve_finish(c, GRPC_INVALID_ARGUMENT, error);
		return;
	}
	int rc = call_set_peers(c, m->tunnel_id, m->peers, n_peers);
	if (rc < 0)
		serve_broken(c, rc);
	else
		tell_hello(c, &hello);
}

static void take_register(struct call *c, const uint8_t *data, size_t len)
{
	enum { TAG_REGISTER_CLIENT = 1 << 3 | 2 };
	struct transport *t = c->chan.transport;
	struct msg m;

	/* Before authentication nothing else is ever unpacked. */
	if (len == 0 || data[0] != TAG_REGISTER_CLIENT) {
		misplaced(c, "the first message must be register_client");
		return;
	}
	int rc = msg_decode(&t->arena, data, len, &m);
	if (rc < 0) {
		serve_broken(c, rc);
	} else if (m.kind != MSG_REGISTER) {
		misplaced(c, "the first message must be register_client");
	} else if (c->bad_auth) {
		serve_finish(c, GRPC_UNAUTHENTICATED, "authorization must be one `Bearer TOKEN`");
	} else {
		register_end(c, &m);
	}
	buf_wipe(&c->deframer.framer.partial); /* as the arena: it had the token */
	arena_clear(&t->arena);
}

int tunnel_admit(struct chan *chan, const struct welcome *w)
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

/* A stock client is told when another try may help (gRPC A6), or that none does. */
static void finish(struct call *c, enum close_why why, const char *text)
{
	struct metadata m = { .n = 1 };

	m.f[0].name = STR("grpc-retry-pushback-ms");
	switch (why) {
	case CLOSE_TUNNELS: m.f[0].value = STR("10000"); break; /* when another end may have left */
	case CLOSE_QUOTA: m.f[0].value = STR("-1"); break;
	default: m.n = 0;
	}
	serve_finish_with(c, close_grpc_status(why), text, &m);
}

void tunnel_refuse(struct chan *chan, enum close_why why, const char *text)
{
	finish(call_of(chan), why, text);
}

/* ---- an open tunnel ---- */

static void on_control(struct call *c, const struct msg *m)
{
	switch (m->kind) {
	case MSG_HEALTH_CHECK:
		c->beats = true;
		call_answer_health(c, m);
		break;
	case MSG_HEALTH_ANSWER: grpc_beat_answered(c->chan.transport); break;
	case MSG_NONE: break;
	case MSG_REGISTER: misplaced(c, "already registered"); break;
	default: misplaced(c, "only the relay sends this message"); break;
	}
}

static void on_message(struct call *c, const uint8_t *msg, size_t len)
{
	switch (c->state) {
	case CALL_AWAIT: take_register(c, msg, len); break;
	case CALL_PENDING: /* spoke before it was admitted: nothing is unpacked */
		metric_drop(DROP_NOT_READY);
		break;
	case CALL_OPEN: call_datagram(c, msg, len, on_control, serve_broken); break;
	case CALL_OVER: break;
	}
}

static void on_end(struct call *c)
{
	struct transport *t = c->chan.transport;

	if (c->state == CALL_AWAIT) {
		misplaced(c, "the stream ended before register_client");
		return;
	}
	if (c->chan.up)
		t->events->ended(t->owner, &c->chan, CLOSE_DONE, "");
	serve_finish(c, GRPC_OK, "");
}

void tunnel_end(struct call *c, enum close_why why, const char *text)
{
	struct msg m = { .kind = MSG_STREAM_CLOSED, .text = str_of(text) };

	if (c->state == CALL_OPEN)
		call_say(c, &m);
	finish(c, why, text);
}

int tunnel_tell_peer(struct chan *chan, const struct peer_status *p)
{
	struct call *c = call_of(chan);
	int i = call_peer_by_key(c, &p->key);
	struct msg m;

	if (i < 0)
		return ERR_NOT_FOUND;
	control_of_status(p, &m);
	m.peer_id = c->peers[i].name;
	return call_say(c, &m);
}

int tunnel_tell_notice(struct chan *chan, const struct notice *n)
{
	struct msg m;

	control_of_notice(n, &m);
	return call_say(call_of(chan), &m);
}

static const struct method methods[] = {
	{ "/tunn.v1.TunnelService/EstablishTunnel", BIDI_STREAMING, .is_channel = true,
	  .on_start = on_start, .on_message = on_message, .on_end = on_end },
};

const struct service tunnel_service = { .name = "tunn.v1.TunnelService",
	                                .methods = methods,
	                                .n_methods = 1 };
