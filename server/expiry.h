/*
 * Tells the operator that the certificate runs out: 14, 7 and 1 day before, and
 * when it has. Connections that are open live on, new ones fail; a reload with a
 * new certificate mends it. Main thread.
 */
#ifndef TUNN_SERVER_EXPIRY_H
#define TUNN_SERVER_EXPIRY_H

#include <stdint.h>

#include "common/net/loop.h"

struct expiry {
	struct timer *timer;
	int64_t not_after_unix_s;
	int64_t days_told; /* what the counter certificate_days_left shows */
	unsigned told;     /* how many of the warnings have been given */
};

int expiry_start(struct expiry *, struct loop *); /* -ENOMEM */
void expiry_stop(struct expiry *);
/* Another certificate: looks at once. */
void expiry_of(struct expiry *, int64_t not_after_unix_s);
void expiry_look(struct expiry *, int64_t now_unix_s);

#endif
