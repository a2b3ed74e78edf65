/*
 * All counters as Prometheus' text exposition, version 0.0.4. Labels have values from
 * fixed tables, and numbers of workers: no ids, accounts or addresses, so that a million
 * ends make not one line more. Any thread.
 */
#ifndef TUNN_SERVER_ADMIN_METRICS_H
#define TUNN_SERVER_ADMIN_METRICS_H

#include <stdbool.h>
#include <stdint.h>

#include "common/base/buf.h"

#define ADMIN_METRICS_TYPE "text/plain; version=0.0.4; charset=utf-8"

struct admin_worker_state {
	unsigned n_links, n_tunnels; /* as it last told */
	bool answers;
};

struct admin_metrics { /* what stands beside the counters */
	const struct admin_worker_state *workers;
	unsigned n_workers;
	bool ready;
	int64_t started_unix_s;
};

int admin_metrics_put(const struct admin_metrics *, struct buf *out); /* 0 or -ENOMEM */

#endif
