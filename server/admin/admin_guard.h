/*
 * Who may ask the admin listener: its Host must be one of ours (a page of a stranger
 * whose name suddenly leads here has its own: DNS rebinding), no other site's page
 * may ask, and where a token is set it must come with every request. Pure. Any thread.
 */
#ifndef TUNN_SERVER_ADMIN_GUARD_H
#define TUNN_SERVER_ADMIN_GUARD_H

#include <stdbool.h>
#include <stdint.h>

#include "common/base/opts.h"
#include "common/net/httpd.h"

enum { ADMIN_TOKEN_MIN = 32, ADMIN_TOKEN_MAX = 1024, ADMIN_DIGEST_LEN = 32 };

struct admin_guard {
	const struct opt_list *names; /* --name; borrowed */
	bool needs_token;
	uint8_t digest[ADMIN_DIGEST_LEN]; /* of the token */
};

enum admin_verdict {
	ADMIN_PASS,
	ADMIN_BAD_REQUEST, /* 400: a field twice */
	ADMIN_MISDIRECTED, /* 421 */
	ADMIN_CROSS_SITE,  /* 403 */
	ADMIN_NO_TOKEN,    /* 401: none, or a wrong one: the answers are the same */
};

void admin_guard_set_token(struct admin_guard *, struct str token);
/* For what is the same for everybody: only whether we are meant. */
enum admin_verdict admin_guard_check_host(const struct admin_guard *, const struct httpd_request *);
/* For all else. Compares the token in constant time. */
enum admin_verdict admin_guard_check(const struct admin_guard *, const struct httpd_request *);

#endif
