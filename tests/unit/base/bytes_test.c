#include "tests/unit/said.h"

#include "common/base/bytes.h"
#include "common/base/err.h"

static void cursor_reads_in_order_and_never_past_the_end(void **state)
{
	static const uint8_t data[] = { 1, 0x01, 0x02, 0x03, 0x04, 0x85, 0x06, 'a', 'b' };

	(void)state;
	for (size_t len = 0; len <= sizeof data; len++) {
		struct cursor c = cursor_of(data, len);
		uint8_t first = cursor_u8(&c);
		uint32_t number = cursor_u32be(&c);
		uint16_t half = cursor_u16be(&c);
		const uint8_t *rest = cursor_take(&c, 2);
		assert_int_equal(first, len >= 1 ? 1 : 0);
		assert_int_equal(number, len >= 5 ? 0x01020304 : 0);
		assert_int_equal(half, len >= 7 ? 0x8506 : 0);
		assert_ptr_equal(rest, len == sizeof data ? data + 7 : NULL);
		assert_int_equal(cursor_ok(&c), len == sizeof data);
		assert_int_equal(cursor_left(&c), 0);
	}
}

static void cursor_remembers_its_first_error(void **state)
{
	static const uint8_t data[] = { 1, 2, 3 };
	struct cursor c = cursor_of(data, sizeof data);

	(void)state;
	assert_null(cursor_take(&c, 4));
	assert_int_equal(cursor_u8(&c), 0); /* a byte is there, but the cursor is bad */
	assert_false(cursor_ok(&c));
}

static void cursor_over_nothing_is_fine_until_read(void **state)
{
	struct cursor c = cursor_of(NULL, 0);

	(void)state;
	assert_true(cursor_ok(&c));
	assert_int_equal(cursor_left(&c), 0);
	cursor_take(&c, 0);
	assert_true(cursor_ok(&c));
	cursor_u8(&c);
	assert_false(cursor_ok(&c));
}

static uint64_t varint(const char *bytes, size_t len, bool *ok_out)
{
	struct cursor c = cursor_of(bytes, len);
	uint64_t v = cursor_varint(&c);

	*ok_out = cursor_ok(&c) && cursor_left(&c) == 0;
	return v;
}

static void varints_are_read_up_to_64_bits(void **state)
{
	bool ok;

	(void)state;
	assert_int_equal(varint("\x00", 1, &ok), 0);
	assert_true(ok);
	assert_int_equal(varint("\x7f", 1, &ok), 127);
	assert_true(ok);
	assert_int_equal(varint("\xac\x02", 2, &ok), 300);
	assert_true(ok);
	assert_int_equal(varint("\x80\x80\x00", 3, &ok), 0); /* overlong is legal protobuf */
	assert_true(ok);
	assert_true(varint("\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 10, &ok) == UINT64_MAX);
	assert_true(ok);
}

static void varints_cut_short_or_too_long_are_refused(void **state)
{
	static const char max[] = "\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01";
	bool ok;

	(void)state;
	for (size_t len = 0; len < 10; len++) {
		assert_int_equal(varint(max, len, &ok), 0);
		assert_false(ok);
	}
	varint("\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02", 10, &ok); /* 65 bits */
	assert_false(ok);
	varint("\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01", 11, &ok);
	assert_false(ok);
}

static bool utf8(const char *s) { return utf8_is_valid(s, strlen(s)); }

static void utf8_follows_rfc_3629(void **state)
{
	static const char *const bad[] = {
		"\x80",
		"\xbf",
		"\xc0\x80",
		"\xc1\xbf",
		"\xc3",
		"\xe2\x82",
		"\xe0\x9f\xbf",
		"\xed\xa0\x80",
		"\xed\xbf\xbf",
		"\xf0\x9f\x98",
		"\xf0\x8f\xbf\xbf",
		"\xf4\x90\x80\x80",
		"\xf5\x80\x80\x80",
		"\xff",
		"a\xc3(",
		"\xe2\x28\xa1",
	};

	(void)state;
	assert_true(utf8(""));
	assert_true(utf8("plain"));
	assert_true(utf8("\xc3\xa4 \xe2\x82\xac \xf0\x9f\x98\x80"));
	assert_true(utf8("\xf4\x8f\xbf\xbf")); /* U+10FFFF */
	assert_true(utf8("\xed\x9f\xbf"));     /* just below the surrogates */
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
		assert_false(utf8(bad[i]));
	assert_false(utf8_is_valid("a\0b", 3));
}

static void hex_goes_both_ways(void **state)
{
	static const uint8_t bytes[] = { 0x00, 0x0f, 0xa5, 0xff };
	char text[9];
	uint8_t back[4];

	(void)state;
	hex_encode(bytes, sizeof bytes, text);
	assert_string_equal(text, "000fa5ff");
	assert_int_equal(hex_decode(str_of(text), back, sizeof back), 0);
	assert_memory_equal(back, bytes, sizeof bytes);
}

static void other_than_exact_lower_case_hex_changes_nothing(void **state)
{
	static const char *const bad[] = { "",         "000fa5f",  "000fa5ff0",
		                           "000FA5FF", "000fa5fg", "0x0fa5ff" };
	uint8_t out[4] = { 9, 9, 9, 9 };

	(void)state;
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		assert_int_equal(hex_decode(str_of(bad[i]), out, sizeof out), ERR_INVALID);
		assert_memory_equal(out, "\x09\x09\x09\x09", 4);
	}
}

static void runs_of_bytes_compare_by_content(void **state)
{
	(void)state;
	assert_true(str_eq(STR("a\0b"), (struct str){ "a\0b", 3 }));
	assert_false(str_eq(STR("a\0b"), STR("a\0c")));
	assert_false(str_eq(STR("a"), STR("ab")));
	assert_true(str_eq(str_of(NULL), STR("")));
}

static void what_a_terminal_would_obey_is_made_printable(void **state)
{
	static const struct {
		const char *text, *shown;
	} rows[] = {
		{ "home-wg 1.2.3.4~", "home-wg 1.2.3.4~" },
		{ "\x1b[2Jx\r\n\t\x7f", "?[2Jx????" },
		{ "caf\xc3\xa9 \xc2\xa0", "caf\xc3\xa9 \xc2\xa0" },
		{ "\xc2\x9b"
		  "31m\xc2\x80\xc2\x9f",
		  "??31m????" },
		{ "caf\xe9 \x9b"
		  "31m",
		  "caf? ?31m" },
		{ "", "" },
	};
	char text[32];

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		snprintf(text, sizeof text, "%s", rows[i].text);
		make_printable(text, strlen(text));
		assert_string_equal(text, rows[i].shown);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(cursor_reads_in_order_and_never_past_the_end),
		cmocka_unit_test(cursor_remembers_its_first_error),
		cmocka_unit_test(cursor_over_nothing_is_fine_until_read),
		cmocka_unit_test(varints_are_read_up_to_64_bits),
		cmocka_unit_test(varints_cut_short_or_too_long_are_refused),
		cmocka_unit_test(utf8_follows_rfc_3629),
		cmocka_unit_test(what_a_terminal_would_obey_is_made_printable),
		cmocka_unit_test(hex_goes_both_ways),
		cmocka_unit_test(other_than_exact_lower_case_hex_changes_nothing),
		cmocka_unit_test(runs_of_bytes_compare_by_content),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
