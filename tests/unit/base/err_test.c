#include "tests/unit/said.h"

#include <errno.h>

#include "common/base/err.h"

static bool is_label(const char *s)
{
	return s && *s && s[strspn(s, "abcdefghijklmnopqrstuvwxyz0123456789_")] == 0;
}

static void every_close_has_text_label_status_and_verdict(void **state)
{
	(void)state;
	for (unsigned i = CLOSE_DONE; i < CLOSE_N; i++) {
		enum close_why why = (enum close_why)i;
		assert_true(is_label(close_label(why)));
		assert_true(strlen(close_text(why)) > 3);
		assert_in_range(close_grpc_status(why), 0, 16);
		assert_in_range(close_verdict(why), VERDICT_RETRY, VERDICT_NOW);
		for (unsigned k = CLOSE_DONE; k < i; k++)
			assert_string_not_equal(close_label(why), close_label((enum close_why)k));
	}
}

static void every_drop_has_text_and_label(void **state)
{
	(void)state;
	for (unsigned i = 0; i < DROP_N; i++) {
		assert_true(is_label(drop_label((enum drop_why)i)));
		assert_true(strlen(drop_text((enum drop_why)i)) > 3);
		for (unsigned k = 0; k < i; k++)
			assert_string_not_equal(drop_label((enum drop_why)i),
			                        drop_label((enum drop_why)k));
	}
}

static void every_code_has_words(void **state)
{
	(void)state;
	for (int err = ERR_CONFIG; err <= ERR_PROTOCOL; err++)
		assert_true(strlen(err_text(err)) > 3);
	assert_string_equal(err_text(-ENOENT), strerror(ENOENT));
	assert_non_null(err_text(-1234567));
}

static void codes_of_lower_layers_become_reasons(void **state)
{
	(void)state;
	assert_int_equal(close_of_err(ERR_PROTOCOL), CLOSE_PROTOCOL);
	assert_int_equal(close_of_err(ERR_FLOOD), CLOSE_FLOOD);
	assert_int_equal(close_of_err(ERR_TOO_BIG), CLOSE_TOO_BIG);
	assert_int_equal(close_of_err(-ENOMEM), CLOSE_NOMEM);
	assert_int_equal(close_of_err(-ECONNRESET), CLOSE_RESET);
	assert_int_equal(close_of_err(-ETIMEDOUT), CLOSE_TIMEOUT);
	assert_int_equal(close_of_err(-EHOSTUNREACH), CLOSE_NETWORK);
}

/* product.md section 3: what an end does with the relay's answer. */
static void refusals_for_good_end_an_end_and_others_do_not(void **state)
{
	static const enum close_why final[] = { CLOSE_UNAUTHENTICATED, CLOSE_DENIED, CLOSE_INVALID,
		                                CLOSE_SUPERSEDED, CLOSE_PROXY_DENIED };
	static const enum close_why retry[] = { CLOSE_UNAVAILABLE, CLOSE_TUNNELS, CLOSE_RESET,
		                                CLOSE_EOF,         CLOSE_TIMEOUT, CLOSE_PROXY,
		                                CLOSE_INTERNAL };

	(void)state;
	for (size_t i = 0; i < sizeof final / sizeof *final; i++)
		assert_int_equal(close_verdict(final[i]), VERDICT_FINAL);
	for (size_t i = 0; i < sizeof retry / sizeof *retry; i++)
		assert_int_not_equal(close_verdict(retry[i]), VERDICT_FINAL);
	assert_int_equal(close_verdict(CLOSE_QUOTA), VERDICT_WAIT);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_close_has_text_label_status_and_verdict),
		cmocka_unit_test(every_drop_has_text_and_label),
		cmocka_unit_test(every_code_has_words),
		cmocka_unit_test(codes_of_lower_layers_become_reasons),
		cmocka_unit_test(refusals_for_good_end_an_end_and_others_do_not),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
