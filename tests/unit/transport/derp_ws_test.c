/* DERP inside WebSocket (derp.md 1.10): a server of ours against a browser's bytes. */
#include "tests/unit/transport/derp_raw.h"

#include "common/wire/ws.h"

#define HANDSHAKE(protocol)                                                                        \
	"GET /derp HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"           \
	"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"             \
	"Derp-Fast-Start: 1\r\nSec-WebSocket-Protocol: " protocol "\r\n\r\n"

enum { TEXT = 1, BINARY = 2, CLOSE = 8, PING = 9, PONG = 10 };

/* One masked message, as clients send. */
static void add_message(struct buf *b, uint8_t op, const void *p, size_t len)
{
	static const uint8_t mask[4] = { 0x11, 0x22, 0x33, 0x44 };
	uint8_t head[14] = { (uint8_t)(0x80 | op) };
	size_t n = 2;

	if (len < 126) {
		head[1] = (uint8_t)(0x80 | len);
	} else if (len < 65536) {
		head[1] = 0xfe;
		head[n++] = (uint8_t)(len >> 8);
		head[n++] = (uint8_t)len;
	} else {
		head[1] = 0xff;
		for (int i = 7; i >= 0; i--)
			head[n++] = (uint8_t)((uint64_t)len >> 8 * i);
	}
	memcpy(head + n, mask, 4);
	assert_int_equal(buf_add(b, head, n + 4), 0);
	uint8_t *to = buf_room(b, len ? len : 1);
	assert_non_null(to);
	for (size_t i = 0; i < len; i++)
		to[i] = ((const uint8_t *)p)[i] ^ mask[i % 4];
	buf_added(b, len);
}

static void add_whole(struct buf *b, struct buf *frames)
{
	add_message(b, BINARY, buf_data(frames), buf_len(frames));
	buf_clear(frames);
}

/* Takes one unmasked message off `heard`; its op. */
static unsigned take_message(struct buf *heard, struct buf *payload)
{
	struct cursor c = reading(heard);
	uint8_t op = cursor_u8(&c), first = cursor_u8(&c);
	size_t len = first;

	assert_true(op & 0x80);
	assert_false(first & 0x80); /* a server masks nothing */
	assert_true(first != 127);  /* and sends nothing long */
	if (first == 126) {
		uint8_t high = cursor_u8(&c);
		len = (size_t)high << 8 | cursor_u8(&c);
	}
	assert_in_range(len, 0, WS_SEND_MAX);
	const uint8_t *p = cursor_take(&c, len);
	assert_true(cursor_ok(&c));
	assert_int_equal(buf_add(payload, p, len), 0);
	buf_eat(heard, buf_len(heard) - cursor_left(&c));
	return op & 15;
}

/* All that is left, of binary messages. */
static void take_all(struct buf *heard, struct buf *payload)
{
	while (buf_len(heard))
		assert_int_equal(take_message(heard, payload), BINARY);
}

static void take_head(struct buf *heard)
{
	static const char head[] = "HTTP/1.1 101 Switching Protocols\r\n";

	assert_true(buf_len(heard) > sizeof head);
	assert_memory_equal(buf_data(heard), head, sizeof head - 1);
	assert_true(contains(heard, "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"));
	const uint8_t *end = memmem(buf_data(heard), buf_len(heard), "\r\n\r\n", 4);
	assert_non_null(end);
	buf_eat(heard, (size_t)(end - buf_data(heard)) + 4);
}

static void open_ws(struct pair *p)
{
	struct buf b = { 0 }, frames = { 0 };

	assert_true(pair_open(p, OPS));
	p->admit = admit_native;
	add(&b, HANDSHAKE("derp"));
	add_client_info(p, &frames, MINIMAL_INFO);
	add_whole(&b, &frames);
	assert_int_equal(feed(p, p->server, &b), 0);
	assert_int_equal(hear(p->server, &b), 0);
	take_head(&b);
	take_all(&b, &frames);
	assert_int_equal(count_frames(&frames, DERP_SERVER_KEY), 1); /* in spite of fast start */
	assert_int_equal(count_frames(&frames, DERP_SERVER_INFO), 1);
	assert_int_equal(first_frame(&frames).kind, DERP_SERVER_KEY);
	buf_done(&b);
	buf_done(&frames);
}

static void frames_come_in_messages_that_mean_nothing(void **state)
{
	struct buf b = { 0 }, frames = { 0 };
	struct pair p;

	(void)state;
	open_ws(&p);
	for (unsigned i = 0; i < 5; i++)
		derp_put_packet(&frames, DERP_SEND_PACKET, &stranger, (const uint8_t *)"abcdef", i);
	derp_put(&frames, DERP_PING, "12345678", 8);
	for (size_t n = 1; buf_len(&frames); n += 5) { /* of any length */
		size_t len = n < buf_len(&frames) ? n : buf_len(&frames);
		add_message(&b, BINARY, buf_data(&frames), len);
		buf_eat(&frames, len);
	}
	p.chunk = 3;
	assert_int_equal(feed(&p, p.server, &b), 0);
	for (unsigned i = 0; i < 5; i++) {
		struct pkt *got = pktq_pop(&p.at_server.packets);
		assert_non_null(got);
		assert_int_equal(got->len, i);
		pkt_free(got);
	}
	assert_int_equal(hear(p.server, &b), 0);
	take_all(&b, &frames);
	assert_hex(buf_data(&frames), buf_len(&frames), "13000000083132333435363738");
	buf_done(&b);
	buf_done(&frames);
	pair_close(&p, OPS);
}

static void packets_of_every_size_pass_both_ways(void **state)
{
	static const size_t sizes[] = { 0, 1, 1420, 32700, 32768, 65507, 65536 };
	struct buf b = { 0 }, frames = { 0 };
	struct pair p;

	(void)state;
	open_ws(&p);
	for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
		struct pkt *up = packet(NULL, &stranger, "upward", sizes[i]);
		derp_put_packet(&frames, DERP_SEND_PACKET, &stranger, up->data, up->len);
		pkt_free(up);
		add_whole(&b, &frames);
		assert_int_equal(feed(&p, p.server, &b), 0);
		struct pkt *got = pktq_pop(&p.at_server.packets);
		assert_non_null(got);
		assert_int_equal(got->len, sizes[i]);
		pkt_free(got);
		OPS->send(p.at_server.chan, packet(&stranger, NULL, "downward", sizes[i]));
		assert_int_equal(hear(p.server, &b), 0);
		take_all(&b, &frames);
		struct frame f = first_frame(&frames);
		assert_int_equal(f.kind, DERP_RECV_PACKET);
		assert_int_equal(f.len, KEY_LEN + sizes[i]);
		for (size_t k = 0; k < sizes[i]; k++)
			assert_int_equal(f.p[KEY_LEN + k], "downward"[k % 8]);
		buf_clear(&frames);
	}
	buf_done(&b);
	buf_done(&frames);
	pair_close(&p, OPS);
}

static void pings_of_WebSocket_are_answered_and_counted(void **state)
{
	struct buf b = { 0 }, payload = { 0 };
	struct pair p;
	unsigned n = 0;
	int rc;

	(void)state;
	open_ws(&p);
	add_message(&b, PING, "hello", 5);
	assert_int_equal(feed(&p, p.server, &b), 0);
	assert_true(OPS->has_output(p.server));
	assert_int_equal(hear(p.server, &b), 0);
	assert_int_equal(take_message(&b, &payload), PONG);
	assert_true(buf_len(&payload) == 5 && contains(&payload, "hello"));
	do {
		add_message(&b, PING, NULL, 0);
		rc = feed(&p, p.server, &b);
		if (rc == 0)
			rc = hear(p.server, &b);
		buf_clear(&b);
	} while (rc == 0 && ++n < 5000);
	assert_int_equal(rc, ERR_FLOOD);
	assert_true(n >= limits_default.controls_burst);
	buf_done(&b);
	buf_done(&payload);
	pair_close(&p, OPS);
}

/* The code of the close frame that is all there is to hear. */
static unsigned close_code(struct pair *p)
{
	struct buf b = { 0 }, payload = { 0 };

	assert_true(hear(p->server, &b) < 0);
	assert_int_equal(take_message(&b, &payload), CLOSE);
	assert_int_equal(buf_len(&b), 0);
	assert_true(buf_len(&payload) >= 2);
	unsigned code = (unsigned)buf_data(&payload)[0] << 8 | buf_data(&payload)[1];
	buf_done(&b);
	buf_done(&payload);
	return code;
}

static void D21_what_is_no_binary_message_ends_it_with_its_code(void **state)
{
	struct buf b = { 0 };
	struct pair p;

	(void)state;
	open_ws(&p);
	add_message(&b, TEXT, "hello", 5);
	assert_true(feed(&p, p.server, &b) < 0);
	assert_int_equal(close_code(&p), WS_UNSUPPORTED);
	pair_close(&p, OPS);
	open_ws(&p);
	add(&b, "\x82\x01x"); /* unmasked */
	assert_true(feed(&p, p.server, &b) < 0);
	assert_int_equal(close_code(&p), WS_PROTOCOL);
	pair_close(&p, OPS);
	open_ws(&p);
	add_message(&b, BINARY | 0x40, "x", 1); /* RSV1 */
	assert_true(feed(&p, p.server, &b) < 0);
	assert_int_equal(close_code(&p), WS_PROTOCOL);
	buf_done(&b);
	pair_close(&p, OPS);
}

static void D21_a_subprotocol_that_only_contains_derp_is_closed_at_once(void **state)
{
	struct buf b = { 0 }, frames = { 0 };
	struct pair p;

	(void)state;
	assert_true(pair_open(&p, OPS));
	add(&b, HANDSHAKE("xderp"));
	add_client_info(&p, &frames, MINIMAL_INFO);
	add_whole(&b, &frames);
	assert_int_equal(feed(&p, p.server, &b), 0);
	assert_int_equal(p.at_server.n_hello, 0);
	assert_int_equal(hear(p.server, &b), ERR_CLOSED);
	take_head(&b);
	assert_int_equal(take_message(&b, &frames), CLOSE);
	assert_int_equal(buf_data(&frames)[1], WS_POLICY & 255);
	assert_int_equal(buf_len(&b), 0);
	buf_done(&b);
	buf_done(&frames);
	pair_close(&p, OPS);
}

static void who_closes_is_answered_and_that_is_all(void **state)
{
	struct buf b = { 0 };
	struct pair p;

	(void)state;
	open_ws(&p);
	add_message(&b, CLOSE, "\x03\xe8", 2);
	assert_true(feed(&p, p.server, &b) < 0);
	assert_int_equal(close_code(&p), WS_NORMAL);
	assert_string_equal(OPS->error_text(p.server), "");
	pair_close(&p, OPS);
	open_ws(&p);
	OPS->end(p.at_server.chan, CLOSE_CANCELLED, "secret words");
	assert_int_equal(close_code(&p), WS_NORMAL);
	buf_done(&b);
	pair_close(&p, OPS);
}

static void what_was_sent_leaves_before_the_close(void **state)
{
	struct buf b = { 0 }, frames = { 0 };
	struct pair p;

	(void)state;
	open_ws(&p);
	OPS->send(p.at_server.chan, packet(&stranger, NULL, "last words", 10));
	OPS->end(p.at_server.chan, CLOSE_CANCELLED, "");
	assert_int_equal(hear(p.server, &b), ERR_CLOSED);
	assert_int_equal(take_message(&b, &frames), BINARY);
	assert_true(contains(&frames, "last words"));
	buf_clear(&frames);
	assert_int_equal(take_message(&b, &frames), CLOSE);
	assert_int_equal(buf_data(&frames)[1], WS_NORMAL & 255);
	assert_int_equal(buf_len(&b), 0);
	buf_done(&b);
	buf_done(&frames);
	pair_close(&p, OPS);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(frames_come_in_messages_that_mean_nothing),
		cmocka_unit_test(packets_of_every_size_pass_both_ways),
		cmocka_unit_test(pings_of_WebSocket_are_answered_and_counted),
		cmocka_unit_test(D21_what_is_no_binary_message_ends_it_with_its_code),
		cmocka_unit_test(D21_a_subprotocol_that_only_contains_derp_is_closed_at_once),
		cmocka_unit_test(who_closes_is_answered_and_that_is_all),
		cmocka_unit_test(what_was_sent_leaves_before_the_close),
	};
	return cmocka_run_group_tests(tests, start_derp, NULL);
}
