#include "common/base/metric.h"

#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/base/heap.h"

enum { THREADS_MAX = 256, TEXT_LEN = 8192 };

/* One writer, its thread; readers use relaxed loads. Padded by size: a table
 * is far larger than a cache line. */
struct table {
	_Atomic uint64_t v[METRIC_N];
	_Atomic uint64_t drops[DROP_N];
	_Atomic uint64_t closes[CLOSE_N];
	_Atomic uint64_t spread[DISTRIBUTION_N][DISTRIBUTION_BOUNDS + 1];
	_Atomic uint64_t spread_ms[DISTRIBUTION_N];
};

static struct table tables[THREADS_MAX];
static atomic_uint n_tables;
static _Thread_local struct table *mine;

static const char *const names[] = {
#define METRIC(id, name, help) name,
#include "common/base/metric_list.h"
#undef METRIC
};
static const char *const helps[] = {
#define METRIC(id, name, help) help,
#include "common/base/metric_list.h"
#undef METRIC
};

static struct table *table(void)
{
	if (!mine) {
		unsigned i = atomic_fetch_add_explicit(&n_tables, 1, memory_order_relaxed);
		mine = &tables[i < THREADS_MAX ? i : THREADS_MAX - 1];
	}
	return mine;
}

static void add(_Atomic uint64_t *v, uint64_t n)
{
	atomic_store_explicit(v, atomic_load_explicit(v, memory_order_relaxed) + n,
	                      memory_order_relaxed);
}

void metric_add(enum metric m, int64_t n) { add(&table()->v[m], (uint64_t)n); }
void metric_drop(enum drop_why why) { add(&table()->drops[why], 1); }
void metric_close(enum close_why why) { add(&table()->closes[why], 1); }

const uint32_t distribution_bounds_ms[DISTRIBUTION_BOUNDS] = { 1,   2,   5,   10,   20,   50,
	                                                       100, 200, 500, 1000, 2000, 5000 };

void metric_observe(enum distribution d, uint64_t ms, unsigned n)
{
	struct table *t = table();
	unsigned i = 0;

	while (i < DISTRIBUTION_BOUNDS && ms > distribution_bounds_ms[i])
		i++;
	add(&t->spread[d][i], n);
	add(&t->spread_ms[d], ms * n);
}

#define SUM(field, index)                                                                          \
	do {                                                                                       \
		uint64_t sum = 0;                                                                  \
		for (unsigned i = 0; i < THREADS_MAX; i++)                                         \
			sum += atomic_load_explicit(&tables[i].field[index],                       \
			                            memory_order_relaxed);                         \
		return sum;                                                                        \
	} while (0)

uint64_t metric_sum(enum metric m) { SUM(v, m); }
uint64_t metric_drop_sum(enum drop_why why) { SUM(drops, why); }
uint64_t metric_close_sum(enum close_why why) { SUM(closes, why); }

static uint64_t spread_sum(enum distribution d, unsigned bound) { SUM(spread[d], bound); }
static uint64_t spread_ms_sum(enum distribution d) { SUM(spread_ms, d); }

void metric_distribution(enum distribution d, struct distribution_sums *out)
{
	for (unsigned i = 0; i <= DISTRIBUTION_BOUNDS; i++)
		out->n[i] = spread_sum(d, i);
	out->ms = spread_ms_sum(d);
}

int64_t distribution_percentile_us(const struct distribution_sums *s, unsigned percent)
{
	uint64_t all = 0, below = 0;

	for (unsigned i = 0; i <= DISTRIBUTION_BOUNDS; i++)
		all += s->n[i];
	if (all == 0)
		return -1;
	double rank = (double)all * percent / 100, from = 0;
	for (unsigned i = 0; i < DISTRIBUTION_BOUNDS; i++) {
		double to = distribution_bounds_ms[i];
		if (s->n[i] && (double)(below + s->n[i]) >= rank)
			return (int64_t)(1000 * (from + (to - from) * (rank - (double)below) /
			                                                (double)s->n[i]));
		below += s->n[i];
		from = to;
	}
	return (int64_t)distribution_bounds_ms[DISTRIBUTION_BOUNDS - 1] * 1000;
}

const char *metric_name(enum metric m) { return names[m]; }
const char *metric_help(enum metric m) { return helps[m]; }

static size_t put(char *out, size_t cap, size_t n, const char *prefix, const char *name, uint64_t v)
{
	if (v == 0 || n >= cap)
		return n;
	int k = snprintf(out + n, cap - n, "%s%s%s=%llu", n ? " " : "", prefix, name,
	                 (unsigned long long)v);
	if (k > 0 && (size_t)k < cap - n)
		return n + (size_t)k;
	out[n] = 0; /* a value is there whole or not at all */
	return n;
}

size_t metric_text(char *out, size_t cap)
{
	size_t n = 0;

	if (cap)
		out[0] = 0;
	for (unsigned i = 0; i < METRIC_N; i++)
		n = put(out, cap, n, "", names[i], metric_sum((enum metric)i));
	for (unsigned i = 0; i < DROP_N; i++)
		n = put(out, cap, n, "drop_", drop_label((enum drop_why)i),
		        metric_drop_sum((enum drop_why)i));
	for (unsigned i = 0; i < CLOSE_N; i++)
		n = put(out, cap, n, "close_", close_label((enum close_why)i),
		        metric_close_sum((enum close_why)i));
	return n;
}

void metric_print(int fd)
{
	char line[TEXT_LEN] = "tunn: counters ";
	size_t n = strlen(line);

	n += metric_text(line + n, sizeof line - n - 1);
	/* Resident memory has what the allocator keeps too; a leak shows here. */
	n = put(line, sizeof line - 1, n, "", "heap_bytes", heap_in_use());
	line[n++] = '\n';
	if (write(fd, line, n) < 0) {
		/* Nowhere left to say it. */
	}
}
