/*
 * Workers and the mail between their routers, delivered when the test says: in order from
 * one worker to another, else in whatever order. One test program includes this once.
 */
#ifndef TUNN_TESTS_POST_H
#define TUNN_TESTS_POST_H

#include <errno.h>

#include "server/relay/router.h"

enum { WORKERS = 3, LETTERS = 4096 };

struct worker {
	struct router *router;
	unsigned number;
};

struct letter {
	enum { NEWS, PACKET } kind;
	enum router_news news;
	void *ptr;
};

static struct worker workers[WORKERS];
static struct letter mail[WORKERS][WORKERS][LETTERS]; /* a ring of each to each */
static unsigned n_posted[WORKERS][WORKERS], n_read[WORKERS][WORKERS];
static _Atomic uint64_t seq;
static uint64_t now_ms;
static unsigned seed;
static bool no_memory;                                           /* for news */
static void (*on_taken)(struct worker *, const struct letter *); /* asked first, or NULL */

static inline unsigned roll(unsigned n) { return (unsigned)rand_r(&seed) % n; }

/* ---- mail ---- */

static inline void post(unsigned from, unsigned to, struct letter l)
{
	assert_true(n_posted[from][to] - n_read[from][to] < LETTERS);
	mail[from][to][n_posted[from][to]++ % LETTERS] = l;
}

static inline int on_tell(void *mates, enum router_news news, struct presence *p)
{
	const struct worker *w = mates;

	if (news == ROUTER_JOIN && no_memory)
		return -ENOMEM;
	for (unsigned to = 0; to < WORKERS; to++) {
		if (to == w->number)
			continue;
		post(w->number, to, (struct letter){ NEWS, news, presence_ref(p) });
	}
	return 0;
}

static inline void on_forward(void *mates, unsigned worker, struct pkt *p)
{
	const struct worker *w = mates;

	assert_int_not_equal(w->number, worker);
	post(w->number, worker, (struct letter){ .kind = PACKET, .ptr = p });
}

static inline void take(struct worker *w, struct letter l)
{
	if (on_taken)
		on_taken(w, &l);
	if (l.kind == PACKET)
		router_deliver(w->router, l.ptr);
	else if (l.news == ROUTER_JOIN)
		assert_int_equal(router_on_join(w->router, l.ptr, now_ms), 0);
	else if (l.news == ROUTER_LEAVE)
		router_on_leave(w->router, l.ptr, now_ms);
	else if (l.news == ROUTER_CLOSE)
		router_on_close(w->router, l.ptr);
	else
		router_on_fight(w->router, l.ptr, now_ms);
}

/* False: that worker has read all of the other's. */
static inline bool read_one(unsigned from, unsigned to)
{
	if (n_read[from][to] == n_posted[from][to])
		return false;
	take(&workers[to], mail[from][to][n_read[from][to]++ % LETTERS]);
	return true;
}

static inline void read_all(void)
{
	bool some = true;

	while (some) {
		some = false;
		for (unsigned i = 0; i < WORKERS * WORKERS; i++)
			some = read_one(i / WORKERS, i % WORKERS) || some;
	}
}

static inline void open_post(void)
{
	memset(n_posted, 0, sizeof n_posted);
	memset(n_read, 0, sizeof n_read);
	now_ms = 1000000;
	no_memory = false;
}

static inline void open_workers(const struct router_events *events)
{
	for (unsigned i = 0; i < WORKERS; i++) {
		workers[i].number = i;
		workers[i].router = router_new(&(struct router_conf){ events, &workers[i], &seq });
		assert_non_null(workers[i].router);
		router_set_worker(workers[i].router, i);
	}
}

#endif
