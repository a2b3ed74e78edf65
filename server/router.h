/*
 * The router: decides for a packet where it goes, and tells members about each
 * other. Knows only keys; no links, no protocols, no clock. Single-threaded: one
 * per worker.
 *
 * Mutual peering is two local checks: the sender's member declares the
 * destination, the destination's member declares the sender. Declarations are
 * kept resolved (decl.peer, decl.mutual) as members come and go, so that a
 * packet costs no lookup.
 */
#ifndef TUNN_SERVER_ROUTER_H
#define TUNN_SERVER_ROUTER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/key.h"
#include "common/base/list.h"
#include "common/base/pkt.h"
#include "common/transport/transport.h"

struct router;

enum {
	FIGHT_TAKEOVERS = 3,     /* more than this by different instances ... */
	FIGHT_WINDOW_MS = 60000, /* ... within this: the id rests */
	FIGHT_REST_MS = 10000,
	RETELL_MS = 10000, /* a state is told again to a sender who goes on */
};

struct decl { /* one declared peer of a member; the router's but for `key` */
	struct key key;
	struct member *by;
	struct member *peer; /* the member that has the key now, or NULL */
	bool mutual;         /* peer declares by */
	enum peer_state told;
	uint64_t told_ms;
	struct list node; /* in the watch list of `key` */
};

struct member { /* embedded in a session; filled in before router_join() */
	struct key key;
	char account[NAME_MAX_LEN + 1], id[NAME_MAX_LEN + 1];
	uint8_t instance[INSTANCE_LEN];
	enum role role;
	bool bidirectional;
	unsigned n_decls;
	struct decl *decls; /* the member's owner frees them after router_leave() */
	void *owner;
	bool joined;
	bool greeted;      /* admitted: may be told states */
	struct decl *last; /* of the previous packet */
};

struct router_events {
	void (*deliver)(void *owner, struct pkt *); /* takes */
	void (*peer)(void *owner, const struct peer_status *);
	/* The member has been replaced (and has left the router already). */
	void (*superseded)(void *owner, bool same_instance, bool fight);
};

struct router *router_new(const struct router_events *); /* NULL: out of memory */
void router_free(struct router *);
unsigned router_n_members(const struct router *);
size_t router_n_places(const struct router *); /* keys it remembers anything of */

/* Puts the member at its key, replacing who was there: newest wins. CLOSE_NONE:
 * joined; CLOSE_FIGHT, CLOSE_NOMEM: not joined. */
enum close_why router_join(struct router *, struct member *, uint64_t now_ms);
/* After the member's end was told that it is in: tells it and its peers states. */
void router_greet(struct router *, struct member *, uint64_t now_ms);
void router_leave(struct router *, struct member *, uint64_t now_ms); /* idempotent */

/* Takes the packet; src is stamped with the member's key here. */
void router_route(struct router *, struct member *from, struct pkt *, uint64_t now_ms);

#endif
