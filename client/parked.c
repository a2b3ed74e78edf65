#include "client/parked.h"

#include <stdbool.h>
#include <stddef.h>

static struct pkt *pop(struct parked *q, unsigned *peer_out)
{
	struct pkt *p = q->pkt[q->first];

	*peer_out = q->peer[q->first];
	q->pkt[q->first] = NULL;
	q->first = (q->first + 1) % PARKED_MAX;
	q->n--;
	return p;
}

static bool is_old(const struct pkt *p, uint64_t now_ms)
{
	return now_ms > p->born_ms && now_ms - p->born_ms > PARKED_AGE_MS;
}

void parked_add(struct parked *q, unsigned peer, struct pkt *p, uint64_t now_ms)
{
	unsigned ignored;

	while (q->n && (q->n == PARKED_MAX || is_old(q->pkt[q->first], now_ms)))
		pkt_drop(pop(q, &ignored), DROP_NOT_READY);
	unsigned at = (q->first + q->n++) % PARKED_MAX;
	q->pkt[at] = p;
	q->peer[at] = peer;
}

struct pkt *parked_take(struct parked *q, uint64_t now_ms, unsigned *peer_out)
{
	while (q->n) {
		struct pkt *p = pop(q, peer_out);
		if (!is_old(p, now_ms))
			return p;
		pkt_drop(p, DROP_STALE);
	}
	return NULL;
}

void parked_drop_all(struct parked *q)
{
	unsigned ignored;

	while (q->n)
		pkt_drop(pop(q, &ignored), DROP_NOT_READY);
}
