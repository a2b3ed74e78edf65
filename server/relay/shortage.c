#include "server/relay/shortage.h"

#include "common/base/metric.h"
#include "server/relay/session_impl.h"

enum { SESSIONS_PER_TURN = 100 };

static void forget(struct shortage *s)
{
	for (unsigned i = 0; i < WORKERS_MAX; i++)
		atomic_store_explicit(&s->lowest[i], RANK_UNKNOWN, memory_order_relaxed);
}

void shortage_init(struct shortage *s)
{
	atomic_init(&s->shut, false);
	atomic_init(&s->rank, RANK_NONE);
	forget(s);
}

/* What was true the last time would send away whose tier is not the lowest any more. */
void shortage_shut(struct shortage *s, bool shut)
{
	if (shut && !shortage_turns_away(s))
		forget(s);
	atomic_store_explicit(&s->shut, shut, memory_order_relaxed);
}

unsigned shortage_lowest(struct shortage *s, unsigned n)
{
	unsigned least = RANK_NONE;

	for (unsigned i = 0; i < n; i++) {
		unsigned rank = atomic_load_explicit(&s->lowest[i], memory_order_relaxed);
		if (rank == RANK_UNKNOWN)
			return RANK_NONE;
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

/* Without its connection nothing is won: who keeps it without an end has it for minutes. */
static void send_away(struct session *s)
{
	struct link *l = lane_link(s->lane);

	session_dismiss(s, CLOSE_SHED, close_text(CLOSE_SHED));
	metric_add(METRIC_MEMORY_ENDS, 1);
	if (link_n_lanes(l) == 0)
		link_drain(l);
}

/* ---- the look ---- */

/* Of both kinds the one that came last; NULL: that were all. */
static struct session *next(struct sessions *ss)
{
	struct shedding *d = &ss->shedding;
	struct session *a = container_of(d->named, struct session, node);
	struct session *b = container_of(d->natives, struct session, node);
	bool no_a = d->named == &ss->named, no_b = d->natives == &ss->natives;

	if (no_a && no_b)
		return NULL;
	if (no_b || (!no_a && a->number > b->number)) {
		d->named = a->node.prev;
		return a;
	}
	d->natives = b->node.prev;
	return b;
}

static void look(struct shedding *d, struct session *s)
{
	unsigned rank = rank_of(s);

	if (rank == d->rank && d->n_left) {
		d->n_left--;
		send_away(s);
	} else if (rank < d->lowest) {
		d->lowest = rank;
	}
}

static void on_turn(struct task *t)
{
	struct shedding *d = container_of(t, struct shedding, task);
	struct sessions *ss = container_of(d, struct sessions, shedding);

	for (unsigned i = 0; i < SESSIONS_PER_TURN; i++) {
		struct session *s = next(ss);
		if (!s) {
			d->named = d->natives = NULL;
			atomic_store_explicit(d->lowest_out, d->lowest, memory_order_relaxed);
			return;
		}
		look(d, s);
	}
	loop_defer(ss->loop, LOOP_POST, t);
}

void sessions_shed(struct sessions *ss, unsigned rank, unsigned n, atomic_uint *lowest_out)
{
	struct shedding *d = &ss->shedding;

	if (d->named)
		return;
	*d = (struct shedding){ .task = { .cb = on_turn },
		                .named = ss->named.prev,
		                .natives = ss->natives.prev,
		                .rank = rank,
		                .n_left = n,
		                .lowest = RANK_NONE,
		                .lowest_out = lowest_out };
	loop_defer(ss->loop, LOOP_POST, &d->task);
}

void shedding_pass(struct sessions *ss, struct list *session_node)
{
	struct shedding *d = &ss->shedding;

	if (d->named == session_node)
		d->named = session_node->prev;
	if (d->natives == session_node)
		d->natives = session_node->prev;
}

void shedding_end(struct sessions *ss)
{
	loop_undefer(ss->loop, LOOP_POST, &ss->shedding.task);
	ss->shedding.named = ss->shedding.natives = NULL;
}
