/*
 * What accounts used, as totals: the unit that ledger, journal and database exchange. One
 * run of the server (a boot) has one total of each account and UTC month, which only ever
 * grows: to write it twice, or an old one late, changes nothing (a G-counter). Any thread.
 */
#ifndef TUNN_SERVER_USAGE_H
#define TUNN_SERVER_USAGE_H

#include <stdbool.h>
#include <stdint.h>

#include "server/accounts/account.h"

struct usage_total {
	int64_t row;    /* of the account in the database */
	uint32_t month; /* 202611 */
	struct account_usage usage;
};

/* The UTC month of a moment, and when it is over, in seconds of the Unix clock. */
uint32_t usage_month_of(int64_t unix_ms);
int64_t usage_month_end(uint32_t month);

struct account_usage usage_plus(const struct account_usage *, const struct account_usage *);
struct account_usage usage_less(const struct account_usage *, const struct account_usage *);
bool usage_eq(const struct account_usage *, const struct account_usage *);

#endif
