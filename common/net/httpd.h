/*
 * A small HTTP/1.1 server on a loop, plain or with TLS, for a handful of people
 * and programs: each request is whole before its owner sees it, each answer whole
 * before it is sent. It has bounds and no settings: 8 KiB of head, 64 KiB of body,
 * 10 s for a request to come in whole, from its first byte (or from the connection)
 * to its last, 10 s without a request, 10 s in which an answer does not move, and
 * 60 s for all of it. When as many connections are open as may be, the oldest goes
 * that has no request with the owner, or else the new one; one that ended while its request
 * is with the owner counts until the answer.
 *
 * Everything belongs to the loop's thread. Heads are wiped: they may hold secrets.
 */
#ifndef TUNN_NET_HTTPD_H
#define TUNN_NET_HTTPD_H

#include <stdbool.h>
#include <stddef.h>

#include "common/base/bytes.h"
#include "common/net/addr.h"
#include "common/net/loop.h"
#include "common/net/tls.h"

struct httpd;

enum { HTTPD_HEAD_MAX = 8192, HTTPD_BODY_MAX = 65536, HTTPD_CONNS_MAX = 64, HTTPD_FIELDS_MAX = 8 };

/* What was asked. Borrowed until the answer, whatever becomes of the connection. Nothing is
 * decoded. Absent fields have p NULL; of several of a name it is the first. */
struct httpd_request {
	struct str method, path, query, body;
	struct str host, authorization, origin, sec_fetch_site;
	bool has_twice; /* one of those fields was there more than once */
	struct str if_none_match;
	struct addr peer, local;
};

struct httpd_field {
	struct str name, value;
};

/* Borrowed for the call. Date, Content-Length and Connection are written by us. */
struct httpd_answer {
	int status;
	const char *type; /* NULL: no Content-Type */
	const struct httpd_field *fields;
	size_t n_fields; /* HTTPD_FIELDS_MAX at most */
	struct str body;
};

struct httpd_conf {          /* copied */
	struct tls_ctx *tls; /* of a server, referenced; NULL: plain */
	unsigned max_conns;  /* 0: HTTPD_CONNS_MAX */
	/* Each request is answered by httpd_answer() once, from inside or later. */
	void (*route)(void *owner, struct httpd_request *);
	/* May a method other than GET and HEAD be asked for there? NULL: nowhere. */
	bool (*takes)(void *owner, struct str method, struct str path);
	void (*answered)(void *owner, int status); /* also what never came to route; NULL allowed */
	void *owner;
};

int httpd_new(struct loop *, const struct httpd_conf *, struct httpd **httpd_out); /* 0, -ENOMEM */
/* Takes fd, of listener_bind(), also on failure; until httpd_free(). 0 or -errno. */
int httpd_listen(struct httpd *, int fd, struct addr *bound_out);
/* For connections from now on; referenced. */
void httpd_set_tls(struct httpd *, struct tls_ctx *);
void httpd_answer(struct httpd_request *, const struct httpd_answer *); /* the request is gone */
unsigned httpd_n_conns(const struct httpd *);
/* Requests that wait for their answer are gone too. NULL allowed. */
void httpd_free(struct httpd *);

#endif
