#include "server/router.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/map.h"
#include "common/base/metric.h"

/* What is known of a key: who has it, who declares it, who fought for it. Lives
 * while any of the three does. */
struct place {
	struct key key;
	struct member *member;
	struct list watchers; /* decl.node */
	struct list node;     /* in router.fought, unlinked when nobody fought */
	unsigned n_takeovers; /* by different instances, in the window */
	uint64_t window_ms, rest_until_ms;
};

struct router {
	const struct router_events *events;
	struct map places;
	struct list fought; /* places taken over lately, oldest window first */
	unsigned n_members;
};

struct router *router_new(const struct router_events *events)
{
	struct router *r = calloc(1, sizeof *r);

	if (r) {
		r->events = events;
		map_init(&r->places, KEY_LEN);
		list_init(&r->fought);
	}
	return r;
}

void router_free(struct router *r)
{
	struct place *pl;
	size_t pos = 0;

	if (!r)
		return;
	while ((pl = map_next(&r->places, &pos)) != NULL)
		free(pl);
	map_done(&r->places);
	free(r);
}

unsigned router_n_members(const struct router *r) { return r->n_members; }
size_t router_n_places(const struct router *r) { return r->places.n; }

/* ---- places ---- */

static struct place *place_get(struct router *r, const struct key *key)
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
	if (map_put(&r->places, &pl->key, pl) < 0) {
		free(pl);
		return NULL;
	}
	return pl;
}

/* Lets go of a place that nobody has, declares or fought for. */
static void place_put(struct router *r, struct place *pl)
{
	if (pl->member || !list_empty(&pl->watchers) || !list_empty(&pl->node))
		return;
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

static const struct decl *declares(const struct member *m, const struct key *key)
{
	for (unsigned i = 0; i < m->n_decls; i++)
		if (key_eq(&m->decls[i].key, key))
			return &m->decls[i];
	return NULL;
}

/* Who has not been declared across accounts learns nothing, not even that
 * somebody is there. */
static enum peer_state state_of(const struct decl *d)
{
	if (d->peer && d->mutual)
		return PEER_UP;
	if (d->peer && strcmp(d->peer->account, d->by->account) == 0)
		return PEER_NOT_MUTUAL;
	return d->told == PEER_UP || d->told == PEER_GONE ? PEER_GONE : PEER_ABSENT;
}

static void tell(struct router *r, struct decl *d, enum peer_state state, uint64_t now_ms)
{
	char text[2 * NAME_MAX_LEN + 80] = "";
	struct peer_status p = { .key = d->key, .state = state };

	if (!d->by->greeted)
		return;
	if (state == PEER_UP)
		p.role = d->peer->role;
	else if (state == PEER_NOT_MUTUAL)
		snprintf(text, sizeof text, "%s is connected but has not declared --peer %s",
		         d->peer->id, d->by->id);
	else
		snprintf(text, sizeof text, "not there, or it has not declared you");
	p.text = str_of(text);
	d->told = state;
	d->told_ms = now_ms;
	r->events->peer(d->by->owner, &p);
}

static void refresh(struct router *r, struct decl *d, uint64_t now_ms)
{
	d->mutual = d->peer && declares(d->peer, &d->by->key);
	enum peer_state state = state_of(d);
	if (state != d->told)
		tell(r, d, state, now_ms);
}

/* The key has a new holder, or none: everybody who declares it is told. */
static void holder_changed(struct router *r, struct place *pl, uint64_t now_ms)
{
	list_each(it, tmp, &pl->watchers) {
		struct decl *d = container_of(it, struct decl, node);
		d->peer = pl->member;
		refresh(r, d, now_ms);
	}
}

/* ---- coming and going ---- */

static void unwatch(struct router *r, struct member *m, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		struct place *pl = map_get(&r->places, &m->decls[i].key);
		list_del(&m->decls[i].node);
		place_put(r, pl);
	}
}

static int watch(struct router *r, struct member *m)
{
	for (unsigned i = 0; i < m->n_decls; i++) {
		struct decl *d = &m->decls[i];
		struct place *pl = place_get(r, &d->key);
		if (!pl) {
			unwatch(r, m, i);
			return -ENOMEM;
		}
		d->by = m;
		d->peer = pl->member;
		d->mutual = d->peer && declares(d->peer, &m->key);
		d->told = PEER_UNSPECIFIED;
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

/* Counts a takeover by another instance. True: the id must rest. */
static bool is_fight(struct router *r, struct place *pl, uint64_t now_ms)
{
	if (pl->n_takeovers == 0)
		begin_window(r, pl, now_ms);
	if (++pl->n_takeovers <= FIGHT_TAKEOVERS)
		return false;
	pl->rest_until_ms = now_ms + FIGHT_REST_MS;
	begin_window(r, pl, now_ms);
	pl->n_takeovers = 1; /* remembered, but not fighting at once again */
	return true;
}

static void replace(struct router *r, struct place *pl, bool same, bool fight)
{
	struct member *old = pl->member;

	metric_add(METRIC_TAKEOVERS, 1);
	pl->member = NULL;
	/* Nobody points at the old one any more; nobody is told yet either, since
	 * the new one is about to be greeted. */
	list_each(it, tmp, &pl->watchers)
		container_of(it, struct decl, node)->peer = NULL;
	old->joined = false;
	r->n_members--;
	unwatch(r, old, old->n_decls);
	r->events->superseded(old->owner, same, fight);
}

enum close_why router_join(struct router *r, struct member *m, uint64_t now_ms)
{
	struct place *pl;
	struct member *old;

	forget_fights(r, now_ms);
	pl = place_get(r, &m->key);
	if (!pl)
		return CLOSE_NOMEM;
	if (now_ms < pl->rest_until_ms)
		return CLOSE_FIGHT;
	old = pl->member;
	if (old) {
		bool same = memcmp(old->instance, m->instance, INSTANCE_LEN) == 0;
		bool fight = !same && is_fight(r, pl, now_ms);
		replace(r, pl, same, fight);
		if (fight) { /* both leave */
			holder_changed(r, pl, now_ms);
			return CLOSE_FIGHT;
		}
	}
	pl->member = m; /* before watch(): a place with a member is never given up */
	if (watch(r, m) < 0) {
		pl->member = NULL;
		holder_changed(r, pl, now_ms);
		place_put(r, pl);
		return CLOSE_NOMEM;
	}
	m->joined = true;
	r->n_members++;
	return CLOSE_NONE;
}

void router_greet(struct router *r, struct member *m, uint64_t now_ms)
{
	struct place *pl = map_get(&r->places, &m->key);

	m->greeted = true;
	for (unsigned i = 0; i < m->n_decls; i++)
		tell(r, &m->decls[i], state_of(&m->decls[i]), now_ms);
	holder_changed(r, pl, now_ms);
}

void router_leave(struct router *r, struct member *m, uint64_t now_ms)
{
	struct place *pl;

	if (!m->joined)
		return;
	m->joined = false;
	m->last = NULL;
	r->n_members--;
	unwatch(r, m, m->n_decls);
	pl = map_get(&r->places, &m->key);
	pl->member = NULL;
	holder_changed(r, pl, now_ms);
	place_put(r, pl);
}

/* ---- packets ---- */

static struct decl *decl_for(struct member *m, const struct key *dst)
{
	if (!m->last || !key_eq(&m->last->key, dst))
		m->last = (struct decl *)(uintptr_t)declares(m, dst);
	return m->last;
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

void router_route(struct router *r, struct member *from, struct pkt *p, uint64_t now_ms)
{
	struct decl *d = decl_for(from, &p->dst);
	enum drop_why why = why_not(d);

	if (why == DROP_N) {
		p->src = from->key;
		r->events->deliver(d->peer->owner, p);
		return;
	}
	if (d && why != DROP_ONE_WAY && now_ms - d->told_ms >= RETELL_MS)
		tell(r, d, state_of(d), now_ms);
	pkt_drop(p, why);
}
