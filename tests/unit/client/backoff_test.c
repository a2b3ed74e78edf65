#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "client/backoff.h"

enum { MIDDLE = 0x80000000u };

static void grows_by_1_6_up_to_the_cap(void **state)
{
	static const uint32_t steps[] = { 200,  320,  512,  819,   1310,  2096,
		                          3353, 5364, 8582, 10000, 10000, 10000 };
	struct backoff b = { 0 };

	(void)state;
	for (unsigned i = 0; i < sizeof steps / sizeof *steps; i++) {
		uint32_t ms = backoff_next(&b, MIDDLE);
		assert_in_range(ms, steps[i] - 1, steps[i] + 1);
	}
}

static void jitter_spans_a_fifth_either_way(void **state)
{
	struct backoff low = { 0 }, high = { 0 };

	(void)state;
	assert_int_equal(backoff_next(&low, 0), 160);
	assert_int_equal(backoff_next(&high, UINT32_MAX), 240);
	for (int i = 0; i < 50; i++) {
		assert_in_range(backoff_next(&low, 0), 160, 8000);
		assert_in_range(backoff_next(&high, UINT32_MAX), 240, 12000);
	}
	assert_int_equal(backoff_next(&low, 0), 8000);
	assert_int_equal(backoff_next(&high, UINT32_MAX), 12000);
}

static void reset_begins_anew(void **state)
{
	struct backoff b = { 0 };

	(void)state;
	for (int i = 0; i < 5; i++)
		backoff_next(&b, MIDDLE);
	backoff_reset(&b);
	assert_int_equal(backoff_next(&b, 0), 160);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(grows_by_1_6_up_to_the_cap),
		cmocka_unit_test(jitter_spans_a_fifth_either_way),
		cmocka_unit_test(reset_begins_anew),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
