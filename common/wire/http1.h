/*
 * HTTP/1.x heads (RFC 9112), the one door to the HTTP/1 parser: requests, as a
 * server reads them; what a server answers; responses to a request after which
 * the connection is no longer HTTP (CONNECT, Upgrade), as a client reads them.
 * Pure: fed in pieces of any size, reads no clock. One thread.
 */
#ifndef TUNN_WIRE_HTTP1_H
#define TUNN_WIRE_HTTP1_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/buf.h"
#include "common/base/bytes.h"

enum {
	HTTP1_HEAD_MAX = 16384, /* a head that never ends */
	HTTP1_LINES_MAX = 100,
	HTTP1_BODY_MAX = 16384, /* of a request we skip for the sake of the connection */
	HTTP1_VALUE_LEN = 1024, /* of the fields of a response we look at; longer is cut */
	HTTP1_REASON_LEN = 64,
};

/* ---- requests ---- */

enum http1_name { /* the fields we look at, and no others */
	          HTTP1_HOST,
	          HTTP1_UPGRADE,
	          HTTP1_DERP_FAST_START,
	          HTTP1_IDEAL_NODE,
	          HTTP1_TUNN_VERSION,
	          HTTP1_SEC_WEBSOCKET_KEY,
	          HTTP1_SEC_WEBSOCKET_VERSION,
	          HTTP1_SEC_WEBSOCKET_PROTOCOL,
	          HTTP1_X_TAILSCALE_CHALLENGE,
	          HTTP1_AUTHORIZATION,
	          HTTP1_ORIGIN,
	          HTTP1_SEC_FETCH_SITE,
	          HTTP1_CONTENT_TYPE,
	          HTTP1_COOKIE,
	          HTTP1_IF_NONE_MATCH,
	          HTTP1_NAME_N
};

/* All text is borrowed from the reader until its next call. Nothing is decoded
 * or normalised. */
struct http1_request {
	struct str method;
	struct str path;                /* without query; "*" of OPTIONS, host:port of CONNECT */
	struct str query;               /* without '?' */
	struct str field[HTTP1_NAME_N]; /* of the first such line; absent: p NULL, empty: p set */
	uint8_t n_field[HTTP1_NAME_N];  /* how many lines had it, up to 255 */
	uint8_t minor;                  /* HTTP/1.minor */
	bool has_upgrade;               /* Connection names "upgrade" */
	bool keep_alive; /* the client wants the connection to go on, and its body can be skipped */
	bool say_keep_alive; /* ... and has to be told so: HTTP/1.0 */
	uint32_t body_len; /* bytes to skip behind the head before the next request; only meaningful
	                    * with keep_alive, never of an upgrade */
	/* For who reads bodies: */
	uint64_t content_len; /* Content-Length; 0: none */
	bool is_chunked;      /* Transfer-Encoding instead */
	bool expects;         /* the body waits for a 100 (RFC 9110 10.1.1) */
	bool persists;        /* the connection may go on behind the body, if it is read */
};

struct http1_reader;

int http1_reader_new(struct http1_reader **r_out); /* 0 or -ENOMEM */
void http1_reader_free(struct http1_reader *);     /* NULL allowed */
/* ERR_AGAIN: all eaten, more needed. 0: a request is complete, *used_out bytes of
 * data belonged to its head, and not one byte behind its blank line was looked at:
 * what follows is its body, the next request, or what the connection is upgraded to.
 * ERR_PROTOCOL, ERR_TOO_BIG, -ENOMEM: http1_reader_fault() says what to answer,
 * and the connection has to end behind that answer. */
int http1_reader_feed(struct http1_reader *, const uint8_t *data, size_t len, size_t *used_out);
const struct http1_request *http1_reader_request(const struct http1_reader *);
/* Bytes of a request have come, but not all. */
bool http1_reader_is_inside(const struct http1_reader *);
int http1_reader_fault(const struct http1_reader *); /* status: 400, 431, 505, 503; 0: none */
void http1_reader_next(struct http1_reader *);       /* forgets the request, its memory too */

bool http1_is_like(struct str, struct str); /* the same in any case */
/* Is `token` one of those of a comma-separated list, in any case (RFC 9110 5.6.1)? */
bool http1_has_token(struct str list, struct str token);

/* ---- answers ---- */

struct http1_field {
	struct str name, value;
};

/* Borrowed for the call. Content-Length is written by us where RFC 9110 8.6 has one. */
struct http1_answer {
	int status;
	const struct http1_field *fields;
	size_t n_fields;
	struct str body;
	struct str date;     /* RFC 9110 5.6.7; empty: no Date */
	bool to_head;        /* HEAD was asked: the length of the body without the body */
	bool close;          /* Connection: close */
	bool say_keep_alive; /* Connection: keep-alive */
};

int http1_respond(struct buf *out, const struct http1_answer *); /* 0 or -ENOMEM, all or nothing */
bool http1_has_length(int status);    /* may an answer have a body (RFC 9110 6.4.1, 8.6)? */
const char *http1_reason(int status); /* "" if unknown */

/* ---- responses ---- */

struct http1_head {
	int status;
	char reason[HTTP1_REASON_LEN];            /* what the status line says, printable, cut */
	char proxy_authenticate[HTTP1_VALUE_LEN]; /* several joined by ", " */
	char location[HTTP1_VALUE_LEN];
};

struct http1;

int http1_new(struct http1 **h_out); /* 0 or -ENOMEM */
void http1_free(struct http1 *);     /* NULL allowed */
/* ERR_AGAIN: all eaten, more needed. 0: the head is complete (of a final
 * response or 101: other informational ones are skipped) and *used_out says
 * how many bytes of data belonged to it; http1_head() is filled. ERR_TOO_BIG,
 * ERR_PROTOCOL. */
int http1_feed(struct http1 *, const uint8_t *data, size_t len, size_t *used_out);
const struct http1_head *http1_head(const struct http1 *);

const char *http1_library_version(void); /* of http-parser */

#endif
