#include "server/admit.h"

#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/crypto.h"

enum { PREFIX_LEN = 9 }; /* family, then a /24 or /64 */

struct net { /* as long as it has newcomers */
	uint8_t prefix[PREFIX_LEN];
	struct list newcomers; /* oldest first */
	unsigned n;
};

struct newcomer {
	struct list node, net_node;
	struct net *net;
	uint64_t since_ms;
	void *owner;
};

void admit_init(struct admit *a, const struct limits *limits)
{
	*a = (struct admit){ .limits = limits };
	map_init(&a->nets, PREFIX_LEN);
	list_init(&a->newcomers);
}

void admit_done(struct admit *a)
{
	list_each(it, tmp, &a->newcomers)
		admit_leave(a, container_of(it, struct newcomer, node));
	map_done(&a->nets);
}

static void prefix_of(const struct addr *addr, uint8_t out[static PREFIX_LEN])
{
	memset(out, 0, PREFIX_LEN);
	if (addr->ss.ss_family == AF_INET) {
		const struct sockaddr_in *v4 = (const void *)&addr->ss;
		out[0] = 4;
		memcpy(out + 1, &v4->sin_addr, 3);
		return;
	}
	const struct sockaddr_in6 *v6 = (const void *)&addr->ss;
	if (IN6_IS_ADDR_V4MAPPED(&v6->sin6_addr)) { /* a socket for both families */
		out[0] = 4;
		memcpy(out + 1, v6->sin6_addr.s6_addr + 12, 3);
		return;
	}
	out[0] = 6;
	memcpy(out + 1, v6->sin6_addr.s6_addr, 8);
}

/* The net of that address, made if need be. */
static struct net *net_of(struct admit *a, const struct addr *addr)
{
	uint8_t prefix[PREFIX_LEN];
	struct net *net;

	prefix_of(addr, prefix);
	net = map_get(&a->nets, prefix);
	if (net)
		return net;
	net = calloc(1, sizeof *net);
	if (!net)
		return NULL;
	memcpy(net->prefix, prefix, PREFIX_LEN);
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

static bool is_overdue(const struct newcomer *nc, uint64_t now_ms)
{
	return now_ms - nc->since_ms > ADMIT_PATIENCE_MS;
}

/* The chance to be turned away grows from 0 at half of the limit to 1 at it. */
static bool is_unlucky(const struct admit *a)
{
	uint32_t most = a->limits->newcomers, half = most / 2;

	return a->n >= most || half + crypto_random_below(most - half) < a->n;
}

/* Is there room for one more? Perhaps if the victim goes. */
static bool has_room(const struct admit *a, const struct net *net, uint64_t now_ms,
                     struct newcomer **victim_out)
{
	bool net_full = net->n >= a->limits->newcomers_per_net;
	struct newcomer *oldest;

	if (!net_full && a->n < (a->limits->newcomers + 1) / 2)
		return true;
	oldest = net_full ? container_of(net->newcomers.next, struct newcomer, net_node) :
	                    container_of(a->newcomers.next, struct newcomer, node);
	if (!is_overdue(oldest, now_ms))
		return !net_full && !is_unlucky(a);
	*victim_out = oldest;
	return true;
}

/* ---- in and out ---- */

struct newcomer *admit_enter(struct admit *a, const struct addr *addr, uint64_t now_ms,
                             void **evicted_out)
{
	struct net *net = net_of(a, addr);
	struct newcomer *nc = NULL, *victim = NULL;

	*evicted_out = NULL;
	if (!net)
		return NULL;
	if (has_room(a, net, now_ms, &victim))
		nc = calloc(1, sizeof *nc);
	if (!nc) {
		forget_if_empty(a, net);
		return NULL;
	}
	*nc = (struct newcomer){ .net = net, .since_ms = now_ms };
	list_add_tail(&a->newcomers, &nc->node);
	list_add_tail(&net->newcomers, &nc->net_node);
	a->n++;
	net->n++;
	if (victim)
		*evicted_out = victim->owner;
	admit_leave(a, victim);
	return nc;
}

void newcomer_set_owner(struct newcomer *nc, void *owner) { nc->owner = owner; }

void admit_leave(struct admit *a, struct newcomer *nc)
{
	if (!nc)
		return;
	list_del(&nc->node);
	list_del(&nc->net_node);
	a->n--;
	nc->net->n--;
	forget_if_empty(a, nc->net);
	free(nc);
}
