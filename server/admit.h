/*
 * Who may come in before TLS. A newcomer is a connection without an admitted
 * end; anybody can open those, so they are limited: per IPv4 /24 or IPv6 /64,
 * and all together with random early drop from half of the limit on (OpenSSH's
 * MaxStartups). From then on a newcomer that has taken longer than a second
 * makes room for the next one: half-open connections cost their maker more than
 * us, and an honest end, which is done in a few round trips, gets in (T01).
 *
 * Reads no clock. Belongs to its worker.
 */
#ifndef TUNN_SERVER_ADMIT_H
#define TUNN_SERVER_ADMIT_H

#include <stdint.h>

#include "common/base/limits.h"
#include "common/base/list.h"
#include "common/base/map.h"
#include "common/net/addr.h"

enum { ADMIT_PATIENCE_MS = 1000 };

struct newcomer;

struct admit {
	const struct limits *limits;
	struct map nets;       /* struct net by its prefix */
	struct list newcomers; /* all, oldest first */
	unsigned n;
};

void admit_init(struct admit *, const struct limits *); /* borrowed */
void admit_done(struct admit *);                        /* forgets the newcomers */

/* NULL: there is no room (or no memory). *evicted_out is the owner of the one
 * that had to go, which has left and is to be closed; NULL if none. */
struct newcomer *admit_enter(struct admit *, const struct addr *, uint64_t now_ms,
                             void **evicted_out);
void newcomer_set_owner(struct newcomer *, void *owner);
void admit_leave(struct admit *, struct newcomer *); /* NULL allowed */

#endif
