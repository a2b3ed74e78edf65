/*
 * Counters. Every thread counts in a table of its own without locks or
 * atomics on the packet path; metric_sum() adds up the tables of all threads
 * that are or were. Readers may see a value a moment old (relaxed loads).
 */
#ifndef TUNN_BASE_METRIC_H
#define TUNN_BASE_METRIC_H

#include <stddef.h>
#include <stdint.h>

#include "common/base/err.h"

enum metric {
#define METRIC(id, name, help) METRIC_##id,
#include "common/base/metric_list.h"
#undef METRIC
	METRIC_N
};

void metric_add(enum metric, int64_t n); /* the calling thread's table */
void metric_drop(enum drop_why);
void metric_close(enum close_why);

/* How values are spread: how many were at most each bound, in milliseconds, and beyond the last
 * one. What is counted within the same millisecond is 0. */
enum distribution {
	DISTRIBUTION_QUEUE, /* how long a datagram waited here before its link took it */
	DISTRIBUTION_RTT,   /* to the other side of a connection, by heartbeats */
	DISTRIBUTION_N
};
enum { DISTRIBUTION_BOUNDS = 12 };
extern const uint32_t distribution_bounds_ms[DISTRIBUTION_BOUNDS];
struct distribution_sums {
	uint64_t n[DISTRIBUTION_BOUNDS + 1]; /* not added up */
	uint64_t ms;                         /* all values together */
};
void metric_observe(enum distribution, uint64_t ms, unsigned n); /* n of them */
void metric_distribution(enum distribution, struct distribution_sums *sums_out);
/* The value below which `percent` of them lie, interpolated, in microseconds; -1: there are
 * none. Those beyond the last bound count as that. */
int64_t distribution_percentile_us(const struct distribution_sums *, unsigned percent);

uint64_t metric_sum(enum metric);
uint64_t metric_drop_sum(enum drop_why);
uint64_t metric_close_sum(enum close_why);
const char *metric_name(enum metric);
const char *metric_help(enum metric);

/* All values that are not zero, `name=value` with blanks between. Returns the
 * length; cap is never exceeded. */
size_t metric_text(char *out, size_t cap);
void metric_print(int fd); /* the same as a line for people: `tunn: counters ...` */

#endif
