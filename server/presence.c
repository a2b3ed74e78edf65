#include "server/presence.h"

#include <stdlib.h>
#include <string.h>

struct presence *presence_new(unsigned n_peers)
{
	struct presence *p = calloc(1, sizeof *p + n_peers * sizeof p->peers[0]);

	if (!p)
		return NULL;
	atomic_init(&p->refs, 1);
	list_init(&p->unsaid);
	p->n_peers = n_peers;
	return p;
}

struct presence *presence_ref(struct presence *p)
{
	atomic_fetch_add_explicit(&p->refs, 1, memory_order_relaxed);
	return p;
}

void presence_unref(struct presence *p)
{
	if (p && atomic_fetch_sub_explicit(&p->refs, 1, memory_order_acq_rel) == 1) {
		account_unref(p->payer);
		free(p);
	}
}

struct presence *presence_renew(const struct presence *p)
{
	struct presence *q = presence_new(0);

	if (!q)
		return NULL;
	memcpy(&q->key, &p->key, sizeof q->key);
	memcpy(q->account, p->account, sizeof q->account);
	memcpy(q->id, p->id, sizeof q->id);
	memcpy(q->instance, p->instance, sizeof q->instance);
	memcpy(q->ip, p->ip, sizeof q->ip);
	q->worker = p->worker;
	q->port = p->port;
	q->role = p->role;
	q->bidirectional = p->bidirectional;
	q->native_flags = p->native_flags;
	q->native = q->renewed = true;
	q->payer = account_ref(p->payer);
	return q;
}

bool presence_declares(const struct presence *p, const struct key *key)
{
	if (p->native)
		return true;
	for (unsigned i = 0; i < p->n_peers; i++)
		if (key_eq(&p->peers[i], key))
			return true;
	return false;
}
