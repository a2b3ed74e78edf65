/*
 * A foreign gRPC client in memory: our HTTP/2 codec says what a test tells it,
 * the server side of the grpc transport answers. What came back is kept for each
 * call. A fake clock, no socket.
 */
#ifndef TUNN_TESTS_CALLER_H
#define TUNN_TESTS_CALLER_H

#include <stdio.h>
#include <string.h>

#include "common/base/crypto.h"
#include "common/base/metric.h"
#include "common/transport/transport.h"
#include "common/wire/grpc.h"
#include "common/wire/h2.h"

extern const struct transport_ops transport_grpc;

enum { RPC_FIELDS_MAX = 12 };
struct rpc {                      /* one call and what came back */
	struct h2_stream *stream; /* NULL: closed */
	char http[4], status[16], text[2048], accept[64], type[64], pushback[16];
	unsigned n_heads;
	struct buf body;
	uint32_t code; /* as closed */
	bool ended;
};

struct caller {
	struct transport_conf conf;
	struct transport *server;
	struct h2 *h2;
	uint64_t now_ms;
	size_t chunk;  /* bytes handed over at once; 0: all */
	bool withheld; /* the client's windows stay closed: nothing is read from the server */
	int rc;        /* of the server, once it failed */
	enum close_why refuse; /* CLOSE_NONE: ends of tunnels are left PENDING */
	uint32_t goaway;
	unsigned n_goaways, n_hello, n_ended;
	char goaway_text[64];
};

static inline void rpc_keep(char *to, size_t cap, const struct h2_head *head, const char *name)
{
	struct str v = h2_head_get(head, name, NULL);

	if (v.p)
		snprintf(to, cap, "%.*s", (int)v.len, v.p);
}

static inline bool rpc_is_ours(struct str name)
{
	static const char *const ours[] = {
		":status",      "content-type",         "grpc-status",
		"grpc-message", "grpc-accept-encoding", "grpc-retry-pushback-ms"
	};

	for (size_t i = 0; i < sizeof ours / sizeof *ours; i++)
		if (str_eq(name, str_of(ours[i])))
			return true;
	return false;
}

static inline void caller_head(void *owner, struct h2_stream *st, const struct h2_head *head,
                               bool end)
{
	struct rpc *r = h2_user(st);

	(void)owner, (void)end;
	r->n_heads++;
	for (size_t i = 0; i < head->n; i++) /* S19, S28: nothing but this is ever said */
		assert_true(rpc_is_ours(head->fields[i].name));
	rpc_keep(r->http, sizeof r->http, head, ":status");
	rpc_keep(r->type, sizeof r->type, head, "content-type");
	rpc_keep(r->status, sizeof r->status, head, "grpc-status");
	rpc_keep(r->text, sizeof r->text, head, "grpc-message");
	rpc_keep(r->pushback, sizeof r->pushback, head, "grpc-retry-pushback-ms");
	rpc_keep(r->accept, sizeof r->accept, head, "grpc-accept-encoding");
}
static inline void caller_data(void *owner, struct h2_stream *st, const uint8_t *data, size_t len)
{
	struct rpc *r = h2_user(st);

	(void)owner;
	buf_add(&r->body, data, len);
}
static inline void caller_end(void *owner, struct h2_stream *st)
{
	struct rpc *r = h2_user(st);

	(void)owner;
	r->ended = true;
}
static inline void caller_closed(void *owner, struct h2_stream *st, uint32_t code)
{
	struct rpc *r = h2_user(st);

	(void)owner;
	r->code = code;
	r->stream = NULL;
}
static inline void caller_goaway(void *owner, uint32_t code, struct str debug)
{
	struct caller *c = owner;

	c->goaway = code;
	c->n_goaways++;
	snprintf(c->goaway_text, sizeof c->goaway_text, "%.*s", (int)debug.len, debug.p);
}
static inline void caller_ping_ack(void *owner, uint64_t payload) { (void)owner, (void)payload; }

static const struct h2_events caller_events = { caller_head,   caller_data,   caller_end,
	                                        caller_closed, caller_goaway, caller_ping_ack };

static inline int caller_on_hello(void *owner, struct chan *c, const struct hello *h)
{
	struct caller *to = owner;

	(void)h;
	to->n_hello++;
	if (to->refuse != CLOSE_NONE) {
		c->ops->refuse(c, to->refuse, close_text(to->refuse));
		return ERR_CLOSED;
	}
	c->up = to;
	return ERR_AGAIN;
}
static inline void caller_on_ended(void *owner, struct chan *c, enum close_why why,
                                   const char *text)
{
	struct caller *to = owner;

	(void)c, (void)why, (void)text;
	to->n_ended++;
}
static const struct transport_events caller_server_events = { .hello = caller_on_hello,
	                                                      .ended = caller_on_ended };

static inline void caller_open(struct caller *c, bool reflection)
{
	*c = (struct caller){ .now_ms = 1000000, .goaway = UINT32_MAX };
	c->conf = (struct transport_conf){ .node = "n1",
		                           .host_address = "192.0.2.1:5",
		                           .serving = true,
		                           .reflection = reflection,
		                           .limits = &limits_default };
	assert_int_equal(transport_grpc.open(&c->conf, SIDE_SERVER, c->now_ms,
	                                     &caller_server_events, c, &c->server),
	                 0);
	assert_int_equal(h2_new(H2_CLIENT, &limits_default, c->now_ms, &caller_events, c, &c->h2),
	                 0);
}

static inline void caller_close(struct caller *c)
{
	transport_grpc.free(c->server);
	h2_free(c->h2);
}

/* Moves bytes both ways until there are none. */
static inline void caller_run(struct caller *c)
{
	struct buf out = { 0 };
	bool some = true;

	while (some) {
		some = false;
		h2_flush(c->h2, &out, 1 << 20);
		while (buf_len(&out)) {
			size_t n = c->chunk && c->chunk < buf_len(&out) ? c->chunk : buf_len(&out);
			int rc = transport_grpc.input(c->server, buf_data(&out), n, c->now_ms);
			c->rc = c->rc ? c->rc : rc;
			buf_eat(&out, n);
			some = true;
		}
		transport_grpc.flush(c->server, &out, c->withheld ? 0 : 1 << 20);
		some |= buf_len(&out) > 0;
		if (buf_len(&out))
			h2_input(c->h2, buf_data(&out), buf_len(&out), c->now_ms);
		buf_clear(&out);
	}
	buf_done(&out);
}

static inline void caller_tick(struct caller *c, uint64_t ms)
{
	c->now_ms += ms;
	int rc = transport_grpc.tick(c->server, c->now_ms);
	c->rc = c->rc ? c->rc : rc;
	h2_tick(c->h2, c->now_ms);
	caller_run(c);
}

/* Starts a call of that path with up to four more fields. */
static inline void rpc_start_with(struct caller *c, struct rpc *r, const char *path,
                                  const struct h2_field *more, size_t n_more)
{
	struct h2_field f[RPC_FIELDS_MAX] = {
		{ STR(":method"), STR("POST") }, { STR(":scheme"), STR("https") },
		{ STR(":path"), str_of(path) },  { STR(":authority"), STR("relay.test") },
		{ STR("te"), STR("trailers") },  { STR("content-type"), STR("application/grpc") },
	};

	*r = (struct rpc){ .code = UINT32_MAX };
	if (n_more)
		memcpy(f + 6, more, n_more * sizeof *more);
	assert_int_equal(h2_request(c->h2, f, 6 + n_more, r, &r->stream), 0);
}
static inline void rpc_start(struct caller *c, struct rpc *r, const char *path)
{
	rpc_start_with(c, r, path, NULL, 0);
}

static inline void rpc_say_bytes(struct caller *c, struct rpc *r, const void *p, size_t n)
{
	assert_non_null(r->stream);
	assert_int_equal(buf_add(h2_outgoing(r->stream), p, n), 0);
	h2_resume(c->h2, r->stream);
}

static inline void rpc_say(struct caller *c, struct rpc *r, const void *message, size_t len)
{
	uint8_t prefix[GRPC_PREFIX_LEN];

	grpc_put_prefix(prefix, (uint32_t)len);
	rpc_say_bytes(c, r, prefix, sizeof prefix);
	rpc_say_bytes(c, r, message, len);
}

static inline void rpc_half_close(struct caller *c, struct rpc *r)
{
	assert_non_null(r->stream);
	h2_finish(c->h2, r->stream, NULL, 0);
}

static inline void rpc_cancel(struct caller *c, struct rpc *r)
{
	assert_non_null(r->stream);
	h2_reset(c->h2, r->stream, H2_CANCEL);
}

/* A unary call, run to its end. */
static inline void rpc_unary(struct caller *c, struct rpc *r, const char *path, const void *message,
                             size_t len)
{
	rpc_start(c, r, path);
	rpc_say(c, r, message, len);
	rpc_half_close(c, r);
	caller_run(c);
}

/* The next whole message of what came back: its bytes and length, or NULL. */
static inline const uint8_t *rpc_heard(struct rpc *r, size_t *len_out)
{
	if (buf_len(&r->body) < GRPC_PREFIX_LEN)
		return NULL;
	const uint8_t *p = buf_data(&r->body);
	size_t len = (size_t)p[1] << 24 | (size_t)p[2] << 16 | (size_t)p[3] << 8 | p[4];
	if (buf_len(&r->body) < GRPC_PREFIX_LEN + len)
		return NULL;
	buf_eat(&r->body, GRPC_PREFIX_LEN + len);
	*len_out = len;
	return p + GRPC_PREFIX_LEN; /* eaten, and still there until more is added */
}

static inline void rpc_done(struct rpc *r) { buf_done(&r->body); }

#endif
