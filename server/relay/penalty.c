#include "server/relay/penalty.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/list.h"
#include "common/base/map.h"

struct vouched {
	uint8_t net[ADDR_NET_LEN];
	unsigned n; /* of its ends */
};

/* When the last of them were, in seconds; the oldest is the next to be written over. */
struct recent {
	uint8_t next;
	uint32_t at_s[PENALTY_FAILURES];
};
static const uint8_t most[] = {
	[OFFENCE_TOKEN] = PENALTY_FAILURES, [OFFENCE_FLOOD] = PENALTY_FLOODS
};

struct offender {
	uint8_t net[ADDR_NET_LEN];
	struct list node; /* in penalty.offenders, who offended last is last */
	struct recent recent[sizeof most];
	uint32_t period_ms; /* of its last penalty; 0: none */
	uint64_t until_ms;  /* the end of that */
};

struct penalty {
	pthread_mutex_t lock; /* guards all */
	bool on;
	struct map vouched; /* by their networks; both are never of the same */
	struct map by_net;  /* the offenders */
	struct list offenders;
};

/* ---- life ---- */

struct penalty *penalty_new(bool on)
{
	struct penalty *p = calloc(1, sizeof *p);

	if (!p)
		return NULL;
	pthread_mutex_init(&p->lock, NULL);
	map_init(&p->vouched, ADDR_NET_LEN);
	map_init(&p->by_net, ADDR_NET_LEN);
	list_init(&p->offenders);
	p->on = on;
	return p;
}

static void forget(struct penalty *p, struct offender *o)
{
	map_del(&p->by_net, o->net);
	list_del(&o->node);
	free(o);
}

static void forget_all(struct penalty *p)
{
	list_each(it, tmp, &p->offenders)
		forget(p, container_of(it, struct offender, node));
}

void penalty_free(struct penalty *p)
{
	struct vouched *v;
	size_t pos = 0;

	if (!p)
		return;
	forget_all(p);
	while ((v = map_next(&p->vouched, &pos)) != NULL)
		free(v);
	map_done(&p->vouched);
	map_done(&p->by_net);
	pthread_mutex_destroy(&p->lock);
	free(p);
}

void penalty_turn(struct penalty *p, bool on)
{
	pthread_mutex_lock(&p->lock);
	p->on = on;
	if (!on)
		forget_all(p);
	pthread_mutex_unlock(&p->lock);
}

/* ---- who offends ---- */

bool penalty_refuses(struct penalty *p, const struct addr *addr, uint64_t now_ms)
{
	uint8_t net[ADDR_NET_LEN];

	addr_net(addr, net);
	pthread_mutex_lock(&p->lock);
	const struct offender *o = map_get(&p->by_net, net);
	bool refused = o && now_ms < o->until_ms;
	pthread_mutex_unlock(&p->lock);
	return refused;
}

/* The one of that network, made if need be; then the one that offended longest ago may go. */
static struct offender *offender_of(struct penalty *p, const uint8_t net[static ADDR_NET_LEN])
{
	struct offender *o = map_get(&p->by_net, net);

	if (o)
		return o;
	if (p->by_net.n == PENALTY_NETWORKS_MAX)
		forget(p, container_of(p->offenders.next, struct offender, node));
	o = calloc(1, sizeof *o);
	if (!o)
		return NULL;
	memcpy(o->net, net, ADDR_NET_LEN);
	list_init(&o->node);
	if (map_put(&p->by_net, o->net, o) < 0) {
		free(o);
		return NULL;
	}
	return o;
}

/* Was that one too many within the window? Seconds count from 1: 0 is never. */
static bool is_too_many(struct recent *r, unsigned n, uint64_t now_ms)
{
	uint32_t now_s = (uint32_t)(now_ms / 1000) + 1;

	r->at_s[r->next] = now_s;
	r->next = (uint8_t)((r->next + 1) % n);
	uint32_t oldest_s = r->at_s[r->next];
	return oldest_s && now_s - oldest_s < PENALTY_WINDOW_S;
}

static uint32_t punish(struct offender *o, uint64_t now_ms)
{
	bool forgiven = now_ms >= o->until_ms + PENALTY_FORGIVEN_MS;
	uint32_t ms = !o->period_ms || forgiven ? PENALTY_FIRST_MS : 2 * o->period_ms;

	o->period_ms = ms < PENALTY_MOST_MS ? ms : PENALTY_MOST_MS;
	o->until_ms = now_ms + o->period_ms;
	memset(o->recent, 0, sizeof o->recent);
	return o->period_ms;
}

static uint32_t offend(struct penalty *p, const struct addr *addr, enum offence offence,
                       uint64_t now_ms)
{
	uint8_t net[ADDR_NET_LEN];

	addr_net(addr, net);
	if (!p->on || map_get(&p->vouched, net))
		return 0;
	struct offender *o = offender_of(p, net);
	if (!o || now_ms < o->until_ms) /* what was under way when it began */
		return 0;
	list_del(&o->node);
	list_add_tail(&p->offenders, &o->node);
	return is_too_many(&o->recent[offence], most[offence], now_ms) ? punish(o, now_ms) : 0;
}

uint32_t penalty_offend(struct penalty *p, const struct addr *addr, enum offence offence,
                        uint64_t now_ms)
{
	pthread_mutex_lock(&p->lock);
	uint32_t ms = offend(p, addr, offence, now_ms);
	pthread_mutex_unlock(&p->lock);
	return ms;
}

/* ---- who is exempt ---- */

static struct vouched *vouch(struct penalty *p, const uint8_t net[static ADDR_NET_LEN])
{
	struct offender *o = map_get(&p->by_net, net);
	struct vouched *v = map_get(&p->vouched, net);

	if (!v) {
		v = calloc(1, sizeof *v);
		if (!v)
			return NULL;
		memcpy(v->net, net, ADDR_NET_LEN);
		if (map_put(&p->vouched, v->net, v) < 0) {
			free(v);
			return NULL;
		}
	}
	if (o)
		forget(p, o);
	v->n++;
	return v;
}

struct vouched *penalty_vouch(struct penalty *p, const struct addr *addr)
{
	uint8_t net[ADDR_NET_LEN];

	addr_net(addr, net);
	pthread_mutex_lock(&p->lock);
	struct vouched *v = vouch(p, net);
	pthread_mutex_unlock(&p->lock);
	return v;
}

void penalty_unvouch(struct penalty *p, struct vouched *v)
{
	if (!v)
		return;
	pthread_mutex_lock(&p->lock);
	if (--v->n == 0) {
		map_del(&p->vouched, v->net);
		free(v);
	}
	pthread_mutex_unlock(&p->lock);
}
