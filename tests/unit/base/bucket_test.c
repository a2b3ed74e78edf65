#include "tests/unit/said.h"

#include "common/base/bucket.h"

static void the_burst_is_there_at_once_and_no_more(void **state)
{
	struct bucket b;

	(void)state;
	bucket_init(&b, 3, 1, 1000);
	for (unsigned i = 0; i < 3; i++)
		assert_true(bucket_take(&b, 1, 1000));
	assert_false(bucket_take(&b, 1, 1000));
}

static void it_refills_by_the_millisecond(void **state)
{
	struct bucket b;

	(void)state;
	bucket_init(&b, 1, 10, 0); /* one each 100 ms */
	assert_true(bucket_take(&b, 1, 0));
	assert_false(bucket_take(&b, 1, 99));
	assert_true(bucket_take(&b, 1, 100));
	assert_false(bucket_take(&b, 1, 150));
	assert_true(bucket_take(&b, 1, 200));
}

static void what_is_refused_takes_nothing(void **state)
{
	struct bucket b;

	(void)state;
	bucket_init(&b, 5, 1, 0);
	assert_false(bucket_take(&b, 6, 0));
	assert_true(bucket_take(&b, 5, 0));
}

static void a_long_pause_fills_no_more_than_the_burst(void **state)
{
	struct bucket b;

	(void)state;
	bucket_init(&b, 5, UINT32_MAX, 0);
	assert_true(bucket_take(&b, 5, 0));
	assert_true(bucket_take(&b, 5, UINT64_MAX));
	assert_false(bucket_take(&b, 1, UINT64_MAX));
}

static void a_clock_that_steps_back_gives_nothing(void **state)
{
	struct bucket b;

	(void)state;
	bucket_init(&b, 1, 1, 10000);
	assert_true(bucket_take(&b, 1, 10000));
	assert_false(bucket_take(&b, 1, 5000));
}

static void without_a_rate_it_never_refills(void **state)
{
	struct bucket b;

	(void)state;
	bucket_init(&b, 1, 0, 0);
	assert_true(bucket_take(&b, 1, 0));
	assert_false(bucket_take(&b, 1, UINT64_MAX));
}

static void over_any_time_burst_plus_rate_is_never_exceeded(void **state)
{
	struct bucket b;
	unsigned seed = 1;
	uint64_t now_ms = 0, taken = 0;

	(void)state;
	bucket_init(&b, 100, 250, 0);
	for (unsigned i = 0; i < 100000; i++) {
		uint32_t n = (uint32_t)rand_r(&seed) % 20;
		now_ms += (uint64_t)rand_r(&seed) % 7;
		if (bucket_take(&b, n, now_ms))
			taken += n;
		assert_true(taken <= 100 + now_ms * 250 / 1000);
	}
	assert_true(taken + 100 >= now_ms * 250 / 1000); /* and it is not stingy */
}

static void a_budget_slows_down_before_it_ends(void **state)
{
	struct budget b;
	bool rest = false;

	(void)state;
	budget_init(&b, 2, 1, 0);
	for (unsigned i = 0; i < 2; i++)
		assert_true(budget_spend(&b, 0, &rest));
	assert_false(rest);
	for (unsigned i = 0; i < 2; i++)
		assert_true(budget_spend(&b, 0, &rest));
	assert_true(rest);
	assert_false(budget_spend(&b, 0, &rest));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_burst_is_there_at_once_and_no_more),
		cmocka_unit_test(it_refills_by_the_millisecond),
		cmocka_unit_test(what_is_refused_takes_nothing),
		cmocka_unit_test(a_long_pause_fills_no_more_than_the_burst),
		cmocka_unit_test(a_clock_that_steps_back_gives_nothing),
		cmocka_unit_test(without_a_rate_it_never_refills),
		cmocka_unit_test(a_budget_slows_down_before_it_ends),
		cmocka_unit_test(over_any_time_burst_plus_rate_is_never_exceeded),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
