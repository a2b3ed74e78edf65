/*
 * Flows: which local program belongs to which number, per peer (product.md
 * section 6). The listening end allots numbers to the local addresses that
 * send, the first is 0; the forwarding end keeps one socket per number it
 * hears. Both forget what was idle for 180 s and, beyond 4096 flows of a peer,
 * the one idle longest. Pure: no sockets, no clock; one thread.
 *
 * One table serves one role: either the functions of the listening end are
 * called on it or those of the forwarding end.
 */
#ifndef TUNN_CLIENT_FLOW_H
#define TUNN_CLIENT_FLOW_H

#include <stdbool.h>
#include <stdint.h>

#include "common/net/addr.h"

enum { FLOWS_MAX = 4096, FLOW_IDLE_MS = 180000 };

struct flow_table;

/* gone: a socket that flow_set_socket() took is no longer used; the owner closes
 * it. Called from inside set, expire and free; may not call back. NULL allowed. */
struct flow_table *flow_table_new(unsigned n_peers, void (*gone)(void *owner, void *socket),
                                  void *owner); /* NULL: out of memory */
void flow_table_free(struct flow_table *);      /* NULL allowed */
/* Forgets what has been idle too long. The forwarding end keeps number 0: its
 * port is the one a local WireGuard remembers as its peer's endpoint. */
void flow_expire(struct flow_table *, uint64_t now_ms);
unsigned flow_count(const struct flow_table *, unsigned peer);

/* Listening end. 0 or -ENOMEM. */
int flow_from_addr(struct flow_table *, unsigned peer, const struct addr *from, uint64_t now_ms,
                   uint32_t *number_out);
/* Whom a reply is for: the flow's address if the peer echoes numbers and this
 * one is in use, else the last source that spoke. NULL: none has spoken yet.
 * Borrowed until the next call. */
const struct addr *flow_to_addr(struct flow_table *, unsigned peer, uint32_t number,
                                uint64_t now_ms);
/* The peer is known to echo numbers (its role is to forward). One that sends a
 * number other than 0 which is in use is known to as well. */
void flow_peer_echoes(struct flow_table *, unsigned peer, bool echoes);

/* Forwarding end. At most n sockets in all and an even share for each peer, two at
 * least: no peer takes the descriptors that others, or a new connection to the
 * relay, will need. */
void flow_limit_sockets(struct flow_table *, unsigned n);
/* Before a socket is opened: gives up this peer's longest idle where it must.
 * False: the peer has none to give. */
bool flow_make_room(struct flow_table *, unsigned peer);
void *flow_to_socket(struct flow_table *, unsigned peer, uint32_t number, uint64_t now_ms);
/* Takes the socket unless it fails: 0 or -ENOMEM. The number is not in use. */
int flow_set_socket(struct flow_table *, unsigned peer, uint32_t number, void *socket,
                    uint64_t now_ms);

#endif
