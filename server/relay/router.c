#include "server/relay/router_impl.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/metric.h"

struct router *router_new(const struct router_conf *conf)
{
	struct router *r = calloc(1, sizeof *r);

	if (r) {
		r->conf = *conf;
		r->events = conf->events;
		map_init(&r->places, KEY_LEN);
		list_init(&r->fought);
		list_init(&r->watchers);
	}
	return r;
}

void router_free(struct router *r)
{
	struct place *pl;
	size_t pos = 0;

	if (!r)
		return;
	while ((pl = map_next(&r->places, &pos)) != NULL) {
		native_forget(pl);
		presence_unref(pl->holder);
		free(pl);
	}
	map_done(&r->places);
	free(r);
}

void router_set_policy(struct router *r, const struct native_policy *p) { r->policy = p; }
void router_set_worker(struct router *r, unsigned number) { r->worker = number; }
unsigned router_n_members(const struct router *r) { return r->n_members; }
size_t router_n_places(const struct router *r) { return r->places.n; }

/* ---- places ---- */

struct place *place_get(struct router *r, const struct key *key)
{
	struct place *pl = map_get(&r->places, key);

	if (pl)
		return pl;
	pl = calloc(1, sizeof *pl);
	if (!pl)
		return NULL;
	pl->key = *key;
	list_init(&pl->watchers);
	list_init(&pl->node);
	list_init(&pl->natives);
	list_init(&pl->heard);
	if (map_put(&r->places, &pl->key, pl) < 0) {
		free(pl);
		return NULL;
	}
	return pl;
}

void place_put(struct router *r, struct place *pl)
{
	if (pl->holder || !list_empty(&pl->watchers) || !list_empty(&pl->node) ||
	    !list_empty(&pl->natives) || !list_empty(&pl->heard))
		return;
	if (r->last == pl)
		r->last = NULL;
	map_del(&r->places, &pl->key);
	free(pl);
}

/* Fights of the past need no memory. */
static void forget_fights(struct router *r, uint64_t now_ms)
{
	list_each(it, tmp, &r->fought) {
		struct place *pl = container_of(it, struct place, node);
		if (now_ms - pl->window_ms < FIGHT_WINDOW_MS)
			return;
		pl->n_takeovers = 0;
		list_del(it);
		place_put(r, pl);
	}
}

/* ---- states ---- */

/* Who has not been declared across accounts learns nothing, not even that
 * somebody is there. */
static enum peer_state state_of(const struct decl *d)
{
	if (d->peer && d->mutual)
		return PEER_UP;
	if (d->peer && strcmp(d->peer->account, d->by->who->account) == 0)
		return PEER_NOT_MUTUAL;
	return d->told == PEER_UP || d->told == PEER_GONE ? PEER_GONE : PEER_ABSENT;
}

static void tell(struct router *r, struct decl *d, enum peer_state state, uint64_t now_ms)
{
	char text[2 * NAME_MAX_LEN + 80] = "";
	struct peer_status p = { .key = *d->key, .state = state };

	if (!d->by->greeted)
		return;
	if (state == PEER_UP)
		p.role = d->peer->role;
	else if (state == PEER_OVER_LIMIT)
		snprintf(text, sizeof text,
		         "its account is over its rate: some datagrams are dropped");
	else if (state == PEER_NOT_MUTUAL)
		snprintf(text, sizeof text, "%s is connected but has not declared --peer %s",
		         d->peer->id, d->by->who->id);
	else
		snprintf(text, sizeof text, "not there, or it has not declared you");
	p.text = str_of(text);
	d->told = state;
	d->told_ms = now_ms;
	r->events->peer(d->by->owner, &p);
}

/* Who has the declared key: an end of another relay has not, since no answer of it would
 * find the way to a tunnel, whose key is never told there. */
static void resolve(struct decl *d, const struct place *pl)
{
	bool is_away = pl->holder && pl->holder->forwarder;

	d->peer = is_away ? NULL : pl->holder;
	d->local = is_away ? NULL : pl->member;
	d->mutual = d->peer && presence_declares(d->peer, &d->by->who->key);
}

static void forget_holder(struct decl *d)
{
	d->peer = NULL;
	d->local = NULL;
}

void place_changed(struct router *r, struct place *pl, uint64_t now_ms)
{
	list_each(it, tmp, &pl->watchers) {
		struct decl *d = container_of(it, struct decl, node);
		resolve(d, pl);
		enum peer_state state = state_of(d);
		if (state != d->told)
			tell(r, d, state, now_ms);
	}
	if (!pl->holder)
		native_tell_gone(r, pl);
}

/* Nobody points at the old holder any more; nobody is told yet either, since a
 * new one comes. */
void place_vacate(struct place *pl)
{
	list_each(it, tmp, &pl->watchers)
		forget_holder(container_of(it, struct decl, node));
	presence_unref(pl->holder);
	pl->holder = NULL;
	pl->member = NULL;
}

/* ---- coming and going ---- */

static void unwatch(struct router *r, struct member *m, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		struct place *pl = map_get(&r->places, m->decls[i].key);
		list_del(&m->decls[i].node);
		place_put(r, pl);
	}
}

static int watch(struct router *r, struct member *m)
{
	for (unsigned i = 0; i < m->who->n_peers; i++) {
		struct decl *d = &m->decls[i];
		struct place *pl = place_get(r, &m->who->peers[i]);
		if (!pl) {
			unwatch(r, m, i);
			return -ENOMEM;
		}
		d->key = &m->who->peers[i];
		d->by = m;
		d->told = PEER_UNSPECIFIED;
		resolve(d, pl);
		list_add_tail(&pl->watchers, &d->node);
	}
	return 0;
}

static void begin_window(struct router *r, struct place *pl, uint64_t now_ms)
{
	pl->window_ms = now_ms;
	pl->n_takeovers = 0;
	list_del(&pl->node);
	list_add_tail(&r->fought, &pl->node);
}

static bool is_same(const struct presence *a, const struct presence *b)
{
	return memcmp(a->instance, b->instance, INSTANCE_LEN) == 0;
}

/* Counts a takeover by another instance, here or at another worker: all count the
 * same. True: the id must rest. */
static bool is_fight(struct router *r, struct place *pl, uint64_t now_ms)
{
	if (pl->n_takeovers == 0)
		begin_window(r, pl, now_ms);
	return ++pl->n_takeovers > FIGHT_TAKEOVERS;
}

static void rest(struct router *r, struct place *pl, uint64_t now_ms)
{
	pl->rest_until_ms = now_ms + FIGHT_REST_MS;
	begin_window(r, pl, now_ms);
	pl->n_takeovers = 1; /* remembered, but not fighting at once again */
}

/* Our member at this place goes. */
static void supersede(struct router *r, struct place *pl, bool same, bool fight)
{
	struct member *old = pl->member;

	metric_add(METRIC_TAKEOVERS, 1);
	place_vacate(pl);
	old->joined = false;
	old->last = NULL;
	r->n_members--;
	unwatch(r, old, old->who->n_peers);
	r->events->superseded(old->owner, same, fight);
}

int router_tell(struct router *r, enum router_news news, struct presence *p)
{
	return r->events->tell(r->conf.mates, news, p);
}

/* Both leave. Who has the key at another worker goes when it hears of it. */
static enum close_why fight(struct router *r, struct place *pl, uint64_t now_ms)
{
	struct presence *old = presence_ref(pl->holder);

	rest(r, pl, now_ms);
	router_tell(r, ROUTER_FIGHT, old);
	if (pl->member) {
		supersede(r, pl, false, true);
		router_tell(r, ROUTER_LEAVE, old);
		place_changed(r, pl, now_ms);
	}
	presence_unref(old);
	return CLOSE_FIGHT;
}

/* Takes the key from whoever has it, for a newer one. */
static void make_way(struct router *r, struct place *pl, const struct presence *newer)
{
	if (pl->member)
		supersede(r, pl, is_same(pl->holder, newer), false);
	else if (pl->holder)
		place_vacate(pl);
}

/* Nothing has changed anywhere if this fails. */
static int announce(struct router *r, struct member *m)
{
	m->who->worker = r->worker;
	m->who->seq = 1 + atomic_fetch_add_explicit(r->conf.seq, 1, memory_order_relaxed);
	if (watch(r, m) < 0)
		return -ENOMEM;
	int rc = router_tell(r, ROUTER_JOIN, m->who);
	if (rc < 0)
		unwatch(r, m, m->who->n_peers);
	return rc;
}

struct presence *router_holder(struct router *r, const struct member *m)
{
	const struct place *pl = map_get(&r->places, &m->who->key);

	return pl && !m->who->native ? pl->holder : NULL;
}

enum close_why router_join(struct router *r, struct member *m, uint64_t now_ms)
{
	struct place *pl;

	if (m->who->native)
		return native_join(r, m, now_ms);
	forget_fights(r, now_ms);
	pl = place_get(r, &m->who->key);
	if (!pl)
		return CLOSE_NOMEM;
	if (now_ms < pl->rest_until_ms)
		return CLOSE_FIGHT;
	if (pl->holder && !is_same(pl->holder, m->who) && is_fight(r, pl, now_ms))
		return fight(r, pl, now_ms);
	if (announce(r, m) < 0) {
		place_put(r, pl);
		return CLOSE_NOMEM;
	}
	make_way(r, pl, m->who);
	pl->holder = presence_ref(m->who);
	pl->member = m;
	m->joined = true;
	r->n_members++;
	return CLOSE_NONE;
}

void router_greet(struct router *r, struct member *m, uint64_t now_ms)
{
	struct place *pl = map_get(&r->places, &m->who->key);

	m->greeted = true;
	if (m->who->native)
		return; /* it was known as soon as it joined, and asks nothing */
	for (unsigned i = 0; i < m->who->n_peers; i++)
		tell(r, &m->decls[i], state_of(&m->decls[i]), now_ms);
	place_changed(r, pl, now_ms);
}

void router_leave(struct router *r, struct member *m, uint64_t now_ms)
{
	struct place *pl;

	if (!m->joined)
		return;
	if (m->who->native) {
		native_leave(r, m, now_ms);
		return;
	}
	m->joined = false;
	m->last = NULL;
	r->n_members--;
	unwatch(r, m, m->who->n_peers);
	router_tell(r, ROUTER_LEAVE, m->who);
	pl = map_get(&r->places, &m->who->key);
	place_vacate(pl);
	place_changed(r, pl, now_ms);
	place_put(r, pl);
}

/* ---- members of other workers ---- */

/* Whoever is older here goes; its own worker says that to all, since who hears of
 * the two in the other order would keep it. */
static void replace(struct router *r, struct place *pl, struct presence *p, uint64_t now_ms)
{
	struct presence *ours = pl->member ? presence_ref(pl->holder) : NULL;

	if (pl->holder && !is_same(pl->holder, p))
		is_fight(r, pl, now_ms); /* counted: the one who joins decides */
	make_way(r, pl, p);
	if (ours)
		router_tell(r, ROUTER_LEAVE, ours);
	presence_unref(ours);
	pl->holder = p;
	place_changed(r, pl, now_ms);
}

int router_on_join(struct router *r, struct presence *p, uint64_t now_ms)
{
	struct place *pl;

	if (p->native)
		return native_on_join(r, p, now_ms);
	forget_fights(r, now_ms);
	pl = place_get(r, &p->key);
	if (pl && !(pl->holder && pl->holder->seq > p->seq)) {
		replace(r, pl, p, now_ms);
		return 0;
	}
	presence_unref(p);
	return pl ? 0 : -ENOMEM;
}

void router_on_leave(struct router *r, struct presence *p, uint64_t now_ms)
{
	struct place *pl = map_get(&r->places, &p->key);

	if (p->native) {
		native_on_leave(r, p, now_ms);
	} else if (pl && pl->holder == p) {
		place_vacate(pl);
		place_changed(r, pl, now_ms);
		place_put(r, pl);
	}
	presence_unref(p);
}

void router_on_fight(struct router *r, struct presence *p, uint64_t now_ms)
{
	struct place *pl = place_get(r, &p->key);

	if (pl) {
		bool ours = pl->holder == p && pl->member;
		rest(r, pl, now_ms);
		if (ours) {
			supersede(r, pl, false, true);
			router_tell(r, ROUTER_LEAVE, p);
			place_changed(r, pl, now_ms);
		}
	}
	presence_unref(p);
}

/* ---- packets ---- */

struct decl *router_decl(struct member *m, const struct key *key)
{
	if (m->last && key_eq(m->last->key, key))
		return m->last;
	m->last = NULL;
	for (unsigned i = 0; i < m->who->n_peers && !m->last; i++)
		if (key_eq(&m->who->peers[i], key))
			m->last = &m->decls[i];
	return m->last;
}

struct place *place_of_packet(struct router *r, const struct key *dst)
{
	if (!r->last || !key_eq(&r->last->key, dst))
		r->last = map_get(&r->places, dst);
	return r->last;
}

static enum drop_why why_not(const struct decl *d)
{
	if (!d)
		return DROP_NOT_DECLARED;
	if (!d->peer)
		return DROP_NO_ROUTE;
	if (!d->mutual)
		return DROP_NOT_MUTUAL;
	return d->peer->bidirectional ? DROP_N : DROP_ONE_WAY;
}

void router_drop(struct member *m, struct pkt *p, enum drop_why why)
{
	if (why <= DROP_ONE_WAY)
		m->n_dropped[why]++;
	else
		m->n_over_limit++; /* the router has no other reasons */
	pkt_drop(p, why);
}

bool router_has_room(const struct account *paid, const struct presence *to, const struct pkt *p,
                     uint64_t now_ms)
{
	return to->payer == paid ||
	       (!account_is_spent(to->payer) && account_take(to->payer, p->len, now_ms) == 0);
}

bool router_pays_both(struct router *r, struct member *from, const struct key *dst)
{
	const struct presence *to;

	if (from->who->native) {
		struct place *pl = place_of_packet(r, dst);
		to = pl ? pl->holder : NULL;
	} else {
		struct decl *d = router_decl(from, dst);
		to = d ? d->peer : NULL;
	}
	return to && to->payer == from->who->payer;
}

/* A receiver over its rate, or no longer so: each said when it is new, and now and then. */
static void tell_limit(struct router *r, struct decl *d, bool is_over, uint64_t now_ms)
{
	bool was_over = d->told == PEER_OVER_LIMIT;

	if (is_over ? !was_over || now_ms - d->told_ms >= RETELL_MS :
	              was_over && now_ms - d->told_ms >= RELIEF_MS)
		tell(r, d, is_over ? PEER_OVER_LIMIT : state_of(d), now_ms);
}

bool router_route(struct router *r, struct member *from, struct pkt *p, uint64_t now_ms)
{
	struct decl *d;
	enum drop_why why;

	if (from->who->native)
		return native_route(r, from, p, now_ms);
	d = router_decl(from, &p->dst);
	why = why_not(d);
	if (why == DROP_N && d->peer->payer) {
		bool is_over = !router_has_room(from->who->payer, d->peer, p, now_ms);
		tell_limit(r, d, is_over, now_ms);
		why = is_over ? DROP_OVER_LIMIT : DROP_N;
	}
	if (why == DROP_N) {
		p->src = from->who->key;
		if (d->local && d->local->who->native)
			native_hand(r, d->local, p);
		else if (d->local)
			r->events->deliver(d->local->owner, p);
		else
			r->events->forward(r->conf.mates, d->peer->worker, p);
		return true;
	}
	if (d && why != DROP_ONE_WAY && why != DROP_OVER_LIMIT && now_ms - d->told_ms >= RETELL_MS)
		tell(r, d, state_of(d), now_ms);
	router_drop(from, p, why);
	return false;
}

/* The sender's side of the peering was seen by its worker; things may have changed
 * since. */
void router_deliver(struct router *r, struct pkt *p)
{
	struct place *pl = place_of_packet(r, &p->dst);
	struct member *m = pl ? pl->member : NULL;

	if (!m && pl)
		m = native_here(pl); /* another spoke while the packet was on the way */
	if (!m)
		pkt_drop(p, DROP_NO_ROUTE);
	else if (m->who->native)
		native_hand(r, m, p);
	else if (!router_decl(m, &p->src))
		pkt_drop(p, DROP_NOT_MUTUAL);
	else if (!m->who->bidirectional)
		pkt_drop(p, DROP_ONE_WAY);
	else
		r->events->deliver(m->owner, p);
}
