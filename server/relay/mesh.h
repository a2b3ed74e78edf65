/*
 * Our side of the mesh of a region (derp.md 3.7): a link to each of the other relays,
 * kept up, on which we watch who its native DERP ends are. Each of them joins our router
 * as a forwarder, so that packets of our ends for it go through that link; they leave
 * when it leaves there, and all with the link. What comes for our own ends comes on the
 * other relay's link to us (session_on_forward): both have to name each other.
 *
 *   state     meaning                           leads to
 *   WAITING   until the next attempt            DIALLING
 *   DIALLING  name, TCP, TLS, handshake         WATCHING, WAITING, ENDED
 *   WATCHING  it tells us its ends: we are let  WAITING
 *   ENDED     it is ourselves, or we stop       nothing
 *
 * One for the whole server, on the loop, the links and the router of one worker. What
 * it says in the log names the relay as it was written.
 */
#ifndef TUNN_SERVER_MESH_H
#define TUNN_SERVER_MESH_H

#include "common/link.h"
#include "server/relay/router.h"

struct mesh;

struct mesh_conf {                       /* borrowed while the mesh lives */
	const char *const *with;         /* as mesh_with_of() takes them */
	unsigned n_with;                 /* at least 1 */
	struct tls_ctx *tls;             /* of a client */
	struct derp_conf derp;           /* mesh_key is set */
	const struct transport_ops *ops; /* transport derp */
};

struct mesh_place { /* where it lives; borrowed likewise */
	struct loop *loop;
	struct links *links;
	struct router *router;
	const struct limits *limits;
};

int mesh_new(const struct mesh_conf *, const struct mesh_place *,
             struct mesh **mesh_out); /* -ENOMEM */
void mesh_start(struct mesh *);       /* NULL allowed */
/* No new links; those that are there stay until somebody closes them. NULL allowed. */
void mesh_drain(struct mesh *);
unsigned mesh_n_links(const struct mesh *); /* of those in `links`; NULL: 0 */
/* When its links are gone; the router, which is told nothing, carries no packet
 * any more. NULL allowed. */
void mesh_free(struct mesh *);

/* router_events.relay: the owner of a forwarder is the mesh's. Takes. */
void mesh_relay(void *owner, struct pkt *);

#endif
