/* The levels of limits.memory. */
#include "tests/unit/said.h"

#include "server/relay/watermark.h"

static void levels_begin_and_end_apart(void **state)
{
	static const struct {
		unsigned percent;
		enum watermark_level level;
	} steps[] = {
		{ 0, WATERMARK_LOW },        { 89, WATERMARK_LOW },
		{ 90, WATERMARK_NEWCOMERS }, { 86, WATERMARK_NEWCOMERS },
		{ 85, WATERMARK_NEWCOMERS }, { 84, WATERMARK_LOW },
		{ 89, WATERMARK_LOW },       { 96, WATERMARK_NEWCOMERS },
		{ 97, WATERMARK_ENDS },      { 94, WATERMARK_ENDS },
		{ 93, WATERMARK_NEWCOMERS }, { 96, WATERMARK_NEWCOMERS },
		{ 200, WATERMARK_ENDS },     { 10, WATERMARK_LOW },
		{ 100, WATERMARK_ENDS },     { 85, WATERMARK_NEWCOMERS },
	};
	static const uint64_t sizes[] = { 100, 1000000, UINT64_MAX / 200 };

	(void)state;
	for (unsigned k = 0; k < sizeof sizes / sizeof *sizes; k++) {
		struct watermark w = { .most = sizes[k] };
		for (unsigned i = 0; i < sizeof steps / sizeof *steps; i++)
			assert_int_equal(
			                watermark_step(&w,
			                               sizes[k] / 100 * steps[i].percent +
			                                               sizes[k] % 100 *
			                                                               steps[i].percent /
			                                                               100),
			                steps[i].level);
	}
}

static void unlimited_is_never_short_and_ends_what_was(void **state)
{
	struct watermark w = { .most = 100 };

	(void)state;
	assert_int_equal(watermark_step(&w, 99), WATERMARK_ENDS);
	w.most = 0;
	assert_int_equal(watermark_step(&w, UINT64_MAX), WATERMARK_LOW);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(levels_begin_and_end_apart),
		cmocka_unit_test(unlimited_is_never_short_and_ends_what_was),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
