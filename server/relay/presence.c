#include "server/relay/presence.h"

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

/* ---- slots ---- */

/* Relaxed everywhere: who changes the word from SLOT_HELD has the slot, nothing else is
 * ordered by it. */
static bool change_slot(struct presence *p, enum slot from, enum slot to)
{
	return atomic_compare_exchange_strong_explicit(&p->slot, &from, to, memory_order_relaxed,
	                                               memory_order_relaxed);
}

static enum slot take_slot(struct presence *p, enum slot left)
{
	return atomic_exchange_explicit(&p->slot, left, memory_order_relaxed);
}

enum close_why presence_enter(struct presence *p, struct presence *before, bool *is_lent_out)
{
	bool is_lent = before && before->payer == p->payer &&
	               change_slot(before, SLOT_HELD, SLOT_LENT);
	enum close_why why = is_lent ? CLOSE_NONE : account_enter(p->payer);

	if (why == CLOSE_NONE)
		take_slot(p, SLOT_HELD);
	*is_lent_out = is_lent;
	return why;
}

void presence_return(struct presence *p, struct presence *before)
{
	if (take_slot(p, SLOT_NONE) == SLOT_HELD && !change_slot(before, SLOT_LENT, SLOT_HELD))
		account_leave(p->payer);
}

void presence_leave(struct presence *p)
{
	if (take_slot(p, SLOT_GONE) == SLOT_HELD)
		account_leave(p->payer);
}

/* ---- native ends ---- */

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
	q->slot = p->slot; /* nobody takes over from a native end */
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
