#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "client/retry.h"

static struct retry_next after(struct retry_end end)
{
	struct backoff b = { 0 };

	return retry_after(&end, &b, 0);
}

static void a_final_refusal_ends_with_3(void **state)
{
	static const enum close_why whys[] = { CLOSE_UNAUTHENTICATED, CLOSE_DENIED, CLOSE_INVALID,
		                               CLOSE_SUPERSEDED, CLOSE_PROXY_DENIED };

	(void)state;
	for (unsigned i = 0; i < sizeof whys / sizeof *whys; i++) {
		struct retry_next n = after((struct retry_end){ .why = whys[i], .once = true });
		assert_true(n.ends);
		assert_int_equal(n.exit_code, EXIT_REFUSED);
	}
}

static void every_other_reason_is_tried_again(void **state)
{
	(void)state;
	for (unsigned why = 0; why < CLOSE_N; why++) {
		struct retry_end end = { .why = (enum close_why)why };
		if (close_verdict(end.why) != VERDICT_FINAL)
			assert_false(after(end).ends);
	}
}

static void once_ends_with_4_only_before_the_first_connection(void **state)
{
	(void)state;
	struct retry_next n = after((struct retry_end){ .why = CLOSE_NETWORK, .once = true });
	assert_true(n.ends);
	assert_int_equal(n.exit_code, EXIT_UNREACHABLE);
	n = after((struct retry_end){ .why = CLOSE_NETWORK, .once = true, .was_ever_ready = true });
	assert_false(n.ends);
}

static void a_needed_id_is_given_at_once(void **state)
{
	struct retry_end end = { .why = CLOSE_INVALID, .may_name_host = true, .once = true };

	(void)state;
	assert_false(after(end).ends);
	assert_int_equal(after(end).delay_ms, 0);
}

static void a_drained_connection_returns_within_its_spread(void **state)
{
	struct retry_end end = { .why = CLOSE_DRAINING,
		                 .was_steady = true,
		                 .was_ever_ready = true };
	struct backoff b = { 0 };

	(void)state;
	assert_int_equal(retry_after(&end, &b, 0).delay_ms, 0);
	assert_int_equal(retry_after(&end, &b, UINT32_MAX).delay_ms, RETRY_NOW_SPREAD_MS);
	assert_int_equal(b.step_ms, 0);
}

static void draining_too_soon_backs_off(void **state)
{
	struct retry_end end = { .why = CLOSE_DRAINING };
	struct backoff b = { 0 };
	uint32_t first = retry_after(&end, &b, 0).delay_ms;

	(void)state;
	assert_int_equal(first, 160);
	assert_true(retry_after(&end, &b, 0).delay_ms > first);
}

static void quota_waits_for_its_reset(void **state)
{
	struct retry_end end = { .why = CLOSE_QUOTA, .reset_in_ms = 90000 };

	(void)state;
	assert_int_equal(after(end).delay_ms, 90000);
	end.reset_in_ms = 0;
	assert_int_equal(after(end).delay_ms, RETRY_QUOTA_UNKNOWN_MS);
	end.reset_in_ms = 1;
	assert_int_equal(after(end).delay_ms, RETRY_QUOTA_MIN_MS);
	end.reset_in_ms = 20ll * 24 * 3600 * 1000;
	assert_int_equal(after(end).delay_ms, RETRY_QUOTA_MAX_MS);
}

static void fighting_instances_stay_away_for_10_s(void **state)
{
	(void)state;
	assert_true(after((struct retry_end){ .why = CLOSE_FIGHT }).delay_ms >= RETRY_FIGHT_MS);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_final_refusal_ends_with_3),
		cmocka_unit_test(every_other_reason_is_tried_again),
		cmocka_unit_test(once_ends_with_4_only_before_the_first_connection),
		cmocka_unit_test(a_needed_id_is_given_at_once),
		cmocka_unit_test(a_drained_connection_returns_within_its_spread),
		cmocka_unit_test(draining_too_soon_backs_off),
		cmocka_unit_test(quota_waits_for_its_reset),
		cmocka_unit_test(fighting_instances_stay_away_for_10_s),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
