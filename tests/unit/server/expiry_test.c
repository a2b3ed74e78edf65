#include "tests/unit/said.h"

#include "common/base/metric.h"
#include "server/expiry.h"

enum { DAY = 86400, END = 100 * DAY };

static struct expiry e;

static int set_up(void **state)
{
	(void)state;
	e = (struct expiry){ .not_after_unix_s = END };
	return 0;
}

static void look(int64_t now)
{
	said_begin();
	expiry_look(&e, now);
	said_end();
}

static void F21_each_warning_comes_once(void **state)
{
	(void)state;
	look(END - 15 * DAY);
	assert_string_equal(said, "");
	look(END - 14 * DAY + 1);
	assert_said("level=warn");
	assert_said("expires in 13 days");
	look(END - 10 * DAY);
	assert_string_equal(said, "");
	look(END - 7 * DAY + 1);
	assert_said("expires in 6 days");
	look(END - DAY + 1);
	assert_said("expires in 0 days");
	look(END - 10);
	assert_string_equal(said, "");
	look(END + 1);
	assert_said("level=error");
	assert_said("has expired: new connections fail; renew it and send SIGHUP");
	look(END + DAY);
	assert_string_equal(said, "");
}

static void F21_a_clock_set_back_warns_again(void **state)
{
	(void)state;
	look(END + 1);
	look(END - 20 * DAY);
	look(END - 2 * DAY + 1);
	assert_said("expires in 1 day:");
}

static void F21_the_days_left_are_counted(void **state)
{
	(void)state;
	look(END - 20 * DAY);
	uint64_t before = metric_sum(METRIC_CERT_DAYS_LEFT);
	look(END - 5 * DAY);
	assert_int_equal(metric_sum(METRIC_CERT_DAYS_LEFT), before - 15);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(F21_each_warning_comes_once, set_up),
		cmocka_unit_test_setup(F21_a_clock_set_back_warns_again, set_up),
		cmocka_unit_test_setup(F21_the_days_left_are_counted, set_up),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
