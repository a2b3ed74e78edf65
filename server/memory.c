#include "server/memory.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/base/heap.h"
#include "common/base/log.h"
#include "common/base/machine.h"
#include "common/base/metric.h"
#include "common/base/units.h"
#include "common/net/loop.h"
#include "server/relay/shortage.h"

enum {
	LOOK_MS = 1000,
	GIVE_BACK_MS = 5000, /* takes 100 ms a gigabyte at worst, and who allocates waits: */
	GIVE_BACK_REST = 20, /* so many times as long nobody has to, */
	REST_MAX_MS = 30000, /* and no longer, should it have been we who were stopped */
	ENDS_LEAST = 4,      /* go in a second, and one of so many: */
	ENDS_SHARE = 128,
};

struct memory {
	struct loop *loop;
	struct timer *timer;
	struct workers *workers;
	struct tiers tiers;
	uint64_t share; /* of what the machine had at the start */
	struct watermark mark;
	uint64_t used;
	uint64_t gave_back_ms, took_ms; /* when it began, and for how long in this look */
	/* Since it began to be short: */
	uint64_t began_ms;
	bool told_ends;
	uint64_t turned_away, newcomers, ends; /* counted before that */
};

int memory_limit_of(const char *words, uint64_t *bytes_out)
{
	*bytes_out = 0;
	if (strcmp(words, "unlimited") == 0)
		return 0;
	int rc = units_size(words, bytes_out);
	return rc == 0 && *bytes_out < MEMORY_LEAST ? ERR_INVALID : rc;
}

/* ---- in words ---- */

static void say_begun(struct memory *m)
{
	char used[UNITS_LEN], most[UNITS_LEN];

	m->began_ms = loop_now_ms(m->loop);
	m->told_ends = false;
	m->turned_away = metric_sum(METRIC_MEMORY_TURNED_AWAY);
	m->newcomers = metric_sum(METRIC_MEMORY_NEWCOMERS);
	m->ends = metric_sum(METRIC_MEMORY_ENDS);
	log_warn("memory is short, %s of limits.memory %s: new connections are turned away, and "
	         "those without a registered end closed; more memory, or fewer ends",
	         units_size_brief(m->used, used), units_size_brief(m->mark.most, most));
}

static void say_over(const struct memory *m)
{
	char used[UNITS_LEN];

	log_info("memory suffices again, %s, after %llu s: turned_away=%llu closed=%llu ends=%llu",
	         units_size_brief(m->used, used),
	         (unsigned long long)(loop_now_ms(m->loop) - m->began_ms) / 1000,
	         (unsigned long long)(metric_sum(METRIC_MEMORY_TURNED_AWAY) - m->turned_away),
	         (unsigned long long)(metric_sum(METRIC_MEMORY_NEWCOMERS) - m->newcomers),
	         (unsigned long long)(metric_sum(METRIC_MEMORY_ENDS) - m->ends));
}

static void say_ends(struct memory *m, unsigned rank)
{
	if (rank == RANK_NONE || m->told_ends)
		return;
	m->told_ends = true;
	if (m->tiers.n == 0)
		log_warn("memory is nearly used up: the newest ends are sent away");
	else
		log_warn("memory is nearly used up: the newest ends of the lowest tier are sent "
		         "away, first of tier %s",
		         m->tiers.v[rank < m->tiers.n ? rank : 0].name);
}

/* ---- each second, or so ---- */

static void gauge(enum metric which, uint64_t *told, uint64_t now)
{
	metric_add(which, (int64_t)(now - *told));
	*told = now;
}

/* What ends have left behind the allocator keeps, and that is no want of memory: nobody else
 * goes for it, so while it is short each look is behind that. */
static uint64_t look(struct memory *m)
{
	uint64_t used = heap_resident(), now_ms = clock_now_ms();

	m->took_ms = 0;
	if (!m->mark.most || used < m->mark.most / 100 * 90 ||
	    (!m->mark.level && m->gave_back_ms && now_ms - m->gave_back_ms < GIVE_BACK_MS))
		return used;
	m->gave_back_ms = now_ms;
	heap_give_back();
	m->took_ms = clock_now_ms() - now_ms;
	return heap_resident();
}

static uint64_t rest_ms(const struct memory *m)
{
	uint64_t ms = GIVE_BACK_REST * m->took_ms;

	return ms < REST_MAX_MS ? ms : REST_MAX_MS;
}

static unsigned n_that_go(void)
{
	uint64_t n = metric_sum(METRIC_SESSIONS_OPEN);

	return ENDS_LEAST + (unsigned)(n / ENDS_SHARE);
}

static void on_look(void *arg)
{
	struct memory *m = arg;
	enum watermark_level before = m->mark.level;

	gauge(METRIC_MEMORY_BYTES, &m->used, look(m));
	timer_set(m->timer, LOOK_MS + rest_ms(m));
	enum watermark_level level = watermark_step(&m->mark, m->used);
	metric_add(METRIC_MEMORY_SHORT, (int64_t)level - (int64_t)before);
	if (level && !before)
		say_begun(m);
	if (level || before)
		say_ends(m, workers_shed(m->workers, level, n_that_go()));
	if (!level && before)
		say_over(m);
}

/* ---- life ---- */

struct memory *memory_start(struct loop *loop, struct workers *workers)
{
	struct memory *m = calloc(1, sizeof *m);

	if (!m)
		return NULL;
	m->loop = loop;
	m->workers = workers;
	m->share = machine_memory("") / 100 * MEMORY_SHARE_PERCENT;
	m->timer = timer_new(loop, on_look, m);
	if (!m->timer) {
		free(m);
		return NULL;
	}
	timer_set(m->timer, LOOK_MS);
	return m;
}

void memory_stop(struct memory *m)
{
	if (m)
		timer_free(m->timer);
	free(m);
}

void memory_set_limit(struct memory *m, const char *words, const struct tiers *tiers)
{
	uint64_t most = m->share;

	if (words)
		memory_limit_of(words, &most); /* checked when read */
	m->tiers = tiers ? *tiers : (struct tiers){ .n = 0 };
	gauge(METRIC_MEMORY_LIMIT, &m->mark.most, most);
}
