/*
 * The penalty box: a network (IPv4 /24 or IPv6 /64) from which tokens are guessed or
 * connections flooded is refused for a while, before TLS; each time twice as long, until an
 * hour has passed without. A single error of any kind is never punished. A network with an
 * authenticated end is exempt, since a company may share one address, and what it did before
 * is forgiven. Off: nobody is refused, and nothing is held against anybody.
 *
 * At most 65,536 networks are remembered, those that offended last; the networks of
 * authenticated ends besides, a few bytes each.
 *
 * Shared by all workers, as server/relay/admit.h is, behind a mutex of its own that is taken when a
 * connection or an end comes or goes, never for a packet. Any thread; reads no clock.
 */
#ifndef TUNN_SERVER_PENALTY_H
#define TUNN_SERVER_PENALTY_H

#include <stdbool.h>
#include <stdint.h>

#include "common/net/addr.h"

enum {
	PENALTY_WINDOW_S = 60,
	PENALTY_FAILURES = 10, /* so many within that */
	PENALTY_FLOODS = 3,
	PENALTY_FIRST_MS = 5000,
	PENALTY_MOST_MS = 600000,
	PENALTY_FORGIVEN_MS = 3600000, /* after the last one was over */
	PENALTY_NETWORKS_MAX = 65536,
};

enum offence {
	OFFENCE_TOKEN, /* well-formed, but not valid; a typing error is none */
	OFFENCE_FLOOD, /* a connection that ended for its flood (CLOSE_FLOOD) */
};

struct penalty;
struct vouched; /* a network with authenticated ends */

struct penalty *penalty_new(bool on); /* NULL: out of memory */
void penalty_free(struct penalty *);  /* after the ends are gone; NULL allowed */
void penalty_turn(struct penalty *, bool on);

/* Is the network of that address refused now? */
bool penalty_refuses(struct penalty *, const struct addr *, uint64_t now_ms);
/* Milliseconds for which its network is refused from now on; 0: this changed nothing. */
uint32_t penalty_offend(struct penalty *, const struct addr *, enum offence, uint64_t now_ms);

/* An authenticated end is there, until penalty_unvouch(). NULL: out of memory, it is not
 * exempt. */
struct vouched *penalty_vouch(struct penalty *, const struct addr *);
void penalty_unvouch(struct penalty *, struct vouched *); /* NULL allowed */

#endif
