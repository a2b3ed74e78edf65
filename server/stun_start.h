/*
 * Where STUN is answered: as --stun says, else on port 3478 beside the listeners. Main
 * thread, before rights are dropped. Prints its own errors.
 */
#ifndef TUNN_SERVER_STUN_START_H
#define TUNN_SERVER_STUN_START_H

#include "server/options.h"
#include "server/stun.h"

enum { PLACES_MAX = STUN_SOCKETS_MAX }; /* as many as --listen takes, and HANDOVER_MAX */

struct place { /* where we listen */
	struct addr addr;
	bool is_dual; /* listener_is_dual() */
};

struct places {
	struct place v[PLACES_MAX];
	unsigned n;
};

/* An exit code, 0: go on. stun_out is NULL where it is off. What was asked for has to be; else
 * an address that cannot be had costs a line in the log. */
int stun_start(struct loop *, const struct server_options *, const struct places *,
               struct stun **stun_out);

#endif
