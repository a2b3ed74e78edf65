#include "tests/unit/said.h"

#include "common/wire/grpc.h"

/* ---- messages ---- */

static void append_message(struct buf *b, const char *text, size_t len)
{
	uint8_t prefix[GRPC_PREFIX_LEN];

	grpc_put_prefix(prefix, (uint32_t)len);
	assert_int_equal(buf_add(b, prefix, sizeof prefix), 0);
	assert_int_equal(buf_add(b, text, len), 0);
}

/* Feeds bytes in pieces of `chunk`; the messages come out joined by '|'. */
static int joined(const uint8_t *data, size_t len, size_t chunk, char *out)
{
	struct deframer d = deframer_of(0);
	int rc = ERR_AGAIN;

	*out = 0;
	for (size_t at = 0; at < len && rc == ERR_AGAIN; at += chunk) {
		struct cursor in = cursor_of(data + at, len - at < chunk ? len - at : chunk);
		const uint8_t *msg;
		size_t n;
		while ((rc = deframe_next(&d, &in, &msg, &n)) == 0)
			sprintf(out + strlen(out), "%.*s|", (int)n, (const char *)msg);
		if (rc == ERR_AGAIN)
			assert_int_equal(cursor_left(&in), 0);
	}
	deframer_done(&d);
	return rc;
}

static void messages_come_out_whole_however_they_are_cut(void **state)
{
	struct buf b = { 0 };
	char out[200];

	(void)state;
	append_message(&b, "first", 5);
	append_message(&b, "", 0);
	append_message(&b, "the third one", 13);
	for (size_t chunk = 1; chunk <= buf_len(&b); chunk++) {
		assert_int_equal(joined(buf_data(&b), buf_len(&b), chunk, out), ERR_AGAIN);
		assert_string_equal(out, "first||the third one|");
	}
	buf_done(&b);
}

static void a_message_is_known_to_be_unfinished_at_every_cut(void **state)
{
	struct buf b = { 0 };

	(void)state;
	append_message(&b, "hello", 5);
	for (size_t len = 0; len <= buf_len(&b); len++) {
		struct deframer d = deframer_of(0);
		struct cursor in = cursor_of(buf_data(&b), len);
		const uint8_t *msg;
		size_t n;
		int rc = deframe_next(&d, &in, &msg, &n);
		assert_int_equal(rc, len == buf_len(&b) ? 0 : ERR_AGAIN);
		assert_int_equal(deframer_is_between(&d), len == 0 || rc == 0);
		deframer_done(&d);
	}
	buf_done(&b);
}

static void messages_may_be_cut_in_two_at_every_byte(void **state)
{
	struct buf b = { 0 };

	(void)state;
	append_message(&b, "first", 5);
	append_message(&b, "", 0);
	append_message(&b, "the third one", 13);
	for (size_t cut = 0; cut <= buf_len(&b); cut++) {
		struct deframer d = deframer_of(0);
		unsigned n_messages = 0;
		for (unsigned half = 0; half < 2; half++) {
			struct cursor in = half ? cursor_of(buf_data(&b) + cut, buf_len(&b) - cut) :
			                          cursor_of(buf_data(&b), cut);
			const uint8_t *msg;
			size_t n;
			while (deframe_next(&d, &in, &msg, &n) == 0)
				n_messages++;
		}
		assert_int_equal(n_messages, 3);
		assert_true(deframer_is_between(&d));
		deframer_done(&d);
	}
	buf_done(&b);
}

static void the_longest_message_passes_in_pieces(void **state)
{
	static char text[GRPC_MESSAGE_MAX];
	struct deframer d = deframer_of(0);
	struct buf b = { 0 };
	const uint8_t *msg;
	size_t n;
	int rc = ERR_AGAIN;

	(void)state;
	memset(text, 'm', sizeof text);
	append_message(&b, text, sizeof text);
	for (size_t at = 0; at < buf_len(&b); at += 16375) {
		size_t left = buf_len(&b) - at;
		struct cursor in = cursor_of(buf_data(&b) + at, left < 16375 ? left : 16375);
		rc = deframe_next(&d, &in, &msg, &n);
	}
	assert_int_equal(rc, 0);
	assert_int_equal(n, sizeof text);
	assert_memory_equal(msg, text, n);
	deframer_done(&d);
	buf_done(&b);
}

static int first(const uint8_t *bytes, size_t len)
{
	struct deframer d = deframer_of(0);
	struct cursor in = cursor_of(bytes, len);
	const uint8_t *msg;
	size_t n;
	int rc = deframe_next(&d, &in, &msg, &n);

	assert_null(d.framer.partial.base); /* nothing is stored for what is refused */
	deframer_done(&d);
	return rc;
}

static void a_length_beyond_the_limit_is_refused_from_the_prefix(void **state)
{
	uint8_t prefix[GRPC_PREFIX_LEN];

	(void)state;
	grpc_put_prefix(prefix, GRPC_MESSAGE_MAX + 1);
	assert_int_equal(first(prefix, sizeof prefix), ERR_TOO_BIG);
	grpc_put_prefix(prefix, UINT32_MAX);
	assert_int_equal(first(prefix, sizeof prefix), ERR_TOO_BIG);
	grpc_put_prefix(prefix, GRPC_MESSAGE_MAX);
	assert_int_equal(first(prefix, sizeof prefix), ERR_AGAIN);
}

static void compressed_and_unknown_flags_are_told_apart(void **state)
{
	(void)state;
	assert_int_equal(first((const uint8_t *)"\1\0\0\0\1x", 6), GRPC_COMPRESSED);
	assert_int_equal(first((const uint8_t *)"\2\0\0\0\1x", 6), ERR_PROTOCOL);
	assert_int_equal(first((const uint8_t *)"\377\0\0\0\1x", 6), ERR_PROTOCOL);
}

/* ---- small grammars ---- */

static void content_types_of_grpc_are_known(void **state)
{
	(void)state;
	assert_true(grpc_is_content_type(STR("application/grpc")));
	assert_true(grpc_is_content_type(STR("application/grpc+proto")));
	assert_true(grpc_is_content_type(STR("application/grpc;charset=utf-8")));
	assert_false(grpc_is_content_type(STR("application/grpc-web")));
	assert_false(grpc_is_content_type(STR("application/grp")));
	assert_false(grpc_is_content_type(STR("text/html")));
	assert_false(grpc_is_content_type((struct str){ NULL, 0 }));
}

static void timeouts_are_read_with_their_unit(void **state)
{
	static const struct {
		const char *text;
		uint64_t ms;
	} good[] = { { "1H", 3600000 }, { "2M", 120000 },
		     { "3S", 3000 },    { "4m", 4 },
		     { "5u", 1 },       { "1000001n", 2 },
		     { "0S", 0 },       { "99999999H", 99999999ull * 3600000 } };
	uint64_t ms;

	(void)state;
	for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
		assert_int_equal(grpc_timeout(str_of(good[i].text), &ms), 0);
		assert_true(ms == good[i].ms);
	}
}

static void malformed_timeouts_are_refused(void **state)
{
	static const char *const bad[] = { "",    "S",   "1",          "1s",   "-1S",
		                           "+1S", "1 S", "123456789S", "1.5S", "0x1S" };
	uint64_t ms = 77;

	(void)state;
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
		assert_int_equal(grpc_timeout(str_of(bad[i]), &ms), ERR_INVALID);
	assert_int_equal(ms, 77);
}

static void status_messages_are_percent_encoded(void **state)
{
	char out[64];
	size_t n = grpc_message_encode(STR("100% \xc3\xa4\n~"), out, sizeof out);

	(void)state;
	out[n] = 0;
	assert_string_equal(out, "100%25 %C3%A4%0A~");
}

static void an_encoded_message_is_cut_between_characters_not_in_an_escape(void **state)
{
	char out[64];

	(void)state;
	for (size_t cap = 0; cap < 30; cap++) {
		memset(out, '#', sizeof out);
		size_t n = grpc_message_encode(STR("\n\n\n\n\n\n\n\n\n\n"), out, cap);
		assert_true(n <= cap && n % 3 == 0);
		assert_int_equal(out[cap], '#');
	}
}

static void assert_decodes(const char *from, const char *to)
{
	char out[64];

	grpc_message_decode(str_of(from), out, sizeof out);
	assert_string_equal(out, to);
}

static void undecodable_escapes_stay_as_they_are(void **state)
{
	(void)state;
	assert_decodes("a%20b", "a b");
	assert_decodes("%c3%A4", "\xc3\xa4");
	assert_decodes("%", "%");
	assert_decodes("%2", "%2");
	assert_decodes("%zz%41", "%zzA");
	assert_decodes("%00", "%00"); /* a NUL would cut the text */
}

static void a_decoded_message_is_cut_at_its_room(void **state)
{
	char out[8];

	(void)state;
	grpc_message_decode(STR("0123456789"), out, sizeof out);
	assert_string_equal(out, "0123456");
}

static void every_byte_survives_encoding_and_decoding(void **state)
{
	char all[255], coded[3 * sizeof all], back[sizeof all + 1];

	(void)state;
	for (unsigned i = 0; i < sizeof all; i++)
		all[i] = (char)(i + 1); /* no NUL: it would cut the text */
	size_t n = grpc_message_encode((struct str){ all, sizeof all }, coded, sizeof coded);
	for (size_t i = 0; i < n; i++)
		assert_in_range((unsigned char)coded[i], 0x20, 0x7e);
	grpc_message_decode((struct str){ coded, n }, back, sizeof back);
	assert_memory_equal(back, all, sizeof all);
	assert_int_equal(back[sizeof all], 0);
}

static void a_raw_nul_does_not_cut_a_message(void **state)
{
	char out[8];

	(void)state;
	grpc_message_decode((struct str){ "a\0b", 3 }, out, sizeof out);
	assert_string_equal(out, "a?b");
}

/* ---- status ---- */

static void only_canonical_status_numbers_count(void **state)
{
	static const char *const bad[] = { "", "17", "-1", "00", "016", "1x", "999", "4294967296" };

	(void)state;
	assert_int_equal(grpc_status_parse(STR("0")), GRPC_OK);
	assert_int_equal(grpc_status_parse(STR("16")), GRPC_UNAUTHENTICATED);
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
		assert_int_equal(grpc_status_parse(str_of(bad[i])), GRPC_UNKNOWN);
}

/* http-grpc-status-mapping.md */
static void http_status_stands_in_for_a_missing_grpc_status(void **state)
{
	(void)state;
	assert_int_equal(grpc_status_of_http(STR("400")), GRPC_INTERNAL);
	assert_int_equal(grpc_status_of_http(STR("401")), GRPC_UNAUTHENTICATED);
	assert_int_equal(grpc_status_of_http(STR("403")), GRPC_PERMISSION_DENIED);
	assert_int_equal(grpc_status_of_http(STR("404")), GRPC_UNIMPLEMENTED);
	assert_int_equal(grpc_status_of_http(STR("429")), GRPC_UNAVAILABLE);
	assert_int_equal(grpc_status_of_http(STR("502")), GRPC_UNAVAILABLE);
	assert_int_equal(grpc_status_of_http(STR("503")), GRPC_UNAVAILABLE);
	assert_int_equal(grpc_status_of_http(STR("504")), GRPC_UNAVAILABLE);
	assert_int_equal(grpc_status_of_http(STR("200")), GRPC_UNKNOWN);
	assert_int_equal(grpc_status_of_http(STR("418")), GRPC_UNKNOWN);
	assert_int_equal(grpc_status_of_http(STR("banana")), GRPC_UNKNOWN);
}

static void reset_codes_map_as_the_grpc_table_says(void **state)
{
	(void)state;
	assert_int_equal(grpc_status_of_rst(0), GRPC_INTERNAL);
	assert_int_equal(grpc_status_of_rst(7), GRPC_UNAVAILABLE);
	assert_int_equal(grpc_status_of_rst(8), GRPC_CANCELLED);
	assert_int_equal(grpc_status_of_rst(11), GRPC_RESOURCE_EXHAUSTED);
	assert_int_equal(grpc_status_of_rst(12), GRPC_PERMISSION_DENIED);
	assert_int_equal(grpc_status_of_rst(999), GRPC_INTERNAL);
}

static void what_a_client_makes_of_a_status_follows_its_stable_words(void **state)
{
	(void)state;
	assert_int_equal(grpc_close_why(GRPC_ABORTED, "superseded by another"), CLOSE_SUPERSEDED);
	assert_int_equal(close_verdict(grpc_close_why(GRPC_ABORTED, "transaction")), VERDICT_RETRY);
	assert_int_equal(grpc_close_why(GRPC_UNAVAILABLE, "several instances keep"), CLOSE_FIGHT);
	assert_int_equal(grpc_close_why(GRPC_UNAVAILABLE, "full"), CLOSE_UNAVAILABLE);
	assert_int_equal(grpc_close_why(GRPC_RESOURCE_EXHAUSTED, "quota used up"), CLOSE_QUOTA);
	assert_int_equal(grpc_close_why(GRPC_RESOURCE_EXHAUSTED, "tunnels: 3"), CLOSE_TUNNELS);
	assert_int_equal(grpc_close_why(GRPC_RESOURCE_EXHAUSTED, "too much"), CLOSE_UNAVAILABLE);
	assert_int_equal(grpc_close_why(GRPC_RESOURCE_EXHAUSTED, close_text(CLOSE_QUOTA)),
	                 CLOSE_QUOTA);
	assert_int_equal(grpc_close_why(GRPC_RESOURCE_EXHAUSTED, close_text(CLOSE_TUNNELS)),
	                 CLOSE_TUNNELS);
	for (int status = 0; status <= 16; status++) /* a number for every status */
		assert_in_range(grpc_close_why(status, ""), CLOSE_DONE, CLOSE_N - 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(messages_come_out_whole_however_they_are_cut),
		cmocka_unit_test(a_message_is_known_to_be_unfinished_at_every_cut),
		cmocka_unit_test(messages_may_be_cut_in_two_at_every_byte),
		cmocka_unit_test(the_longest_message_passes_in_pieces),
		cmocka_unit_test(a_length_beyond_the_limit_is_refused_from_the_prefix),
		cmocka_unit_test(compressed_and_unknown_flags_are_told_apart),
		cmocka_unit_test(content_types_of_grpc_are_known),
		cmocka_unit_test(timeouts_are_read_with_their_unit),
		cmocka_unit_test(malformed_timeouts_are_refused),
		cmocka_unit_test(status_messages_are_percent_encoded),
		cmocka_unit_test(an_encoded_message_is_cut_between_characters_not_in_an_escape),
		cmocka_unit_test(undecodable_escapes_stay_as_they_are),
		cmocka_unit_test(a_decoded_message_is_cut_at_its_room),
		cmocka_unit_test(every_byte_survives_encoding_and_decoding),
		cmocka_unit_test(a_raw_nul_does_not_cut_a_message),
		cmocka_unit_test(only_canonical_status_numbers_count),
		cmocka_unit_test(http_status_stands_in_for_a_missing_grpc_status),
		cmocka_unit_test(reset_codes_map_as_the_grpc_table_says),
		cmocka_unit_test(what_a_client_makes_of_a_status_follows_its_stable_words),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
