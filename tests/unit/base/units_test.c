#include "tests/unit/said.h"

#include "common/base/err.h"
#include "common/base/units.h"

typedef int reader(const char *, uint64_t *);

static void assert_reads(reader *read, const char *text, uint64_t wanted)
{
	uint64_t n = 77;

	if (read(text, &n) != 0 || n != wanted)
		fail_msg("%s gives %llu", text, (unsigned long long)n);
}

static void assert_none(reader *read, const char *text)
{
	uint64_t n = 77;

	if (read(text, &n) != ERR_INVALID)
		fail_msg("%s is taken, as %llu", text, (unsigned long long)n);
}

static void sizes_are_si_or_binary(void **state)
{
	(void)state;
	assert_reads(units_size, "0", 0);
	assert_reads(units_size, "17", 17);
	assert_reads(units_size, "17B", 17);
	assert_reads(units_size, "50GB", 50000000000);
	assert_reads(units_size, "1kB", 1000);
	assert_reads(units_size, "1KiB", 1024);
	assert_reads(units_size, "3TB", 3000000000000);
	assert_reads(units_size, "3TiB", 3ull << 40);
	assert_reads(units_size, "18446744073709551615", UINT64_MAX);
}

static void C15_sizes_that_are_none_or_overflow_are_refused(void **state)
{
	static const char *const bad[] = { "",
		                           "10XB",
		                           "-1",
		                           "+1",
		                           "1e999",
		                           "1.5GB",
		                           "1 GB",
		                           " 1",
		                           "1GB ",
		                           "GB",
		                           "1gb",
		                           "0x10",
		                           "18446744073709551616",
		                           "18446744073709551615kB",
		                           "18446744073709552kB",
		                           "99999999999999999999999999",
		                           "16777216TiB",
		                           "1Mbit" };

	(void)state;
	for (unsigned i = 0; i < sizeof bad / sizeof *bad; i++)
		assert_none(units_size, bad[i]);
	assert_reads(units_size, "16777215TiB", 16777215ull << 40);
}

static void rates_are_bits_on_the_outside_and_bytes_inside(void **state)
{
	static const char *const bad[] = { "",
		                           "1",
		                           "1bit",
		                           "1Mbit/s",
		                           "1mbit",
		                           "1MB",
		                           "147573952589676413Gbit",
		                           "18446744073709551616kbit" };

	(void)state;
	assert_reads(units_rate, "1kbit", 125);
	assert_reads(units_rate, "500Mbit", 62500000);
	assert_reads(units_rate, "10Gbit", 1250000000);
	for (unsigned i = 0; i < sizeof bad / sizeof *bad; i++)
		assert_none(units_rate, bad[i]);
}

static void C16_durations_have_a_unit(void **state)
{
	static const char *const bad[] = {
		"5", "5 s", "-1s", "s", "", "1e3s", "18446744073709551615s"
	};

	(void)state;
	assert_reads(units_duration, "10s", 10000);
	assert_reads(units_duration, "2d", 172800000);
	for (unsigned i = 0; i < sizeof bad / sizeof *bad; i++)
		assert_none(units_duration, bad[i]);
}

static void what_is_written_reads_back_the_same(void **state)
{
	static const uint64_t values[] = { 1,     17,         1000,        1024,       1500,
		                           62500, 1500000000, 50000000000, 1ull << 40, UINT64_MAX };
	char text[UNITS_LEN];

	(void)state;
	for (unsigned i = 0; i < sizeof values / sizeof *values; i++)
		assert_reads(units_size, units_size_text(values[i], text), values[i]);
	assert_string_equal(units_size_text(50000000000, text), "50GB");
	assert_string_equal(units_size_text(1 << 20, text), "1MiB");
	assert_string_equal(units_rate_text(62500000, text), "500Mbit");
	assert_string_equal(units_rate_text(1250000000, text), "10Gbit");
	assert_string_equal(units_duration_text(10000, text), "10s");
	assert_string_equal(units_duration_text(90000, text), "90s");
	assert_string_equal(units_duration_text(1500, text), "1500ms");
}

static void people_get_three_digits(void **state)
{
	char text[UNITS_LEN];

	(void)state;
	assert_string_equal(units_size_brief(0, text), "0 B");
	assert_string_equal(units_size_brief(999, text), "999 B");
	assert_string_equal(units_size_brief(1000, text), "1.00 kB");
	assert_string_equal(units_size_brief(1234567, text), "1.23 MB");
	assert_string_equal(units_size_brief(12345678, text), "12.3 MB");
	assert_string_equal(units_size_brief(123456789, text), "123 MB");
	assert_string_equal(units_size_brief(999999, text), "1.00 MB");
	assert_string_equal(units_size_brief(UINT64_MAX, text), "18.4 EB");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(sizes_are_si_or_binary),
		cmocka_unit_test(C15_sizes_that_are_none_or_overflow_are_refused),
		cmocka_unit_test(rates_are_bits_on_the_outside_and_bytes_inside),
		cmocka_unit_test(C16_durations_have_a_unit),
		cmocka_unit_test(what_is_written_reads_back_the_same),
		cmocka_unit_test(people_get_three_digits),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
