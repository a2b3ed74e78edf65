#include "tests/unit/said.h"

#include <errno.h>

#include "common/base/crypto.h"
#include "common/base/err.h"
#include "common/wire/ws.h"

enum { CONT, TEXT, BINARY, CLOSE = 8, PING, PONG, FIN = 0x80, MASK = 0x80 };

/* ---- frames of a client ---- */

struct frames {
	uint8_t bytes[80000];
	size_t len;
};

static void head(struct frames *f, unsigned first, unsigned mask, uint64_t len)
{
	f->bytes[f->len++] = (uint8_t)first;
	unsigned n = len < 126 ? 0 : len < 65536 ? 2 : 8;
	f->bytes[f->len++] = (uint8_t)(mask | (n == 0 ? len : n == 2 ? 126 : 127));
	for (unsigned i = n; i > 0; i--)
		f->bytes[f->len++] = (uint8_t)(len >> 8 * (i - 1));
}

static void frame(struct frames *f, unsigned first, const void *payload, size_t len)
{
	static const uint8_t key[4] = { 0x37, 0xfa, 0x21, 0x3d };

	head(f, first, MASK, len);
	memcpy(f->bytes + f->len, key, 4);
	f->len += 4;
	for (size_t i = 0; i < len; i++)
		f->bytes[f->len++] = ((const uint8_t *)payload)[i] ^ key[i % 4];
}

/* ---- what became of it ---- */

struct got {
	int rc;
	unsigned n_controls;
	struct buf payload, out;
};

static int collect(void *owner, const uint8_t *data, size_t len)
{
	struct got *g = owner;

	return buf_add(&g->payload, data, len);
}

static void got_done(struct got *g)
{
	buf_done(&g->payload);
	buf_done(&g->out);
}

static void input(struct ws *ws, struct got *g, const uint8_t *p, size_t len)
{
	uint8_t *piece = malloc(len ? len : 1); /* exact: a sanitizer sees one byte too many */

	assert_non_null(piece);
	memcpy(piece, p, len);
	if (g->rc == 0)
		g->rc = ws_input(ws, piece, len);
	free(piece);
	assert_int_equal(ws_flush(ws, &g->out), 0);
	assert_false(ws_has_output(ws));
	g->n_controls += ws_n_controls(ws);
}

static void read_in(const struct frames *f, size_t first, size_t chunk, struct got *g)
{
	struct ws *ws;
	size_t n;

	memset(g, 0, sizeof *g);
	assert_int_equal(ws_new(collect, g, &ws), 0);
	for (size_t at = 0; at < f->len; at += n) {
		n = at == 0 ? first : chunk;
		n = n > f->len - at ? f->len - at : n;
		input(ws, g, f->bytes + at, n);
	}
	ws_free(ws);
}

static void assert_same(const struct buf *a, const struct buf *b)
{
	assert_int_equal(buf_len(a), buf_len(b));
	if (buf_len(a))
		assert_memory_equal(buf_data(a), buf_data(b), buf_len(a));
}

/* Whole, byte by byte and cut once at every place: the same each time. */
static struct got read_all_ways(const struct frames *f)
{
	struct got whole, other;

	read_in(f, f->len, f->len, &whole);
	for (size_t cut = 0; cut<f->len; cut += f->len> 4000 ? 997 : 1) {
		read_in(f, cut ? cut : 1, cut ? f->len : 1, &other);
		assert_int_equal(other.rc, whole.rc);
		assert_int_equal(other.n_controls, whole.n_controls);
		assert_same(&other.payload, &whole.payload);
		assert_same(&other.out, &whole.out);
		got_done(&other);
	}
	return whole;
}

static void assert_got(const struct frames *f, int rc, const char *payload, const char *out,
                       size_t out_len)
{
	struct got g = read_all_ways(f);
	struct buf p = { 0 }, o = { 0 };

	assert_int_equal(g.rc, rc);
	assert_int_equal(buf_add(&p, payload, strlen(payload)), 0);
	assert_int_equal(buf_add(&o, out, out_len), 0);
	assert_same(&g.payload, &p);
	assert_same(&g.out, &o);
	buf_done(&p);
	buf_done(&o);
	got_done(&g);
}

#define SAYS(f, rc, payload, out) assert_got(f, rc, payload, out, sizeof(out) - 1)

/* ---- frames ---- */

static void payload_of_binary_messages_is_one_stream(void **state)
{
	struct frames f = { .len = 0 };

	(void)state;
	frame(&f, FIN | BINARY, "half a fr", 9);
	frame(&f, FIN | BINARY, "ame and more", 12);
	frame(&f, FIN | BINARY, "", 0);
	frame(&f, BINARY, " in", 3);
	frame(&f, CONT, " piec", 5);
	frame(&f, FIN | CONT, "es", 2);
	SAYS(&f, 0, "half a frame and more in pieces", "");
}

static void a_message_longer_than_any_buffer_passes_through(void **state)
{
	static struct frames f;
	static uint8_t big[70000];

	(void)state;
	for (size_t i = 0; i < sizeof big; i++)
		big[i] = (uint8_t)(i * 7 + i / 256);
	f.len = 0;
	frame(&f, FIN | BINARY, big, sizeof big);
	struct got g = read_all_ways(&f);
	assert_int_equal(g.rc, 0);
	assert_int_equal(buf_len(&g.payload), sizeof big);
	assert_memory_equal(buf_data(&g.payload), big, sizeof big);
	got_done(&g);
}

static void a_ping_is_answered_amid_a_message(void **state)
{
	struct frames f = { .len = 0 };

	(void)state;
	frame(&f, BINARY, "a", 1);
	frame(&f, FIN | PING, "here?", 5);
	frame(&f, FIN | PONG, "unasked", 7);
	frame(&f, FIN | CONT, "b", 1);
	struct got g = read_all_ways(&f);
	assert_int_equal(g.n_controls, 2);
	got_done(&g);
	SAYS(&f, 0, "ab", "\x8a\x05here?");
}

static void a_close_is_answered_and_is_the_end(void **state)
{
	struct frames f = { .len = 0 };

	(void)state;
	frame(&f, FIN | BINARY, "last", 4);
	frame(&f, FIN | CLOSE, "\x03\xe8", 2);
	frame(&f, FIN | BINARY, "too late", 8);
	SAYS(&f, ERR_CLOSED, "last", "\x88\x02\x03\xe8");
	f.len = 0;
	frame(&f, FIN | CLOSE, "", 0);
	SAYS(&f, ERR_CLOSED, "", "\x88\0");
	f.len = 0;
	frame(&f, FIN | CLOSE, "\x03\xe9gone", 6);
	SAYS(&f, ERR_CLOSED, "", "\x88\x02\x03\xe9");
}

static void a_text_message_is_not_supported(void **state)
{
	struct frames f = { .len = 0 };

	(void)state;
	frame(&f, FIN | BINARY, "a", 1);
	frame(&f, FIN | TEXT, "hello", 5);
	frame(&f, FIN | BINARY, "b", 1);
	SAYS(&f, ERR_PROTOCOL, "a", "\x88\x02\x03\xeb");
}

static void what_breaks_the_protocol_is_the_end(void **state)
{
	static const struct {
		uint8_t bytes[20];
		size_t len;
	} rows[] = {
		{ { 0x82, 0x01, 'a' }, 3 },                   /* not masked */
		{ { 0xc2, 0x81, 1, 2, 3, 4, 'a' }, 7 },       /* RSV1: no extension */
		{ { 0xa2, 0x81, 1, 2, 3, 4, 'a' }, 7 },       /* RSV2 */
		{ { 0x83, 0x80, 1, 2, 3, 4 }, 6 },            /* opcode 3 */
		{ { 0x80, 0x80, 1, 2, 3, 4 }, 6 },            /* nothing to continue */
		{ { 0x09, 0x80, 1, 2, 3, 4 }, 6 },            /* a ping in pieces */
		{ { 0x89, 0xfe, 0, 126, 1, 2, 3, 4 }, 8 },    /* a ping of 126 bytes */
		{ { 0x88, 0x81, 1, 2, 3, 4, 'a' }, 7 },       /* half a code */
		{ { 0x88, 0x82, 0, 0, 0, 0, 3, 0xed }, 8 },   /* 1005 */
		{ { 0x88, 0x82, 0, 0, 0, 0, 3, 0xe7 }, 8 },   /* 999 */
		{ { 0x8b, 0x80, 1, 2, 3, 4 }, 6 },            /* opcode 11 */
		{ { 0x82, 0xfe, 0, 1, 1, 2, 3, 4, 'a' }, 9 }, /* length not minimal */
		{ { 0x82, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 1, 1, 2, 3, 4 }, 14 }, /* 64 bits */
		{ { 0x02, 0x80, 1, 2, 3, 4, 0x82, 0x80, 1, 2, 3, 4 }, 12 },    /* begun twice */
	};

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct frames f = { .len = rows[i].len };
		memcpy(f.bytes, rows[i].bytes, rows[i].len);
		struct got g = read_all_ways(&f);
		if (g.rc != ERR_PROTOCOL)
			fail_msg("row %zu: %d", i, g.rc);
		assert_int_equal(buf_len(&g.payload), 0);
		assert_int_equal(buf_len(&g.out), 4);
		assert_memory_equal(buf_data(&g.out), "\x88\x02\x03\xea", 4);
		got_done(&g);
	}
}

static void a_message_has_a_largest_size_however_it_is_cut(void **state)
{
	struct frames f = { .len = 0 };

	(void)state;
	head(&f, FIN | BINARY, MASK, WS_RECEIVE_MAX);
	SAYS(&f, 0, "", "");
	f.len = 0;
	head(&f, FIN | BINARY, MASK, WS_RECEIVE_MAX + 1);
	memset(f.bytes + f.len, 0, 5);
	f.len += 5;
	SAYS(&f, ERR_TOO_BIG, "", "\x88\x02\x03\xf1");
	f.len = 0;
	frame(&f, BINARY, "abc", 3);
	head(&f, FIN | CONT, MASK, WS_RECEIVE_MAX - 2);
	memset(f.bytes + f.len, 0, 5);
	f.len += 5;
	SAYS(&f, ERR_TOO_BIG, "abc", "\x88\x02\x03\xf1");
}

static void frames_that_carry_nothing_are_counted(void **state)
{
	struct frames f = { .len = 0 };

	(void)state;
	frame(&f, FIN | PING, "a", 1);
	frame(&f, FIN | PONG, "b", 1);
	frame(&f, BINARY, "", 0);
	frame(&f, CONT, "", 0);
	frame(&f, FIN | CONT, "c", 1);
	struct got g = read_all_ways(&f);
	assert_int_equal(g.rc, 0);
	assert_int_equal(g.n_controls, 4);
	got_done(&g);
}

static void pongs_that_nobody_reads_are_bounded(void **state)
{
	uint8_t full[125] = { 0 };
	struct frames f = { .len = 0 };
	struct got g = { 0 };
	struct ws *ws;
	unsigned n = 0;

	(void)state;
	frame(&f, FIN | PING, full, sizeof full);
	assert_int_equal(ws_new(collect, &g, &ws), 0);
	for (unsigned i = 0; i < 1000; i++) { /* read at once: without end */
		assert_int_equal(ws_input(ws, f.bytes, f.len), 0);
		assert_int_equal(ws_flush(ws, &g.out), 0);
		buf_clear(&g.out);
	}
	while ((g.rc = ws_input(ws, f.bytes, f.len)) == 0)
		n++;
	assert_int_equal(g.rc, ERR_FLOOD);
	assert_int_equal(ws_flush(ws, &g.out), 0);
	assert_true(n > 10 && buf_len(&g.out) <= WS_PONGS_MAX + 8);
	assert_memory_equal(buf_data(&g.out) + buf_len(&g.out) - 4, "\x88\x02\x03\xf0", 4);
	got_done(&g);
	ws_free(ws);
}

static int refuse(void *owner, const uint8_t *data, size_t len)
{
	(void)data, (void)len;
	++*(unsigned *)owner;
	return ERR_INVALID;
}

static void what_the_reader_of_the_payload_refuses_ends_the_input(void **state)
{
	struct frames f = { .len = 0 };
	unsigned n_calls = 0;
	struct ws *ws;

	(void)state;
	frame(&f, FIN | BINARY, "a", 1);
	frame(&f, FIN | BINARY, "b", 1);
	assert_int_equal(ws_new(refuse, &n_calls, &ws), 0);
	assert_int_equal(ws_input(ws, f.bytes, f.len), ERR_INVALID);
	assert_int_equal(ws_input(ws, f.bytes, f.len), ERR_INVALID);
	assert_int_equal(n_calls, 1);
	ws_free(ws);
}

static void what_is_sent_is_cut_into_messages_others_can_take(void **state)
{
	static uint8_t data[2 * WS_SEND_MAX + 5];
	struct got g = { 0 };
	struct ws *ws;

	(void)state;
	for (size_t i = 0; i < sizeof data; i++)
		data[i] = (uint8_t)(i * 11);
	assert_int_equal(ws_new(collect, &g, &ws), 0);
	assert_int_equal(ws_send(ws, "", 0, &g.out), 0);
	assert_int_equal(buf_len(&g.out), 0);
	assert_int_equal(ws_send(ws, data, sizeof data, &g.out), 0);
	assert_int_equal(buf_len(&g.out), sizeof data + 4 + 4 + 2);
	assert_memory_equal(buf_data(&g.out), "\x82\x7e\x80\0", 4);
	assert_memory_equal(buf_data(&g.out) + 4, data, WS_SEND_MAX);
	assert_memory_equal(buf_data(&g.out) + 4 + WS_SEND_MAX, "\x82\x7e\x80\0", 4);
	assert_memory_equal(buf_data(&g.out) + 8 + WS_SEND_MAX, data + WS_SEND_MAX, WS_SEND_MAX);
	assert_memory_equal(buf_data(&g.out) + 8 + 2 * WS_SEND_MAX, "\x82\x05", 2);
	assert_memory_equal(buf_data(&g.out) + 10 + 2 * WS_SEND_MAX, data + 2 * WS_SEND_MAX, 5);
	got_done(&g);
	ws_free(ws);
}

static void nothing_follows_our_own_close_and_its_answer_is_the_end(void **state)
{
	struct frames f = { .len = 0 };
	struct got g = { 0 };
	struct ws *ws;

	(void)state;
	assert_int_equal(ws_new(collect, &g, &ws), 0);
	assert_false(ws_has_output(ws));
	assert_int_equal(ws_close(ws, WS_POLICY), 0);
	assert_true(ws_has_output(ws));
	assert_int_equal(ws_send(ws, "a", 1, &g.out), ERR_CLOSED);
	assert_int_equal(ws_flush(ws, &g.out), 0);
	assert_int_equal(ws_close(ws, WS_NORMAL), 0);
	assert_int_equal(buf_len(&g.out), 4);
	assert_memory_equal(buf_data(&g.out), "\x88\x02\x03\xf0", 4);
	frame(&f, FIN | BINARY, "on its way", 10);
	frame(&f, FIN | PING, "", 0);
	input(ws, &g, f.bytes, f.len);
	assert_int_equal(g.rc, 0);
	assert_int_equal(buf_len(&g.payload), 0);
	f.len = 0;
	frame(&f, FIN | CLOSE, "\x03\xf0", 2);
	input(ws, &g, f.bytes, f.len);
	assert_int_equal(g.rc, ERR_CLOSED);
	assert_int_equal(buf_len(&g.out), 4);
	got_done(&g);
	ws_free(ws);
	ws_free(NULL);
}

/* ---- handshake ---- */

#define KEY "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
#define V13 "Sec-WebSocket-Version: 13\r\n"
#define UP  "Host: a\r\nConnection: Upgrade\r\nUpgrade: WebSocket\r\n"
#define SUB "Sec-WebSocket-Protocol: derp\r\n"

static void accept_text(const char *request, bool *asked_out, bool *no_protocol_out,
                        struct buf *out)
{
	struct http1_reader *r;
	struct ws_answer a;
	size_t used;

	assert_int_equal(http1_reader_new(&r), 0);
	assert_int_equal(http1_reader_feed(r, (const uint8_t *)request, strlen(request), &used), 0);
	*asked_out = ws_is_asked_for(http1_reader_request(r));
	ws_accept(http1_reader_request(r), &a);
	*no_protocol_out = a.no_protocol;
	assert_int_equal(http1_respond(out, &a.answer), 0);
	http1_reader_free(r);
}

static void assert_answer(const char *request, const char *wanted, bool no_protocol)
{
	struct buf out = { 0 };
	bool asked, none;

	accept_text(request, &asked, &none, &out);
	assert_true(asked);
	assert_int_equal(none, no_protocol);
	assert_int_equal(buf_add(&out, "", 1), 0);
	const char *text = (const char *)buf_data(&out);
	if (strncmp(text, wanted, strlen(wanted)) != 0)
		fail_msg("%s\nis not %s", text, wanted);
	buf_done(&out);
}

/* The key and its answer are those of RFC 6455 1.3. */
static void a_handshake_is_accepted_with_the_digest_of_its_key(void **state)
{
	(void)state;
	assert_answer("GET /derp HTTP/1.1\r\n" UP KEY V13 SUB "\r\n",
	              "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
	              "Connection: Upgrade\r\n"
	              "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"
	              "Sec-WebSocket-Protocol: derp\r\n\r\n",
	              false);
	assert_answer("GET /derp HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\n"
	              "Upgrade: h2c, websocket\r\n" KEY V13 SUB "\r\n",
	              "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n", false);
	assert_answer("GET /derp HTTP/1.1\r\n" UP KEY V13
	              "Sec-WebSocket-Extensions: permessage-deflate\r\n"
	              "Sec-WebSocket-Protocol: chat, derp\r\nOrigin: https://x.test\r\n\r\n",
	              "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
	              "Connection: Upgrade\r\n"
	              "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"
	              "Sec-WebSocket-Protocol: derp\r\n\r\n",
	              false);
}

static void a_protocol_that_only_contains_the_letters_is_none(void **state)
{
	(void)state;
	assert_answer("GET /derp HTTP/1.1\r\n" UP KEY V13 "Sec-WebSocket-Protocol: xderp\r\n\r\n",
	              "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
	              "Connection: Upgrade\r\n"
	              "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n",
	              true);
}

static void a_handshake_that_is_none_is_told_what_is_missing(void **state)
{
	static const struct {
		const char *request, *answer;
	} rows[] = {
		{ "POST /derp HTTP/1.1\r\n" UP KEY V13 SUB "\r\n",
		  "HTTP/1.1 405 Method Not Allowed\r\nAllow: GET\r\n" },
		{ "GET /derp HTTP/1.0\r\n" UP KEY V13 SUB "\r\n",
		  "HTTP/1.1 426 Upgrade Required\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" },
		{ "GET /derp HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n" KEY V13 SUB "\r\n",
		  "HTTP/1.1 426 Upgrade Required\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" },
		{ "GET /derp HTTP/1.1\r\n" UP KEY SUB "\r\n",
		  "HTTP/1.1 400 Bad Request\r\nSec-WebSocket-Version: 13\r\n" },
		{ "GET /derp HTTP/1.1\r\n" UP KEY SUB "Sec-WebSocket-Version: 8\r\n\r\n",
		  "HTTP/1.1 400 Bad Request\r\nSec-WebSocket-Version: 13\r\n" },
		{ "GET /derp HTTP/1.1\r\n" UP V13 SUB "\r\n", "HTTP/1.1 400 Bad Request\r\n" },
		{ "GET /derp HTTP/1.1\r\n" UP V13 SUB "Sec-WebSocket-Key:\r\n\r\n",
		  "HTTP/1.1 400 Bad Request\r\n" },
		{ "GET /derp HTTP/1.1\r\n" UP V13 SUB "Sec-WebSocket-Key: dGhlIHNhbXBsZQ==\r\n\r\n",
		  "HTTP/1.1 400 Bad Request\r\n" },
		{ "GET /derp HTTP/1.1\r\n" UP V13 SUB KEY KEY "\r\n",
		  "HTTP/1.1 400 Bad Request\r\n" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
		assert_answer(rows[i].request, rows[i].answer, false);
}

static void a_refusal_of_HEAD_has_no_body(void **state)
{
	struct buf out = { 0 };
	bool asked, none;

	(void)state;
	accept_text("HEAD /derp HTTP/1.1\r\n" UP KEY V13 SUB "\r\n", &asked, &none, &out);
	assert_true(asked && buf_len(&out) > 4);
	assert_memory_equal(buf_data(&out) + buf_len(&out) - 4, "\r\n\r\n", 4);
	buf_done(&out);
}

static void websocket_without_the_protocol_is_raw_derp(void **state)
{
	static const char *const raw[] = {
		"GET /derp HTTP/1.1\r\n" UP KEY V13 "\r\n",
		"GET /derp HTTP/1.1\r\n" UP KEY V13 "Sec-WebSocket-Protocol: DERP\r\n\r\n",
		"GET /derp HTTP/1.1\r\nHost: a\r\nUpgrade: DERP\r\n" SUB "\r\n",
		"GET /derp HTTP/1.1\r\nHost: a\r\n" SUB "\r\n",
	};
	struct buf out = { 0 };
	bool asked, none;

	(void)state;
	for (size_t i = 0; i < sizeof raw / sizeof *raw; i++) {
		accept_text(raw[i], &asked, &none, &out);
		assert_false(asked);
	}
	buf_done(&out);
}

/* OpenSSL does not survive want of memory while it sets itself up, which the program lets
 * it do at its own start. */
static int start(void **state)
{
	uint8_t digest[20];

	(void)state;
	return crypto_start() == 0 ? crypto_sha1(NULL, 0, digest) : -1;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(payload_of_binary_messages_is_one_stream),
		cmocka_unit_test(a_message_longer_than_any_buffer_passes_through),
		cmocka_unit_test(a_ping_is_answered_amid_a_message),
		cmocka_unit_test(a_close_is_answered_and_is_the_end),
		cmocka_unit_test(a_text_message_is_not_supported),
		cmocka_unit_test(what_breaks_the_protocol_is_the_end),
		cmocka_unit_test(a_message_has_a_largest_size_however_it_is_cut),
		cmocka_unit_test(frames_that_carry_nothing_are_counted),
		cmocka_unit_test(pongs_that_nobody_reads_are_bounded),
		cmocka_unit_test(what_the_reader_of_the_payload_refuses_ends_the_input),
		cmocka_unit_test(what_is_sent_is_cut_into_messages_others_can_take),
		cmocka_unit_test(nothing_follows_our_own_close_and_its_answer_is_the_end),
		cmocka_unit_test(a_handshake_is_accepted_with_the_digest_of_its_key),
		cmocka_unit_test(a_protocol_that_only_contains_the_letters_is_none),
		cmocka_unit_test(a_handshake_that_is_none_is_told_what_is_missing),
		cmocka_unit_test(a_refusal_of_HEAD_has_no_body),
		cmocka_unit_test(websocket_without_the_protocol_is_raw_derp),
	};
	return cmocka_run_group_tests(tests, start, NULL);
}
