/*
 * The last ten minutes at a resolution of a second: rings that the admin thread fills
 * once a second from the counters. One thread.
 */
#ifndef TUNN_SERVER_ADMIN_SERIES_H
#define TUNN_SERVER_ADMIN_SERIES_H

#include <stdint.h>

#include "common/base/err.h"
#include "common/base/json.h"
#include "common/base/metric.h"

enum { SERIES_SECONDS = 600, SERIES_RTT_SECONDS = 30 };

struct series_point { /* of one second; counts are what was added in it */
	uint64_t bytes_in, bytes_out, packets_in, packets_out, tunnels;
	uint32_t drops[DROP_N];
	/* -1: nothing was measured. RTTs are of the last SERIES_RTT_SECONDS: heartbeats are rare.
	 */
	int64_t queue_p50_us, queue_p99_us, rtt_p50_us, rtt_p99_us;
};

struct series {
	struct series_point ring[SERIES_SECONDS], total; /* total: when it was last read */
	struct distribution_sums queue, rtt[SERIES_RTT_SECONDS];
	unsigned next, n, next_rtt;
	bool is_begun;
	int64_t unix_s; /* of the newest */
};

void series_tick(struct series *, int64_t now_unix_s); /* once a second */
/* The newest `last` seconds, oldest first. NULL: out of memory. */
struct json *series_json(const struct series *, unsigned last);

#endif
