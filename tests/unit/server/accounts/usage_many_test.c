/* A database with a hundred thousand accounts: what a start and one account touch of it. */
#include "tests/unit/server/accounts/usage.h"

enum { MANY = 100000 };

static void make_many(void)
{
	char text[512];

	usage_close();
	snprintf(text, sizeof text,
	         "WITH RECURSIVE n(i) AS (SELECT 4 UNION ALL SELECT i + 1 FROM n WHERE i < %d) "
	         "INSERT INTO account (id, name, created) SELECT i, 'n' || i, 0 FROM n; "
	         "INSERT INTO usage (account, month, boot, sent, received, packets_sent, "
	         "packets_received) SELECT id, 202611, 7, 1000, 0, 1, 0 FROM account",
	         MANY);
	usage_sql(text);
}

/* The pages that SQLite holds show what it read: 8 MB it all is, and its cache has room for 2. */
static void one_account_is_read_without_the_others(void **state)
{
	struct account_usage u;
	int now = 0, most = 0;

	(void)state;
	make_many();
	sqlite3_status(SQLITE_STATUS_MEMORY_USED, &now, &most, 1);
	int before = now;
	usage_open();
	struct account *a = usage_get(MANY / 2);
	sqlite3_status(SQLITE_STATUS_MEMORY_USED, &now, &most, 0);
	assert_true(most - before < 500000);
	account_usage(a, &u);
	usage_assert(u, 1, 0);
	account_unref(a);
}

static void rows_of_old_boots_are_merged_some_at_a_time(void **state)
{
	unsigned ticks = 0;

	(void)state;
	make_many();
	usage_open();
	struct accounts_usage *u = NULL;
	assert_int_equal(accounts_usage_open(usage_accounts, &u, usage_words), 0);
	struct account *a = usage_get(MANY);
	usage_count(a, 4, 1);
	for (int left = 1; left > 0; ticks++) {
		struct account_usage all, old;
		usage_ticks(1);
		left = 0;
		for (int64_t row = 1; row <= MANY; row += 999) {
			assert_int_equal(accounts_usage_month(u, row, NOVEMBER, 7, &all, &old,
			                                      usage_words),
			                 0);
			assert_int_equal(all.sent, 1000);
			left += old.sent != 0;
		}
	}
	assert_true(ticks > 10);
	usage_ticks(12);
	usage_assert(usage_of(MANY, NOVEMBER), 5, 1);
	accounts_usage_close(u);
	account_unref(a);
}

#define T(name) cmocka_unit_test_setup_teardown(name, usage_fresh, usage_done)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(one_account_is_read_without_the_others),
		T(rows_of_old_boots_are_merged_some_at_a_time),
	};

	if (crypto_start() < 0)
		return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
