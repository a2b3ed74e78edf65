#include <stdlib.h>

#include "server/login/login_impl.h"

enum { SWEEP_MS = 10000, MINUTE_MS = 60000, LIFE_MS = LOGIN_LIFE_S * 1000 };

/* Were the last k within that time? Of a ring with `cap` places. */
static bool are_within(const uint64_t *ring, unsigned cap, uint64_t n, unsigned k, uint64_t now_ms,
                       uint64_t span_ms)
{
	return n >= k && now_ms - ring[(n - k) % cap] < span_ms;
}

static void note(uint64_t *ring, unsigned cap, uint64_t *n, uint64_t now_ms)
{
	ring[(*n)++ % cap] = now_ms;
}

static struct login_source *find(const struct login *l, const struct addr *addr)
{
	uint8_t net[ADDR_NET_LEN];

	addr_net(addr, net);
	return map_get(&l->sources, net);
}

struct login_source *login_source_of(struct login *l, const struct addr *addr)
{
	struct login_source *s = find(l, addr);

	if (s || l->sources.n >= SOURCES_MAX)
		return s;
	if ((s = calloc(1, sizeof *s)) == NULL)
		return NULL;
	addr_net(addr, s->net);
	if (map_put(&l->sources, s->net, s) == 0)
		return s;
	free(s);
	return NULL;
}

bool login_may_try(struct login *l, enum login_try what, const struct addr *addr, uint64_t now_ms)
{
	const struct login_source *s = find(l, addr);

	if (what == LOGIN_TRY_CODE &&
	    are_within(l->tried_ms, LOGIN_TRIES_ALL, l->n_tries, LOGIN_TRIES_ALL, now_ms, LIFE_MS))
		return false;
	if (!s) /* it was not wrong yet, or there are too many networks to count for each */
		return true;
	return !are_within(s->tried_ms, LOGIN_TRIES_PER_LIFE, s->n_tries, LOGIN_TRIES_PER_MINUTE,
	                   now_ms, MINUTE_MS) &&
	       !are_within(s->tried_ms, LOGIN_TRIES_PER_LIFE, s->n_tries, LOGIN_TRIES_PER_LIFE,
	                   now_ms, LIFE_MS);
}

void login_was_wrong(struct login *l, enum login_try what, const struct addr *addr, uint64_t now_ms)
{
	struct login_source *s = login_source_of(l, addr);

	if (what == LOGIN_TRY_CODE)
		note(l->tried_ms, LOGIN_TRIES_ALL, &l->n_tries, now_ms);
	if (s)
		note(s->tried_ms, LOGIN_TRIES_PER_LIFE, &s->n_tries, now_ms);
}

static bool is_over(const struct login_source *s, uint64_t now_ms)
{
	return s->n_pending == 0 &&
	       !are_within(s->tried_ms, LOGIN_TRIES_PER_LIFE, s->n_tries, 1, now_ms, LIFE_MS);
}

/* A map is not changed while it is walked: one after the other from the beginning, few at
 * a time where many are over. */
void login_sweep_sources(struct login *l, uint64_t now_ms)
{
	struct login_source *over[64], *s;
	size_t pos = 0, n = 0;

	if (now_ms - l->swept_ms < SWEEP_MS)
		return;
	while (n < sizeof over / sizeof *over && (s = map_next(&l->sources, &pos)) != NULL)
		if (is_over(s, now_ms))
			over[n++] = s;
	if (n < sizeof over / sizeof *over)
		l->swept_ms = now_ms;
	while (n) {
		map_del(&l->sources, over[--n]->net);
		free(over[n]);
	}
}
