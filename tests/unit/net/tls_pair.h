/*
 * A server and a client whose bytes go from one to the other in memory. One test
 * program includes this once.
 */
#ifndef TUNN_UNIT_TLS_PAIR_H
#define TUNN_UNIT_TLS_PAIR_H

#include "tests/unit/net/certs.h"

struct end {
	struct tls_ctx *ctx;
	struct tls *tls;
	struct buf out;
	int rc;
};

static struct end server, client;

/* Takes both contexts. */
static inline void pair_begin(struct tls_ctx *server_ctx, struct tls_ctx *client_ctx,
                              const char *name)
{
	server = (struct end){ .ctx = server_ctx, .rc = ERR_AGAIN };
	client = (struct end){ .ctx = client_ctx, .rc = ERR_AGAIN };
	assert_int_equal(tls_new(server_ctx, NULL, &server.tls), 0);
	assert_int_equal(tls_new(client_ctx, name, &client.tls), 0);
}

static inline void pair_done(void)
{
	struct end *ends[] = { &server, &client };

	for (unsigned i = 0; i < 2; i++) {
		tls_free(ends[i]->tls);
		tls_ctx_unref(ends[i]->ctx);
		buf_done(&ends[i]->out);
	}
}

/* Lets one side go on with what the other said, in pieces of `chunk`. */
static inline void pair_step(struct end *e, struct end *from, size_t chunk)
{
	if (e->rc != ERR_AGAIN)
		return;
	e->rc = tls_handshake(e->tls, &e->out);
	while (e->rc == ERR_AGAIN && buf_len(&from->out)) {
		size_t n = chunk && chunk < buf_len(&from->out) ? chunk : buf_len(&from->out);
		tls_feed(e->tls, buf_data(&from->out), n);
		e->rc = tls_handshake(e->tls, &e->out);
		buf_eat(&from->out, n);
	}
}

static inline void pair_shake(size_t chunk)
{
	for (unsigned i = 0; i < 10; i++) {
		pair_step(&client, &server, chunk);
		pair_step(&server, &client, chunk);
	}
}

#endif
