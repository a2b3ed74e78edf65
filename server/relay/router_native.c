/*
 * Native DERP ends: many connections may have one key (derp.md 3.6). All workers know
 * all of them, in the same order, so they agree on who has the packets without a word:
 * an end that is here before one that another relay has, then the one that spoke or
 * came last. Who speaks without being the active one takes a new number, as if it came.
 */
#include "server/relay/router_impl.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/metric.h"
#include "server/relay/native_policy.h"

enum { HEARD_MAX = 1024 }; /* keys whose leaving one end is told of */

struct contender { /* one connection with the key of a place */
	struct list node;
	struct presence *who;  /* a reference */
	struct member *member; /* if it is of this worker */
};

struct interest {             /* a member has got packets from the key of a place */
	struct list at_place; /* in its `heard`; also in the member's, by key */
	struct place *place;
	struct member *by;
};

/* ---- who is told what ---- */

static void tell_one(struct router *r, struct member *m, const struct key *key,
                     enum peer_state state)
{
	struct peer_status p = { .key = *key, .state = state, .text = STR("") };

	r->events->peer(m->owner, &p);
}

static void tell_present(struct router *r, struct member *watcher, const struct presence *who)
{
	struct peer_status p = { .key = who->key,
		                 .state = PEER_UP,
		                 .text = STR(""),
		                 .port = who->port,
		                 .native_flags = who->native_flags };

	memcpy(p.ip, who->ip, sizeof p.ip);
	r->events->peer(watcher->owner, &p);
}

static void tell_watchers(struct router *r, const struct presence *who, enum peer_state state)
{
	list_each(it, tmp, &r->watchers) {
		struct member *m = container_of(it, struct member, watching);
		if (state == PEER_UP)
			tell_present(r, m, who);
		else
			tell_one(r, m, &who->key, state);
	}
}

/* ---- interests ---- */

static void forget_interest(struct interest *i)
{
	if (i->by->last_heard == i->place)
		i->by->last_heard = NULL;
	map_del(&i->by->heard, &i->place->key);
	list_del(&i->at_place);
	free(i);
}

static void note_heard(struct router *r, struct member *m, const struct key *src)
{
	if (m->last_heard && key_eq(&m->last_heard->key, src))
		return;
	struct interest *i = map_get(&m->heard, src);
	if (i) {
		m->last_heard = i->place;
		return;
	}
	struct place *pl = map_get(&r->places, src);
	if (!pl)
		return; /* it left while its packet was on the way */
	m->last_heard = pl;
	i = m->heard.n < HEARD_MAX ? calloc(1, sizeof *i) : NULL;
	if (!i || map_put(&m->heard, &pl->key, i) < 0) {
		free(i);
		m->last_heard = NULL; /* nothing keeps the place */
		return;
	}
	*i = (struct interest){ .place = pl, .by = m };
	list_add_tail(&pl->heard, &i->at_place);
}

void native_tell_gone(struct router *r, struct place *pl)
{
	list_each(it, tmp, &pl->heard) {
		struct interest *i = container_of(it, struct interest, at_place);
		struct member *m = i->by;
		forget_interest(i);
		tell_one(r, m, &pl->key, PEER_GONE);
	}
}

/* ---- contenders ---- */

static bool goes_before(const struct presence *a, const struct presence *b)
{
	if (a->forwarder != b->forwarder)
		return b->forwarder;
	return a->forwarder ? a->seq < b->seq : a->seq > b->seq;
}

static void insert(struct place *pl, struct contender *c)
{
	struct list *at = pl->natives.next;

	while (at != &pl->natives &&
	       !goes_before(c->who, container_of(at, struct contender, node)->who))
		at = at->next;
	list_add_tail(at, &c->node); /* before `at` */
}

static struct contender *contender_of(struct place *pl, const struct presence *who)
{
	list_each(it, tmp, &pl->natives) {
		struct contender *c = container_of(it, struct contender, node);
		if (c->who == who)
			return c;
	}
	return NULL;
}

struct member *native_here(struct place *pl)
{
	list_each(it, tmp, &pl->natives) {
		struct contender *c = container_of(it, struct contender, node);
		if (c->member && !c->who->forwarder)
			return c->member;
	}
	return NULL;
}

static unsigned n_here(struct place *pl)
{
	unsigned n = 0;

	list_each(it, tmp, &pl->natives)
		n += !container_of(it, struct contender, node)->who->forwarder;
	return n;
}

/* The first in the list has the packets. */
static void elect(struct router *r, struct place *pl, uint64_t now_ms)
{
	struct contender *c = list_empty(&pl->natives) ? NULL :
	                                                 container_of(pl->natives.next,
	                                                              struct contender, node);

	if (c && pl->holder == c->who)
		return;
	place_vacate(pl);
	if (c) {
		pl->holder = presence_ref(c->who);
		pl->member = c->member;
	}
	place_changed(r, pl, now_ms);
}

static unsigned n_away(struct place *pl)
{
	unsigned n = 0;

	list_each(it, tmp, &pl->natives)
		n += container_of(it, struct contender, node)->who->forwarder;
	return n;
}

/* Gauges are counted where all is known and only once: by the first worker. */
static void count(const struct router *r, struct place *pl, unsigned here_before, bool any_before,
                  bool is_new)
{
	unsigned here = n_here(pl);
	bool any = !list_empty(&pl->natives);

	if (r->worker != 0)
		return;
	metric_add(METRIC_DERP_KEYS, any - any_before);
	metric_add(METRIC_DERP_KEYS_REMOTE, (any && !here) - (any_before && !here_before));
	metric_add(METRIC_DERP_DUP_KEYS, (here > 1) - (here_before > 1));
	metric_add(METRIC_DERP_DUP_CONNS,
	           (here > 1 ? (int)here : 0) - (here_before > 1 ? (int)here_before : 0));
	if (is_new && here > here_before && here > 1)
		metric_add(METRIC_DERP_DUP_CONNS_TOTAL, 1);
}

/* Takes a reference of its own. */
static int add(struct router *r, struct presence *who, struct member *m, uint64_t now_ms)
{
	struct place *pl = place_get(r, &who->key);
	struct contender *c = pl ? calloc(1, sizeof *c) : NULL;

	if (!c) {
		if (pl)
			place_put(r, pl);
		return -ENOMEM;
	}
	unsigned here = n_here(pl);
	bool any = !list_empty(&pl->natives);
	c->who = presence_ref(who);
	c->member = m;
	insert(pl, c);
	if (m)
		m->place = pl;
	count(r, pl, here, any, !who->renewed);
	if (who->forwarder && r->worker == 0 && n_away(pl) == 2)
		metric_add(METRIC_DERP_MULTI_FORWARDERS, 1);
	elect(r, pl, now_ms);
	if (!who->forwarder && !who->renewed)
		tell_watchers(r, who, PEER_UP);
	return 0;
}

static void del(struct router *r, struct place *pl, struct contender *c, uint64_t now_ms)
{
	struct presence *who = c->who;
	unsigned here = n_here(pl);

	list_del(&c->node);
	free(c);
	count(r, pl, here, true, false);
	elect(r, pl, now_ms);
	if (!who->forwarder && n_here(pl) == 0)
		tell_watchers(r, who, PEER_GONE);
	presence_unref(who);
	place_put(r, pl);
}

void native_forget(struct place *pl)
{
	list_each(it, tmp, &pl->heard)
		forget_interest(container_of(it, struct interest, at_place));
	list_each(it, tmp, &pl->natives) {
		struct contender *c = container_of(it, struct contender, node);
		presence_unref(c->who);
		free(c);
	}
}

/* ---- coming and going ---- */

static uint64_t next_seq(struct router *r)
{
	return 1 + atomic_fetch_add_explicit(r->conf.seq, 1, memory_order_relaxed);
}

enum close_why native_join(struct router *r, struct member *m, uint64_t now_ms)
{
	m->who->worker = r->worker;
	m->who->seq = next_seq(r);
	map_init(&m->heard, KEY_LEN);
	list_init(&m->watching);
	if (router_tell(r, ROUTER_JOIN, m->who) < 0)
		return CLOSE_NOMEM;
	if (add(r, m->who, m, now_ms) < 0) {
		router_tell(r, ROUTER_LEAVE, m->who);
		return CLOSE_NOMEM;
	}
	m->joined = true;
	r->n_members++;
	return CLOSE_NONE;
}

static void forget_all_heard(struct router *r, struct member *m, const struct place *own)
{
	struct interest *i;
	size_t pos = 0;

	while ((i = map_next(&m->heard, &pos)) != NULL) {
		struct place *at = i->place;
		list_del(&i->at_place);
		free(i);
		if (at != own)
			place_put(r, at);
	}
	map_done(&m->heard);
	m->last_heard = NULL;
}

void native_leave(struct router *r, struct member *m, uint64_t now_ms)
{
	struct place *pl = m->place;

	m->joined = false;
	m->place = NULL;
	r->n_members--;
	if (!list_empty(&m->watching))
		metric_add(METRIC_DERP_WATCHERS, -1);
	list_del(&m->watching);
	forget_all_heard(r, m, pl);
	router_tell(r, ROUTER_LEAVE, m->who);
	del(r, pl, contender_of(pl, m->who), now_ms);
}

int native_on_join(struct router *r, struct presence *p, uint64_t now_ms)
{
	int rc = add(r, p, NULL, now_ms);

	presence_unref(p);
	return rc;
}

void native_on_leave(struct router *r, struct presence *p, uint64_t now_ms)
{
	struct place *pl = map_get(&r->places, &p->key);
	struct contender *c = pl ? contender_of(pl, p) : NULL;

	if (c)
		del(r, pl, c, now_ms);
}

/* Joins anew and then leaves as what it was, so that the key is never without it. */
static void renew(struct router *r, struct member *m, uint64_t now_ms)
{
	struct place *pl = m->place;
	struct contender *c = contender_of(pl, m->who);
	struct presence *old = m->who, *who = presence_renew(old);

	if (!who)
		return;
	who->seq = next_seq(r);
	if (router_tell(r, ROUTER_JOIN, who) < 0) {
		presence_unref(who);
		return;
	}
	m->who = who;
	list_del(&c->node);
	presence_unref(c->who);
	c->who = presence_ref(who);
	insert(pl, c);
	elect(r, pl, now_ms);
	router_tell(r, ROUTER_LEAVE, old);
	presence_unref(old);
}

void router_active(struct router *r, struct member *m, uint64_t now_ms)
{
	if (m->joined && m->place->member != m)
		renew(r, m, now_ms);
}

void router_watch(struct router *r, struct member *m)
{
	struct place *pl;
	size_t pos = 0;

	if (list_empty(&m->watching)) {
		list_add_tail(&r->watchers, &m->watching);
		metric_add(METRIC_DERP_WATCHERS, 1);
	}
	while ((pl = map_next(&r->places, &pos)) != NULL)
		if (pl->holder && pl->holder->native && !pl->holder->forwarder)
			tell_present(r, m, pl->holder);
}

/* ---- closing by a mate ---- */

static void close_one(struct router *r, struct presence *who)
{
	struct place *pl = map_get(&r->places, &who->key);
	struct contender *c = pl ? contender_of(pl, who) : NULL;

	if (c && c->member && !who->forwarder)
		r->events->close(c->member->owner);
	else if (c && !c->member)
		router_tell(r, ROUTER_CLOSE, who);
}

/* Each that is closed leaves the list, and the last of them the place: so first who, then. */
void router_close_key(struct router *r, const struct key *key)
{
	struct place *pl = map_get(&r->places, key);
	unsigned n = pl ? n_here(pl) : 0, i = 0;
	struct presence **all = n ? calloc(n, sizeof(struct presence *)) : NULL;

	if (!all)
		return;
	list_each(it, tmp, &pl->natives) {
		struct presence *who = container_of(it, struct contender, node)->who;
		if (!who->forwarder)
			all[i++] = presence_ref(who);
	}
	for (i = 0; i < n; i++) {
		close_one(r, all[i]);
		presence_unref(all[i]);
	}
	free(all);
}

/* It has spoken since, and is known by another presence: close mail crossed ours. */
static struct contender *renewed_since(struct place *pl, const struct presence *old)
{
	list_each(it, tmp, &pl->natives) {
		struct contender *c = container_of(it, struct contender, node);
		if (c->member && c->who->renewed && c->who->port == old->port &&
		    memcmp(c->who->ip, old->ip, sizeof old->ip) == 0)
			return c;
	}
	return NULL;
}

void router_on_close(struct router *r, struct presence *p)
{
	struct place *pl = map_get(&r->places, &p->key);
	struct contender *c = pl ? contender_of(pl, p) : NULL;

	if (!c && pl && p->worker == r->worker)
		c = renewed_since(pl, p);
	if (c && c->member)
		r->events->close(c->member->owner);
	presence_unref(p);
}

/* ---- packets ---- */

void native_hand(struct router *r, struct member *to, struct pkt *p)
{
	if (to->who->forwarder) {
		metric_add(METRIC_DERP_FORWARDED_OUT, 1);
		r->events->relay(to->owner, p);
		return;
	}
	note_heard(r, to, &p->src);
	r->events->deliver(to->owner, p);
}

/* Only who looks for a path is told, as the original does. */
static void nobody(struct router *r, struct member *from, struct pkt *p, enum drop_why why)
{
	if (pkt_is_disco(p))
		tell_one(r, from, &p->dst, PEER_ABSENT);
	router_drop(from, p, why);
}

static bool may_pair(const struct router *r, const struct key *a, const struct key *b)
{
	return !r->policy || native_policy_may_pair(r->policy, a, b);
}

static enum drop_why why_not(struct router *r, struct member *from, struct place *pl)
{
	const struct presence *to = pl ? pl->holder : NULL;

	if (!to)
		return DROP_NO_ROUTE;
	if (to->native)
		return may_pair(r, &from->who->key, &to->key) ? DROP_N : DROP_NOT_MUTUAL;
	if (pl->member ? !router_decl(pl->member, &from->who->key) :
	                 !presence_declares(to, &from->who->key))
		return DROP_NOT_MUTUAL;
	return to->bidirectional ? DROP_N : DROP_ONE_WAY;
}

static void pass_on(struct router *r, struct place *pl, struct pkt *p)
{
	if (!pl->member)
		r->events->forward(r->conf.mates, pl->holder->worker, p);
	else if (pl->holder->native)
		native_hand(r, pl->member, p);
	else
		r->events->deliver(pl->member->owner, p);
}

bool native_route(struct router *r, struct member *from, struct pkt *p, uint64_t now_ms)
{
	if (from->place->member != from)
		renew(r, from, now_ms);
	struct place *pl = place_of_packet(r, &p->dst);
	enum drop_why why = why_not(r, from, pl);
	p->src = from->who->key;
	if (why == DROP_N && pl->holder->payer &&
	    !router_has_room(from->who->payer, pl->holder, p, now_ms))
		why = DROP_OVER_LIMIT;
	if (why == DROP_N)
		pass_on(r, pl, p);
	else if (why == DROP_OVER_LIMIT)
		router_drop(from, p, why); /* DERP has no words for it */
	else
		nobody(r, from, p, why);
	return why == DROP_N;
}

/* Bit 255 is of keys of named tunnels: no other relay has those (product.md 4); the key
 * of zeroes is nobody's. */
static bool is_forged(const struct key *key)
{
	return key->b[KEY_LEN - 1] & 0x80 || key_eq(key, &(struct key){ 0 });
}

void router_forward(struct router *r, struct member *mate, struct pkt *p, uint64_t now_ms)
{
	router_active(r, mate, now_ms);
	struct place *pl = place_of_packet(r, &p->dst);

	metric_add(METRIC_DERP_FORWARDED_IN, 1);
	if (is_forged(&p->src)) {
		metric_add(METRIC_DERP_FORGED, 1);
		pkt_drop(p, DROP_NOT_MUTUAL);
	} else if (!pl || !pl->holder || !pl->holder->native || pl->holder->forwarder) {
		nobody(r, mate, p, DROP_NO_ROUTE); /* it is never forwarded again */
	} else if (!may_pair(r, &p->src, &p->dst)) {
		nobody(r, mate, p, DROP_NOT_MUTUAL);
	} else if (pl->holder->payer && !router_has_room(NULL, pl->holder, p, now_ms)) {
		router_drop(mate, p, DROP_OVER_LIMIT);
	} else {
		pass_on(r, pl, p);
	}
}
