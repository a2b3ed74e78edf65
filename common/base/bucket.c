#include "common/base/bucket.h"

void bucket_init(struct bucket *b, uint32_t burst, uint32_t per_s, uint64_t now_ms)
{
	*b = (struct bucket){
		.filled_ms = now_ms,
		.level_milli = (uint64_t)burst * 1000,
		.burst_milli = (uint64_t)burst * 1000,
		.per_s = per_s,
	};
}

bool bucket_take(struct bucket *b, uint32_t n, uint64_t now_ms)
{
	uint64_t elapsed = now_ms > b->filled_ms ? now_ms - b->filled_ms : 0;
	uint64_t missing = b->burst_milli - b->level_milli;

	/* per_s tokens a second is per_s milli-tokens a millisecond */
	if (b->per_s && elapsed >= missing / b->per_s + 1)
		b->level_milli = b->burst_milli;
	else
		b->level_milli += elapsed * b->per_s;
	b->filled_ms = now_ms;
	if (b->level_milli < (uint64_t)n * 1000)
		return false;
	b->level_milli -= (uint64_t)n * 1000;
	return true;
}

void budget_init(struct budget *b, uint32_t burst, uint32_t per_s, uint64_t now_ms)
{
	bucket_init(&b->soft, burst, per_s, now_ms);
	bucket_init(&b->hard, burst, per_s, now_ms);
}

bool budget_spend(struct budget *b, uint64_t now_ms, bool *rest_out)
{
	if (bucket_take(&b->soft, 1, now_ms))
		return true;
	*rest_out = true;
	return bucket_take(&b->hard, 1, now_ms);
}
