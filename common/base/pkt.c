#include "common/base/pkt.h"

#include <assert.h>
#include <stdlib.h>

#include "common/base/metric.h"

enum {
	SMALL_CAP = 2048 - sizeof(struct pkt), /* nearly every datagram on the Internet */
	POOL_MAX = 512,                        /* 1 MiB kept per thread at most */
};

/* The one freed last is still in the cache and goes first. */
static _Thread_local struct {
	struct pkt *top;
	unsigned n;
} pool;

static struct pkt *pool_pop(void)
{
	struct pkt *p = pool.top;

	if (p) {
		pool.top = p->next;
		pool.n--;
		p->next = NULL;
	}
	return p;
}

struct pkt *pkt_new(size_t len)
{
	struct pkt *p;

	assert(len <= PKT_MAX);
	if (len <= SMALL_CAP && (p = pool_pop()) != NULL) {
		p->len = (uint32_t)len;
		return p;
	}
	size_t cap = len <= SMALL_CAP ? SMALL_CAP : len;
	p = malloc(sizeof *p + cap);
	if (!p)
		return NULL;
	p->next = NULL;
	p->cap = (uint32_t)cap;
	p->len = (uint32_t)len;
	p->flow = 0;
	metric_add(METRIC_PKT_ALLOCS, 1);
	return p;
}

void pkt_free(struct pkt *p)
{
	if (!p)
		return;
	if (p->cap != SMALL_CAP || pool.n >= POOL_MAX) {
		free(p);
		return;
	}
	p->len = 0;
	p->flow = 0;
	p->next = pool.top;
	pool.top = p;
	pool.n++;
}

void pkt_drop(struct pkt *p, enum drop_why why)
{
	metric_drop(why);
	pkt_free(p);
}

void pkt_pool_drain(void)
{
	struct pkt *p;

	while ((p = pool_pop()) != NULL)
		free(p);
}

void pkt_pool_spare(struct pktq *empties_out, unsigned n)
{
	while (n-- && pool.n > POOL_MAX / 2)
		pktq_push(empties_out, pool_pop());
}

void pkt_pool_add(struct pktq *empties)
{
	struct pkt *p;

	while ((p = pktq_pop(empties)) != NULL)
		pkt_free(p);
}
