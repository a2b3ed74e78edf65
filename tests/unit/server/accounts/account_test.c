/* The live account: bucket, volume, tunnels, counting, at a made-up clock. */
#include "server/accounts/account.h"

#include <pthread.h>
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>
#include <string.h>

enum { START_MS = 1000000000, MBIT = 125000 };

static const struct account_usage none;

static struct account *of(const struct account_terms *t)
{
	struct account *a = account_new("acme", 7, 2, t, &none);

	assert_non_null(a);
	return a;
}

/* Takes all it can get until `until_ms`, asking every millisecond. */
static uint64_t drink(struct account *a, uint64_t from_ms, uint64_t until_ms, uint64_t gulp)
{
	uint64_t sum = 0;

	for (uint64_t now = from_ms; now < until_ms; now++)
		while (account_take(a, gulp, now) == 0)
			sum += gulp;
	return sum;
}

static void a_full_bucket_gives_its_burst_and_then_the_rate(void **state)
{
	struct account *a = of(&(struct account_terms){
	                .relay = true, .rate = MBIT * 8, .burst_ms = 1000 });
	uint64_t burst = MBIT * 8, sum = drink(a, START_MS, START_MS + 1, 1000);

	(void)state;
	assert_true(sum <= burst && sum + 1000 > burst);
	sum = drink(a, START_MS + 1, START_MS + 10001, 1000);
	assert_true(sum <= 10 * MBIT * 8 && sum + 2000 > 10 * MBIT * 8);
	account_unref(a);
}

static void no_span_has_more_than_burst_and_rate(void **state)
{
	struct account *a = of(&(struct account_terms){
	                .relay = true, .rate = MBIT * 8, .burst_ms = 500 });
	uint64_t given[3000] = { 0 };

	(void)state;
	for (unsigned i = 0; i < 3000; i++) /* in fits and starts */
		for (unsigned n = i % 700 < 300 ? 0 : 1 + i % 13; n > 0; n--)
			given[i] += account_take(a, 900 + 100 * n, START_MS + i) ? 0 :
			                                                           900 + 100 * n;
	for (unsigned i = 0; i < 3000; i++) {
		uint64_t sum = 0;
		for (unsigned k = i; k < 3000; k++) {
			sum += given[k];
			assert_true(sum <= MBIT * 4 + (uint64_t)MBIT * 8 * (k - i) / 1000);
		}
	}
	account_unref(a);
}

static void who_waits_as_long_as_it_was_told_gets_it(void **state)
{
	struct account *a = of(
	                &(struct account_terms){ .relay = true, .rate = MBIT, .burst_ms = 1 });
	uint64_t now = START_MS;

	(void)state;
	while (account_take(a, 65507, now) == 0)
		;
	for (unsigned i = 0; i < 20; i++) {
		now += account_take(a, 65507, now);
		assert_int_equal(account_take(a, 65507, now), 0);
		assert_true(account_take(a, 65507, now) > 0);
	}
	account_unref(a);
}

static void the_largest_datagram_passes_however_small_the_bucket(void **state)
{
	struct account *a = of(&(struct account_terms){ .relay = true, .rate = 1, .burst_ms = 0 });

	(void)state;
	assert_int_equal(account_take(a, 2 * 65507, START_MS * 1000ull), 0);
	account_unref(a);
}

static void without_a_rate_everything_passes(void **state)
{
	struct account *a = of(&(struct account_terms){ .relay = true });

	(void)state;
	for (unsigned i = 0; i < 1000; i++)
		assert_int_equal(account_take(a, UINT32_MAX, START_MS), 0);
	account_unref(a);
}

struct drinker {
	struct account *a;
	uint64_t sum;
};

static void *drink_alone(void *arg)
{
	struct drinker *d = arg;

	d->sum = drink(d->a, START_MS, START_MS + 200, 100);
	return NULL;
}

static void workers_together_get_no_more_than_one_would(void **state)
{
	struct account *a = of(
	                &(struct account_terms){ .relay = true, .rate = 1000000, .burst_ms = 300 });
	struct drinker two[2] = { { a, 0 }, { a, 0 } };
	pthread_t threads[2];

	(void)state;
	for (unsigned i = 0; i < 2; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, drink_alone, &two[i]), 0);
	for (unsigned i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
	/* 300 000 at once, 199 ms of the rate */
	assert_true(two[0].sum + two[1].sum <= 300000 + 199000);
	assert_true(two[0].sum + two[1].sum > 300000 + 198000);
	account_unref(a);
}

static void those_that_wait_share_the_rate(void **state)
{
	struct account_terms t = { .relay = true, .rate = 1000000 };
	struct account *a = of(&t);

	(void)state;
	assert_int_equal(account_share(a), 1000000);
	account_start_waiting(a);
	assert_int_equal(account_share(a), 1000000);
	account_start_waiting(a);
	assert_int_equal(account_share(a), 500000);
	account_stop_waiting(a);
	assert_int_equal(account_share(a), 1000000);
	t.rate = 0;
	account_set_terms(a, &t);
	assert_true(account_share(a) == UINT64_MAX);
	account_unref(a);
}

static void both_directions_of_all_workers_are_usage(void **state)
{
	struct account *a = of(&(struct account_terms){ .relay = true });
	struct account_usage u;

	(void)state;
	account_count_sent(a, 0, 1000);
	account_count_sent(a, 1, 10);
	account_count_received(a, 1, 0);
	account_usage(a, &u);
	assert_int_equal(u.sent, 1010);
	assert_int_equal(u.packets_sent, 2);
	assert_int_equal(u.received, 0);
	assert_int_equal(u.packets_received, 1);
	account_unref(a);
}

static void a_new_month_begins_with_nothing(void **state)
{
	struct account_terms t = { .relay = true, .volume = 1000 };
	struct account *a = account_new("acme", 7, 1, &t, &(struct account_usage){ .sent = 400 });
	struct account_usage u;

	(void)state;
	assert_non_null(a);
	account_count_received(a, 0, 600);
	assert_true(account_is_spent(a));
	assert_int_equal(account_check(a), CLOSE_QUOTA);
	account_new_month(a, &none, &u);
	assert_int_equal(u.sent, 400);
	assert_int_equal(u.received, 600);
	assert_int_equal(account_check(a), CLOSE_NONE);
	assert_int_equal(account_percent(a), 0);
	account_count_sent(a, 0, 3);
	account_usage(a, &u);
	assert_int_equal(u.sent, 3);
	assert_int_equal(u.received, 0);
	account_unref(a);
}

static void a_month_that_was_there_before_goes_on(void **state)
{
	struct account *a = of(&(struct account_terms){ .relay = true, .volume = 1000 });
	struct account_usage u;

	(void)state;
	account_count_sent(a, 0, 30);
	account_new_month(a, &(struct account_usage){ .sent = 700, .packets_sent = 5 }, &u);
	assert_int_equal(u.sent, 30);
	assert_int_equal(account_percent(a), 70);
	account_count_sent(a, 1, 299);
	assert_false(account_is_spent(a));
	account_usage(a, &u);
	assert_int_equal(u.sent, 999);
	assert_int_equal(u.packets_sent, 6);
	account_count_received(a, 1, 1);
	assert_true(account_is_spent(a));
	account_unref(a);
}

static void percent_of_the_volume_is_rounded_down(void **state)
{
	struct account *a = of(&(struct account_terms){ .relay = true, .volume = 1000000 });

	(void)state;
	account_count_sent(a, 0, 799000);
	assert_int_equal(account_percent(a), 79);
	account_count_received(a, 1, 2000);
	assert_int_equal(account_percent(a), 80);
	account_count_received(a, 1, 198999);
	assert_int_equal(account_percent(a), 99);
	assert_false(account_is_spent(a));
	account_count_received(a, 1, 1);
	assert_int_equal(account_percent(a), 100);
	assert_true(account_is_spent(a));
	account_unref(a);
}

static void a_volume_that_is_set_later_counts_what_was_used(void **state)
{
	struct account_terms t = { .relay = true };
	struct account *a = of(&t);

	(void)state;
	account_count_sent(a, 0, 500);
	t.volume = 600;
	account_set_terms(a, &t);
	assert_false(account_is_spent(a));
	account_count_sent(a, 1, 100);
	assert_true(account_is_spent(a));
	account_unref(a);
}

static void A06_as_many_tunnels_as_the_terms_say(void **state)
{
	struct account *a = of(&(struct account_terms){ .relay = true, .tunnels = 2 });

	(void)state;
	assert_int_equal(account_enter(a), CLOSE_NONE);
	assert_int_equal(account_enter(a), CLOSE_NONE);
	assert_int_equal(account_enter(a), CLOSE_TUNNELS);
	account_leave(a);
	assert_int_equal(account_enter(a), CLOSE_NONE);
	assert_int_equal(account_n_tunnels(a), 2);
	account_unref(a);
}

static void A04_A05_suspended_and_without_relay_are_denied_in_words(void **state)
{
	struct account_terms t = { .relay = false };
	struct account *a = of(&t);

	(void)state;
	assert_int_equal(account_check(a), CLOSE_DENIED);
	assert_non_null(strstr(account_why_text(a, CLOSE_DENIED), "needs Pro"));
	t.relay = t.suspended = true;
	account_set_terms(a, &t);
	assert_int_equal(account_check(a), CLOSE_DENIED);
	assert_non_null(strstr(account_why_text(a, CLOSE_DENIED), "suspended"));
	t.suspended = false;
	account_set_terms(a, &t);
	assert_int_equal(account_check(a), CLOSE_NONE);
	account_unref(a);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_full_bucket_gives_its_burst_and_then_the_rate),
		cmocka_unit_test(no_span_has_more_than_burst_and_rate),
		cmocka_unit_test(who_waits_as_long_as_it_was_told_gets_it),
		cmocka_unit_test(the_largest_datagram_passes_however_small_the_bucket),
		cmocka_unit_test(without_a_rate_everything_passes),
		cmocka_unit_test(workers_together_get_no_more_than_one_would),
		cmocka_unit_test(those_that_wait_share_the_rate),
		cmocka_unit_test(both_directions_of_all_workers_are_usage),
		cmocka_unit_test(a_new_month_begins_with_nothing),
		cmocka_unit_test(a_month_that_was_there_before_goes_on),
		cmocka_unit_test(percent_of_the_volume_is_rounded_down),
		cmocka_unit_test(a_volume_that_is_set_later_counts_what_was_used),
		cmocka_unit_test(A06_as_many_tunnels_as_the_terms_say),
		cmocka_unit_test(A04_A05_suspended_and_without_relay_are_denied_in_words),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
