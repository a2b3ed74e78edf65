#include "server/admin/admin_series.h"

#include <stdlib.h>

#include "common/base/metric.h"

static struct series_point read_now(void)
{
	struct series_point p = { .bytes_in = metric_sum(METRIC_BYTES_IN),
		                  .bytes_out = metric_sum(METRIC_BYTES_OUT),
		                  .packets_in = metric_sum(METRIC_PKTS_IN),
		                  .packets_out = metric_sum(METRIC_PKTS_OUT),
		                  .tunnels = metric_sum(METRIC_SESSIONS_OPEN) };

	for (unsigned i = 0; i < DROP_N; i++)
		p.drops[i] = (uint32_t)metric_drop_sum((enum drop_why)i);
	return p;
}

/* What was counted since `then`, which becomes what is counted now. */
static struct distribution_sums since(enum distribution d, struct distribution_sums *then)
{
	struct distribution_sums now, diff;

	metric_distribution(d, &now);
	diff.ms = now.ms - then->ms;
	for (unsigned i = 0; i <= DISTRIBUTION_BOUNDS; i++)
		diff.n[i] = now.n[i] - then->n[i];
	*then = now;
	return diff;
}

static void measure(struct series *s, struct series_point *p)
{
	struct distribution_sums queue = since(DISTRIBUTION_QUEUE, &s->queue);
	struct distribution_sums rtt = since(DISTRIBUTION_RTT, &s->rtt[s->next_rtt]);

	s->next_rtt = (s->next_rtt + 1) % SERIES_RTT_SECONDS;
	p->queue_p50_us = distribution_percentile_us(&queue, 50);
	p->queue_p99_us = distribution_percentile_us(&queue, 99);
	p->rtt_p50_us = distribution_percentile_us(&rtt, 50);
	p->rtt_p99_us = distribution_percentile_us(&rtt, 99);
}

void series_tick(struct series *s, int64_t now_unix_s)
{
	struct series_point now = read_now(), step = now;

	measure(s, &step);

	step.bytes_in -= s->total.bytes_in;
	step.bytes_out -= s->total.bytes_out;
	step.packets_in -= s->total.packets_in;
	step.packets_out -= s->total.packets_out;
	for (unsigned i = 0; i < DROP_N; i++)
		step.drops[i] -= s->total.drops[i];
	s->total = now;
	s->unix_s = now_unix_s;
	if (!s->is_begun) { /* nobody knows over which time */
		s->is_begun = true;
		return;
	}
	s->ring[s->next] = step;
	s->next = (s->next + 1) % SERIES_SECONDS;
	s->n += s->n < SERIES_SECONDS;
}

/* ---- as JSON ---- */

typedef int64_t read_point(const struct series_point *, unsigned which);

static int64_t bytes_in(const struct series_point *p, unsigned i)
{
	return (void)i, (int64_t)p->bytes_in;
}
static int64_t bytes_out(const struct series_point *p, unsigned i)
{
	return (void)i, (int64_t)p->bytes_out;
}
static int64_t packets_in(const struct series_point *p, unsigned i)
{
	return (void)i, (int64_t)p->packets_in;
}
static int64_t packets_out(const struct series_point *p, unsigned i)
{
	return (void)i, (int64_t)p->packets_out;
}
static int64_t tunnels(const struct series_point *p, unsigned i)
{
	return (void)i, (int64_t)p->tunnels;
}
static int64_t queue_p50(const struct series_point *p, unsigned i)
{
	return (void)i, p->queue_p50_us;
}
static int64_t queue_p99(const struct series_point *p, unsigned i)
{
	return (void)i, p->queue_p99_us;
}
static int64_t rtt_p50(const struct series_point *p, unsigned i) { return (void)i, p->rtt_p50_us; }
static int64_t rtt_p99(const struct series_point *p, unsigned i) { return (void)i, p->rtt_p99_us; }
static int64_t drops(const struct series_point *p, unsigned i) { return p->drops[i]; }

/* What was not measured, -1, is null. */
static const struct column {
	const char *name;
	read_point *read;
} columns[] = {
	{ "bytes_in", bytes_in },
	{ "bytes_out", bytes_out },
	{ "packets_in", packets_in },
	{ "packets_out", packets_out },
	{ "tunnels", tunnels },
	{ "queue_delay_us_p50", queue_p50 },
	{ "queue_delay_us_p99", queue_p99 },
	{ "rtt_us_p50", rtt_p50 },
	{ "rtt_us_p99", rtt_p99 },
};

static struct json *column(const struct series *s, unsigned n, read_point *of, unsigned which)
{
	struct json *a = json_new_array();
	int rc = 0;

	for (unsigned i = 0; i < n && rc == 0; i++) {
		const struct series_point *p =
		                &s->ring[(s->next + SERIES_SECONDS - n + i) % SERIES_SECONDS];
		int64_t v = of(p, which);
		rc = json_add(a, v >= 0 ? json_new_int(v) : json_new_null());
	}
	if (rc == 0)
		return a;
	json_free(a);
	return NULL;
}

static struct json *all_drops(const struct series *s, unsigned n)
{
	struct json *o = json_new_object();
	int rc = 0;

	for (unsigned i = 0; i < DROP_N && rc == 0; i++)
		rc = json_put(o, drop_label((enum drop_why)i), column(s, n, drops, i));
	if (rc == 0)
		return o;
	json_free(o);
	return NULL;
}

struct json *series_json(const struct series *s, unsigned last)
{
	unsigned n = last < s->n ? last : s->n;
	struct json *o = json_new_object();
	int rc = json_put(o, "until_unix_s", json_new_int(s->unix_s));

	if (rc == 0)
		rc = json_put(o, "step_s", json_new_int(1));
	if (rc == 0)
		rc = json_put(o, "length", json_new_int(n));
	for (unsigned i = 0; i < sizeof columns / sizeof *columns && rc == 0; i++)
		rc = json_put(o, columns[i].name, column(s, n, columns[i].read, 0));
	if (rc == 0)
		rc = json_put(o, "drops", all_drops(s, n));
	if (rc == 0)
		return o;
	json_free(o);
	return NULL;
}
