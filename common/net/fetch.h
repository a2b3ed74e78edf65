/*
 * Fetch: one small HTTP/1.1 request on a loop, http or https, and the whole of its
 * answer. Over a socket of dial.c, so that proxy, mark, device and both address
 * families are those of all our connections. Redirects are not followed, nothing
 * is kept open. For answers that fit in memory: maps, permissions, probes.
 * Belongs to its loop's thread.
 */
#ifndef TUNN_NET_FETCH_H
#define TUNN_NET_FETCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/bytes.h"
#include "common/net/dial.h"
#include "common/net/loop.h"
#include "common/net/proxy.h"
#include "common/net/tls.h"

enum { FETCH_ERROR_LEN = 640 };

struct fetch;

struct fetch_conf { /* borrowed for the call */
	const char *url;
	const char *method;             /* NULL: GET */
	struct str body;                /* sent as it is, and wiped afterwards */
	const char *type;               /* its Content-Type; NULL: not told */
	struct str bearer;              /* a token to show (RFC 6750 2.1), wiped afterwards */
	struct tls_ctx *tls;            /* of a client, for https; referenced */
	const struct proxy_conf *proxy; /* NULL: none */
	uint32_t fwmark;                /* as in dial.h; 0: none */
	const char *bind_device;        /* likewise; NULL: none */
	const struct dial_family *ipv4, *ipv6; /* likewise; NULL: what the name gives */
	uint32_t timeout_ms;                   /* for all of it, the name included */
	size_t max_body;                       /* a longer answer fails, ... */
	bool cut;                              /* ... or is given as far as that */
};

struct fetch_answer {
	int status;       /* any: whoever asks judges */
	struct str body;  /* borrowed for the call */
	uint32_t wait_ms; /* from the request's last byte to the end of the answer's head */
};

/* answer NULL: there is none, error says why in words that name host and port.
 * The fetch is gone then; another may be started from inside. */
typedef void fetch_done(void *owner, const struct fetch_answer *answer, const char *error);

/* 0: done follows once, never from inside, unless cancelled. ERR_INVALID (the URL),
 * ERR_CONFIG (https without tls), -ENOMEM: error_out has words, which do not repeat
 * the URL, and nothing follows. */
int fetch_start(struct loop *, const struct fetch_conf *, fetch_done *done, void *owner,
                struct fetch **fetch_out, char error_out[static FETCH_ERROR_LEN]);
void fetch_cancel(struct fetch *); /* before done only; NULL allowed */

/* Could fetch_start() take it? *https_out: it needs tls; host_out: whom it asks. For
 * options: words in error_out as above. */
int fetch_check_url(const char *url, bool *https_out, char host_out[static 256],
                    char error_out[static FETCH_ERROR_LEN]);

#endif
