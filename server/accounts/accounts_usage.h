/*
 * Usage in the database: what each boot counted of an account and month (usage.h), and
 * in boot 0 what boots of before did. Everything blocks. The thread of its struct accounts.
 *
 * Folding takes the larger of what is there and what comes, so that it may be repeated;
 * merging adds, and may not: only when no journal of an old boot is left.
 * Errors are negative with error_out in words.
 */
#ifndef TUNN_SERVER_ACCOUNTS_USAGE_H
#define TUNN_SERVER_ACCOUNTS_USAGE_H

#include "server/accounts/accounts.h"
#include "server/accounts/usage.h"

struct accounts_usage;

/* Borrows the accounts until it is closed. */
int accounts_usage_open(struct accounts *, struct accounts_usage **usage_out,
                        char error_out[static ACCOUNTS_ERROR_LEN]);
void accounts_usage_close(struct accounts_usage *); /* NULL allowed */

/* One transaction: begin, any number of put, then commit or, after an error, roll back.
 * Totals of accounts that are no more are left out. */
int accounts_usage_begin(struct accounts_usage *, char error_out[static ACCOUNTS_ERROR_LEN]);
int accounts_usage_put(struct accounts_usage *, int64_t boot, const struct usage_total *,
                       char error_out[static ACCOUNTS_ERROR_LEN]);
int accounts_usage_commit(struct accounts_usage *, char error_out[static ACCOUNTS_ERROR_LEN]);
void accounts_usage_roll_back(struct accounts_usage *);

/* Of a month: what all boots counted, and what `boot` did of that. Zeros when nobody did. */
int accounts_usage_month(struct accounts_usage *, int64_t row, uint32_t month, int64_t boot,
                         struct account_usage *all_out, struct account_usage *boot_out,
                         char error_out[static ACCOUNTS_ERROR_LEN]);

/* Adds at most so many rows of other boots than this one to those of boot 0, in one transaction.
 * How many there were; 0: all is merged. */
int accounts_usage_merge(struct accounts_usage *, int64_t boot, unsigned most,
                         char error_out[static ACCOUNTS_ERROR_LEN]);

#endif
