#include "client/retry.h"

static uint32_t below(uint32_t random, uint32_t bound)
{
	return (uint32_t)((uint64_t)random * bound >> 32);
}

static uint32_t quota_delay(int64_t reset_in_ms, uint32_t random)
{
	int64_t ms = reset_in_ms ? reset_in_ms : RETRY_QUOTA_UNKNOWN_MS;

	if (ms < RETRY_QUOTA_MIN_MS)
		ms = RETRY_QUOTA_MIN_MS;
	if (ms > RETRY_QUOTA_MAX_MS)
		ms = RETRY_QUOTA_MAX_MS;
	return (uint32_t)ms + below(random, (uint32_t)ms / 10); /* later, not sooner */
}

static uint32_t retry_delay(const struct retry_end *end, struct backoff *b, uint32_t random)
{
	uint32_t ms = backoff_next(b, random);

	if (end->why == CLOSE_FIGHT && ms < RETRY_FIGHT_MS)
		return RETRY_FIGHT_MS + ms;
	return ms;
}

struct retry_next retry_after(const struct retry_end *end, struct backoff *b, uint32_t random)
{
	enum verdict verdict = close_verdict(end->why);

	if (end->why == CLOSE_INVALID && end->may_name_host)
		return (struct retry_next){ .delay_ms = 0 };
	if (verdict == VERDICT_FINAL)
		return (struct retry_next){ .ends = true, .exit_code = EXIT_REFUSED };
	if (end->once && !end->was_ever_ready)
		return (struct retry_next){ .ends = true, .exit_code = EXIT_UNREACHABLE };
	if (verdict == VERDICT_WAIT)
		return (struct retry_next){ .delay_ms = quota_delay(end->reset_in_ms, random) };
	if (end->was_steady)
		backoff_reset(b);
	/* Told to come again soon after it began: a relay that says only that is not
	 * to be asked ten times a second. */
	if (verdict == VERDICT_NOW && end->was_steady)
		return (struct retry_next){ .delay_ms = below(random, RETRY_NOW_SPREAD_MS + 1) };
	return (struct retry_next){ .delay_ms = retry_delay(end, b, random) };
}
