/*
 * Company proxies: which one to use, and HTTP CONNECT through it. A room of its
 * own: other logins and other proxy kinds come in here.
 *
 * The conversation is pure (bytes in, bytes out), dial.c moves the bytes.
 * Reply limits: 16 KiB, 100 lines, 15 s (the deadline is dial.c's).
 */
#ifndef TUNN_NET_PROXY_H
#define TUNN_NET_PROXY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/buf.h"
#include "common/base/err.h"

struct proxy_conf { /* value type */
	bool used;
	char host[256];
	uint16_t port;
	char user[256], password[256]; /* percent-decoded; user "" means no login */
};

enum { PROXY_ERROR_LEN = 256 };

/* `http://[user:pass@]host[:port][/]`; without scheme http is assumed and
 * *warn_out set. Other schemes are ERR_CONFIG with error_out in words. Default
 * port 443 (robustness.md 1.3). */
int proxy_of_url(const char *url, struct proxy_conf *conf_out,
                 char warn_out[static PROXY_ERROR_LEN], char error_out[static PROXY_ERROR_LEN]);
/* --proxy (flag, NULL: none), else https_proxy, HTTPS_PROXY, unless no_proxy or
 * NO_PROXY covers host:port. flag "none": no proxy. */
int proxy_choose(const char *flag, const char *host, uint16_t port, struct proxy_conf *conf_out,
                 char warn_out[static PROXY_ERROR_LEN], char error_out[static PROXY_ERROR_LEN]);
/* no_proxy grammar: `*`, host, `.suffix`, `suffix`, `host:port`, CIDR; blanks
 * ignored, case-insensitive, trailing dot ignored. */
bool proxy_is_bypassed(const char *no_proxy, const char *host, uint16_t port);

struct proxy; /* one CONNECT */
int proxy_new(const struct proxy_conf *, const char *host, uint16_t port, struct proxy **proxy_out);
void proxy_free(struct proxy *); /* wipes the login */
/* Appends the CONNECT request. 0 or -ENOMEM: what is there is not to be sent. */
int proxy_request(struct proxy *, struct buf *out);
/* Eats reply bytes. ERR_AGAIN: more needed. 0: open; *used_out tells how many
 * bytes of data belonged to the reply, the rest is the tunnel's. Other: refused
 * or broken, proxy_why() and proxy_text() say how. */
int proxy_reply(struct proxy *, const uint8_t *data, size_t len, size_t *used_out);
enum close_why proxy_why(const struct proxy *);
const char *proxy_text(const struct proxy *); /* names the proxy and the target, no login */

#endif
