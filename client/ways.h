/*
 * The ways to reach a relay, and which is tried next: transports in the order of
 * `--transport auto`, nodes of a DERP region and then of the next. Of those to one place
 * that which worked stays the first choice; among places the first of the list is the best,
 * and each new connection is tried there first. Pure; one thread.
 */
#ifndef TUNN_CLIENT_WAYS_H
#define TUNN_CLIENT_WAYS_H

#include <stdbool.h>

#include "common/net/dial.h"
#include "common/net/tls.h"
#include "common/transport/transport.h"

struct way { /* what it points to lives as long as the uplink */
	struct dial_conf dial;
	struct tls_ctx *tls; /* referenced per link */
	const struct transport_ops *ops;
	struct transport_conf transport;
	const char *relay; /* for people */
	/* The way before it leads to the same place: worth a try only if that got a
	 * connection there. */
	bool is_same_place;
};

struct ways {
	const struct way *v; /* borrowed */
	unsigned n, at;
	unsigned n_failed; /* since one worked, or all had failed */
};

static inline const struct way *ways_now(const struct ways *w) { return &w->v[w->at]; }
void ways_worked(struct ways *);
/* The one in use failed before it worked. True: another is to be tried at once. False:
 * all have failed, it is time to wait before the next. */
bool ways_turn(struct ways *, bool was_connected);
/* What was connected is lost or given up: which is tried now? */
void ways_begin_anew(struct ways *);
/* Would another be tried at once if the one in use got no connection? */
bool ways_have_another(const struct ways *);

#endif
