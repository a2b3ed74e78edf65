#include "tests/unit/said.h"

#include "common/base/words.h"

static void nothing_is_said_at_first(void **state)
{
	struct words w = { 0 };

	(void)state;
	assert_false(words_said(&w));
	assert_string_equal(words_text(&w), "");
	words_done(&w);
}

static void the_last_words_count_and_may_quote_those_before(void **state)
{
	struct words w = { 0 };

	(void)state;
	words_say(&w, "%s %d", "HTTP", 502);
	assert_true(words_said(&w));
	assert_string_equal(words_text(&w), "HTTP 502");
	words_say(&w, "no answer: %s", words_text(&w));
	assert_string_equal(words_text(&w), "no answer: HTTP 502");
	words_done(&w);
	assert_false(words_said(&w));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(nothing_is_said_at_first),
		cmocka_unit_test(the_last_words_count_and_may_quote_those_before),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
