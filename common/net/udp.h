/*
 * A local UDP socket: reads batches (recvmmsg, UDP_GRO), queues datagrams during a turn
 * and sends them at its end (sendmmsg, UDP_SEGMENT, LOOP_FLUSH): those of one size to one
 * destination together, in order, and one by one where the kernel refuses that. ICMP
 * errors are counted and survive; what the kernel had no room for is counted (in:
 * UDP_OVERFLOWS, seen with the next datagram; out: the rest of the turn goes, DROP_UDP_SEND).
 * Belongs to its loop's thread.
 */
#ifndef TUNN_NET_UDP_H
#define TUNN_NET_UDP_H

#include <stdint.h>

#include "common/base/pkt.h"
#include "common/net/addr.h"
#include "common/net/loop.h"

struct udp;

/* Binds local (port 0 allowed; no SO_REUSEADDR). readable takes the packet;
 * born_ms is set, src and dst are zero. After 256 datagrams a turn no more is read. 0 or -errno. */
int udp_open(struct loop *, const struct addr *local,
             void (*on_packet)(void *owner, const struct addr *from, struct pkt *), void *owner,
             struct udp **udp_out);
/* The kernel sends to and receives from `remote` alone (and tells ICMP errors). */
int udp_connect(struct udp *, const struct addr *remote);
/* Its datagrams go as SO_MARK and SO_BINDTODEVICE say; 0 and NULL: as others do. 0 or -errno. */
int udp_set_way(struct udp *, uint32_t fwmark, const char *device);
/* Takes the packet; sent at the end of the turn. to NULL: the connected one. */
void udp_queue(struct udp *, const struct addr *to, struct pkt *);
const struct addr *udp_local(const struct udp *);
void udp_close(struct udp *); /* sends what is queued; NULL allowed; frees in the sweep */

#endif
