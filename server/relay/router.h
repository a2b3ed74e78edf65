/*
 * The router: decides for a packet where it goes, and tells members about each
 * other. Knows only keys; no links, no protocols, no clock. Single-threaded: one
 * per worker. What it knows of members of other workers comes by mail
 * (router_on_*); it is the same at all of them once the mail is read, in whatever
 * order the mail of different workers comes: the highest number has the key.
 *
 * Mutual peering is two local checks: the sender's member declares the
 * destination, the destination's member declares the sender. Declarations are
 * kept resolved (decl.peer, decl.mutual) as members come and go, so that a
 * packet costs no lookup.
 *
 * Native DERP ends declare everybody, so each of their packets costs one lookup; several
 * may have one key, and the one that spoke last has the packets (router_native.c).
 */
#ifndef TUNN_SERVER_ROUTER_H
#define TUNN_SERVER_ROUTER_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/key.h"
#include "common/base/list.h"
#include "common/base/map.h"
#include "common/base/pkt.h"
#include "common/transport/transport.h"
#include "server/relay/presence.h"

struct router;

enum {
	FIGHT_TAKEOVERS = 3,     /* more than this by different instances ... */
	FIGHT_WINDOW_MS = 60000, /* ... within this: the id rests */
	FIGHT_REST_MS = 10000,
	RETELL_MS = 10000, /* a state is told again to a sender who goes on */
	RELIEF_MS = 1000,  /* after "over limit" it is quiet for so long */
};

struct place;
struct native_policy;

struct decl { /* one declared peer of a member; the router's */
	const struct key *key;
	struct member *by;
	struct presence *peer; /* who has the key now, or NULL; the place's reference */
	struct member *local;  /* the same if it is of this worker */
	bool mutual;           /* peer declares by */
	enum peer_state told;
	uint64_t told_ms;
	struct list node; /* in the watch list of `key` */
};

struct member {               /* embedded in a session; filled in before router_join() */
	struct presence *who; /* the owner's reference, until after router_leave() */
	struct decl *decls;   /* one for each of who->peers; the owner frees them likewise */
	void *owner;
	bool joined;
	bool greeted;                                       /* admitted: may be told states */
	struct decl *last;                                  /* of the previous packet */
	uint64_t n_dropped[DROP_ONE_WAY + 1], n_over_limit; /* of what it sent, by reason */
	/* Native; the router's. */
	struct place *place; /* of its key, while it is joined */
	struct map heard;    /* keys it has got packets from: it is told when they go */
	struct place *last_heard;
	struct list watching; /* in router.watchers */
};

enum router_news { ROUTER_JOIN, ROUTER_LEAVE, ROUTER_FIGHT, ROUTER_CLOSE };

struct router_events {
	void (*deliver)(void *owner, struct pkt *); /* takes */
	void (*peer)(void *owner, const struct peer_status *);
	/* The member has been replaced (and has left the router already). */
	void (*superseded)(void *owner, bool same_instance, bool fight);
	/* Native: for an end of another relay of the mesh (takes); a mate wants it closed. */
	void (*relay)(void *owner, struct pkt *);
	void (*close)(void *owner);
	/* To the other workers, of whom there may be none: news for all (JOIN alone can
	 * fail, -ENOMEM, and then none was told), a packet for one (takes). */
	int (*tell)(void *mates, enum router_news, struct presence *);
	void (*forward)(void *mates, unsigned worker, struct pkt *);
};

struct router_conf { /* borrowed */
	const struct router_events *events;
	void *mates;
	_Atomic uint64_t *seq; /* one counter for all workers */
};

struct router *router_new(const struct router_conf *); /* NULL: out of memory */
/* Which native ends may talk to each other; borrowed until the next one. NULL: all. */
void router_set_policy(struct router *, const struct native_policy *);
void router_set_worker(struct router *, unsigned number); /* ours; before anybody joins */
void router_free(struct router *);
unsigned router_n_members(const struct router *); /* of this worker */
size_t router_n_places(const struct router *);    /* keys it remembers anything of */

/* Whose key it would take over; borrowed, NULL: nobody's. */
struct presence *router_holder(struct router *, const struct member *);
/* Puts the member at its key, replacing who was there: newest wins. CLOSE_NONE:
 * joined; CLOSE_FIGHT, CLOSE_NOMEM: not joined. */
enum close_why router_join(struct router *, struct member *, uint64_t now_ms);
/* After the member's end was told that it is in: tells it and its peers states. */
void router_greet(struct router *, struct member *, uint64_t now_ms);
void router_leave(struct router *, struct member *, uint64_t now_ms); /* idempotent */

/* Takes the packet; src is stamped with the member's key here. True: it went on. Whose
 * account is over its rate gets none, and the sender is told. */
bool router_route(struct router *, struct member *from, struct pkt *, uint64_t now_ms);
/* Does a packet to `dst` count twice for the sender's account? */
bool router_pays_both(struct router *, struct member *from, const struct key *dst);

/* Takes the packet, which the member sent and which goes nowhere. */
void router_drop(struct member *, struct pkt *, enum drop_why);

/* ---- native ends ---- */

/* It said something: of the ends with its key it has the packets from now on. */
void router_active(struct router *, struct member *, uint64_t now_ms);
/* Takes the packet of another relay's native end; src and dst are set. */
void router_forward(struct router *, struct member *mate, struct pkt *, uint64_t now_ms);
/* Tells it of all native ends that are here, and of each that comes or goes. */
void router_watch(struct router *, struct member *);
void router_close_key(struct router *, const struct key *);

/* ---- mail of other workers; each takes ---- */
/* -ENOMEM: its end is not reached from here. */
int router_on_join(struct router *, struct presence *, uint64_t now_ms);
void router_on_leave(struct router *, struct presence *, uint64_t now_ms);
void router_on_fight(struct router *, struct presence *, uint64_t now_ms);
void router_on_close(struct router *, struct presence *);
void router_deliver(struct router *, struct pkt *); /* never goes on to another worker */

#endif
