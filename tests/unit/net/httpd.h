/*
 * A small HTTP server on loopback and on the test's own loop, plain or with TLS,
 * that answers what it is told to. One test program includes this once, behind
 * until.h.
 */
#ifndef TUNN_UNIT_HTTPD_H
#define TUNN_UNIT_HTTPD_H

#include "tests/unit/until.h"

#include <arpa/inet.h>
#include <netinet/in.h>

#include "common/base/limits.h"
#include "common/net/conn.h"
#include "common/net/listener.h"

enum { HTTPD_CONNS = 128 };

static struct httpd_conn {
	struct conn *conn;
	struct httpd *httpd;
	char request[4096];
	size_t n_request;
	bool answered;
} httpd_conns[HTTPD_CONNS];

static struct httpd {
	struct listener *listener;
	uint16_t port;
	struct tls_ctx *tls; /* NULL: plain; set before a connection comes */
	const char *answer;  /* NULL: says nothing */
	size_t answer_len;   /* 0: its length */
	bool close_behind;   /* an orderly end behind the answer, or behind nothing */
	bool reset_behind;   /* the end without a word */
	unsigned n_accepted, n_requests, n_closed;
	char request[4096]; /* the last one */
} httpd;

static inline bool httpd_is_whole(const struct httpd_conn *c)
{
	const char *end = strstr(c->request, "\r\n\r\n");
	const char *length = strcasestr(c->request, "\r\nContent-Length: ");

	return end && strlen(end + 4) >= (length ? strtoul(length + 18, NULL, 10) : 0);
}

static inline void httpd_answer(struct httpd_conn *c)
{
	struct httpd *h = c->httpd;

	c->answered = true;
	h->n_requests++;
	memcpy(h->request, c->request, sizeof h->request);
	if (h->answer) {
		size_t len = h->answer_len ? h->answer_len : strlen(h->answer);
		assert_int_equal(conn_write(c->conn, (const uint8_t *)h->answer, len), 0);
		conn_flush(c->conn);
	}
	if (!h->close_behind && !h->reset_behind)
		return;
	if (h->close_behind)
		conn_close(c->conn);
	else
		conn_reset(c->conn);
	c->conn = NULL;
}

static inline void httpd_on_up(void *owner, const char *alpn) { (void)owner, (void)alpn; }
static inline void httpd_on_room(void *owner) { (void)owner; }

static inline void httpd_on_bytes(void *owner, const uint8_t *data, size_t len)
{
	struct httpd_conn *c = owner;

	assert_true(c->n_request + len < sizeof c->request);
	memcpy(c->request + c->n_request, data, len);
	c->n_request += len;
	if (!c->answered && httpd_is_whole(c))
		httpd_answer(c);
}

static inline void httpd_on_closed(void *owner, enum close_why why, const char *text)
{
	struct httpd_conn *c = owner;

	(void)why, (void)text;
	c->httpd->n_closed++;
	c->conn = NULL;
}

static inline void httpd_on_accepted(void *owner, int fd, const struct addr *peer)
{
	static const struct conn_events events = { httpd_on_up, httpd_on_bytes, httpd_on_room,
		                                   httpd_on_closed };
	struct httpd *h = owner;
	struct conn_conf conf = {
		.fd = fd, .tls = h->tls, .plain = !h->tls, .limits = &limits_default
	};

	(void)peer;
	assert_true(h->n_accepted < HTTPD_CONNS);
	struct httpd_conn *c = &httpd_conns[h->n_accepted++];
	*c = (struct httpd_conn){ .httpd = h };
	assert_int_equal(conn_open(loop, &conf, &events, c, &c->conn), 0);
}

static inline void httpd_start(const char *ip)
{
	struct addr at;

	httpd = (struct httpd){ 0 };
	assert_int_equal(addr_of_ip(ip, 0, &at), 0);
	int fd = listener_bind(&at, false);
	assert_true(fd >= 0);
	assert_int_equal(listener_open(loop, fd, httpd_on_accepted, &httpd, &httpd.listener, &at),
	                 0);
	httpd.port = addr_port(&at);
}

static inline void httpd_stop(void)
{
	for (unsigned i = 0; i < httpd.n_accepted; i++)
		conn_close(httpd_conns[i].conn);
	listener_close(httpd.listener);
	httpd.listener = NULL;
	httpd.n_accepted = 0;
}

#endif
