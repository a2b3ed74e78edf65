/*
 * Packets: one datagram in our hands. Allocated from a pool of the thread that
 * asks, freed into the pool of the thread that frees; a packet moves between
 * threads only inside mail. Whoever is handed a packet takes it, also when the
 * call fails: every packet ends in exactly one pkt_free() or pkt_drop().
 */
#ifndef TUNN_BASE_PKT_H
#define TUNN_BASE_PKT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/err.h"
#include "common/base/key.h"

enum {
	PAYLOAD_MAX = 65507, /* UDP over IPv4 */
	PKT_MAX = 65536,     /* of what native DERP ends send each other */
};

struct pkt { /* value type on the hot path: fields are read directly */
	struct pkt *next;
	struct key src, dst;
	uint64_t born_ms; /* when it came into this process */
	uint32_t flow;    /* number of a local program, per peer */
	uint32_t len;     /* payload bytes, <= PKT_MAX */
	uint32_t cap;
	uint8_t data[];
};

struct pkt *pkt_new(size_t len);            /* len bytes to be filled in; NULL: out of memory */
void pkt_free(struct pkt *);                /* delivered: NULL allowed */
void pkt_drop(struct pkt *, enum drop_why); /* counted by reason in metric.h, freed */
void pkt_pool_drain(void);                  /* returns the calling thread's pool to the heap */

/* FIFO of packets, linked through next. */
struct pktq {
	struct pkt *head, *tail;
	unsigned n;
	size_t bytes;
};
static inline void pktq_push(struct pktq *q, struct pkt *p)
{
	p->next = NULL;
	if (q->tail)
		q->tail->next = p;
	else
		q->head = p;
	q->tail = p;
	q->n++;
	q->bytes += p->len;
}

/* The oldest, or NULL. */
static inline struct pkt *pktq_pop(struct pktq *q)
{
	struct pkt *p = q->head;

	if (!p)
		return NULL;
	q->head = p->next;
	if (!q->head)
		q->tail = NULL;
	p->next = NULL;
	q->n--;
	q->bytes -= p->len;
	return p;
}

/* Evens out the pools of two threads: gives up to n empty packets that the calling
 * thread's pool has beyond half of what it keeps; takes such packets in. */
void pkt_pool_spare(struct pktq *empties_out, unsigned n);
void pkt_pool_add(struct pktq *empties);

/* May go ahead of data: a WireGuard initiation, response or cookie, told by the
 * first four bytes and the length (the relay looks no further). */
static inline bool pkt_is_handshake(const struct pkt *p)
{
	if (p->len != 148 && p->len != 92 && p->len != 64)
		return false;
	return p->data[0] == (p->len == 148 ? 1 :
	                      p->len == 92  ? 2 :
	                                      3) &&
	       !p->data[1] && !p->data[2] && !p->data[3];
}

/* Tailscale's disco message by length and the first four bytes: finds paths between
 * native DERP ends, as urgent as a handshake. */
static inline bool pkt_is_disco(const struct pkt *p)
{
	return p->len >= 62 && p->data[0] == 'T' && p->data[1] == 'S' && p->data[2] == 0xf0 &&
	       p->data[3] == 0x9f;
}

static inline bool pkt_is_urgent(const struct pkt *p)
{
	return pkt_is_handshake(p) || pkt_is_disco(p);
}

#endif
