/*
 * HTTP/1.x heads (RFC 9112), the one door to the HTTP/1 parser. For now the
 * response to CONNECT: a pure parser, fed in pieces of any size. One thread.
 */
#ifndef TUNN_WIRE_HTTP1_H
#define TUNN_WIRE_HTTP1_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
	HTTP1_HEAD_MAX = 16384, /* a head that never ends */
	HTTP1_LINES_MAX = 100,
	HTTP1_VALUE_LEN = 1024, /* of the header fields we look at; longer is cut */
};

struct http1_head {
	int status;
	char proxy_authenticate[HTTP1_VALUE_LEN]; /* several joined by ", " */
	char location[HTTP1_VALUE_LEN];
};

struct http1;

int http1_new(struct http1 **h_out); /* 0 or -ENOMEM */
void http1_free(struct http1 *);     /* NULL allowed */
/* ERR_AGAIN: all eaten, more needed. 0: the head is complete (of a final
 * response: informational ones are skipped) and *used_out says
 * how many bytes of data belonged to it; http1_head() is filled. ERR_TOO_BIG,
 * ERR_PROTOCOL. */
int http1_feed(struct http1 *, const uint8_t *data, size_t len, size_t *used_out);
const struct http1_head *http1_head(const struct http1 *);

const char *http1_library_version(void); /* of http-parser */

#endif
