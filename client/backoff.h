/*
 * How long to wait before the next attempt: 0.2 s, then 1.6 times as long each
 * time up to 10 s, every value spread by 20 % so that a thousand ends do not
 * come back at once (robustness.md 1.2). Pure; one thread.
 */
#ifndef TUNN_CLIENT_BACKOFF_H
#define TUNN_CLIENT_BACKOFF_H

#include <stdint.h>

enum { BACKOFF_FIRST_MS = 200, BACKOFF_CAP_MS = 10000, BACKOFF_JITTER_PERCENT = 20 };

struct backoff { /* zero-initialised is reset */
	uint32_t step_ms;
};

void backoff_reset(struct backoff *);
/* random: uniform over all 32 bits. The delay in ms. */
uint32_t backoff_next(struct backoff *, uint32_t random);

#endif
