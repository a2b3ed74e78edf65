/*
 * What an end does after an attempt or a connection came to its end: again, in
 * how long, or give up with which exit code (product.md section 3). Pure.
 */
#ifndef TUNN_CLIENT_RETRY_H
#define TUNN_CLIENT_RETRY_H

#include <stdbool.h>
#include <stdint.h>

#include "client/backoff.h"
#include "common/base/err.h"

enum { EXIT_REFUSED = 3, EXIT_UNREACHABLE = 4 };

enum {
	RETRY_NOW_SPREAD_MS = 200,
	RETRY_STEADY_MS = 3000, /* a relay that ends us sooner is not asked faster and faster */
	RETRY_FIGHT_MS = 10000,
	RETRY_QUOTA_UNKNOWN_MS = 60000,
	RETRY_QUOTA_MIN_MS = 1000,
	RETRY_QUOTA_MAX_MS = 3600000, /* the account may be changed before the reset */
};

struct retry_end {
	enum close_why why;
	bool was_steady;     /* this connection had been ready for RETRY_STEADY_MS */
	bool was_ever_ready; /* some connection had */
	bool once;           /* --once */
	bool may_name_host;  /* the relay needs an id, and the host's was not tried yet */
	int64_t reset_in_ms; /* quota: until the reset; 0: unknown */
};

struct retry_next {
	bool ends;
	int exit_code;     /* if it ends */
	uint32_t delay_ms; /* else */
};

/* random: uniform over all 32 bits. Steps the backoff when it is used. */
struct retry_next retry_after(const struct retry_end *, struct backoff *, uint32_t random);

#endif
