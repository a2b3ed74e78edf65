#include "server/relay/admit.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/bucket.h"
#include "common/base/crypto.h"
#include "common/base/list.h"
#include "common/base/map.h"

struct net { /* as long as it has newcomers */
	uint8_t prefix[ADDR_NET_LEN];
	struct list newcomers; /* oldest first */
	unsigned n;
};

struct newcomer {
	struct newcomer_id id;
	struct list node, net_node;
	struct net *net;
	uint64_t since_ms;
};

struct admit {
	pthread_mutex_t lock; /* guards all */
	struct map nets;      /* struct net by its prefix */
	struct map by_number;
	struct list newcomers; /* all, oldest first */
	unsigned n, most, most_per_net;
	struct bucket accepts;
	uint32_t burst, per_s; /* of them */
	uint64_t next_number;
};

struct admit *admit_new(const struct limits *limits)
{
	struct admit *a = calloc(1, sizeof *a);

	if (!a)
		return NULL;
	pthread_mutex_init(&a->lock, NULL);
	map_init(&a->nets, ADDR_NET_LEN);
	map_init(&a->by_number, sizeof(uint64_t));
	list_init(&a->newcomers);
	a->next_number = 1;
	admit_set_limits(a, limits);
	return a;
}

void admit_set_limits(struct admit *a, const struct limits *limits)
{
	pthread_mutex_lock(&a->lock);
	a->most = limits->newcomers;
	a->most_per_net = limits->newcomers_per_net;
	if (a->burst != limits->accepts_burst || a->per_s != limits->accepts_per_s)
		bucket_init(&a->accepts, limits->accepts_burst, limits->accepts_per_s, 0);
	a->burst = limits->accepts_burst;
	a->per_s = limits->accepts_per_s;
	pthread_mutex_unlock(&a->lock);
}

unsigned admit_count(struct admit *a)
{
	pthread_mutex_lock(&a->lock);
	unsigned n = a->n;
	pthread_mutex_unlock(&a->lock);
	return n;
}

/* The net of that address, made if need be. */
static struct net *net_of(struct admit *a, const struct addr *addr)
{
	uint8_t prefix[ADDR_NET_LEN];
	struct net *net;

	addr_net(addr, prefix);
	net = map_get(&a->nets, prefix);
	if (net)
		return net;
	net = calloc(1, sizeof *net);
	if (!net)
		return NULL;
	memcpy(net->prefix, prefix, ADDR_NET_LEN);
	list_init(&net->newcomers);
	if (map_put(&a->nets, net->prefix, net) < 0) {
		free(net);
		return NULL;
	}
	return net;
}

static void forget_if_empty(struct admit *a, struct net *net)
{
	if (net->n)
		return;
	map_del(&a->nets, net->prefix);
	free(net);
}

/* ---- who has to go ---- */

/* Clocks of workers are read once a turn: one may be behind another. */
static bool is_overdue(const struct newcomer *nc, uint64_t now_ms)
{
	return now_ms > nc->since_ms + ADMIT_PATIENCE_MS;
}

/* The chance to be turned away grows from 0 at half of the limit to 1 at it. */
static bool is_unlucky(const struct admit *a)
{
	uint32_t half = a->most / 2;

	return a->n >= a->most || half + crypto_random_below(a->most - half) < a->n;
}

/* Is there room for one more? Perhaps if the victim goes. */
static bool has_room(const struct admit *a, const struct net *net, uint64_t now_ms,
                     struct newcomer **victim_out)
{
	bool net_full = net->n >= a->most_per_net;
	struct newcomer *oldest;

	if (!net_full && a->n < (a->most + 1) / 2)
		return true;
	oldest = net_full ? container_of(net->newcomers.next, struct newcomer, net_node) :
	                    container_of(a->newcomers.next, struct newcomer, node);
	if (!is_overdue(oldest, now_ms))
		return !net_full && !is_unlucky(a);
	*victim_out = oldest;
	return true;
}

/* ---- in and out ---- */

static void leave(struct admit *a, struct newcomer *nc)
{
	map_del(&a->by_number, &nc->id.number);
	list_del(&nc->node);
	list_del(&nc->net_node);
	a->n--;
	nc->net->n--;
	forget_if_empty(a, nc->net);
	free(nc);
}

static struct newcomer *add(struct admit *a, struct net *net, unsigned worker, uint64_t now_ms)
{
	struct newcomer *nc = calloc(1, sizeof *nc);

	if (!nc)
		return NULL;
	*nc = (struct newcomer){ .id = { a->next_number, worker }, .net = net, .since_ms = now_ms };
	if (map_put(&a->by_number, &nc->id.number, nc) < 0) {
		free(nc);
		return NULL;
	}
	a->next_number++;
	list_add_tail(&a->newcomers, &nc->node);
	list_add_tail(&net->newcomers, &nc->net_node);
	a->n++;
	net->n++;
	return nc;
}

static uint64_t enter(struct admit *a, const struct addr *addr, unsigned worker, uint64_t now_ms,
                      struct newcomer_id *evicted_out)
{
	struct newcomer *nc = NULL, *victim = NULL;
	struct net *net = net_of(a, addr);

	if (!net)
		return 0;
	if (has_room(a, net, now_ms, &victim))
		nc = add(a, net, worker, now_ms);
	if (!nc) {
		forget_if_empty(a, net);
		return 0;
	}
	if (victim) {
		*evicted_out = victim->id;
		leave(a, victim);
	}
	return nc->id.number;
}

uint64_t admit_enter(struct admit *a, const struct addr *addr, unsigned worker, uint64_t now_ms,
                     struct newcomer_id *evicted_out)
{
	*evicted_out = (struct newcomer_id){ 0 };
	pthread_mutex_lock(&a->lock);
	uint64_t number = bucket_take(&a->accepts, 1, now_ms) ?
	                                  enter(a, addr, worker, now_ms, evicted_out) :
	                                  0;
	pthread_mutex_unlock(&a->lock);
	return number;
}

unsigned admit_newest(struct admit *a, unsigned worker, uint64_t *numbers_out, unsigned n)
{
	unsigned k = 0;

	pthread_mutex_lock(&a->lock);
	for (struct list *it = a->newcomers.prev; it != &a->newcomers && k < n;) {
		struct newcomer *nc = container_of(it, struct newcomer, node);
		it = it->prev;
		if (nc->id.worker != worker)
			continue;
		numbers_out[k++] = nc->id.number;
		leave(a, nc);
	}
	pthread_mutex_unlock(&a->lock);
	return k;
}

void admit_leave(struct admit *a, uint64_t number)
{
	pthread_mutex_lock(&a->lock);
	struct newcomer *nc = map_get(&a->by_number, &number);
	if (nc)
		leave(a, nc);
	pthread_mutex_unlock(&a->lock);
}

void admit_free(struct admit *a)
{
	if (!a)
		return;
	list_each(it, tmp, &a->newcomers)
		leave(a, container_of(it, struct newcomer, node));
	map_done(&a->nets);
	map_done(&a->by_number);
	pthread_mutex_destroy(&a->lock);
	free(a);
}
