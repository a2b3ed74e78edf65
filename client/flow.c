#include "client/flow.h"

#include <errno.h>
#include <limits.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/list.h"
#include "common/base/map.h"

struct number_key { /* no padding: the map compares bytes */
	uint32_t peer, number;
};

struct addr_key {
	uint32_t peer, scope;
	uint16_t family, port;
	uint8_t ip[16];
};
_Static_assert(sizeof(struct addr_key) == 28, "no padding");

struct flow {
	struct list age; /* in peer.flows, longest idle first */
	struct number_key by_number;
	struct addr_key by_addr;
	struct addr addr;
	void *socket;
	uint64_t used_ms;
};

struct flow_peer {
	struct list flows;
	unsigned n;
	bool echoes;
	struct addr last;              /* len 0: nobody has spoken */
	uint64_t used[FLOWS_MAX / 64]; /* numbers allotted, a bit each */
};

struct flow_table {
	struct map by_number, by_addr;
	void (*gone)(void *owner, void *socket);
	void *owner;
	unsigned n_peers;
	unsigned flows_max; /* of a peer */
	unsigned n_sockets, sockets_max;
	struct flow_peer peer[];
};

struct flow_table *flow_table_new(unsigned n_peers, void (*gone)(void *owner, void *socket),
                                  void *owner)
{
	struct flow_table *t = calloc(1, sizeof *t + n_peers * sizeof t->peer[0]);

	if (!t)
		return NULL;
	map_init(&t->by_number, sizeof(struct number_key));
	map_init(&t->by_addr, sizeof(struct addr_key));
	t->gone = gone;
	t->owner = owner;
	t->n_peers = n_peers;
	t->flows_max = FLOWS_MAX;
	t->sockets_max = UINT_MAX;
	for (unsigned i = 0; i < n_peers; i++)
		list_init(&t->peer[i].flows);
	return t;
}

static void forget(struct flow_table *t, struct flow *f)
{
	struct flow_peer *peer = &t->peer[f->by_number.peer];
	uint32_t number = f->by_number.number;

	map_del(&t->by_number, &f->by_number);
	if (f->socket) {
		t->n_sockets--;
		if (t->gone)
			t->gone(t->owner, f->socket);
	} else {
		map_del(&t->by_addr, &f->by_addr);
		peer->used[number / 64] &= ~(1ull << number % 64);
	}
	list_del(&f->age);
	peer->n--;
	free(f);
}

static struct flow *oldest(struct flow_peer *peer)
{
	return container_of(peer->flows.next, struct flow, age);
}

void flow_table_free(struct flow_table *t)
{
	if (!t)
		return;
	for (unsigned i = 0; i < t->n_peers; i++)
		while (!list_empty(&t->peer[i].flows))
			forget(t, oldest(&t->peer[i]));
	map_done(&t->by_number);
	map_done(&t->by_addr);
	free(t);
}

static bool is_kept(const struct flow *f) { return f->socket && f->by_number.number == 0; }

static void expire_peer(struct flow_table *t, struct flow_peer *peer, uint64_t now_ms)
{
	list_each(it, tmp, &peer->flows) {
		struct flow *f = container_of(it, struct flow, age);
		if (now_ms - f->used_ms < FLOW_IDLE_MS)
			return;
		if (!is_kept(f))
			forget(t, f);
	}
}

void flow_expire(struct flow_table *t, uint64_t now_ms)
{
	for (unsigned i = 0; i < t->n_peers; i++)
		expire_peer(t, &t->peer[i], now_ms);
}

unsigned flow_count(const struct flow_table *t, unsigned peer) { return t->peer[peer].n; }

void flow_peer_echoes(struct flow_table *t, unsigned peer, bool echoes)
{
	t->peer[peer].echoes = echoes;
}

/* The one used last, which most datagrams are for; NULL: the peer has none. */
static struct flow *newest(const struct flow_peer *peer)
{
	const struct list *last = peer->flows.prev;

	return last == &peer->flows ? NULL : container_of(last, struct flow, age);
}

static void touch(struct flow_table *t, struct flow *f, uint64_t now_ms)
{
	struct flow_peer *peer = &t->peer[f->by_number.peer];

	f->used_ms = now_ms;
	if (f == newest(peer))
		return;
	list_del(&f->age);
	list_add_tail(&peer->flows, &f->age);
}

static struct flow *find_number(const struct flow_table *t, unsigned peer, uint32_t number)
{
	struct flow *f = newest(&t->peer[peer]);

	return f && f->by_number.number == number ?
	                       f :
	                       map_get(&t->by_number, &(struct number_key){ peer, number });
}

static struct flow *find_addr(const struct flow_table *t, const struct addr_key *k)
{
	struct flow *f = newest(&t->peer[k->peer]);

	return f && memcmp(&f->by_addr, k, sizeof *k) == 0 ? f : map_get(&t->by_addr, k);
}

static struct addr_key addr_key_of(unsigned peer, const struct addr *a)
{
	struct addr_key k = { .peer = peer, .family = a->ss.ss_family, .port = addr_port(a) };

	if (a->ss.ss_family == AF_INET6) {
		const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)&a->ss;
		memcpy(k.ip, &v6->sin6_addr, 16);
		k.scope = v6->sin6_scope_id;
	} else {
		memcpy(k.ip, &((const struct sockaddr_in *)&a->ss)->sin_addr, 4);
	}
	return k;
}

/* The flow to give up for another of the same peer, or NULL. */
static struct flow *longest_idle(struct flow_peer *peer)
{
	struct list *it = peer->flows.next;

	if (it != &peer->flows && is_kept(container_of(it, struct flow, age)))
		it = it->next;
	return it == &peer->flows ? NULL : container_of(it, struct flow, age);
}

static void make_room(struct flow_table *t, struct flow_peer *peer)
{
	if (peer->n >= t->flows_max)
		forget(t, longest_idle(peer)); /* flows_max is more than one */
}

void flow_limit_sockets(struct flow_table *t, unsigned n)
{
	unsigned share = n / t->n_peers;

	t->sockets_max = n;
	t->flows_max = share < 2 ? 2 : share < FLOWS_MAX ? share : FLOWS_MAX;
}

bool flow_make_room(struct flow_table *t, unsigned peer)
{
	make_room(t, &t->peer[peer]);
	if (t->n_sockets < t->sockets_max)
		return true;
	struct flow *f = longest_idle(&t->peer[peer]);
	if (f)
		forget(t, f);
	return f;
}

static uint32_t lowest_free(const struct flow_peer *peer)
{
	uint32_t word = 0;

	while (!~peer->used[word])
		word++;
	return word * 64 + (uint32_t)__builtin_ctzll(~peer->used[word]);
}

static struct flow *flow_new(struct flow_table *t, unsigned peer, uint32_t number, uint64_t now_ms)
{
	struct flow *f = calloc(1, sizeof *f);

	if (!f)
		return NULL;
	f->by_number = (struct number_key){ peer, number };
	if (map_put(&t->by_number, &f->by_number, f)) {
		free(f);
		return NULL;
	}
	f->used_ms = now_ms;
	list_add_tail(&t->peer[peer].flows, &f->age);
	t->peer[peer].n++;
	return f;
}

/* A flow without its place in by_addr and `used`. */
static void undo_new(struct flow_table *t, struct flow *f)
{
	map_del(&t->by_number, &f->by_number);
	list_del(&f->age);
	t->peer[f->by_number.peer].n--;
	free(f);
}

static struct flow *allot(struct flow_table *t, const struct addr_key *k, const struct addr *from,
                          uint64_t now_ms)
{
	struct flow_peer *peer = &t->peer[k->peer];

	make_room(t, peer);
	struct flow *f = flow_new(t, k->peer, lowest_free(peer), now_ms);
	if (!f)
		return NULL;
	f->addr = *from;
	f->by_addr = *k;
	if (map_put(&t->by_addr, &f->by_addr, f)) {
		undo_new(t, f);
		return NULL;
	}
	peer->used[f->by_number.number / 64] |= 1ull << f->by_number.number % 64;
	return f;
}

int flow_from_addr(struct flow_table *t, unsigned peer, const struct addr *from, uint64_t now_ms,
                   uint32_t *number_out)
{
	struct addr_key k = addr_key_of(peer, from);
	struct flow *f = find_addr(t, &k);

	if (f)
		touch(t, f, now_ms);
	else if (!(f = allot(t, &k, from, now_ms)))
		return -ENOMEM;
	t->peer[peer].last = *from;
	*number_out = f->by_number.number;
	return 0;
}

const struct addr *flow_to_addr(struct flow_table *t, unsigned peer, uint32_t number,
                                uint64_t now_ms)
{
	struct flow_peer *p = &t->peer[peer];
	struct flow *f = find_number(t, peer, number);

	if (f && number)
		p->echoes = true;
	/* An end that knows no flows always says 0, whoever is meant. */
	if (!f || !p->echoes)
		return p->last.len ? &p->last : NULL;
	touch(t, f, now_ms);
	return &f->addr;
}

void *flow_to_socket(struct flow_table *t, unsigned peer, uint32_t number, uint64_t now_ms)
{
	struct flow *f = find_number(t, peer, number);

	if (!f)
		return NULL;
	touch(t, f, now_ms);
	return f->socket;
}

int flow_set_socket(struct flow_table *t, unsigned peer, uint32_t number, void *socket,
                    uint64_t now_ms)
{
	make_room(t, &t->peer[peer]);
	struct flow *f = flow_new(t, peer, number, now_ms);
	if (!f)
		return -ENOMEM;
	f->socket = socket;
	t->n_sockets++;
	return 0;
}
