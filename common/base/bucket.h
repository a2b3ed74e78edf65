/*
 * A token bucket: `burst` at once, refilled at `per_s`. Reads no clock. One
 * thread.
 */
#ifndef TUNN_BASE_BUCKET_H
#define TUNN_BASE_BUCKET_H

#include <stdbool.h>
#include <stdint.h>

struct bucket {
	uint64_t filled_ms; /* when `level` was right */
	uint64_t level_milli, burst_milli;
	uint32_t per_s;
};

void bucket_init(struct bucket *, uint32_t burst, uint32_t per_s, uint64_t now_ms);
bool bucket_take(struct bucket *, uint32_t n, uint64_t now_ms); /* false: not enough, none taken */

/* Two buckets: over the first, who spends is to be read more slowly; over both, it is
 * to end. */
struct budget {
	struct bucket soft, hard;
};
enum { BUDGET_REST_MS = 100 }; /* not read for so long */

void budget_init(struct budget *, uint32_t burst, uint32_t per_s, uint64_t now_ms);
/* False: over both. Sets *rest_out when over the first, else leaves it. */
bool budget_spend(struct budget *, uint64_t now_ms, bool *rest_out);

#endif
