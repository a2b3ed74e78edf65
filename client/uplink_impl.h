/*
 * The inside of the uplink, shared by its files only:
 *   uplink.c          the state machine, attempts and their ends, the link
 *   uplink_network.c  what changes around it
 */
#ifndef TUNN_CLIENT_UPLINK_IMPL_H
#define TUNN_CLIENT_UPLINK_IMPL_H

#include "client/backoff.h"
#include "client/parked.h"
#include "client/path.h"
#include "client/uplink.h"
#include "common/base/map.h"

enum { UPLINK_TICK_MS = 1000 };

struct uplink {
	struct loop *loop;
	struct uplink_conf conf;
	const struct uplink_events *events;
	void *owner;
	enum uplink_state state;
	struct links *links;
	struct ways ways;
	struct dialler **diallers; /* one for each way */
	uint32_t beat_ms;          /* 0: the default */
	struct path *path;
	struct timer *wait, *drain, *tick;
	struct link *link; /* the living one; events of others are late and ignored */
	struct lane *lane; /* GREETING and READY */
	struct link *last; /* ENDED: whose goodbye is awaited */
	struct backoff backoff;
	struct parked parked;
	struct key *keys;  /* of the peers, in the order of hello; valid since ready */
	struct map by_key; /* into keys */
	bool host_named;   /* the host's id is used */
	bool held_off;     /* WAITING because the relay said so: no network change helps */
	bool probe_wanted;
	unsigned n_ready;
	uint64_t due_ms, attempt_ms, ready_ms, ticked_ms, probed_ms;
	int64_t resets_unix_s;
};

/* uplink.c */
void uplink_wait(struct uplink *, uint32_t delay_ms); /* WAITING; the next attempt then */
/* We chose to begin anew: other network, other device, woken up. */
void uplink_begin_anew(struct uplink *, const char *reason);

/* uplink_network.c */
extern const struct path_events uplink_path_events;
void uplink_on_tick(void *arg);

#endif
