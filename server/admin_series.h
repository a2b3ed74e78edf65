/*
 * The last ten minutes at a resolution of a second: rings that the admin thread fills
 * once a second from the counters. One thread.
 */
#ifndef TUNN_SERVER_ADMIN_SERIES_H
#define TUNN_SERVER_ADMIN_SERIES_H

#include <stdint.h>

#include "common/base/err.h"
#include "common/base/json.h"

enum { SERIES_SECONDS = 600 };

struct series_point { /* of one second; counts are what was added in it */
	uint64_t bytes_in, bytes_out, packets_in, packets_out, tunnels;
	uint32_t drops[DROP_N];
};

struct series {
	struct series_point ring[SERIES_SECONDS], total; /* total: when it was last read */
	unsigned next, n;
	bool is_begun;
	int64_t unix_s; /* of the newest */
};

void series_tick(struct series *, int64_t now_unix_s); /* once a second */
/* The newest `last` seconds, oldest first. NULL: out of memory. */
struct json *series_json(const struct series *, unsigned last);

#endif
