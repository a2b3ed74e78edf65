#include "server/relay/shortage.h"

#include "common/base/metric.h"
#include "server/relay/session_impl.h"

void shortage_init(struct shortage *s)
{
	atomic_init(&s->shut, false);
	atomic_init(&s->rank, RANK_NONE);
	for (unsigned i = 0; i < WORKERS_MAX; i++)
		atomic_init(&s->lowest[i], RANK_NONE);
}

unsigned shortage_lowest(struct shortage *s, unsigned n)
{
	unsigned least = RANK_NONE;

	for (unsigned i = 0; i < n; i++) {
		unsigned rank = atomic_load_explicit(&s->lowest[i], memory_order_relaxed);
		if (rank < least)
			least = rank;
	}
	return least;
}

/* Without accounts all are alike. Other relays of the mesh are nobody's ends. */
static unsigned rank_of(const struct session *s)
{
	const struct presence *who = s->member.who;

	if (!s->member.joined || (who->native && (who->native_flags & NATIVE_MESH)))
		return RANK_NONE;
	return who->payer ? account_rank(who->payer) : 0;
}

/* It looks at all of them: a hundred thousand take milliseconds, once a second, and only
 * while memory is short. */
static void lower(const struct list *sessions, unsigned *least)
{
	for (const struct list *it = sessions->next; it != sessions; it = it->next) {
		unsigned rank = rank_of(container_of(it, struct session, node));
		if (rank < *least)
			*least = rank;
	}
}

unsigned sessions_lowest_rank(const struct sessions *ss)
{
	unsigned least = RANK_NONE;

	lower(&ss->named, &least);
	lower(&ss->natives, &least);
	return least;
}

/* The last that came of those behind `it`, itself included; NULL: there is none. */
static struct session *newest(struct list *sessions, struct list *it, unsigned rank)
{
	for (; it != sessions; it = it->prev) {
		struct session *s = container_of(it, struct session, node);
		if (rank_of(s) == rank)
			return s;
	}
	return NULL;
}

/* Without its connection nothing is won: who keeps it without an end has it for minutes. */
static void send_away(struct session *s)
{
	struct link *l = lane_link(s->lane);

	session_dismiss(s, CLOSE_SHED, close_text(CLOSE_SHED));
	metric_add(METRIC_MEMORY_ENDS, 1);
	if (link_n_lanes(l) == 0)
		link_drain(l);
}

static struct session *later(struct session *a, struct session *b)
{
	if (!a || !b)
		return a ? a : b;
	return a->number > b->number ? a : b;
}

unsigned sessions_shed(struct sessions *ss, unsigned rank, unsigned n)
{
	struct list *named = ss->named.prev, *natives = ss->natives.prev;
	unsigned k = 0;

	for (; k < n; k++) {
		struct session *a = newest(&ss->named, named, rank);
		struct session *b = newest(&ss->natives, natives, rank);
		struct session *s = later(a, b);
		if (!s)
			break;
		named = a ? (s == a ? a->node.prev : &a->node) : &ss->named;
		natives = b ? (s == b ? b->node.prev : &b->node) : &ss->natives;
		send_away(s);
	}
	return k;
}
