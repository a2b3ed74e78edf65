/* HTTP/2: what works. */
#include "tests/unit/wire/h2_peer.h"

#include "common/base/heap.h"
#include "common/base/metric.h"

/* ---- what works ---- */

static void conversation(size_t chunk)
{
	const struct h2_field trailers[] = { { STR("grpc-status"), STR("0") } };

	request("/a");
	say(&client, "c", 5000);
	run(chunk);
	assert_string_equal(server.path, "/a");
	assert_int_equal(server.n_bytes, 5000);
	respond(false);
	say(&server, "s", 7000);
	run(chunk);
	assert_string_equal(client.status, "200");
	assert_int_equal(client.n_bytes, 7000);
	h2_finish(client.h2, latest(&client), NULL, 0);
	run(chunk);
	assert_int_equal(server.n_ends, 1);
	h2_finish(server.h2, latest(&server), trailers, 1);
	run(chunk);
	assert_string_equal(client.trailer, "0");
	assert_int_equal(client.n_ends, 1);
	assert_int_equal(client.n_closed, 1);
	assert_int_equal(server.n_closed, 1);
	assert_int_equal(h2_n_streams(server.h2), 0);
}

static void a_conversation_is_the_same_however_its_bytes_are_cut(void **state)
{
	static const size_t chunks[] = { 0, 1, 2, 3, 7, 9, 10, 100, 1000 };

	for (size_t i = 0; i < sizeof chunks / sizeof *chunks; i++) {
		tear_down(state);
		set_up(state);
		conversation(chunks[i]);
	}
}

static void a_conversation_is_the_same_with_naps_in_between(void **state)
{
	static const size_t chunks[] = { 0, 1, 9, 100 };

	for (size_t i = 0; i < sizeof chunks / sizeof *chunks; i++) {
		tear_down(state);
		set_up(state);
		naps = true;
		conversation(chunks[i]);
	}
}

static void who_naps_keeps_little_and_answers_as_if_awake(void **state)
{
	size_t before = heap_in_use();

	(void)state;
	request("/a");
	run(0);
	respond(false);
	run(0);
	h2_nap(server.h2);
	h2_nap(client.h2);
	assert_int_equal(metric_sum(METRIC_DENS_ASLEEP), 2);
	assert_in_range(metric_sum(METRIC_DENS_PACKED_BYTES), 1, 5000);
	assert_true(heap_in_use() < before + 16000); /* both, with a stream each */
	assert_false(h2_has_output(server.h2));
	assert_false(h2_is_over(server.h2));
	assert_int_equal(h2_tick(server.h2, now_ms + 1000), 0);
	assert_int_equal(metric_sum(METRIC_DENS_ASLEEP), 2);
	assert_int_equal(h2_window(server.h2, latest(&server)), H2_STREAM_WINDOW);
	assert_int_equal(metric_sum(METRIC_DENS_ASLEEP), 1);
	say(&client, "c", 5000);
	assert_int_equal(metric_sum(METRIC_DENS_ASLEEP), 0);
	h2_nap(client.h2); /* has something to say */
	assert_int_equal(metric_sum(METRIC_DENS_ASLEEP), 0);
	run(0);
	assert_int_equal(server.n_bytes, 5000);
}

static void a_server_that_ends_first_resets_with_no_error_behind_its_trailers(void **state)
{
	const struct h2_field trailers[] = { { STR("grpc-status"), STR("16") } };

	(void)state;
	request("/a");
	run(0);
	respond(false);
	h2_finish(server.h2, latest(&server), trailers, 1);
	run(0);
	assert_string_equal(client.trailer, "16");
	assert_int_equal(client.n_closed, 1);
	assert_int_equal(client.closed_code, H2_NO_ERROR);
	assert_int_equal(h2_n_streams(server.h2), 0);
}

static void an_answer_of_headers_alone_ends_the_stream(void **state)
{
	(void)state;
	request("/a");
	run(0);
	respond(true);
	run(0);
	assert_true(client.end_with_head);
	assert_int_equal(client.n_closed, 1);
}

/* What a client says in a whole conversation, for cutting. */
static void record_client(struct buf *b)
{
	greet_raw(b);
	open_raw(b, 1);
	frame(b, DATA, 0, 1, "hello", 5);
	frame(b, PING, 0, 0, "12345678", 8);
	frame(b, WINDOW_UPDATE, 0, 1, "\0\0\1\0", 4);
	frame(b, DATA, END_STREAM, 1, "bye", 3);
}

static void input_may_be_cut_in_two_at_every_byte(void **state)
{
	struct buf b = { 0 };

	record_client(&b);
	for (size_t cut = 0; cut <= buf_len(&b); cut++) {
		tear_down(state);
		set_up(state);
		discard_output(server.h2);
		assert_int_equal(h2_input(server.h2, buf_data(&b), cut, now_ms), 0);
		assert_int_equal(h2_input(server.h2, buf_data(&b) + cut, buf_len(&b) - cut, now_ms),
		                 0);
		assert_int_equal(server.n_heads, 1);
		assert_int_equal(server.n_bytes, 8);
		assert_int_equal(server.n_ends, 1);
	}
	buf_done(&b);
}

static void input_that_stops_anywhere_leaves_nothing_behind(void **state)
{
	struct buf b = { 0 };

	record_client(&b);
	for (size_t len = 0; len < buf_len(&b); len++) {
		tear_down(state); /* the sanitizer flavour sees what is not freed */
		set_up(state);
		discard_output(server.h2);
		uint8_t *copy = malloc(len ? len : 1);
		assert_non_null(copy);
		memcpy(copy, buf_data(&b), len);
		assert_int_equal(h2_input(server.h2, copy, len, now_ms), 0);
		assert_int_equal(server.n_ends, 0);
		free(copy);
	}
	buf_done(&b);
}

static void fields_may_be_too_many_to_say(void **state)
{
	struct h2_field f[17];
	struct h2_stream *st = NULL;

	(void)state;
	for (unsigned i = 0; i < 17; i++)
		f[i] = (struct h2_field){ STR("a"), STR("b") };
	assert_true(h2_request(client.h2, f, 17, NULL, &st) < 0);
	assert_null(st);
	assert_int_equal(h2_n_streams(client.h2), 0);
	request("/a");
	run(0);
	assert_true(h2_respond(server.h2, latest(&server), f, 17, true) < 0);
	assert_true(h2_finish(server.h2, latest(&server), f, 17) < 0);
	respond(true); /* the stream is none the worse for it */
	run(0);
	assert_string_equal(client.status, "200");
}

static void trailers_may_come_without_data_and_only_once(void **state)
{
	const struct h2_field one[] = { { STR("grpc-status"), STR("1") } };
	const struct h2_field two[] = { { STR("grpc-status"), STR("2") } };

	(void)state;
	request("/a");
	h2_finish(client.h2, latest(&client), NULL, 0);
	run(0);
	respond(false);
	assert_int_equal(h2_finish(server.h2, latest(&server), one, 1), 0);
	assert_int_equal(h2_finish(server.h2, latest(&server), two, 1), 0);
	run(0);
	assert_string_equal(client.trailer, "1");
	assert_int_equal(client.n_bytes, 0);
	assert_int_equal(client.n_ends, 1);
}

static void trailers_are_copied_when_they_are_given(void **state)
{
	char value[] = "16";
	struct h2_field f[] = { { STR("grpc-status"), { value, 2 } } };

	(void)state;
	request("/a");
	run(0);
	respond(false);
	say(&server, "s", 10);
	h2_finish(server.h2, latest(&server), f, 1);
	memset(value, 'x', 2);
	f[0].name = STR("other");
	run(0);
	assert_int_equal(client.n_bytes, 10);
	assert_string_equal(client.trailer, "16");
}

static void fields_are_found_and_counted(void **state)
{
	const struct h2_field f[] = { { STR("a"), STR("1") },
		                      { STR("b"), STR("2") },
		                      { STR("a"), STR("3") } };
	const struct h2_head head = { f, 3 };
	unsigned n;

	(void)state;
	assert_true(str_eq(h2_head_get(&head, "a", &n), STR("1")));
	assert_int_equal(n, 2);
	assert_null(h2_head_get(&head, "c", &n).p);
	assert_int_equal(n, 0);
}

static void the_user_pointer_stays_with_its_stream(void **state)
{
	(void)state;
	request("/a");
	h2_set_user(client.stream, &now_ms);
	assert_ptr_equal(h2_user(client.stream), &now_ms);
}

static void a_ping_comes_back_with_its_payload(void **state)
{
	(void)state;
	h2_ping(client.h2, 0x1122334455667788);
	run(0);
	assert_int_equal(client.n_pings, 1);
	assert_true(client.ping == 0x1122334455667788);
}

/* ---- DATA ---- */

static void what_is_outgoing_travels_in_frames_that_fit_one_tls_record(void **state)
{
	struct buf out = { 0 };
	size_t n_frames = 0, total = 0;

	(void)state;
	request("/a");
	run(0);
	for (unsigned i = 0; i < 40; i++)
		say(&client, "x", 1478); /* forty messages */
	assert_int_equal(h2_flush(client.h2, &out, 1 << 20), 0);
	while (buf_len(&out)) {
		const uint8_t *p = buf_data(&out);
		size_t n = (size_t)p[0] << 16 | (size_t)p[1] << 8 | p[2];
		assert_int_equal(p[3], DATA);
		assert_true(n <= H2_FRAME_DATA_MAX);
		assert_true(n == H2_FRAME_DATA_MAX ||
		            total + n == 40 * 1478); /* all but the last are full */
		total += n;
		n_frames++;
		buf_eat(&out, 9 + n);
	}
	assert_int_equal(total, 40 * 1478);
	assert_int_equal(n_frames, (40 * 1478 + H2_FRAME_DATA_MAX - 1) / H2_FRAME_DATA_MAX);
	buf_done(&out);
}

static void no_more_data_is_written_than_the_budget_allows(void **state)
{
	struct buf out = { 0 };

	(void)state;
	request("/a");
	run(0);
	say(&client, "x", 100000);
	h2_ping(client.h2, 1);
	assert_int_equal(h2_flush(client.h2, &out, 0), 0);
	assert_int_equal(buf_len(&out), 17); /* the PING goes out without any */
	buf_clear(&out);
	assert_int_equal(h2_flush(client.h2, &out, 16375), 0);
	assert_int_equal(buf_len(&out), 9 + 16375);
	assert_true(h2_has_output(client.h2));
	buf_done(&out);
}

static void the_window_closes_and_opens_as_the_other_side_takes(void **state)
{
	(void)state;
	request("/a");
	run(0);
	respond(false);
	run(0);
	size_t window = h2_window(client.h2, latest(&client));
	assert_int_equal(window, H2_STREAM_WINDOW);
	say(&client, "x", 1000);
	assert_int_equal(h2_window(client.h2, latest(&client)), window - 1000);
	say(&client, "x", window - 1000);
	assert_int_equal(h2_window(client.h2, latest(&client)), 0);
	run(0);
	assert_int_equal(server.n_bytes, window);
	assert_true(h2_window(client.h2, latest(&client)) > window / 2);
}

static void streams_share_the_window_of_their_connection(void **state)
{
	enum { N = H2_CONN_WINDOW / H2_STREAM_WINDOW + 1 };
	struct h2_stream *streams[N];
	struct buf out = { 0 };

	(void)state;
	for (unsigned i = 0; i < N; i++) {
		request("/a");
		streams[i] = client.stream;
	}
	run(0);
	for (unsigned i = 0; i + 1 < N; i++) {
		assert_int_equal(client.n_closed, 0);
		client.stream = streams[i];
		say(&client, "x", H2_STREAM_WINDOW);
	}
	h2_flush(client.h2, &out, SIZE_MAX); /* the server does not hear of it */
	assert_true(buf_len(&out) >= H2_CONN_WINDOW);
	assert_int_equal(h2_window(client.h2, streams[N - 1]), 0);
	buf_done(&out);
}

static void what_is_not_taken_waits_and_goes_on_when_the_window_opens(void **state)
{
	(void)state;
	request("/a");
	run(0);
	say(&client, "x", 3 * H2_STREAM_WINDOW);
	assert_int_equal(h2_window(client.h2, latest(&client)), 0);
	run(0);
	assert_int_equal(server.n_bytes, 3 * H2_STREAM_WINDOW);
	assert_int_equal(buf_len(h2_outgoing(latest(&client))), 0);
}

static void a_long_transfer_passes_the_windows_whole(void **state)
{
	uint32_t sum = 0;

	(void)state;
	request("/a");
	run(0);
	for (unsigned i = 0; i < 100; i++) {
		say(&client, i % 2 ? "b" : "a", 100000);
		for (unsigned k = 0; k < 100000; k++)
			sum = sum * 31 + (i % 2 ? 'b' : 'a');
		run(0);
	}
	assert_int_equal(server.n_bytes, 100 * 100000);
	assert_int_equal(server.sum, sum);
}

/* ---- ending ---- */

static void a_shutdown_notice_lets_open_streams_go_on(void **state)
{
	(void)state;
	request("/a");
	run(0);
	h2_shutdown_notice(server.h2);
	run(0);
	assert_int_equal(client.n_goaways, 1);
	assert_int_equal(client.goaway_code, H2_NO_ERROR);
	say(&client, "x", 10);
	run(0);
	assert_int_equal(server.n_bytes, 10);
	assert_false(h2_is_over(client.h2));
}

static void a_goaway_carries_code_and_words_and_ends_both(void **state)
{
	(void)state;
	run(0);
	h2_goaway(server.h2, H2_ENHANCE_YOUR_CALM, "too much");
	run(0);
	assert_int_equal(client.goaway_code, H2_ENHANCE_YOUR_CALM);
	assert_string_equal(client.goaway, "too much");
	assert_true(h2_is_over(client.h2));
}

static void a_connection_is_over_when_its_last_stream_ends_behind_a_notice(void **state)
{
	(void)state;
	request("/a");
	run(0);
	h2_shutdown_notice(server.h2);
	run(0);
	assert_false(h2_is_over(client.h2));
	assert_false(h2_is_over(server.h2));
	h2_finish(client.h2, latest(&client), NULL, 0);
	respond(true);
	run(0);
	assert_int_equal(client.n_closed, 1);
	assert_true(h2_is_over(client.h2));
	assert_false(h2_is_over(server.h2)); /* a notice is not the last word */
	h2_goaway(server.h2, H2_NO_ERROR, "");
	run(0);
	assert_true(h2_is_over(server.h2));
}

static void a_request_behind_a_goaway_is_closed_as_refused(void **state)
{
	const struct h2_field f[] = { { STR(":method"), STR("POST") },
		                      { STR(":scheme"), STR("https") },
		                      { STR(":path"), STR("/late") } };
	struct h2_stream *late;

	(void)state;
	request("/a"); /* keeps the connection */
	run(0);
	h2_shutdown_notice(server.h2);
	run(0);
	assert_int_equal(h2_request(client.h2, f, 3, NULL, &late), 0);
	run(0);
	assert_int_equal(client.n_closed, 1);
	assert_int_equal(client.closed_code, H2_REFUSED_STREAM);
	assert_string_equal(server.path, "/a");
	assert_int_equal(h2_n_streams(client.h2), 1);
}

static void freeing_open_streams_tells_nobody(void **state)
{
	(void)state;
	request("/a");
	run(0);
	respond(false);
	say(&server, "x", 100);
	h2_free(server.h2);
	server.h2 = NULL;
	assert_int_equal(server.n_closed, 0);
	h2_free(NULL);
}

static void a_reset_is_told_with_its_code(void **state)
{
	(void)state;
	request("/a");
	run(0);
	h2_reset(server.h2, latest(&server), H2_CANCEL);
	run(0);
	assert_int_equal(client.closed_code, H2_CANCEL);
	assert_int_equal(client.n_closed, 1);
	assert_int_equal(server.n_closed, 1);
}

static void informational_responses_are_skipped(void **state)
{
	struct buf b = { 0 }, block = { 0 };

	(void)state;
	request("/a");
	run(0);
	begin_block(&block);
	field(&block, ":status", "103"); /* by hand: our server says none */
	frame(&b, HEADERS, END_HEADERS, 1, buf_data(&block), buf_len(&block));
	assert_int_equal(h2_input(client.h2, buf_data(&b), buf_len(&b), now_ms), 0);
	assert_int_equal(client.n_heads, 0);
	respond(false);
	run(0);
	assert_string_equal(client.status, "200");
	buf_done(&b);
	buf_done(&block);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_conversation_is_the_same_however_its_bytes_are_cut),
		TEST(a_conversation_is_the_same_with_naps_in_between),
		TEST(who_naps_keeps_little_and_answers_as_if_awake),
		TEST(a_server_that_ends_first_resets_with_no_error_behind_its_trailers),
		TEST(an_answer_of_headers_alone_ends_the_stream),
		TEST(fields_are_found_and_counted),
		TEST(the_user_pointer_stays_with_its_stream),
		TEST(a_ping_comes_back_with_its_payload),
		TEST(what_is_outgoing_travels_in_frames_that_fit_one_tls_record),
		TEST(no_more_data_is_written_than_the_budget_allows),
		TEST(the_window_closes_and_opens_as_the_other_side_takes),
		TEST(a_long_transfer_passes_the_windows_whole),
		TEST(a_shutdown_notice_lets_open_streams_go_on),
		TEST(a_goaway_carries_code_and_words_and_ends_both),
		TEST(a_reset_is_told_with_its_code),
		TEST(informational_responses_are_skipped),
		TEST(input_may_be_cut_in_two_at_every_byte),
		TEST(input_that_stops_anywhere_leaves_nothing_behind),
		TEST(fields_may_be_too_many_to_say),
		TEST(trailers_may_come_without_data_and_only_once),
		TEST(trailers_are_copied_when_they_are_given),
		TEST(streams_share_the_window_of_their_connection),
		TEST(what_is_not_taken_waits_and_goes_on_when_the_window_opens),
		TEST(a_connection_is_over_when_its_last_stream_ends_behind_a_notice),
		TEST(a_request_behind_a_goaway_is_closed_as_refused),
		TEST(freeing_open_streams_tells_nobody),
	};
	if (crypto_start() < 0)
		return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
