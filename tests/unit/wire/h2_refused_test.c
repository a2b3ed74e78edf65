/* HTTP/2: what is refused, bounded or waited for so long and no longer. */
#include "tests/unit/wire/h2_peer.h"

#include "common/base/bucket.h"

/* ---- what is refused ---- */

static void garbage_is_a_protocol_error_and_ends_with_goaway(void **state)
{
	struct buf b = { 0 };

	(void)state;
	buf_add(&b, "GET / HTTP/1.1\r\nHost: x\r\n\r\n", 27);
	assert_int_equal(feed(&b), ERR_PROTOCOL);
	assert_true(strlen(h2_error_text(server.h2)) > 0);
	assert_int_equal(last_word(), H2_PROTOCOL_ERROR);
	assert_int_equal(h2_input(server.h2, (const uint8_t *)"x", 1, now_ms), ERR_PROTOCOL);
	buf_done(&b);
}

static void settings_never_acknowledged_end_the_connection(void **state)
{
	struct buf b = { 0 };

	(void)state;
	buf_add(&b, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 24);
	frame(&b, SETTINGS, 0, 0, NULL, 0);
	assert_int_equal(feed(&b), 0);
	assert_int_equal(h2_tick(server.h2, now_ms + limits_default.settings_ack_ms), 0);
	assert_int_equal(h2_tick(server.h2, now_ms + limits_default.settings_ack_ms + 1),
	                 ERR_FLOOD);
	assert_int_equal(last_word(), 4); /* SETTINGS_TIMEOUT */
	buf_done(&b);
}

static void acknowledged_settings_end_nothing(void **state)
{
	(void)state;
	run(0);
	assert_int_equal(h2_tick(server.h2, now_ms + 1000000), 0);
	assert_int_equal(h2_tick(client.h2, now_ms + 1000000), 0);
}

/* One kind of frame again and again: ends with a flood, not before `least` and
 * not after `most` of them. */
static void assert_flood(uint8_t type, uint8_t flags, uint32_t stream, const char *p, size_t n,
                         unsigned least, unsigned most)
{
	struct buf b = { 0 };
	unsigned i = 0;
	int rc;

	greet_raw(&b);
	open_raw(&b, 1);
	assert_int_equal(feed(&b), 0);
	do {
		frame(&b, type, flags, stream, p, n);
		rc = feed(&b);
	} while (rc == 0 && ++i <= most);
	assert_int_equal(rc, ERR_FLOOD);
	assert_in_range(i, least, most);
	assert_int_equal(last_word(), H2_ENHANCE_YOUR_CALM);
	buf_done(&b);
}

static void a_flood_of_empty_data_ends_the_connection(void **state)
{
	(void)state;
	assert_flood(DATA, 0, 1, NULL, 0, limits_default.glitches_burst - 10,
	             limits_default.glitches_burst + 10);
}

static void a_flood_of_priority_ends_the_connection(void **state)
{
	(void)state;
	assert_flood(PRIORITY, 0, 1, "\0\0\0\0\5", 5, limits_default.glitches_burst - 10,
	             limits_default.glitches_burst + 10);
}

static void a_flood_of_unknown_frames_ends_the_connection(void **state)
{
	(void)state;
	assert_flood(0xfa, 0, 0, "x", 1, limits_default.glitches_burst - 10,
	             limits_default.glitches_burst + 10);
}

static void T03_pings_beyond_the_strikes_end_the_connection_as_too_many_pings(void **state)
{
	unsigned strikes = limits_default.ping_strikes;

	(void)state;
	assert_flood(PING, 0, 0, "12345678", 8, strikes + 1, strikes + 1);
	assert_string_equal(h2_error_text(server.h2), "too_many_pings");
}

/* gRPC A8, S20: as often as the interval allows, or behind something of ours. */
static void S20_pings_that_are_due_or_answer_our_data_are_no_strikes(void **state)
{
	struct buf b = { 0 };

	(void)state;
	greet_raw(&b);
	open_raw(&b, 1);
	assert_int_equal(feed(&b), 0);
	for (unsigned i = 0; i < 20; i++) {
		frame(&b, PING, 0, 0, "12345678", 8);
		assert_int_equal(feed(&b), 0);
		now_ms += limits_default.ping_ms;
	}
	respond(false);
	for (unsigned i = 0; i < 100; i++) {
		say(&server, "x", 1);
		discard_output(server.h2);
		frame(&b, PING, 0, 0, "12345678", 8);
		assert_int_equal(feed(&b), 0);
	}
	buf_done(&b);
}

static void S20_a_client_forgives_every_ping_of_the_server(void **state)
{
	struct buf b = { 0 };

	(void)state;
	discard_output(client.h2);
	frame(&b, SETTINGS, 0, 0, NULL, 0);
	for (unsigned i = 0; i < 50; i++)
		frame(&b, PING, 0, 0, "12345678", 8);
	assert_int_equal(h2_input(client.h2, buf_data(&b), buf_len(&b), now_ms), 0);
	buf_done(&b);
}

static void control_frames_beyond_their_budget_make_the_owner_rest_first(void **state)
{
	struct buf b = { 0 };

	(void)state;
	greet_raw(&b);
	assert_int_equal(feed(&b), 0);
	for (unsigned i = 0; i < limits_default.controls_burst - 10; i++)
		frame(&b, SETTINGS, 0, 0, NULL, 0);
	assert_int_equal(feed(&b), 0);
	assert_int_equal(h2_rest_ms(server.h2), 0);
	for (unsigned i = 0; i < 20; i++)
		frame(&b, SETTINGS, 0, 0, NULL, 0);
	assert_int_equal(feed(&b), 0);
	assert_int_equal(h2_rest_ms(server.h2), BUDGET_REST_MS);
	assert_int_equal(h2_rest_ms(server.h2), 0); /* said once */
	buf_done(&b);
}

static void H07_a_preface_that_does_not_come_is_waited_for_so_long(void **state)
{
	(void)state;
	assert_int_equal(h2_input(server.h2, (const uint8_t *)"PRI * HTTP", 10, now_ms), 0);
	now_ms += limits_default.preface_ms;
	assert_int_equal(h2_tick(server.h2, now_ms), 0);
	assert_int_equal(h2_input(server.h2, (const uint8_t *)"/2.0", 4, now_ms), 0);
	assert_int_equal(h2_tick(server.h2, now_ms + 1), ERR_SLOW);
	assert_int_equal(last_word(), H2_PROTOCOL_ERROR);
}

static void T02_a_header_block_that_does_not_end_is_waited_for_so_long(void **state)
{
	struct buf b = { 0 }, block = { 0 };

	(void)state;
	greet_raw(&b);
	head_block(&block);
	frame(&b, HEADERS, 0, 1, buf_data(&block), buf_len(&block)); /* no END_HEADERS */
	assert_int_equal(feed(&b), 0);
	now_ms += limits_default.header_block_ms;
	frame(&b, CONTINUATION, 0, 1, NULL, 0);
	assert_int_equal(feed(&b), 0);
	assert_int_equal(h2_tick(server.h2, now_ms), 0);
	assert_int_equal(h2_tick(server.h2, now_ms + 1), ERR_SLOW);
	assert_int_equal(last_word(), H2_ENHANCE_YOUR_CALM);
	buf_done(&block);
	buf_done(&b);
}

/* Refused, reset or for a stream that is gone: none of them is in progress. */
static void header_blocks_that_nobody_hears_of_are_over_too(void **state)
{
	static const uint8_t upper_case[] = { 0x3f, 0xe1, 0x07, 0x00, 1, 'X', 1, 'y' };
	struct buf b = { 0 };

	(void)state;
	greet_raw(&b);
	frame(&b, HEADERS, END_HEADERS, 1, upper_case, sizeof upper_case);
	frame(&b, HEADERS, END_HEADERS, 3, "\x82", 1); /* no :path */
	open_raw(&b, 5);
	assert_int_equal(feed(&b), 0);
	h2_reset(server.h2, latest(&server), H2_CANCEL);
	discard_output(server.h2);
	frame(&b, HEADERS, END_HEADERS | END_STREAM, 5, "\x82", 1); /* late trailers */
	assert_int_equal(feed(&b), 0);
	assert_int_equal(h2_tick(server.h2, now_ms + 2 * limits_default.header_block_ms), 0);
	buf_done(&b);
}

static void a_failure_is_told_to_the_other_side_in_words(void **state)
{
	struct buf b = { 0 };

	(void)state;
	greet_raw(&b);
	for (unsigned i = 0; i < 5; i++)
		frame(&b, PING, 0, 0, "12345678", 8);
	assert_int_equal(h2_input(server.h2, buf_data(&b), buf_len(&b), now_ms), ERR_FLOOD);
	buf_clear(&b);
	assert_int_equal(h2_flush(server.h2, &b, 0), ERR_FLOOD);
	assert_non_null(memmem(buf_data(&b), buf_len(&b), "too_many_pings", 14));
	buf_done(&b);
}

static void a_flood_of_settings_ends_the_connection(void **state)
{
	unsigned twice = 2 * limits_default.controls_burst;

	(void)state;
	assert_flood(SETTINGS, 0, 0, NULL, 0, twice - 10, twice + 10);
}

static void a_flood_of_window_updates_ends_the_connection(void **state)
{
	(void)state;
	assert_flood(WINDOW_UPDATE, 0, 0, "\0\0\0\1", 4, H2_WINDOW_UPDATE_BASE,
	             H2_WINDOW_UPDATE_BASE + limits_default.glitches_burst + 10);
}

static void window_updates_in_proportion_to_data_are_fine(void **state)
{
	struct buf b = { 0 }, out = { 0 };

	(void)state;
	greet_raw(&b);
	open_raw(&b, 1);
	assert_int_equal(feed(&b), 0);
	respond(false);
	for (unsigned i = 0; i < 20000; i++) {
		say(&server, "x", 1000);
		h2_flush(server.h2, &out, 1 << 20);
		buf_clear(&out);
		frame(&b, WINDOW_UPDATE, 0, 0, "\0\0\3\350", 4);
		frame(&b, WINDOW_UPDATE, 0, 1, "\0\0\3\350", 4);
		assert_int_equal(feed(&b), 0);
	}
	buf_done(&b);
	buf_done(&out);
}

static void answers_that_are_not_read_end_the_connection(void **state)
{
	struct buf b = { 0 };
	int rc = 0;

	(void)state;
	greet_raw(&b);
	assert_int_equal(h2_input(server.h2, buf_data(&b), buf_len(&b), now_ms), 0);
	buf_clear(&b);
	for (unsigned i = 0; rc == 0 && i < 2000; i++) { /* slowly: no rate is exceeded */
		now_ms += 1000;
		frame(&b, PING, 0, 0, "12345678", 8);
		rc = h2_input(server.h2, buf_data(&b), buf_len(&b), now_ms);
		buf_clear(&b);
	}
	assert_int_equal(rc, ERR_FLOOD);
	buf_done(&b);
}

static void T04_rapid_reset_ends_the_connection(void **state)
{
	struct buf b = { 0 };
	unsigned i;
	int rc = 0;

	(void)state;
	greet_raw(&b);
	assert_int_equal(feed(&b), 0);
	for (i = 0; rc == 0 && i < 1000; i++) {
		open_raw(&b, 2 * i + 1);
		frame(&b, RST_STREAM, 0, 2 * i + 1, "\0\0\0\10", 4);
		rc = feed(&b);
	}
	assert_int_equal(rc, ERR_FLOOD);
	assert_true(i < limits_default.resets_in_burst + 100);
	assert_int_equal(h2_n_streams(server.h2), 0);
	buf_done(&b);
}

static void T05_resets_the_other_side_provokes_end_the_connection(void **state)
{
	struct buf b = { 0 };
	unsigned i;
	int rc = 0;

	(void)state;
	greet_raw(&b);
	assert_int_equal(feed(&b), 0);
	for (i = 0; rc == 0 && i < 1000; i++) {
		now_ms += 100; /* below every other rate */
		open_raw(&b, 2 * i + 1);
		frame(&b, WINDOW_UPDATE, 0, 2 * i + 1, "\x7f\xff\xff\xff",
		      4); /* overflows: a stream error */
		rc = feed(&b);
	}
	assert_int_equal(rc, ERR_FLOOD);
	assert_true(i < 3 * limits_default.resets_out_burst);
	buf_done(&b);
}

static void streams_opened_beyond_the_rate_are_refused_and_never_heard_of(void **state)
{
	struct buf b = { 0 };
	unsigned told = 0;

	(void)state;
	greet_raw(&b);
	assert_int_equal(feed(&b), 0);
	for (unsigned i = 0; i < 2 * limits_default.streams_burst + 20; i++) {
		open_raw(&b, 2 * i + 1);
		assert_int_equal(feed(&b), 0);
		if (server.n_heads > told && server.stream) {
			told = server.n_heads;
			respond(true);
			feed(&b);
		}
	}
	assert_int_equal(server.n_heads, 2 * limits_default.streams_burst);
	assert_int_equal(h2_rest_ms(server.h2), BUDGET_REST_MS); /* it was slowed down before */
	buf_done(&b);
}

static void too_many_streams_at_once_are_refused(void **state)
{
	struct buf b = { 0 };

	(void)state;
	greet_raw(&b);
	assert_int_equal(feed(&b), 0);
	for (unsigned i = 0; i < limits_default.streams + 20; i++) {
		open_raw(&b, 2 * i + 1);
		if (feed(&b) != 0)
			break; /* beyond the acknowledged SETTINGS it is an error of the connection
			        */
	}
	assert_true(server.n_heads <= limits_default.streams);
	buf_done(&b);
}

static void open_with_fields(struct buf *b, uint32_t stream, unsigned n, const char *value)
{
	struct buf block = { 0 };
	char name[16];

	head_block(&block);
	for (unsigned i = 0; i < n; i++) {
		snprintf(name, sizeof name, "x-%u", i);
		field(&block, name, value);
	}
	frame(b, HEADERS, END_HEADERS, stream, buf_data(&block), buf_len(&block));
	buf_done(&block);
}

static void T08_an_oversized_header_list_costs_its_stream_only(void **state)
{
	static char value[121]; /* one byte of length */
	struct buf b = { 0 };

	(void)state;
	memset(value, 'v', sizeof value - 1);
	greet_raw(&b);
	open_with_fields(&b, 1, 60, value); /* over 8192 with 32 each */
	assert_int_equal(feed(&b), 0);
	assert_int_equal(server.n_heads, 0);
	open_with_fields(&b, 3, H2_HEADER_FIELDS_MAX, "v"); /* too many */
	assert_int_equal(feed(&b), 0);
	assert_int_equal(server.n_heads, 0);
	open_with_fields(&b, 5, 10, value);
	assert_int_equal(feed(&b), 0);
	assert_int_equal(server.n_heads, 1);
	buf_done(&b);
}

/* A reload may come between a HEADERS frame and its CONTINUATION. */
static void a_limit_that_grows_within_a_header_block_is_that_of_the_next(void **state)
{
	static char value[121]; /* one byte of length */
	struct limits limits = limits_default;
	struct buf b = { 0 }, block = { 0 };

	(void)state;
	memset(value, 'v', sizeof value - 1);
	h2_free(server.h2);
	assert_int_equal(h2_new(H2_SERVER, &limits, now_ms, &events, &server, &server.h2), 0);
	greet_raw(&b);
	head_block(&block);
	frame(&b, HEADERS, 0, 1, buf_data(&block), buf_len(&block));
	assert_int_equal(feed(&b), 0);
	limits.header_list = 65536;
	buf_clear(&block);
	for (unsigned i = 0; i < 80; i++)
		field(&block, "x", value);
	frame(&b, CONTINUATION, END_HEADERS, 1, buf_data(&block), buf_len(&block));
	assert_int_equal(feed(&b), 0);
	assert_int_equal(server.n_heads, 0);
	buf_done(&block);
	buf_done(&b);
}

static void T08_header_bombs_again_and_again_end_the_connection(void **state)
{
	static char value[121]; /* one byte of length */
	struct buf b = { 0 };
	int rc = 0;

	(void)state;
	memset(value, 'v', sizeof value - 1);
	greet_raw(&b);
	assert_int_equal(feed(&b), 0);
	for (unsigned i = 0; rc == 0 && i < 200; i++) {
		open_with_fields(&b, 2 * i + 1, 60, value);
		rc = feed(&b);
	}
	assert_int_equal(rc, ERR_FLOOD);
	buf_done(&b);
}

/* robustness.md 8.2: what nghttp2 answers by itself. */
struct misdeed {
	const char *name, *payload;
	size_t len;
	uint32_t stream, code;
	uint8_t type, flags;
	bool first; /* no request before it */
};
#define PAYLOAD(text) text, sizeof(text) - 1

static const struct misdeed misdeeds[] = {
	{ "H09 SETTINGS of 7 bytes", PAYLOAD("1234567"), 0, 6, SETTINGS, 0, false },
	{ "H09 SETTINGS on a stream", PAYLOAD(""), 1, 1, SETTINGS, 0, false },
	{ "H10 ENABLE_PUSH 2", PAYLOAD("\0\2\0\0\0\2"), 0, 1, SETTINGS, 0, false },
	{ "H10 window of 2^31", PAYLOAD("\0\4\x80\0\0\0"), 0, 3, SETTINGS, 0, false },
	{ "H10 frames of 16383", PAYLOAD("\0\5\0\0\x3f\xff"), 0, 1, SETTINGS, 0, false },
	{ "H12 DATA on stream 0", PAYLOAD("x"), 0, 1, DATA, 0, false },
	{ "H12 even stream", PAYLOAD("\x3f\xe1\x07\x83\x87"), 2, 1, HEADERS, END_HEADERS, true },
	{ "H13 DATA on an idle stream", PAYLOAD("x"), 5, 1, DATA, 0, false },
	{ "H14 padding beyond the frame", PAYLOAD("\x09x"), 1, 1, DATA, 8, false },
	{ "H15 WINDOW_UPDATE of 0", PAYLOAD("\0\0\0\0"), 0, 1, WINDOW_UPDATE, 0, false },
	{ "H15 window beyond 2^31", PAYLOAD("\x7f\xff\xff\xff"), 0, 3, WINDOW_UPDATE, 0, false },
	{ "H17 CONTINUATION alone", PAYLOAD("x"), 1, 1, 9, END_HEADERS, true },
	{ "H18 index 0", PAYLOAD("\x80"), 1, 9, HEADERS, END_HEADERS, true },
	{ "H18 index beyond", PAYLOAD("\xff\xff\xff\x7f"), 1, 9, HEADERS, END_HEADERS, true },
	{ "H22 PUSH_PROMISE", PAYLOAD("\0\0\0\2\x82"), 1, 1, PUSH_PROMISE, END_HEADERS, false },
	{ "H24 PING of 7 bytes", PAYLOAD("1234567"), 0, 6, PING, 0, false },
	{ "H24 PING on a stream", PAYLOAD("12345678"), 1, 1, PING, 0, false },
	{ "H26 RST_STREAM on an idle stream", PAYLOAD("\0\0\0\1"), 7, 1, RST_STREAM, 0, false },
	{ "H26 RST_STREAM of 3 bytes", PAYLOAD("\0\0\1"), 1, 6, RST_STREAM, 0, false },
};

static void assert_ends_the_connection(const struct misdeed *m)
{
	struct buf b = { 0 };

	greet_raw(&b);
	if (!m->first)
		open_raw(&b, 1);
	assert_int_equal(feed(&b), 0);
	frame(&b, m->type, m->flags, m->stream, m->payload, m->len);
	h2_input(server.h2, buf_data(&b), buf_len(&b), now_ms);
	int64_t code = last_word();
	if (code != m->code)
		fail_msg("%s: GOAWAY %d", m->name, (int)code);
	if (h2_tick(server.h2, now_ms) != ERR_PROTOCOL || !*h2_error_text(server.h2))
		fail_msg("%s: not told", m->name);
	assert_int_equal(h2_input(server.h2, (const uint8_t *)"x", 1, now_ms), ERR_PROTOCOL);
	assert_true(h2_is_over(server.h2));
	buf_done(&b);
}

static void what_the_library_ends_by_itself_is_told_too(void **state)
{
	for (size_t i = 0; i < sizeof misdeeds / sizeof *misdeeds; i++) {
		tear_down(state);
		set_up(state);
		assert_ends_the_connection(&misdeeds[i]);
	}
}

static void a_client_is_told_of_a_server_that_breaks_the_protocol(void **state)
{
	struct buf b = { 0 };

	(void)state;
	request("/a");
	run(0);
	frame(&b, DATA, 0, 0, "x", 1);
	h2_input(client.h2, buf_data(&b), buf_len(&b), now_ms);
	discard_output(client.h2);
	assert_int_equal(h2_tick(client.h2, now_ms), ERR_PROTOCOL);
	assert_string_equal(h2_error_text(client.h2), "DATA: stream_id == 0");
	buf_done(&b);
}

static void H09_settings_of_33_entries_are_a_flood(void **state)
{
	uint8_t entries[33 * 6] = { 0 };
	struct buf b = { 0 };

	(void)state;
	for (unsigned i = 0; i < 33; i++)
		entries[6 * i + 1] = 4; /* INITIAL_WINDOW_SIZE 0 */
	greet_raw(&b);
	assert_int_equal(feed(&b), 0);
	frame(&b, SETTINGS, 0, 0, entries, sizeof entries);
	h2_input(server.h2, buf_data(&b), buf_len(&b), now_ms);
	assert_int_equal(last_word(), H2_ENHANCE_YOUR_CALM);
	assert_int_equal(h2_tick(server.h2, now_ms), ERR_FLOOD);
	buf_done(&b);
}

/* A peer that sends on whatever it was allowed, faster than our WINDOW_UPDATEs leave. */
static void H16_data_beyond_our_window_is_a_flow_control_error(void **state)
{
	static const uint8_t chunk[16384];
	struct buf b = { 0 };

	(void)state;
	greet_raw(&b);
	for (uint32_t st = 1; st <= 15; st += 2)
		open_raw(&b, st);
	assert_int_equal(feed(&b), 0);
	size_t sent = 0, most = 2u * H2_CONN_WINDOW;
	for (uint32_t i = 0; sent < most && h2_tick(server.h2, now_ms) == 0; i++) {
		server.stream = NULL; /* several take turns */
		frame(&b, DATA, 0, 2 * (i % 8) + 1, chunk, sizeof chunk);
		if (h2_input(server.h2, buf_data(&b), buf_len(&b), now_ms) < 0)
			break;
		buf_clear(&b);
		sent += sizeof chunk;
	}
	assert_in_range(sent, H2_CONN_WINDOW, most);
	assert_int_equal(last_word(), 3); /* FLOW_CONTROL_ERROR */
	assert_int_equal(h2_tick(server.h2, now_ms), ERR_PROTOCOL);
	buf_done(&b);
}

static void H30_behind_the_last_stream_id_the_client_is_sent_away(void **state)
{
	struct buf b = { 0 };

	(void)state;
	greet_raw(&b);
	open_raw(&b, 1);
	assert_int_equal(feed(&b), 0);
	open_raw(&b, INT32_MAX);
	h2_input(server.h2, buf_data(&b), buf_len(&b), now_ms);
	assert_int_equal(last_word(), H2_NO_ERROR);
	assert_int_equal(h2_tick(server.h2, now_ms), 0);
	assert_int_equal(h2_n_streams(server.h2), 2); /* they go on */
	assert_false(h2_is_over(server.h2));
	buf_done(&b);
}

static void a_goaway_of_the_owner_is_no_failure(void **state)
{
	(void)state;
	run(0);
	h2_goaway(server.h2, H2_ENHANCE_YOUR_CALM, "too much");
	assert_int_equal(last_word(), H2_ENHANCE_YOUR_CALM);
	assert_int_equal(h2_tick(server.h2, now_ms), 0);
	assert_string_equal(h2_error_text(server.h2), "");
}

static void errors_of_a_stream_leave_the_connection(void **state)
{
	struct buf b = { 0 };

	(void)state;
	greet_raw(&b);
	open_raw(&b, 1);
	frame(&b, WINDOW_UPDATE, 0, 1, "\x7f\xff\xff\xff", 4);
	open_raw(&b, 3);
	assert_int_equal(feed(&b), 0);
	assert_int_equal(server.n_closed, 1);
	assert_int_equal(server.closed_code, 3); /* FLOW_CONTROL_ERROR */
	assert_int_equal(h2_n_streams(server.h2), 1);
	assert_int_equal(h2_tick(server.h2, now_ms), 0);
	buf_done(&b);
}

static void control_frames_at_the_allowed_rate_go_on_for_ever(void **state)
{
	struct buf b = { 0 };

	(void)state;
	greet_raw(&b);
	assert_int_equal(feed(&b), 0);
	for (unsigned i = 0; i < 20 * limits_default.controls_burst; i++) {
		now_ms += 1000 / limits_default.controls_per_s;
		frame(&b, SETTINGS, 0, 0, NULL, 0);
		assert_int_equal(feed(&b), 0);
	}
	buf_done(&b);
}

static void H24_a_flood_of_answers_nobody_asked_for_ends_the_connection(void **state)
{
	(void)state;
	assert_flood(PING, ACK, 0, "12345678", 8, limits_default.glitches_burst - 10,
	             limits_default.glitches_burst + 10);
}

static void T08_a_header_list_of_a_response_is_limited_too(void **state)
{
	static char value[121];
	struct buf b = { 0 }, block = { 0 };

	(void)state;
	memset(value, 'v', sizeof value - 1);
	request("/a");
	run(0);
	begin_block(&block);
	field(&block, ":status", "200");
	for (unsigned i = 0; i < 60; i++)
		field(&block, "x", value);
	frame(&b, HEADERS, END_HEADERS, 1, buf_data(&block), buf_len(&block));
	assert_int_equal(h2_input(client.h2, buf_data(&b), buf_len(&b), now_ms), 0);
	run(0);
	assert_int_equal(client.n_heads, 0);
	assert_int_equal(client.n_closed, 1);
	buf_done(&b);
	buf_done(&block);
}

static void invalid_header_fields_reset_the_stream(void **state)
{
	struct buf b = { 0 }, block = { 0 };

	(void)state;
	greet_raw(&b);
	head_block(&block);
	field(&block, "Upper", "x");
	frame(&b, HEADERS, END_HEADERS, 1, buf_data(&block), buf_len(&block));
	assert_int_equal(feed(&b), 0);
	assert_int_equal(server.n_heads, 0);
	assert_int_equal(h2_n_streams(server.h2), 0);
	buf_done(&b);
	buf_done(&block);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(garbage_is_a_protocol_error_and_ends_with_goaway),
		TEST(settings_never_acknowledged_end_the_connection),
		TEST(acknowledged_settings_end_nothing),
		TEST(a_flood_of_empty_data_ends_the_connection),
		TEST(a_flood_of_priority_ends_the_connection),
		TEST(a_flood_of_unknown_frames_ends_the_connection),
		TEST(T03_pings_beyond_the_strikes_end_the_connection_as_too_many_pings),
		TEST(S20_pings_that_are_due_or_answer_our_data_are_no_strikes),
		TEST(S20_a_client_forgives_every_ping_of_the_server),
		TEST(control_frames_beyond_their_budget_make_the_owner_rest_first),
		TEST(H07_a_preface_that_does_not_come_is_waited_for_so_long),
		TEST(T02_a_header_block_that_does_not_end_is_waited_for_so_long),
		TEST(header_blocks_that_nobody_hears_of_are_over_too),
		TEST(a_failure_is_told_to_the_other_side_in_words),
		TEST(a_flood_of_settings_ends_the_connection),
		TEST(a_flood_of_window_updates_ends_the_connection),
		TEST(window_updates_in_proportion_to_data_are_fine),
		TEST(answers_that_are_not_read_end_the_connection),
		TEST(T04_rapid_reset_ends_the_connection),
		TEST(T05_resets_the_other_side_provokes_end_the_connection),
		TEST(streams_opened_beyond_the_rate_are_refused_and_never_heard_of),
		TEST(too_many_streams_at_once_are_refused),
		TEST(T08_an_oversized_header_list_costs_its_stream_only),
		TEST(a_limit_that_grows_within_a_header_block_is_that_of_the_next),
		TEST(T08_header_bombs_again_and_again_end_the_connection),
		TEST(invalid_header_fields_reset_the_stream),
		TEST(what_the_library_ends_by_itself_is_told_too),
		TEST(a_client_is_told_of_a_server_that_breaks_the_protocol),
		TEST(H09_settings_of_33_entries_are_a_flood),
		TEST(H16_data_beyond_our_window_is_a_flow_control_error),
		TEST(H30_behind_the_last_stream_id_the_client_is_sent_away),
		TEST(a_goaway_of_the_owner_is_no_failure),
		TEST(errors_of_a_stream_leave_the_connection),
		TEST(control_frames_at_the_allowed_rate_go_on_for_ever),
		TEST(H24_a_flood_of_answers_nobody_asked_for_ends_the_connection),
		TEST(T08_a_header_list_of_a_response_is_limited_too),
	};
	if (crypto_start() < 0)
		return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
