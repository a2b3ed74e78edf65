#include "server/presence.h"

#include <stdlib.h>

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
	if (p && atomic_fetch_sub_explicit(&p->refs, 1, memory_order_acq_rel) == 1)
		free(p);
}

bool presence_declares(const struct presence *p, const struct key *key)
{
	for (unsigned i = 0; i < p->n_peers; i++)
		if (key_eq(&p->peers[i], key))
			return true;
	return false;
}
