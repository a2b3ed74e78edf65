#include "tests/unit/said.h"

#include <pthread.h>

#include "common/base/metric.h"

enum { THREADS = 8, ROUNDS = 10000 };

static void every_metric_has_a_name_and_help(void **state)
{
	(void)state;
	for (unsigned i = 0; i < METRIC_N; i++) {
		const char *name = metric_name((enum metric)i);
		assert_true(*name &&
		            name[strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789_")] == 0);
		assert_true(strlen(metric_help((enum metric)i)) > 3);
		for (unsigned k = 0; k < i; k++)
			assert_string_not_equal(name, metric_name((enum metric)k));
	}
}

static void *count(void *arg)
{
	(void)arg;
	for (unsigned i = 0; i < ROUNDS; i++) {
		metric_add(METRIC_PKTS_IN, 1);
		metric_drop(DROP_STALE);
		metric_close(CLOSE_EOF);
	}
	return NULL;
}

static void sums_are_over_all_threads_also_ended_ones(void **state)
{
	pthread_t threads[THREADS];
	uint64_t in = metric_sum(METRIC_PKTS_IN), stale = metric_drop_sum(DROP_STALE);

	(void)state;
	for (unsigned i = 0; i < THREADS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, count, NULL), 0);
	for (unsigned i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	assert_int_equal(metric_sum(METRIC_PKTS_IN), in + THREADS * ROUNDS);
	assert_int_equal(metric_drop_sum(DROP_STALE), stale + THREADS * ROUNDS);
	assert_int_equal(metric_close_sum(CLOSE_EOF), THREADS * ROUNDS);
}

static void a_gauge_goes_up_and_down(void **state)
{
	(void)state;
	metric_add(METRIC_CONNS_OPEN, 3);
	metric_add(METRIC_CONNS_OPEN, -2);
	assert_int_equal(metric_sum(METRIC_CONNS_OPEN), 1);
}

static void text_is_cut_to_what_fits(void **state)
{
	char text[64];

	(void)state;
	metric_add(METRIC_PKTS_IN, 1);
	metric_drop(DROP_NO_ROUTE);
	for (size_t cap = 0; cap < sizeof text; cap++) {
		memset(text, '#', sizeof text);
		size_t n = metric_text(text, cap);
		assert_true(cap == 0 ? n == 0 : n < cap && strlen(text) == n);
		assert_int_equal(text[cap], '#');
	}
}

static void the_line_for_people_holds_names_and_values(void **state)
{
	(void)state;
	metric_drop(DROP_NO_ROUTE);
	said_begin();
	metric_print(STDERR_FILENO);
	said_end();
	assert_said("tunn: counters ");
	assert_said("drop_no_route=");
	assert_int_equal(said[strlen(said) - 1], '\n');
}

static void values_are_counted_by_their_bounds(void **state)
{
	struct distribution_sums before, after;

	(void)state;
	metric_distribution(DISTRIBUTION_RTT, &before);
	for (unsigned i = 0; i < DISTRIBUTION_BOUNDS; i++) /* a bound belongs below itself */
		metric_observe(DISTRIBUTION_RTT, distribution_bounds_ms[i], 1);
	metric_observe(DISTRIBUTION_RTT, 0, 1);
	metric_observe(DISTRIBUTION_RTT, UINT32_MAX, 1);
	metric_distribution(DISTRIBUTION_RTT, &after);
	for (unsigned i = 0; i <= DISTRIBUTION_BOUNDS; i++)
		assert_int_equal(after.n[i] - before.n[i], i == 0 ? 2 : 1);
	assert_int_equal(after.ms - before.ms, 1 + 2 + 5 + 10 + 20 + 50 + 100 + 200 + 500 + 1000 +
	                                                       2000 + 5000 + (uint64_t)UINT32_MAX);
}

static void percentiles_lie_between_the_bounds(void **state)
{
	struct distribution_sums s = { .n = { 0 } };

	(void)state;
	assert_int_equal(distribution_percentile_us(&s, 50), -1);
	s.n[4] = 100; /* 10 to 20 ms */
	assert_int_equal(distribution_percentile_us(&s, 50), 15000);
	assert_int_equal(distribution_percentile_us(&s, 100), 20000);
	s.n[0] = 100;
	assert_int_equal(distribution_percentile_us(&s, 50), 1000);
	assert_int_equal(distribution_percentile_us(&s, 75), 15000);
	s.n[DISTRIBUTION_BOUNDS] = 1000;
	assert_int_equal(distribution_percentile_us(&s, 99), 5000000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_metric_has_a_name_and_help),
		cmocka_unit_test(sums_are_over_all_threads_also_ended_ones),
		cmocka_unit_test(a_gauge_goes_up_and_down),
		cmocka_unit_test(values_are_counted_by_their_bounds),
		cmocka_unit_test(percentiles_lie_between_the_bounds),
		cmocka_unit_test(text_is_cut_to_what_fits),
		cmocka_unit_test(the_line_for_people_holds_names_and_values),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
