/*
 * Who may come in before TLS. A newcomer is a connection without an admitted
 * end; anybody can open those, so they are limited: per IPv4 /24 or IPv6 /64,
 * and all together with random early drop from half of the limit on (OpenSSH's
 * MaxStartups). From then on a newcomer that has taken longer than a second
 * makes room for the next one: half-open connections cost their maker more than
 * us, and an honest end, which is done in a few round trips, gets in (T01). Faster than
 * a rate nobody is let in: each costs a TLS handshake.
 *
 * Shared by all workers, since limits are those of the machine: it has a mutex
 * of its own, taken when a newcomer comes and when it is one no more, never for a
 * packet. Any thread; reads no clock.
 */
#ifndef TUNN_SERVER_ADMIT_H
#define TUNN_SERVER_ADMIT_H

#include <stdint.h>

#include "common/base/limits.h"
#include "common/net/addr.h"

enum { ADMIT_PATIENCE_MS = 1000 };

struct admit;

struct newcomer_id {
	uint64_t number; /* 0: nobody; never used again */
	unsigned worker;
};

struct admit *admit_new(const struct limits *); /* NULL: out of memory */
void admit_free(struct admit *);                /* forgets the newcomers; NULL allowed */
void admit_set_limits(struct admit *, const struct limits *);
unsigned admit_count(struct admit *);

/* Number of the newcomer of that worker, or 0: there is no room, they come too fast (or no memory).
 * evicted_out is who had to go for it: has left, and is to be closed by its worker. */
uint64_t admit_enter(struct admit *, const struct addr *, unsigned worker, uint64_t now_ms,
                     struct newcomer_id *evicted_out);
/* The newest of that worker, up to n: they have left, and are to be closed. How many. */
unsigned admit_newest(struct admit *, unsigned worker, uint64_t *numbers_out, unsigned n);
void admit_leave(struct admit *, uint64_t number); /* no-op for who has left */

#endif
