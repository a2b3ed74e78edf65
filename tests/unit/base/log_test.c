#include "tests/unit/said.h"

#include <errno.h>

#include "common/base/err.h"
#include "common/base/log.h"
#include "common/base/metric.h"
#include "common/base/token.h"

static void a_line_has_time_level_and_message(void **state)
{
	(void)state;
	said_begin();
	log_info("end joined id=%s peers=%d", "a", 3);
	said_end();
	assert_memory_equal(said, "ts=20", 5);
	assert_said("Z level=info msg=\"end joined id=a peers=3\"\n");
}

static void only_the_level_asked_for_and_above_is_written(void **state)
{
	(void)state;
	said_begin();
	log_set_level(LOG_WARN);
	log_error("one");
	log_warn("two");
	log_info("three");
	log_debug("four");
	log_set_level(LOG_INFO);
	said_end();
	assert_said("level=error msg=\"one\"");
	assert_said("level=warn msg=\"two\"");
	assert_not_said("three");
	assert_not_said("four");
}

/* T24: a name from outside cannot make a second line or move the cursor. */
static void T24_control_characters_and_quotes_are_escaped(void **state)
{
	(void)state;
	said_begin();
	log_info("%s", "a\nb\x1b[2J\"c\\d\x7f");
	said_end();
	assert_said("msg=\"a\\x0ab\\x1b[2J\\\"c\\\\d\\x7f\"\n");
	assert_ptr_equal(strchr(said, '\n'), said + strlen(said) - 1);
}

/* An 8-bit CSI, and what turns the direction of reading. */
static void T24_what_is_not_ascii_is_escaped(void **state)
{
	(void)state;
	said_begin();
	log_info("%s", "a\x9b\x32J\xc2\x9b\xe2\x80\xae");
	said_end();
	assert_said("msg=\"a\\x9b2J\\xc2\\x9b\\xe2\\x80\\xae\"\n");
}

static void T16_what_looks_like_a_token_is_redacted(void **state)
{
	char token[TOKEN_LEN + 1];

	(void)state;
	token_new(token);
	said_begin();
	log_info("the other side says %s, and /x?t=%.40s", token, token);
	said_end();
	assert_said("the other side says tunn_");
	for (const char *p = token + 14; p + 4 < token + TOKEN_LEN; p++)
		assert_null(memmem(said, strlen(said), p, 5));
}

static void a_long_message_is_cut_and_stays_one_line(void **state)
{
	char text[5000];

	(void)state;
	memset(text, '\n', sizeof text - 1);
	text[sizeof text - 1] = 0;
	said_begin();
	log_info("%s", text);
	said_end();
	assert_ptr_equal(strchr(said, '\n'), said + strlen(said) - 1);
	assert_int_equal(said[strlen(said) - 2], '"');
}

static void logging_keeps_errno(void **state)
{
	(void)state;
	said_begin();
	errno = EBADF;
	log_info("x");
	said_end();
	assert_int_equal(errno, EBADF);
}

static void levels_are_found_by_name(void **state)
{
	enum log_level level = LOG_DEBUG;

	(void)state;
	assert_int_equal(log_level_of("warn", &level), 0);
	assert_int_equal(level, LOG_WARN);
	assert_int_equal(log_level_of("WARN", &level), ERR_INVALID);
	assert_int_equal(log_level_of("", &level), ERR_INVALID);
	assert_int_equal(level, LOG_WARN);
}

static void a_limit_lets_a_burst_through_and_counts_the_rest(void **state)
{
	struct log_limit l = { 0 };
	unsigned suppressed, passed = 0;

	(void)state;
	for (unsigned i = 0; i < 10; i++)
		passed += log_limit_pass(&l, 100000 + i, 3, 1000, &suppressed);
	assert_int_equal(passed, 3);
	assert_true(log_limit_pass(&l, 101000, 3, 1000, &suppressed));
	assert_int_equal(suppressed, 7);
	assert_true(log_limit_pass(&l, 101001, 3, 1000, &suppressed));
	assert_int_equal(suppressed, 0);
}

/* A pipe that nobody reads is full after some 30 of these. */
static void who_does_not_read_the_log_holds_nobody_up(void **state)
{
	uint64_t lost = metric_sum(METRIC_LOG_LINES_LOST);
	char text[1000];
	int fds[2], real = dup(STDERR_FILENO);

	(void)state;
	memset(text, 'x', sizeof text - 1);
	text[sizeof text - 1] = 0;
	assert_int_equal(pipe(fds), 0);
	dup2(fds[1], STDERR_FILENO);
	alarm(20);
	for (unsigned i = 0; i < 200; i++)
		log_info("%s", text);
	alarm(0);
	dup2(real, STDERR_FILENO);
	assert_true(metric_sum(METRIC_LOG_LINES_LOST) - lost > 100);
	close(real);
	close(fds[0]);
	close(fds[1]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_line_has_time_level_and_message),
		cmocka_unit_test(only_the_level_asked_for_and_above_is_written),
		cmocka_unit_test(T24_control_characters_and_quotes_are_escaped),
		cmocka_unit_test(T24_what_is_not_ascii_is_escaped),
		cmocka_unit_test(T16_what_looks_like_a_token_is_redacted),
		cmocka_unit_test(a_long_message_is_cut_and_stays_one_line),
		cmocka_unit_test(logging_keeps_errno),
		cmocka_unit_test(levels_are_found_by_name),
		cmocka_unit_test(who_does_not_read_the_log_holds_nobody_up),
		cmocka_unit_test(a_limit_lets_a_burst_through_and_counts_the_rest),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
