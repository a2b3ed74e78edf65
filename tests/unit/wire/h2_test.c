#include "tests/unit/said.h"

#include "common/base/crypto.h"
#include "common/base/err.h"
#include "common/wire/h2.h"
#include "common/wire/h2_limits.h"

/* ---- two sides, and what each was told ---- */

struct side {
	struct h2 *h2;
	struct h2_stream *stream; /* the latest */
	unsigned n_heads, n_data, n_ends, n_closed, n_goaways, n_pings;
	size_t n_bytes;
	uint32_t sum, closed_code, goaway_code;
	uint64_t ping;
	char path[64], status[8], trailer[64], goaway[64];
	bool end_with_head;
};

static struct side server, client;

static struct h2_stream *latest(const struct side *s)
{
	assert_non_null(s->stream);
	return s->stream;
}

static uint64_t now_ms;

static void copy(char *to, size_t cap, struct str s)
{
	snprintf(to, cap, "%.*s", (int)s.len, s.p ? s.p : "");
}

static void on_head(void *owner, struct h2_stream *st, const struct h2_head *head, bool end)
{
	struct side *s = owner;

	s->stream = st;
	s->n_heads++;
	s->end_with_head = end;
	if (h2_head_get(head, ":path", NULL).p)
		copy(s->path, sizeof s->path, h2_head_get(head, ":path", NULL));
	if (h2_head_get(head, ":status", NULL).p)
		copy(s->status, sizeof s->status, h2_head_get(head, ":status", NULL));
	if (h2_head_get(head, "grpc-status", NULL).p)
		copy(s->trailer, sizeof s->trailer, h2_head_get(head, "grpc-status", NULL));
}

static void on_data(void *owner, struct h2_stream *st, const uint8_t *data, size_t len)
{
	struct side *s = owner;

	if (s->stream)
		assert_ptr_equal(st, s->stream);
	s->n_data++;
	s->n_bytes += len;
	for (size_t i = 0; i < len; i++)
		s->sum = s->sum * 31 + data[i];
}

static void on_end(void *owner, struct h2_stream *st)
{
	struct side *s = owner;

	assert_ptr_equal(st, s->stream);
	s->n_ends++;
}

static void on_closed(void *owner, struct h2_stream *st, uint32_t code)
{
	struct side *s = owner;

	s->n_closed++;
	s->closed_code = code;
	if (st == s->stream)
		s->stream = NULL;
}

static void on_goaway(void *owner, uint32_t code, struct str debug)
{
	struct side *s = owner;

	s->n_goaways++;
	s->goaway_code = code;
	copy(s->goaway, sizeof s->goaway, debug);
}

static void on_ping_ack(void *owner, uint64_t payload)
{
	struct side *s = owner;

	s->n_pings++;
	s->ping = payload;
}

static const struct h2_events events = {
	on_head, on_data, on_end, on_closed, on_goaway, on_ping_ack
};

static int set_up(void **state)
{
	(void)state;
	now_ms = 1000;
	server = client = (struct side){ 0 };
	assert_int_equal(h2_new(H2_SERVER, &limits_default, now_ms, &events, &server, &server.h2),
	                 0);
	assert_int_equal(h2_new(H2_CLIENT, &limits_default, now_ms, &events, &client, &client.h2),
	                 0);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	h2_free(server.h2);
	h2_free(client.h2);
	return 0;
}

/* Moves what one side says; the other's result. */
static int move(struct side *from, struct side *to, size_t chunk, bool *some_out)
{
	struct buf out = { 0 };
	int rc = 0;

	assert_int_equal(h2_flush(from->h2, &out, 1 << 20), 0);
	*some_out = buf_len(&out) > 0;
	while (buf_len(&out) && rc == 0) {
		size_t n = chunk && chunk < buf_len(&out) ? chunk : buf_len(&out);
		rc = h2_input(to->h2, buf_data(&out), n, now_ms);
		buf_eat(&out, n);
	}
	buf_done(&out);
	return rc;
}

static void run(size_t chunk)
{
	bool a, b;

	do {
		assert_int_equal(move(&client, &server, chunk, &a), 0);
		assert_int_equal(move(&server, &client, chunk, &b), 0);
	} while (a || b);
}

static void request(const char *path)
{
	const struct h2_field f[] = { { STR(":method"), STR("POST") },
		                      { STR(":scheme"), STR("https") },
		                      { STR(":authority"), STR("x") },
		                      { STR(":path"), str_of(path) } };

	assert_int_equal(h2_request(client.h2, f, 4, NULL, &client.stream), 0);
}

static void respond(bool end)
{
	const struct h2_field f[] = { { STR(":status"), STR("200") } };

	assert_int_equal(h2_respond(server.h2, latest(&server), f, 1, end), 0);
}

static void say(struct side *s, const char *byte, size_t n)
{
	uint8_t *room = buf_room(h2_outgoing(latest(s)), n);

	assert_non_null(room);
	memset(room, *byte, n);
	buf_added(h2_outgoing(latest(s)), n);
	h2_resume(s->h2, s->stream);
}

/* ---- raw frames ---- */

static void frame(struct buf *b, uint8_t type, uint8_t flags, uint32_t stream, const void *p,
                  size_t n)
{
	const uint8_t head[9] = { (uint8_t)(n >> 16),
		                  (uint8_t)(n >> 8),
		                  (uint8_t)n,
		                  type,
		                  flags,
		                  (uint8_t)(stream >> 24),
		                  (uint8_t)(stream >> 16),
		                  (uint8_t)(stream >> 8),
		                  (uint8_t)stream };

	assert_int_equal(buf_add(b, head, sizeof head), 0);
	assert_int_equal(buf_add(b, p, n), 0);
}

enum {
	DATA,
	HEADERS,
	PRIORITY,
	RST_STREAM,
	SETTINGS,
	PUSH_PROMISE,
	PING,
	GOAWAY,
	WINDOW_UPDATE,
	CONTINUATION
};
enum { ACK = 1, END_STREAM = 1, END_HEADERS = 4 };

static void field(struct buf *b, const char *name, const char *value)
{
	uint8_t lens[2] = { (uint8_t)strlen(name), (uint8_t)strlen(value) };

	buf_add(b, "\0", 1); /* literal, not indexed (RFC 7541 6.2.2) */
	buf_add(b, &lens[0], 1);
	buf_add(b, name, lens[0]);
	buf_add(b, &lens[1], 1);
	buf_add(b, value, lens[1]);
}

/* Our decoder's table is smaller than the default; a block begins by agreeing (RFC 7541 4.2). */
static void begin_block(struct buf *b) { buf_add(b, "\x3f\xe1\x07", 3); }

static void head_block(struct buf *b)
{
	begin_block(b);
	field(b, ":method", "POST");
	field(b, ":scheme", "https");
	field(b, ":authority", "x");
	field(b, ":path", "/p");
}

static void open_raw(struct buf *b, uint32_t stream)
{
	struct buf block = { 0 };

	head_block(&block);
	frame(b, HEADERS, END_HEADERS, stream, buf_data(&block), buf_len(&block));
	buf_done(&block);
}

static void discard_output(struct h2 *h2)
{
	struct buf out = { 0 };

	h2_flush(h2, &out, 1 << 20);
	buf_done(&out);
}

static void greet_raw(struct buf *b)
{
	discard_output(server.h2); /* its SETTINGS, acknowledged here */
	buf_add(b, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 24);
	frame(b, SETTINGS, 0, 0, NULL, 0);
	frame(b, SETTINGS, ACK, 0, NULL, 0);
}

/* Feeds raw bytes; what the server answers is thrown away. */
static int feed(struct buf *b)
{
	int rc = h2_input(server.h2, buf_data(b), buf_len(b), now_ms);

	if (rc == 0)
		discard_output(server.h2);
	buf_clear(b);
	return rc;
}

/* The GOAWAY a failed server says; its code, or -1. */
static int64_t last_word(void)
{
	struct buf out = { 0 };
	int64_t code = -1;

	h2_flush(server.h2, &out, 1 << 20);
	while (buf_len(&out) >= 9) {
		const uint8_t *p = buf_data(&out);
		size_t n = 9 + ((size_t)p[0] << 16 | (size_t)p[1] << 8 | p[2]);
		if (p[3] == GOAWAY)
			code = (int64_t)p[13] << 24 | p[14] << 16 | p[15] << 8 | p[16];
		buf_eat(&out, n);
	}
	buf_done(&out);
	return code;
}

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
	assert_int_equal(h2_rest_ms(server.h2), H2_REST_MS);
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
	assert_int_equal(h2_rest_ms(server.h2), H2_REST_MS); /* it was slowed down before */
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

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_conversation_is_the_same_however_its_bytes_are_cut),
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
		TEST(T08_header_bombs_again_and_again_end_the_connection),
		TEST(invalid_header_fields_reset_the_stream),
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
