/*
 * The inside of the router, shared by its files only:
 *   router.c         places, named tunnels, packets
 *   router_native.c  native DERP ends
 */
#ifndef TUNN_ROUTER_IMPL_H
#define TUNN_ROUTER_IMPL_H

#include "common/base/map.h"
#include "server/relay/router.h"

/* What is known of a key: who has it, who declares it, who fought for it, who has heard
 * from it. Lives while any of them does. */
struct place {
	struct key key;
	struct presence *holder; /* a reference, or NULL */
	struct member *member;   /* the holder's, if it is of this worker */
	struct list watchers;    /* decl.node */
	struct list node;        /* in router.fought, unlinked when nobody fought */
	unsigned n_takeovers;    /* by different instances, in the window */
	uint64_t window_ms, rest_until_ms;
	struct list natives; /* struct contender, the holder first */
	struct list heard;   /* struct interest */
};

struct router {
	const struct router_events *events;
	struct router_conf conf;
	const struct native_policy *policy;
	unsigned worker;
	struct map places;
	struct place *last;   /* of the previous packet whose destination was looked up */
	struct list fought;   /* places taken over lately, oldest window first */
	struct list watchers; /* member.watching */
	unsigned n_members;
};

/* router.c */
struct place *place_get(struct router *, const struct key *); /* NULL: out of memory */
void place_put(struct router *, struct place *);              /* frees it if nobody needs it */
struct place *place_of_packet(struct router *, const struct key *dst); /* or NULL */
/* The key has a new holder, or none: everybody who declares it is told, and of its going
 * native ends that have heard from it. */
void place_changed(struct router *, struct place *, uint64_t now_ms);
void place_vacate(struct place *);
int router_tell(struct router *, enum router_news, struct presence *);
struct decl *router_decl(struct member *, const struct key *); /* or NULL */
/* Takes the packet's bytes from the rate of the receiver's account (it has one), unless its
 * sender has `paid` for both with the same. False: it is over its rate, or its volume is used
 * up. */
bool router_has_room(const struct account *paid, const struct presence *to, const struct pkt *,
                     uint64_t now_ms);

/* router_native.c */
enum close_why native_join(struct router *, struct member *, uint64_t now_ms);
void native_leave(struct router *, struct member *, uint64_t now_ms);
int native_on_join(struct router *, struct presence *, uint64_t now_ms);   /* takes */
void native_on_leave(struct router *, struct presence *, uint64_t now_ms); /* borrows */
bool native_route(struct router *, struct member *from, struct pkt *, uint64_t now_ms);
void native_hand(struct router *, struct member *to, struct pkt *);
/* Of the native ends of a place that are on this worker the one that spoke last, or NULL. */
struct member *native_here(struct place *);
/* Nobody has the key any more: native ends that heard from it are told, once. */
void native_tell_gone(struct router *, struct place *);
void native_forget(struct place *); /* what it keeps of native ends; the router goes */

#endif
