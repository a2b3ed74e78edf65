/* DERP frames: the vectors of derp.md 2.9, every length at and around its limit, streams
 * cut everywhere. */
#include "tests/unit/said.h"

#include "common/base/err.h"
#include "common/wire/derp.h"

typedef int checker(const struct framer *, uint8_t, uint32_t);

static const struct key alice = { { 1, 2, 3, [31] = 0x41 } }, bob = { { 9, 8, 7, [31] = 0x42 } };
static const char server_public[] =
                "358072d6365880d1aeea329adf9121383851ed21a28e3b75e965d0d2cd166254";

static void assert_hex(const struct buf *b, const char *hex)
{
	char text[1024];

	assert_true(2 * buf_len(b) < sizeof text);
	hex_encode(buf_data(b), buf_len(b), text);
	assert_string_equal(text, hex);
}

/* The one frame that `out` holds. */
static struct frame only(const struct buf *out)
{
	struct cursor c = cursor_of(buf_data(out), buf_len(out));
	struct frame f = { .kind = cursor_u8(&c), .len = cursor_u32be(&c) };

	assert_true(cursor_ok(&c));
	assert_int_equal(cursor_left(&c), f.len);
	f.p = cursor_take(&c, f.len);
	return f;
}

/* From a block of just this length, so that a sanitizer sees one byte too many. */
static struct frame frame_of(uint8_t kind, uint32_t len)
{
	uint8_t *p = malloc(len ? len : 1);

	assert_non_null(p);
	for (uint32_t i = 0; i < len; i++)
		p[i] = (uint8_t)i;
	return (struct frame){ kind, len, p };
}
static void frame_drop(struct frame *f) { free((void *)(uintptr_t)f->p); }

/* ---- vectors (derp.md 2.9) ---- */

static void frames_are_those_of_the_vectors(void **state)
{
	static const uint8_t ping[] = { 1, 2, 3, 4, 5, 6, 7, 0x2a };
	struct buf out = { 0 };
	struct key key;
	char hex[200];

	(void)state;
	assert_int_equal(hex_decode(str_of(server_public), key.b, KEY_LEN), 0);
	assert_int_equal(derp_put_server_key(&out, &key, false), 0);
	snprintf(hex, sizeof hex, "010000002844455250f09f9491%s", server_public);
	assert_hex(&out, hex);
	buf_clear(&out);
	assert_int_equal(derp_put(&out, DERP_PING, ping, sizeof ping), 0);
	assert_hex(&out, "1200000008010203040506072a");
	buf_clear(&out);
	assert_int_equal(derp_put_restarting(&out, 1, 2), 0);
	assert_hex(&out, "15000000080000000100000002");
	buf_clear(&out);
	assert_int_equal(derp_put(&out, DERP_KEEP_ALIVE, NULL, 0), 0);
	assert_hex(&out, "0600000000");
	buf_done(&out);
}

static void heads_are_those_of_the_vectors(void **state)
{
	uint8_t head[FRAME_HEAD_LEN];

	(void)state;
	frame_put_head(head, DERP_SEND_PACKET, 1024);
	assert_memory_equal(head, "\x04\0\0\x04\0", sizeof head);
	frame_put_head(head, DERP_KEEP_ALIVE, 0);
	assert_memory_equal(head, "\x06\0\0\0\0", sizeof head);
	frame_put_head(head, DERP_RECV_PACKET, UINT32_MAX);
	assert_memory_equal(head, "\x05\xff\xff\xff\xff", sizeof head);
}

/* ---- what is put is got ---- */

static void a_packet_is_read_as_it_was_written(void **state)
{
	static uint8_t data[DERP_PACKET_MAX];
	static const size_t lens[] = { 0, 1, 1420, DERP_PACKET_MAX };
	struct buf out = { 0 };
	struct key key, src;
	struct str packet;

	(void)state;
	for (size_t i = 0; i < sizeof data; i++)
		data[i] = (uint8_t)(i * 7);
	for (size_t i = 0; i < sizeof lens / sizeof *lens; i++) {
		assert_int_equal(derp_put_packet(&out, DERP_SEND_PACKET, &bob, data, lens[i]), 0);
		struct frame f = only(&out);
		assert_int_equal(f.kind, DERP_SEND_PACKET);
		assert_int_equal(f.len, KEY_LEN + lens[i]);
		assert_int_equal(derp_get_packet(&f, &key, &packet), 0);
		assert_true(key_eq(&key, &bob));
		assert_int_equal(packet.len, lens[i]);
		assert_memory_equal(packet.p, data, lens[i]);
		buf_clear(&out);
		assert_int_equal(derp_put_forward(&out, &alice, &bob, data, lens[i]), 0);
		f = only(&out);
		assert_int_equal(f.kind, DERP_FORWARD_PACKET);
		assert_int_equal(f.len, 2 * KEY_LEN + lens[i]);
		assert_int_equal(derp_get_forward(&f, &src, &key, &packet), 0);
		assert_true(key_eq(&src, &alice) && key_eq(&key, &bob));
		assert_int_equal(packet.len, lens[i]);
		assert_memory_equal(packet.p, data, lens[i]);
		buf_clear(&out);
	}
	buf_done(&out);
}

static void a_packet_of_a_flow_is_read_as_it_was_written(void **state)
{
	struct buf out = { 0 };
	struct key key;
	struct str packet;
	uint32_t flow;

	(void)state;
	assert_int_equal(derp_put_flow(&out, &bob, 0x01020304, (const uint8_t *)"hello", 5), 0);
	struct frame f = only(&out);
	assert_int_equal(f.kind, DERP_TUNN_FLOW);
	assert_int_equal(derp_get_flow(&f, &key, &flow, &packet), 0);
	assert_true(key_eq(&key, &bob));
	assert_int_equal(flow, 0x01020304);
	assert_true(str_eq(packet, STR("hello")));
	buf_done(&out);
	for (uint32_t len = 0; len < 40; len++) {
		f = frame_of(DERP_TUNN_FLOW, len);
		assert_int_equal(derp_get_flow(&f, &key, &flow, &packet),
		                 len < 36 ? ERR_PROTOCOL : 0);
		frame_drop(&f);
	}
}

static void the_greeting_tells_whether_the_server_is_ours(void **state)
{
	struct buf out = { 0 };
	struct key key;
	bool marked = true;

	(void)state;
	assert_int_equal(derp_put_server_key(&out, &alice, false), 0);
	struct frame f = only(&out);
	assert_int_equal(f.len, 40);
	assert_int_equal(derp_get_server_key(&f, &key, &marked), 0);
	assert_true(key_eq(&key, &alice));
	assert_false(marked);
	buf_clear(&out);
	assert_int_equal(derp_put_server_key(&out, &bob, true), 0);
	f = only(&out);
	assert_int_equal(f.len, 45);
	assert_memory_equal(f.p + 40, "tunn1", 5);
	assert_int_equal(derp_get_server_key(&f, &key, &marked), 0);
	assert_true(key_eq(&key, &bob));
	assert_true(marked);
	f.len--; /* "tunn": reserved bytes of somebody else */
	assert_int_equal(derp_get_server_key(&f, &key, &marked), 0);
	assert_false(marked);
	buf_done(&out);
}

static void D18_a_greeting_that_is_not_derps_is_refused(void **state)
{
	struct key key;
	bool marked;

	(void)state;
	for (uint32_t len = 0; len < 60; len++) {
		struct buf out = { 0 };
		struct frame f = frame_of(DERP_SERVER_KEY, len);
		assert_int_equal(derp_get_server_key(&f, &key, &marked), ERR_PROTOCOL);
		frame_drop(&f);
		if (len < 8) { /* each byte of the magic counts */
			assert_int_equal(derp_put_server_key(&out, &alice, false), 0);
			f = only(&out);
			((uint8_t *)(uintptr_t)f.p)[len] ^= 1;
			assert_int_equal(derp_get_server_key(&f, &key, &marked), ERR_PROTOCOL);
		}
		buf_done(&out);
	}
}

static void PeerGone_is_written_with_its_reason_and_read_without_too(void **state)
{
	struct buf out = { 0 };
	struct key key;
	uint8_t reason = 77;

	(void)state;
	assert_int_equal(derp_put_gone(&out, &bob, DERP_GONE_NOT_HERE), 0);
	struct frame f = only(&out);
	assert_int_equal(f.len, 33);
	assert_int_equal(derp_get_gone(&f, &key, &reason), 0);
	assert_true(key_eq(&key, &bob));
	assert_int_equal(reason, DERP_GONE_NOT_HERE);
	buf_done(&out);
	for (uint32_t len = 0; len < 40; len++) {
		f = frame_of(DERP_PEER_GONE, len);
		assert_int_equal(derp_get_gone(&f, &key, &reason), len < 32 ? ERR_PROTOCOL : 0);
		if (len >= 32)
			assert_int_equal(reason, len == 32 ? DERP_GONE_DISCONNECTED : 32);
		frame_drop(&f);
	}
}

static void PeerPresent_is_51_bytes_and_read_from_32_on(void **state)
{
	const struct derp_present sent = {
		.key = alice, .ip = { [10] = 0xff, 0xff, 192, 0, 2, 1 }, .port = 0x1234, .flags = 9
	};
	struct derp_present got;
	struct buf out = { 0 };

	(void)state;
	assert_int_equal(derp_put_present(&out, &sent), 0);
	struct frame f = only(&out);
	assert_int_equal(f.len, 51);
	assert_int_equal(derp_get_present(&f, &got), 0);
	assert_true(key_eq(&got.key, &alice));
	assert_memory_equal(got.ip, sent.ip, sizeof got.ip);
	assert_int_equal(got.port, 0x1234);
	assert_int_equal(got.flags, 9);
	buf_done(&out);
	for (uint32_t len = 0; len <= 60; len++) {
		f = frame_of(DERP_PEER_PRESENT, len);
		assert_int_equal(derp_get_present(&f, &got), len < 32 ? ERR_PROTOCOL : 0);
		if (len >= 32) {
			assert_memory_equal(got.key.b, f.p, KEY_LEN);
			assert_int_equal(got.ip[15], len >= 50 ? 47 : 0);
			assert_int_equal(got.port, len >= 50 ? 48 << 8 | 49 : 0);
			assert_int_equal(got.flags, len >= 51 ? 50 : 0);
		}
		frame_drop(&f);
	}
}

static void frames_that_are_too_short_are_refused(void **state)
{
	struct key a, b;
	struct str rest;
	uint32_t x, y;

	(void)state;
	for (uint32_t len = 0; len < 80; len++) {
		struct frame f = frame_of(0, len);
		int of_one = len < 32 ? ERR_PROTOCOL : 0, of_two = len < 64 ? ERR_PROTOCOL : 0;
		assert_int_equal(derp_get_packet(&f, &a, &rest), of_one);
		if (of_one == 0)
			assert_int_equal(rest.len, len - 32);
		assert_int_equal(derp_get_client_info(&f, &a, &rest), of_one);
		assert_int_equal(derp_get_forward(&f, &a, &b, &rest), of_two);
		assert_int_equal(derp_get_restarting(&f, &x, &y), len < 8 ? ERR_PROTOCOL : 0);
		if (len >= 8)
			assert_true(x == 0x00010203 && y == 0x04050607);
		frame_drop(&f);
	}
}

/* ---- lengths ---- */

enum { ANY = DERP_SERVER_FRAME_MAX, ALL = 1 << 20 };

static const struct bounds {
	checker *check;
	uint8_t type;
	uint32_t least, most;
} bounds[] = {
	{ derp_check_first_of_client, DERP_CLIENT_INFO, 56, 16384 },
	{ derp_check_client, DERP_SEND_PACKET, 32, 65568 },
	{ derp_check_client, DERP_FORWARD_PACKET, 64, 65600 },
	{ derp_check_client, DERP_NOTE_PREFERRED, 1, 1 },
	{ derp_check_client, DERP_WATCH_CONNS, 0, 0 },
	{ derp_check_client, DERP_CLOSE_PEER, 32, 32 },
	{ derp_check_client, DERP_PING, 8, 1000 },
	/* skipped, whatever they hold (derp.md 2.3; D14) */
	{ derp_check_client, DERP_SERVER_KEY, 0, ANY },
	{ derp_check_client, DERP_CLIENT_INFO, 0, ANY },
	{ derp_check_client, DERP_SERVER_INFO, 0, ANY },
	{ derp_check_client, DERP_RECV_PACKET, 0, ANY },
	{ derp_check_client, DERP_KEEP_ALIVE, 0, ANY },
	{ derp_check_client, DERP_PEER_GONE, 0, ANY },
	{ derp_check_client, DERP_PEER_PRESENT, 0, ANY },
	{ derp_check_client, DERP_PONG, 0, ANY },
	{ derp_check_client, DERP_HEALTH, 0, ANY },
	{ derp_check_client, DERP_RESTARTING, 0, ANY },
	{ derp_check_client, DERP_TUNN, 0, ANY },
	{ derp_check_client, DERP_TUNN_FLOW, 0, ANY },
	{ derp_check_client, 0x00, 0, ANY },
	{ derp_check_client, 0xff, 0, ANY },
	{ derp_check_first_of_server, DERP_SERVER_KEY, 40, 1024 },
	{ derp_check_server, DERP_RECV_PACKET, 32, 65568 },
	{ derp_check_server, DERP_SERVER_KEY, 0, ALL },
	{ derp_check_server, DERP_SERVER_INFO, 0, ALL },
	{ derp_check_server, DERP_KEEP_ALIVE, 0, ALL },
	{ derp_check_server, DERP_PEER_GONE, 0, ALL },
	{ derp_check_server, DERP_PEER_PRESENT, 0, ALL },
	{ derp_check_server, DERP_PING, 0, ALL },
	{ derp_check_server, DERP_PONG, 0, ALL },
	{ derp_check_server, DERP_HEALTH, 0, ALL },
	{ derp_check_server, DERP_RESTARTING, 0, ALL },
	{ derp_check_server, DERP_TUNN, 0, ALL },
	{ derp_check_server, DERP_TUNN_FLOW, 0, ALL },
	{ derp_check_server, 0xff, 0, ALL },
};

static void D06_D09_D12_D13_D14_D15_every_length_is_bounded(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof bounds / sizeof *bounds; i++) {
		const struct bounds *b = &bounds[i];
		if (b->least)
			assert_int_equal(b->check(NULL, b->type, b->least - 1), ERR_PROTOCOL);
		assert_int_equal(b->check(NULL, b->type, b->least), 0);
		assert_int_equal(b->check(NULL, b->type, b->most), 0);
		assert_int_equal(b->check(NULL, b->type, b->most + 1), ERR_TOO_BIG);
		assert_int_equal(b->check(NULL, b->type, UINT32_MAX), ERR_TOO_BIG);
	}
}

static void D05_only_one_frame_can_be_the_first(void **state)
{
	(void)state;
	for (unsigned type = 0; type < 256; type++) {
		if (type != DERP_CLIENT_INFO)
			assert_int_equal(derp_check_first_of_client(NULL, (uint8_t)type, 100),
			                 ERR_PROTOCOL);
		if (type != DERP_SERVER_KEY)
			assert_int_equal(derp_check_first_of_server(NULL, (uint8_t)type, 40),
			                 ERR_PROTOCOL);
	}
}

/* ---- streams ---- */

/* Every frame of a side, one after the other. */
static void put_client(struct buf *out)
{
	static const uint8_t data[300] = { 5, 6, 7 };

	derp_put_packet(out, DERP_SEND_PACKET, &bob, data, sizeof data);
	derp_put(out, DERP_NOTE_PREFERRED, "\1", 1);
	derp_put(out, DERP_WATCH_CONNS, NULL, 0);
	derp_put_packet(out, DERP_SEND_PACKET, &alice, NULL, 0);
	derp_put(out, DERP_CLOSE_PEER, alice.b, KEY_LEN);
	derp_put(out, DERP_PING, "12345678 and more", 17);
	derp_put(out, DERP_PONG, "87654321", 8);
	derp_put(out, (enum derp_type)0x77, data, 100); /* unknown */
	derp_put(out, (enum derp_type)0x78, NULL, 0);
	derp_put_forward(out, &alice, &bob, data, 1);
}

static void put_server(struct buf *out)
{
	static const uint8_t data[300] = { 9, 6, 7 };

	derp_put_packet(out, DERP_RECV_PACKET, &bob, data, sizeof data);
	derp_put(out, DERP_KEEP_ALIVE, NULL, 0);
	derp_put_gone(out, &alice, DERP_GONE_DISCONNECTED);
	derp_put_present(out, &(struct derp_present){ .key = bob });
	derp_put(out, DERP_PING, "12345678", 8);
	derp_put(out, DERP_PONG, "87654321", 8);
	derp_put(out, DERP_HEALTH, "unwell", 6);
	derp_put(out, DERP_HEALTH, NULL, 0);
	derp_put_restarting(out, 1000, 2000);
	derp_put(out, (enum derp_type)0x79, data, 200); /* unknown */
	derp_put_packet(out, DERP_RECV_PACKET, &alice, NULL, 0);
}

/* What a framer gives, written again: equal to the input when it lost nothing. */
static int collect(struct framer *f, const uint8_t *p, size_t len, struct buf *seen)
{
	uint8_t *copy = malloc(len ? len : 1);
	struct cursor in;
	struct frame frame;
	int rc;

	assert_non_null(copy);
	for (size_t i = 0; i < len; i++)
		copy[i] = p[i];
	in = cursor_of(copy, len);
	while ((rc = frame_next(f, &in, &frame)) == 0)
		derp_put(seen, (enum derp_type)frame.kind, frame.p, frame.len);
	if (rc == ERR_AGAIN)
		assert_int_equal(cursor_left(&in), 0);
	free(copy);
	return rc;
}

static void assert_same(const struct buf *a, const struct buf *b)
{
	assert_int_equal(buf_len(a), buf_len(b));
	assert_memory_equal(buf_data(a), buf_data(b), buf_len(a));
}

static void cut_everywhere(checker *check, const struct buf *all)
{
	size_t len = buf_len(all);

	for (size_t at = 0; at <= len; at++) {
		struct framer f = { .check = check };
		struct buf seen = { 0 };
		assert_int_equal(collect(&f, buf_data(all), at, &seen), ERR_AGAIN);
		assert_int_equal(framer_is_between(&f), at == buf_len(&seen));
		assert_int_equal(collect(&f, buf_data(all) + at, len - at, &seen), ERR_AGAIN);
		assert_true(framer_is_between(&f));
		assert_same(all, &seen);
		buf_done(&seen);
		framer_done(&f);
	}
	struct framer f = { .check = check };
	struct buf seen = { 0 };
	for (size_t at = 0; at < len; at++)
		assert_int_equal(collect(&f, buf_data(all) + at, 1, &seen), ERR_AGAIN);
	assert_same(all, &seen);
	buf_done(&seen);
	framer_done(&f);
}

static void a_stream_of_every_frame_may_be_cut_anywhere(void **state)
{
	struct buf all = { 0 };

	(void)state;
	put_client(&all);
	cut_everywhere(derp_check_client, &all);
	buf_clear(&all);
	put_server(&all);
	cut_everywhere(derp_check_server, &all);
	buf_done(&all);
}

/* The error comes with the head, before any byte of the frame is kept. */
static void D06_a_frame_too_long_is_refused_by_its_head_however_that_comes(void **state)
{
	static const uint8_t head[] = { DERP_CLIENT_INFO, 0xff, 0xff, 0xff, 0xff };

	(void)state;
	for (size_t at = 0; at <= sizeof head; at++) {
		struct framer f = { .check = derp_check_first_of_client };
		struct buf seen = { 0 };
		int rc = collect(&f, head, at, &seen);
		if (at < sizeof head) {
			assert_int_equal(rc, ERR_AGAIN);
			rc = collect(&f, head + at, sizeof head - at, &seen);
		}
		assert_int_equal(rc, ERR_TOO_BIG);
		assert_int_equal(buf_len(&f.partial), 0);
		assert_int_equal(buf_len(&seen), 0);
		framer_done(&f);
	}
}

static int drain(void **state)
{
	(void)state;
	buf_pool_drain();
	return 0;
}

#define TEST(name) cmocka_unit_test_teardown(name, drain)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(frames_are_those_of_the_vectors),
		TEST(heads_are_those_of_the_vectors),
		TEST(a_packet_is_read_as_it_was_written),
		TEST(a_packet_of_a_flow_is_read_as_it_was_written),
		TEST(the_greeting_tells_whether_the_server_is_ours),
		TEST(D18_a_greeting_that_is_not_derps_is_refused),
		TEST(PeerGone_is_written_with_its_reason_and_read_without_too),
		TEST(PeerPresent_is_51_bytes_and_read_from_32_on),
		TEST(frames_that_are_too_short_are_refused),
		TEST(D06_D09_D12_D13_D14_D15_every_length_is_bounded),
		TEST(D05_only_one_frame_can_be_the_first),
		TEST(a_stream_of_every_frame_may_be_cut_anywhere),
		TEST(D06_a_frame_too_long_is_refused_by_its_head_however_that_comes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
