/*
 * The local port: where the user's program and tunn meet over UDP. Decides the
 * role by trying to bind (product.md section 6), owns the sockets and the
 * flows. Belongs to its loop's thread; local_open() may block (names).
 *
 * Listening: 127.0.0.1, 127.0.0.2, ... on the port, one address per peer in
 * the order named, and ::1 for the first. Forwarding: one socket per peer and
 * flow, connected to the target, so that its source port stays the same.
 */
#ifndef TUNN_CLIENT_LOCAL_H
#define TUNN_CLIENT_LOCAL_H

#include <stdbool.h>
#include <stdint.h>

#include "common/base/pkt.h"
#include "common/net/addr.h"
#include "common/net/loop.h"
#include "common/transport/transport.h"

struct local;

enum { LOCAL_ERROR_LEN = 256, LOCAL_WHERE_LEN = 2 * ADDR_TEXT_LEN + 8 };

struct local_conf { /* borrowed for the call */
	uint16_t port;
	unsigned n_peers;
	bool listen, forward;     /* neither: decide */
	const char *listen_addr;  /* NULL: loopback */
	const char *forward_host; /* NULL: 127.0.0.1 */
	unsigned sockets_max;     /* when forwarding, for all flows; 0: no bound but theirs */
};

/* A datagram of a local program for this peer; flow is set. Takes the packet. */
typedef void local_packet(void *owner, unsigned peer, struct pkt *);

/* 0, ERR_CONFIG or -errno with words for people in error_out. */
int local_open(struct loop *, const struct local_conf *, local_packet *, void *owner,
               struct local **local_out, char error_out[static LOCAL_ERROR_LEN]);
void local_close(struct local *); /* NULL allowed */

enum role local_role(const struct local *);
/* Was the role chosen here because the port is taken or free? */
bool local_is_chosen(const struct local *);
/* Listening: where the program reaches this peer. Forwarding: where to. */
const struct addr *local_where(const struct local *, unsigned peer);
const struct addr *local_where_too(const struct local *); /* ::1 of the first peer, or NULL */

/* Gives the packet to the local program that its flow is for. Takes. */
void local_deliver(struct local *, unsigned peer, struct pkt *);
void local_peer_role(struct local *, unsigned peer, enum role);

#endif
