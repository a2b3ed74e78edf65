/*
 * A ledger over a state directory of its own, at a made-up clock of the wall. One test
 * program includes this once.
 */
#ifndef TUNN_UNIT_USAGE_H
#define TUNN_UNIT_USAGE_H

#include "tests/unit/said.h"

#include <sqlite3.h>

#include "common/base/crypto.h"
#include "common/base/log.h"
#include "server/accounts/accounts_usage.h"
#include "server/accounts/journal.h"
#include "server/accounts/ledger.h"

enum { NOVEMBER = 202611, DECEMBER = 202612, WORKERS = 2, NEWS_MAX = 64 };
#define NOVEMBER_30 1796083199000 /* 2026-11-30 23:59:59 UTC, the last second of the month */

static char usage_dir[256], usage_words[ACCOUNTS_ERROR_LEN];
static struct accounts *usage_accounts;
static struct ledger *usage_ledger;
static int64_t usage_wall_ms = NOVEMBER_30;
static uint64_t usage_now_ms, usage_file_max;
static struct account_terms usage_terms = { .relay = true };
static int usage_terms_rc;
static struct usage_news {
	int64_t row, resets;
	enum ledger_news news;
	unsigned percent;
} usage_news[NEWS_MAX];
static unsigned n_usage_news;

static inline int64_t usage_wall(void) { return usage_wall_ms; }

static inline int usage_on_terms(void *owner, int64_t row, struct account_terms *out)
{
	(void)owner;
	(void)row;
	*out = usage_terms;
	return usage_terms_rc;
}

static inline void usage_on_news(void *owner, struct account *a, enum ledger_news news,
                                 unsigned percent, int64_t resets)
{
	(void)owner;
	if (n_usage_news < NEWS_MAX)
		usage_news[n_usage_news++] = (struct usage_news){ account_row(a), resets, news,
			                                          percent };
}

static inline bool usage_try_open(void)
{
	struct ledger_conf conf = { .state_dir = usage_dir,
		                    .n_workers = WORKERS,
		                    .file_max = usage_file_max,
		                    .unix_ms = usage_wall,
		                    .terms = usage_on_terms,
		                    .news = usage_on_news };

	usage_accounts = NULL;
	usage_ledger = NULL;
	if (accounts_open(usage_dir, &usage_accounts, usage_words) < 0)
		return false;
	conf.accounts = usage_accounts;
	return ledger_open(&conf, &usage_ledger, usage_words) == 0;
}

static inline void usage_open(void)
{
	if (!usage_try_open())
		fail_msg("%s", usage_words);
}

static inline void usage_close(void)
{
	ledger_close(usage_ledger);
	accounts_close(usage_accounts);
	usage_ledger = NULL;
	usage_accounts = NULL;
}

/* Another one on a copy of all the files as they are now: what a killed process leaves. */
static inline void usage_copy(const char *name)
{
	char command[1024];
	const char *to = file_path(name);

	snprintf(command, sizeof command, "rm -rf %s && cp -r %s %s", to, usage_dir, to);
	assert_int_equal(system(command), 0);
}

/* By another connection, as a command does. */
static inline void usage_sql(const char *text)
{
	char path[512];
	sqlite3 *db;

	snprintf(path, sizeof path, "%s/accounts.db", usage_dir);
	assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
	sqlite3_busy_timeout(db, 5000);
	if (sqlite3_exec(db, text, NULL, NULL, NULL) != SQLITE_OK)
		fail_msg("%s: %s", text, sqlite3_errmsg(db));
	sqlite3_close(db);
}

/* Another state directory from here on, mostly one of usage_copy(). */
static inline void usage_go_to(const char *name)
{
	usage_close();
	snprintf(usage_dir, sizeof usage_dir, "%s", file_path(name));
	usage_open();
}

/* Seconds pass. */
static inline void usage_ticks(unsigned n)
{
	while (n--)
		ledger_tick(usage_ledger, usage_now_ms += 1000);
}

/* What the database has of a month. */
static inline struct account_usage usage_of(int64_t row, uint32_t month)
{
	struct account_usage all = { 0 }, own;
	struct accounts_usage *u = NULL;

	if (accounts_usage_open(usage_accounts, &u, usage_words) < 0 ||
	    accounts_usage_month(u, row, month, 1, &all, &own, usage_words) < 0)
		fail_msg("%s", usage_words);
	accounts_usage_close(u);
	return all;
}

static inline struct account *usage_get(int64_t row)
{
	assert_non_null(usage_ledger);
	struct account *a = ledger_get(usage_ledger, row, "acme");

	assert_non_null(a);
	return a;
}

/* As many datagrams of 1000 bytes each way. */
static inline void usage_count(struct account *a, unsigned sent, unsigned received)
{
	for (unsigned i = 0; i < sent; i++)
		account_count_sent(a, i % WORKERS, 1000);
	for (unsigned i = 0; i < received; i++)
		account_count_received(a, i % WORKERS, 1000);
}

static inline void usage_assert(struct account_usage u, uint64_t sent, uint64_t received)
{
	assert_int_equal(u.sent, 1000 * sent);
	assert_int_equal(u.received, 1000 * received);
	assert_int_equal(u.packets_sent, sent);
	assert_int_equal(u.packets_received, received);
}

/* A new state directory with the accounts of rows 1 to 3, opened. */
static inline int usage_fresh(void **state)
{
	static unsigned n;
	char name[32];

	(void)state;
	snprintf(name, sizeof name, "state%u", n++);
	snprintf(usage_dir, sizeof usage_dir, "%s", file_path(name));
	usage_wall_ms = NOVEMBER_30 - 86400000;
	usage_now_ms = 5000;
	usage_file_max = 0;
	usage_terms = (struct account_terms){ .relay = true };
	usage_terms_rc = 0;
	n_usage_news = 0;
	if (!usage_try_open())
		return 0; /* without memory: the test says so */
	accounts_add(usage_accounts, "acme", NULL, usage_words);
	accounts_add(usage_accounts, "bolt", NULL, usage_words);
	accounts_add(usage_accounts, "coil", NULL, usage_words);
	return 0;
}

static inline int usage_done(void **state)
{
	(void)state;
	usage_close();
	return 0;
}

#endif
