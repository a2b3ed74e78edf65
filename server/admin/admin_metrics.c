#include "server/admin/admin_metrics.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "common/base/err.h"
#include "common/base/heap.h"
#include "common/base/metric.h"

enum { LINE_LEN = 512 };

struct writer {
	struct buf *out;
	bool failed;
};

__attribute__((format(printf, 2, 3))) static void put(struct writer *w, const char *fmt, ...)
{
	char line[LINE_LEN];
	va_list ap;

	va_start(ap, fmt);
	int n = vsnprintf(line, sizeof line, fmt, ap);
	va_end(ap);
	if (n < 0 || (size_t)n >= sizeof line || buf_add(w->out, line, (size_t)n) < 0)
		w->failed = true;
}

/* help is ours: no backslash, no line break. */
static void put_head(struct writer *w, const char *name, const char *help, bool is_counter)
{
	put(w, "# HELP tunn_%s %s\n# TYPE tunn_%s %s\n", name, help, name,
	    is_counter ? "counter" : "gauge");
}

static void put_gauge(struct writer *w, const char *name, const char *help, int64_t v)
{
	put_head(w, name, help, false);
	put(w, "tunn_%s %lld\n", name, (long long)v);
}

static bool is_counter(const char *name)
{
	size_t n = strlen(name);

	return n > 6 && strcmp(name + n - 6, "_total") == 0;
}

static void put_counters(struct writer *w)
{
	for (unsigned i = 0; i < METRIC_N; i++) {
		enum metric m = (enum metric)i;
		const char *name = metric_name(m);
		uint64_t v = metric_sum(m);
		if (!is_counter(name)) { /* threads take from it what others added */
			put_gauge(w, name, metric_help(m), (int64_t)v);
			continue;
		}
		put_head(w, name, metric_help(m), true);
		put(w, "tunn_%s %llu\n", name, (unsigned long long)v);
	}
}

static void put_reasons(struct writer *w)
{
	put_head(w, "packets_dropped_total", "datagrams dropped, by reason", true);
	for (unsigned i = 0; i < DROP_N; i++)
		put(w, "tunn_packets_dropped_total{reason=\"%s\"} %llu\n",
		    drop_label((enum drop_why)i),
		    (unsigned long long)metric_drop_sum((enum drop_why)i));
	put_head(w, "connections_closed_total", "connections that ended, by reason", true);
	for (unsigned i = CLOSE_NONE + 1; i < CLOSE_N; i++)
		put(w, "tunn_connections_closed_total{reason=\"%s\"} %llu\n",
		    close_label((enum close_why)i),
		    (unsigned long long)metric_close_sum((enum close_why)i));
}

static void put_distribution(struct writer *w, enum distribution d, const char *name,
                             const char *help)
{
	struct distribution_sums s;
	unsigned long long n = 0;

	metric_distribution(d, &s);
	put(w, "# HELP tunn_%s %s\n# TYPE tunn_%s histogram\n", name, help, name);
	for (unsigned i = 0; i < DISTRIBUTION_BOUNDS; i++)
		put(w, "tunn_%s_bucket{le=\"%g\"} %llu\n", name, distribution_bounds_ms[i] / 1000.0,
		    n += s.n[i]);
	n += s.n[DISTRIBUTION_BOUNDS];
	put(w, "tunn_%s_bucket{le=\"+Inf\"} %llu\ntunn_%s_sum %g\ntunn_%s_count %llu\n", name, n,
	    name, (double)s.ms / 1000, name, n);
}

static void put_workers(struct writer *w, const struct admin_metrics *m)
{
	put_head(w, "worker_connections", "TCP connections of a worker", false);
	for (unsigned i = 0; i < m->n_workers; i++)
		put(w, "tunn_worker_connections{worker=\"%u\"} %u\n", i, m->workers[i].n_links);
	put_head(w, "worker_tunnels", "ends registered at a worker", false);
	for (unsigned i = 0; i < m->n_workers; i++)
		put(w, "tunn_worker_tunnels{worker=\"%u\"} %u\n", i, m->workers[i].n_tunnels);
	put_head(w, "worker_answers", "whether a worker answered within 2 s", false);
	for (unsigned i = 0; i < m->n_workers; i++)
		put(w, "tunn_worker_answers{worker=\"%u\"} %d\n", i, m->workers[i].answers);
}

int admin_metrics_put(const struct admin_metrics *m, struct buf *out)
{
	struct writer w = { .out = out };

	put_head(&w, "build_info", "always 1; which program this is", false);
	put(&w, "tunn_build_info{version=\"%s\"} 1\n", TUNN_VERSION);
	put_gauge(&w, "start_time_seconds", "when the relay started, seconds since 1970",
	          m->started_unix_s);
	put_gauge(&w, "ready", "whether /readyz says so", m->ready);
	put_gauge(&w, "heap_bytes", "memory that was asked for and is in use",
	          (int64_t)heap_in_use());
	put_workers(&w, m);
	put_counters(&w);
	put_reasons(&w);
	put_distribution(&w, DISTRIBUTION_QUEUE, "queue_delay_seconds",
	                 "how long datagrams waited here before their link took them");
	put_distribution(&w, DISTRIBUTION_RTT, "rtt_seconds",
	                 "to the other side of connections, by heartbeats");
	return w.failed ? -ENOMEM : 0;
}
