/*
 * A whole response of HTTP/1 (RFC 9112), status and body, as a client reads it
 * that has asked once: Content-Length, chunks, or all until the end of the
 * connection. And the URL such a client is given. Pure: fed in pieces of any
 * size, reads no clock. One thread.
 */
#ifndef TUNN_WIRE_HTTP1_RESPONSE_H
#define TUNN_WIRE_HTTP1_RESPONSE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/bytes.h"

struct http1_response;

/* max_body: what a longer one may cost in memory. 0 or -ENOMEM. */
int http1_response_new(size_t max_body, struct http1_response **r_out);
void http1_response_free(struct http1_response *); /* NULL allowed */

/* ERR_AGAIN: all eaten, more needed. 0: complete (informational ones are skipped).
 * ERR_TOO_BIG: the head has no end, or the body is longer than max_body, whose
 * beginning is there. ERR_PROTOCOL, -ENOMEM. Only ERR_AGAIN allows another call. */
int http1_response_feed(struct http1_response *, const uint8_t *data, size_t len);
int http1_response_end(struct http1_response *); /* the connection ended: 0 or ERR_PROTOCOL */

bool http1_response_has_head(const struct http1_response *);
int http1_response_status(const struct http1_response *); /* 0: no head yet */
struct str http1_response_body(
                const struct http1_response *); /* borrowed until it is fed or freed */

/* ---- where to ask ---- */

enum { HTTP1_URL_MAX = 2048 };

/* Borrowed from the text. */
struct http1_url {
	bool is_https;
	struct str host;   /* an IPv6 address without its brackets */
	uint16_t port;     /* of the URL, else 80 or 443 */
	struct str target; /* path and query; empty or beginning with `?`: a "/" belongs before it
	                    */
};

/* 0, or ERR_INVALID with words that do not repeat the URL, which may hold a
 * secret: scheme other than http and https, no host, a login, bytes that have to
 * be percent-encoded, more than HTTP1_URL_MAX of them. */
int http1_url_of(const char *text, struct http1_url *url_out, const char **error_out);

#endif
