#include "client/backoff.h"

void backoff_reset(struct backoff *b) { b->step_ms = 0; }

static uint32_t longer(uint32_t step_ms)
{
	uint32_t next = step_ms ? step_ms * 8 / 5 : BACKOFF_FIRST_MS;

	return next < BACKOFF_CAP_MS ? next : BACKOFF_CAP_MS;
}

uint32_t backoff_next(struct backoff *b, uint32_t random)
{
	b->step_ms = longer(b->step_ms);
	uint32_t spread = b->step_ms * BACKOFF_JITTER_PERCENT / 100;
	/* The jitter comes after the cap, else all would meet again at 10 s. */
	return b->step_ms - spread + (uint32_t)((uint64_t)random * (2 * spread + 1) >> 32);
}
