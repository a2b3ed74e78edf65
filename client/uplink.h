/*
 * The uplink: the one link to the relay, and its reconnecting.
 *
 *   state     meaning                         deadline           leads to
 *   IDLE      not started                     -                  DIALING
 *   DIALING   name, TCP, proxy                20 or 5 s          SECURING, WAITING
 *   SECURING  TLS                             10 s (link)        GREETING, WAITING
 *   GREETING  registration sent               5 s (link)         READY, WAITING
 *   READY     datagrams flow                  heartbeat (link)   WAITING
 *   WAITING   until the next attempt          backoff            DIALING
 *   ENDED     uplink_close() or refused       -                  nothing
 *
 * Every state but ENDED leads to ENDED as well. retry.h decides what follows
 * an end. Belongs to its loop's thread.
 */
#ifndef TUNN_CLIENT_UPLINK_H
#define TUNN_CLIENT_UPLINK_H

#include <stdbool.h>
#include <stdint.h>

#include "client/ways.h"
#include "common/base/err.h"
#include "common/base/pkt.h"
#include "common/link.h"
#include "common/net/dial.h"
#include "common/net/loop.h"
#include "common/net/tls.h"
#include "common/transport/transport.h"

struct uplink;

enum uplink_state {
	UPLINK_IDLE,
	UPLINK_DIALING,
	UPLINK_SECURING,
	UPLINK_GREETING,
	UPLINK_READY,
	UPLINK_WAITING,
	UPLINK_ENDED,
	UPLINK_STATE_N
};

struct uplink_conf { /* what it points to lives as long as the uplink */
	const struct way *ways;
	unsigned n_ways;
	struct hello hello;     /* id empty: that of the token */
	struct str fallback_id; /* the host's, taken when the relay needs an id; may be empty */
	bool once;
};

struct uplink_events {
	/* n: 1 for the first connection. id: welcome's, else what was sent; may be empty. */
	void (*ready)(void *owner, unsigned n, const struct welcome *, struct str id);
	void (*packet)(void *owner, unsigned peer, struct pkt *); /* takes */
	void (*peer)(void *owner, unsigned peer, const struct peer_status *);
	void (*notice)(void *owner, const struct notice *);
	/* A connection or an attempt ended; the next attempt begins in delay_ms. */
	void (*lost)(void *owner, enum close_why, const char *text, uint32_t delay_ms);
	/* An attempt failed, the next is by another way, at once. */
	void (*turned)(void *owner, const struct way *, enum close_why, const char *text);
	/* The route to the relay went into `tunnel`; connecting by `device` from now on. */
	void (*held)(void *owner, const char *device, const char *tunnel);
	/* The last event. exit_code 0 after uplink_close(). */
	void (*over)(void *owner, int exit_code, enum close_why, const char *text);
};

struct uplink *uplink_new(struct loop *, const struct uplink_conf *, const struct uplink_events *,
                          void *owner); /* NULL: out of memory */
void uplink_start(struct uplink *);
/* Takes. Before READY a few young packets wait, the others are dropped. */
void uplink_send(struct uplink *, unsigned peer, struct pkt *);
void uplink_close(struct uplink *); /* says goodbye; `over` follows, maybe at once */
void uplink_free(struct uplink *);  /* after the loop has stopped, or never started; NULL allowed */
enum uplink_state uplink_state(const struct uplink *);
const struct way *uplink_way(const struct uplink *); /* in use, or tried next */

bool uplink_may_move(enum uplink_state from, enum uplink_state to);

#endif
