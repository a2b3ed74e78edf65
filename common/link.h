/*
 * A link joins a conn (bytes on the network) and a transport (what is said),
 * and carries one or more channels. It owns what every transport would need:
 * the outgoing queue of each channel, the pump, deadlines, closing.
 *
 *   state       valid                     deadline                     ends by
 *   SECURING    close                     TLS handshake 10 s           TLS done -> GREETING
 *   GREETING    dial (client), close      server: 10 s to the first    first channel admitted or
 *                                         admitted channel, or health  ready -> READY
 *                                         calls only; client: 5 s
 *   READY       everything                heartbeat (transport tick),  link_drain -> DRAINING
 *                                         5 s (client 15 s) without
 *                                         write progress
 *   DRAINING    as READY, no new channel  as READY                     last channel ended -> DEAD
 *   DEAD        nothing                   -                            sweep frees it
 *
 * (NEW and CONNECTING are the dialler's, before there is a link.) link_close()
 * is legal in any state and from inside any event, idempotent, and only marks;
 * memory goes in the loop's sweep. All of it belongs to the loop's thread.
 *
 * A lane is the link's side of one channel: its queue and its owner's pointer.
 */
#ifndef TUNN_LINK_H
#define TUNN_LINK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/err.h"
#include "common/base/pkt.h"
#include "common/net/addr.h"
#include "common/net/loop.h"
#include "common/net/tls.h"
#include "common/transport/transport.h"

struct links; /* all links of one thread: one tick, one output buffer */
struct link;
struct lane;

enum link_state {
	LINK_SECURING,
	LINK_GREETING,
	LINK_READY,
	LINK_DRAINING,
	LINK_DEAD,
	LINK_STATE_N
};

struct link_events {
	/* Client: TLS is up and the transport is open; link_dial() may be called. */
	void (*up)(void *owner, struct link *);
	/* Server, as transport_events.hello: 0 after lane_admit(), ERR_AGAIN when
	 * lane_admit() or lane_refuse() follows, else lane_refuse() was called. */
	int (*hello)(void *owner, struct lane *, const struct hello *);
	void (*ready)(void *owner, struct lane *, const struct welcome *); /* client */
	void (*packet)(void *owner, struct lane *, struct pkt *);          /* takes */
	void (*peer)(void *owner, struct lane *, const struct peer_status *);
	void (*notice)(void *owner, struct lane *, const struct notice *);
	/* Last event of a lane; its pointer is dead afterwards. Told for every lane
	 * that hello or link_dial() gave, except after lane_refuse() and lane_end(). */
	void (*ended)(void *owner, struct lane *, enum close_why, const char *text);
	/* Last event of a link, after `ended` of its lanes. Also after link_close(),
	 * from the sweep. The pointer is dead afterwards. */
	void (*closed)(void *owner, struct link *, enum close_why, const char *text);
	/* Server, of native DERP ends: as in transport_events. */
	void (*wish)(void *owner, struct lane *, const struct wish *);
	void (*forward)(void *owner, struct lane *, struct pkt *); /* takes */
	/* Server, at most once: the link is no newcomer any more, an end was admitted
	 * or it is one of those that only ask for health. NULL: not of interest. */
	void (*greeted)(void *owner, struct link *);
	/* Server, as in transport_events; link_answer() follows. NULL: nobody answers. */
	int (*request)(void *owner, struct link *, struct web *, const struct web_request *);
	void (*unasked)(void *owner, struct web *);
	/* Server, as in transport_events; NULL likewise. */
	void (*exposed)(void *owner, struct link *, const char *token_id);
};

struct link_conf {
	enum side side;
	int fd;                  /* taken, also on failure */
	struct tls_ctx *tls;     /* referenced */
	const char *server_name; /* client */
	const uint8_t *early;    /* borrowed for the call */
	size_t early_len;
	const struct transport_ops *ops; /* client; server: NULL, chosen by ALPN */
	struct transport_conf transport; /* strings live as long as the link */
	const struct limits *limits;     /* likewise; NULL: limits_default */
};

struct links *links_new(struct loop *); /* NULL: out of memory */
void links_free(struct links *);        /* closes and frees what is left, no events */
unsigned links_count(const struct links *);
/* Visits every living link. */
void links_each(struct links *, void (*visit)(struct link *, void *arg), void *arg);

int link_open(struct links *, const struct link_conf *, const struct link_events *, void *owner,
              struct link **link_out);
void link_close(struct link *, enum close_why); /* says goodbye as far as the socket takes it */
/* No new channels; GOAWAY; closes when the last channel has ended. */
void link_drain(struct link *);
void link_tell_serving(struct link *, bool serving);
/* A sign of life within within_ms, or the link closes CLOSE_TIMEOUT. */
void link_probe(struct link *, uint32_t within_ms);

enum link_state link_state(const struct link *);
void *link_owner(const struct link *);
void link_set_user(struct link *, void *user); /* what the owner keeps with it */
void *link_user(const struct link *);
const struct addr *link_peer(const struct link *);
const struct addr *link_local(const struct link *);
const char *link_transport_name(const struct link *);
int64_t link_rtt_us(const struct link *); /* -1: not known yet */
unsigned link_n_lanes(const struct link *);

int link_dial(struct link *, const struct hello *, struct lane **lane_out); /* client */
int lane_admit(struct lane *, const struct welcome *);
void lane_refuse(struct lane *, enum close_why, const char *text); /* lane is dead */
/* Takes the packet. Queues it as link_queue.h says: fair between sources, 512 packets, as many
 * bytes as the link may have, nothing that is too old. Sent at the end of the turn, or at once
 * when a batch is full. */
void link_send(struct lane *, struct pkt *);
int lane_tell_peer(struct lane *, const struct peer_status *);
int lane_tell_notice(struct lane *, const struct notice *);
void lane_end(struct lane *, enum close_why, const char *text); /* lane is dead */
/* What comes on it is to come more slowly: nothing is read for so long (or longer, if that was
 * said before), unless there are others on its link, who would pay for it. Also from inside
 * events. */
void lane_rest(struct lane *, uint32_t ms);
/* Likewise conn_narrow(), until another lane comes or this one goes; again now and then. */
void lane_narrow(struct lane *, uint64_t bytes_per_s);
size_t lane_unread(const struct lane *); /* likewise conn_unread(); 0: not known */
/* Packets of link_send() that went no further: dropped, or still waiting. */
uint64_t lane_n_unsent(const struct lane *);
/* What waits at the moment, and what went no further since it began. */
struct lane_load {
	unsigned packets;
	size_t bytes;
	uint64_t n_stale, n_full, n_other; /* dropped: too old, no room, for another reason */
};
void lane_load(const struct lane *, struct lane_load *load_out);
/* Datagrams that came and were dropped before link_events.packet. */
uint64_t lane_n_ignored(const struct lane *);
void link_answer(struct web *, const struct web_answer *); /* the web is dead */
struct link *lane_link(const struct lane *);
void lane_set_user(struct lane *, void *user);
void *lane_user(const struct lane *);

#endif
