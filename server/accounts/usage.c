#include "server/accounts/usage.h"

#include <string.h>
#include <time.h>

uint32_t usage_month_of(int64_t unix_ms)
{
	time_t s = unix_ms > 0 ? unix_ms / 1000 : 0;
	struct tm tm = { .tm_year = 70 };

	gmtime_r(&s, &tm);
	return (uint32_t)(tm.tm_year + 1900) * 100 + (uint32_t)tm.tm_mon + 1;
}

int64_t usage_month_end(uint32_t month)
{
	/* timegm(3) takes month 12 for January of the next year */
	struct tm tm = { .tm_year = (int)(month / 100) - 1900,
		         .tm_mon = (int)(month % 100),
		         .tm_mday = 1 };

	return timegm(&tm);
}

struct account_usage usage_plus(const struct account_usage *a, const struct account_usage *b)
{
	return (struct account_usage){ .sent = a->sent + b->sent,
		                       .received = a->received + b->received,
		                       .packets_sent = a->packets_sent + b->packets_sent,
		                       .packets_received = a->packets_received +
		                                           b->packets_received };
}

struct account_usage usage_less(const struct account_usage *a, const struct account_usage *b)
{
	return (struct account_usage){ .sent = a->sent - b->sent,
		                       .received = a->received - b->received,
		                       .packets_sent = a->packets_sent - b->packets_sent,
		                       .packets_received = a->packets_received -
		                                           b->packets_received };
}

bool usage_eq(const struct account_usage *a, const struct account_usage *b)
{
	return memcmp(a, b, sizeof *a) == 0; /* it has no padding */
}
