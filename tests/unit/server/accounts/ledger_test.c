/* The ledger: months, news, live accounts that come and go, what stands in the database. */
#include "tests/unit/server/accounts/usage.h"

static void what_was_counted_is_in_the_database_when_it_closes(void **state)
{
	struct account *a = usage_get(1);

	(void)state;
	usage_count(a, 7, 3);
	account_unref(a);
	usage_close();
	usage_open();
	usage_assert(usage_of(1, NOVEMBER), 7, 3);
	usage_assert(usage_of(2, NOVEMBER), 0, 0);
}

static void an_account_knows_what_earlier_boots_counted(void **state)
{
	struct account_usage u;

	(void)state;
	for (unsigned boot = 0; boot < 3; boot++) {
		struct account *a = usage_get(1);
		account_usage(a, &u);
		usage_assert(u, 5 * boot, 2 * boot);
		usage_count(a, 5, 2);
		usage_ticks(3);
		account_unref(a);
		usage_close();
		usage_open();
	}
	usage_ticks(1); /* merges */
	usage_assert(usage_of(1, NOVEMBER), 15, 6);
}

static void everybody_gets_the_same_account(void **state)
{
	struct account *a = usage_get(1), *b = usage_get(1), *other = usage_get(2);

	(void)state;
	assert_ptr_equal(a, b);
	assert_ptr_not_equal(a, other);
	assert_ptr_equal(ledger_find(usage_ledger, 1), a);
	assert_null(ledger_find(usage_ledger, 3));
	account_unref(a);
	account_unref(b);
	account_unref(other);
}

static void an_account_that_went_and_came_back_goes_on_where_it_was(void **state)
{
	struct account_usage u;

	(void)state;
	for (unsigned i = 0; i < 4; i++) {
		struct account *a = usage_get(1);
		account_usage(a, &u);
		usage_assert(u, 10 * i, i);
		usage_count(a, 10, 1);
		account_unref(a);
		usage_ticks(40);
		assert_null(ledger_find(usage_ledger, 1));
		usage_assert(usage_of(1, NOVEMBER), 10 * (i + 1), i + 1);
	}
}

static void an_account_in_use_is_never_let_go(void **state)
{
	struct account *a = usage_get(1);

	(void)state;
	usage_count(a, 1, 0);
	usage_ticks(100);
	assert_ptr_equal(ledger_find(usage_ledger, 1), a);
	account_unref(a);
}

/* Or who has used its burst would have another one for coming again. */
static void an_account_whose_bucket_is_not_full_is_not_let_go(void **state)
{
	(void)state;
	usage_terms.rate = 1000000;
	usage_terms.burst_ms = 120000;
	struct account *a = usage_get(1);
	while (account_take(a, 65000, usage_now_ms) == 0)
		;
	account_unref(a);
	usage_ticks(110);
	assert_ptr_equal(ledger_find(usage_ledger, 1), a);
	usage_ticks(40);
	assert_null(ledger_find(usage_ledger, 1));
}

static void folding_happens_every_ten_seconds(void **state)
{
	struct account *a = usage_get(1);

	(void)state;
	usage_ticks(1);
	usage_count(a, 1, 0);
	usage_ticks(9);
	usage_assert(usage_of(1, NOVEMBER), 0, 0);
	usage_ticks(1);
	usage_assert(usage_of(1, NOVEMBER), 1, 0);
	account_unref(a);
}

static void a_month_rolls_over_without_losing_a_byte(void **state)
{
	struct account *a = usage_get(1);
	struct account_usage u;

	(void)state;
	usage_wall_ms = NOVEMBER_30;
	usage_count(a, 6, 2);
	usage_ticks(1);
	usage_count(a, 1, 1); /* of the second of the edge */
	usage_wall_ms += 1000;
	usage_ticks(1);
	assert_int_equal(n_usage_news, 1);
	assert_int_equal(usage_news[0].news, LEDGER_MONTH);
	assert_int_equal(usage_news[0].percent, 0);
	assert_int_equal(usage_news[0].resets, 1798761600); /* date -ud 2027-01-01 +%s */
	account_usage(a, &u);
	usage_assert(u, 0, 0);
	usage_count(a, 4, 0);
	account_unref(a);
	usage_close();
	usage_open();
	usage_assert(usage_of(1, NOVEMBER), 7, 3);
	usage_assert(usage_of(1, DECEMBER), 4, 0);
}

static void F30_a_clock_set_back_over_the_edge_goes_on_in_the_old_month(void **state)
{
	struct account *a = usage_get(1);
	struct account_usage u;

	(void)state;
	usage_wall_ms = NOVEMBER_30;
	for (unsigned i = 0; i < 6; i++) { /* to and fro, sometimes with a fold between */
		account_usage(a, &u);
		usage_assert(u, 3 * (i / 2), i / 2);
		usage_count(a, 3, 1);
		usage_ticks(i % 3 == 0 ? 11 : 1);
		usage_wall_ms = i % 2 ? NOVEMBER_30 : NOVEMBER_30 + 1000;
		usage_ticks(1);
	}
	account_unref(a);
	usage_close();
	usage_open();
	usage_assert(usage_of(1, NOVEMBER), 9, 3);
	usage_assert(usage_of(1, DECEMBER), 9, 3);
}

static void eighty_and_a_hundred_percent_are_told_once_each(void **state)
{
	usage_terms.volume = 100000;
	struct account *a = usage_get(1);

	(void)state;
	usage_count(a, 40, 39);
	usage_ticks(3);
	assert_int_equal(n_usage_news, 0);
	usage_count(a, 1, 0);
	usage_ticks(30);
	assert_int_equal(n_usage_news, 1);
	assert_int_equal(usage_news[0].news, LEDGER_QUOTA);
	assert_int_equal(usage_news[0].percent, 80);
	assert_int_equal(usage_news[0].resets, NOVEMBER_30 / 1000 + 1);
	usage_count(a, 10, 10);
	usage_ticks(30);
	assert_int_equal(n_usage_news, 2);
	assert_int_equal(usage_news[1].percent, 100);
	usage_count(a, 10, 10);
	usage_ticks(30);
	assert_int_equal(n_usage_news, 2);
	usage_wall_ms = NOVEMBER_30 + 1000; /* and again in the next month */
	usage_ticks(1);
	usage_count(a, 100, 0);
	usage_ticks(1);
	assert_int_equal(n_usage_news, 5);
	assert_int_equal(usage_news[2].news, LEDGER_MONTH);
	assert_int_equal(usage_news[3].percent, 80);
	assert_int_equal(usage_news[4].percent, 100);
	account_unref(a);
}

static void who_comes_back_is_not_told_again(void **state)
{
	usage_terms.volume = 100000;
	struct account *a = usage_get(1);

	(void)state;
	usage_count(a, 90, 0);
	usage_ticks(1);
	assert_int_equal(n_usage_news, 1);
	account_unref(a);
	usage_ticks(30);
	assert_null(ledger_find(usage_ledger, 1));
	a = usage_get(1);
	usage_ticks(5);
	assert_int_equal(n_usage_news, 1);
	account_unref(a);
}

static void changed_terms_are_read_again(void **state)
{
	struct account *a = usage_get(1);

	(void)state;
	usage_count(a, 90, 0);
	usage_ticks(2);
	usage_terms.volume = 100000;
	assert_int_equal(ledger_changed(usage_ledger, 1), 0);
	assert_int_equal(account_percent(a), 90);
	usage_ticks(1);
	assert_int_equal(n_usage_news, 1);
	usage_terms.volume = 200000; /* 45 %, so that 80 may be crossed again */
	assert_int_equal(ledger_changed_all(usage_ledger), 0);
	usage_count(a, 80, 0);
	usage_ticks(2);
	assert_int_equal(n_usage_news, 2);
	usage_terms.suspended = true;
	assert_int_equal(ledger_changed(usage_ledger, 1), 0);
	assert_int_equal(account_check(a), CLOSE_DENIED);
	usage_terms_rc = ERR_NOT_FOUND;
	assert_int_equal(ledger_changed(usage_ledger, 1), ERR_NOT_FOUND);
	assert_int_equal(ledger_changed(usage_ledger, 3), 0); /* not live: nothing to do */
	account_unref(a);
}

static void an_account_without_terms_is_not_made(void **state)
{
	(void)state;
	usage_terms_rc = ERR_NOT_FOUND;
	assert_non_null(usage_ledger);
	assert_null(ledger_get(usage_ledger, 1, "acme"));
	assert_null(ledger_find(usage_ledger, 1));
}

static void usage_of_a_removed_account_is_left_out(void **state)
{
	struct account *a = usage_get(1), *b = usage_get(2);

	(void)state;
	usage_count(a, 1, 1);
	usage_count(b, 2, 2);
	usage_ticks(1);
	usage_sql("DELETE FROM usage WHERE account = 1; DELETE FROM account WHERE id = 1");
	usage_count(a, 1, 1);
	usage_ticks(10);
	usage_assert(usage_of(1, NOVEMBER), 0, 0);
	usage_assert(usage_of(2, NOVEMBER), 2, 2);
	account_unref(a);
	account_unref(b);
	usage_ticks(30);
	assert_null(ledger_find(usage_ledger, 1));
}

#define T(name) cmocka_unit_test_setup_teardown(name, usage_fresh, usage_done)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(what_was_counted_is_in_the_database_when_it_closes),
		T(an_account_knows_what_earlier_boots_counted),
		T(everybody_gets_the_same_account),
		T(an_account_that_went_and_came_back_goes_on_where_it_was),
		T(an_account_in_use_is_never_let_go),
		T(an_account_whose_bucket_is_not_full_is_not_let_go),
		T(folding_happens_every_ten_seconds),
		T(a_month_rolls_over_without_losing_a_byte),
		T(F30_a_clock_set_back_over_the_edge_goes_on_in_the_old_month),
		T(eighty_and_a_hundred_percent_are_told_once_each),
		T(who_comes_back_is_not_told_again),
		T(changed_terms_are_read_again),
		T(an_account_without_terms_is_not_made),
		T(usage_of_a_removed_account_is_left_out),
	};

	if (crypto_start() < 0)
		return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
