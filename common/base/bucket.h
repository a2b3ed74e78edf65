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

#endif
