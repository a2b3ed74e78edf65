#include "tests/unit/said.h"

#include "common/base/err.h"
#include "common/wire/datagram.h"
#include "common/wire/grpc.h"
#include "common/wire/msg.h"

static uint8_t payload[65507], ours[70000];

static size_t encode(const struct datagram *d)
{
	size_t n = datagram_size(d);

	assert_true(n <= sizeof ours);
	datagram_encode(d, ours);
	return n;
}

static void assert_str(struct str a, struct str b)
{
	assert_int_equal(a.len, b.len);
	assert_memory_equal(a.p, b.p, a.len);
}

/* By protobuf-c, the slow way. */
static void assert_protobuf_agrees(const struct datagram *d, size_t n)
{
	struct msg m = { .kind = MSG_UDP,
		         .tunnel_id = d->tunnel_id,
		         .peer_id = d->peer_id,
		         .data = d->data,
		         .flow = d->flow };
	struct buf theirs = { 0 };
	struct arena arena = { 0 };

	assert_int_equal(msg_encode(&m, &theirs), 0);
	assert_int_equal(buf_len(&theirs), n);
	assert_memory_equal(buf_data(&theirs), ours, n);
	buf_done(&theirs);
	assert_int_equal(msg_decode(&arena, ours + GRPC_PREFIX_LEN, n - GRPC_PREFIX_LEN, &m), 0);
	assert_int_equal(m.kind, MSG_UDP);
	assert_str(m.tunnel_id, d->tunnel_id);
	assert_str(m.peer_id, d->peer_id);
	assert_str(m.data, d->data);
	assert_int_equal(m.flow, d->flow);
	arena_clear(&arena);
}

static void assert_round_trip(const struct datagram *d)
{
	struct datagram back;
	size_t n = encode(d);

	assert_protobuf_agrees(d, n);
	assert_int_equal(datagram_decode(ours + GRPC_PREFIX_LEN, n - GRPC_PREFIX_LEN, &back), 0);
	assert_str(back.tunnel_id, d->tunnel_id);
	assert_str(back.peer_id, d->peer_id);
	assert_str(back.data, d->data);
	assert_int_equal(back.flow, d->flow);
	assert_int_equal(back.tunnel_id.p == NULL, d->tunnel_id.len == 0);
	assert_int_equal(back.peer_id.p == NULL, d->peer_id.len == 0);
}

static struct str bytes(size_t n) { return (struct str){ n ? (char *)payload : NULL, n }; }

static void every_size_is_written_as_protobuf_writes_it(void **state)
{
	static const size_t edges[] = { 0,     1,     119,   120,   121,  125,  126,
		                        127,   128,   129,   255,   1420, 1500, 16375,
		                        16383, 16384, 16385, 65506, 65507 };
	struct datagram d = { 0 };

	(void)state;
	for (size_t i = 0; i < sizeof edges / sizeof *edges; i++) {
		d.data = bytes(edges[i]);
		d.peer_id = (struct str){ NULL, 0 };
		assert_round_trip(&d);
		d.peer_id = STR("home-wg");
		assert_round_trip(&d);
	}
}

static void every_combination_of_fields_is_written_as_protobuf_writes_it(void **state)
{
	static const uint32_t flows[] = { 0,     1,        127,      128,       16383,
		                          16384, 1u << 21, 1u << 28, UINT32_MAX };
	unsigned seed = 5;

	(void)state;
	for (unsigned i = 0; i < 5000; i++) {
		struct datagram d = {
			.tunnel_id = bytes(rand_r(&seed) % 3 ? 0 : (size_t)rand_r(&seed) % 200),
			.peer_id = bytes(rand_r(&seed) % 3 ? 0 : (size_t)rand_r(&seed) % 200),
			.data = bytes((size_t)rand_r(&seed) % 2000),
			.flow = flows[(unsigned)rand_r(&seed) % 9]
		};
		assert_round_trip(&d);
	}
}

static void a_message_cut_anywhere_is_malformed(void **state)
{
	struct datagram d = { .tunnel_id = STR("tid"),
		              .peer_id = STR("pid"),
		              .data = STR("data"),
		              .flow = 300 },
	                out;
	size_t n = encode(&d) - GRPC_PREFIX_LEN;

	(void)state;
	for (size_t len = 1; len < n; len++) {
		uint8_t *copy = malloc(len);
		assert_non_null(copy);
		memcpy(copy, ours + GRPC_PREFIX_LEN, len);
		assert_int_equal(datagram_decode(copy, len, &out), ERR_PROTOCOL);
		free(copy);
	}
	assert_int_equal(datagram_decode(ours, 0, &out), ERR_NOT_FOUND);
}

static int decode(const char *text, size_t len, struct datagram *d)
{
	return datagram_decode((const uint8_t *)text, len, d);
}
#define DECODE(lit, d) decode(lit, sizeof(lit) - 1, d)

static void other_messages_are_left_to_the_slow_way(void **state)
{
	struct datagram d;

	(void)state;
	assert_int_equal(DECODE("\x2a\x02\x08\x01", &d), ERR_NOT_FOUND); /* health_check */
	assert_int_equal(DECODE("\x5a\x00\x5a\x00", &d), ERR_NOT_FOUND); /* two of them */
	assert_int_equal(DECODE("\x5a\x00\x2a\x00", &d), ERR_NOT_FOUND);
}

static void an_empty_packet_is_an_empty_datagram(void **state)
{
	struct datagram d;

	(void)state;
	assert_int_equal(DECODE("\x5a\x00", &d), 0);
	assert_int_equal(d.data.len, 0);
	assert_null(d.peer_id.p);
	assert_int_equal(DECODE("\x5a\x04\x12\x00\x1a\x00", &d), 0); /* empty is as absent */
	assert_null(d.peer_id.p);
}

static void the_last_value_of_a_field_counts(void **state)
{
	struct datagram d;

	(void)state;
	assert_int_equal(DECODE("\x5a\x0a\x1a\x01"
	                        "a\x1a\x01"
	                        "b\x28\x01\x28\x02",
	                        &d),
	                 0);
	assert_str(d.data, STR("b"));
	assert_int_equal(d.flow, 2);
}

static void unknown_fields_are_skipped_and_counted(void **state)
{
	struct datagram d;
	uint8_t many[3 + 2 * 300] = { 0x5a, 0x80 | (600 & 0x7f), 600 >> 7 };

	(void)state;
	assert_int_equal(DECODE("\x5a\x17\x30\x05\x3a\x02xy\x41"
	                        "12345678\x4d"
	                        "1234\x1a\x01z",
	                        &d),
	                 0);
	assert_str(d.data, STR("z"));
	for (size_t i = 3; i < sizeof many; i += 2)
		many[i] = 0x30; /* field 6, varint 0 */
	assert_int_equal(datagram_decode(many, sizeof many, &d), ERR_TOO_BIG);
}

static void as_many_unknown_fields_as_allowed_pass_and_no_more(void **state)
{
	uint8_t many[3 + 2 * 257] = { 0 };
	struct datagram d;

	(void)state;
	for (size_t i = 3; i < sizeof many; i += 2)
		many[i] = 0x30; /* field 6, varint 0 */
	for (unsigned n = 255; n <= 257; n++) {
		many[0] = 0x5a;
		many[1] = (uint8_t)(0x80 | ((2 * n) & 0x7f));
		many[2] = (uint8_t)((2 * n) >> 7);
		assert_int_equal(datagram_decode(many, 3 + 2 * n, &d), n > 256 ? ERR_TOO_BIG : 0);
	}
}

/* P02; an encoder may write more bytes than a value needs, within bounds. */
static void varints_are_as_long_as_their_kind_allows(void **state)
{
	struct datagram d;

	(void)state;
	assert_int_equal(DECODE("\x5a\x84\x80\x80\x80\x00\x28\x07\x1a\x00", &d), 0);
	assert_int_equal(d.flow, 7);
	assert_int_equal(DECODE("\x5a\x84\x80\x80\x80\x80\x00\x28\x07\x1a\x00", &d),
	                 ERR_PROTOCOL); /* a length of 6 bytes */
	assert_int_equal(DECODE("\x5a\x07\xa8\x80\x80\x80\x80\x00\x07", &d),
	                 ERR_PROTOCOL); /* a tag of 6 bytes */
	assert_int_equal(DECODE("\x5a\x0b\x28\x87\x80\x80\x80\x80\x80\x80\x80\x80\x00", &d), 0);
	assert_int_equal(d.flow, 7); /* a value of 10 */
	assert_int_equal(DECODE("\x5a\x0c\x28\x87\x80\x80\x80\x80\x80\x80\x80\x80\x80\x00", &d),
	                 ERR_PROTOCOL); /* and of 11 */
	assert_int_equal(DECODE("\x5a\x0b\x28\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", &d),
	                 ERR_INVALID); /* P10: a negative number */
	assert_int_equal(DECODE("\x5a\x02\x28\x80", &d), ERR_PROTOCOL);
}

static void what_is_refused_leaves_the_output_alone(void **state)
{
	struct datagram d = { .flow = 77 };

	(void)state;
	assert_true(DECODE("\x5a\x04\x28\x05\x33\x00", &d) < 0);
	assert_true(DECODE("\x2a\x00", &d) < 0);
	assert_int_equal(d.flow, 77);
}

static void malformed_fields_are_refused(void **state)
{
	struct datagram d;

	(void)state;
	assert_int_equal(DECODE("\x5a\x02\x18\x01", &d), ERR_PROTOCOL);  /* data as varint */
	assert_int_equal(DECODE("\x5a\x02\x02\x00", &d), ERR_PROTOCOL);  /* field 0 */
	assert_int_equal(DECODE("\x5a\x01\x33", &d), ERR_PROTOCOL);      /* group */
	assert_int_equal(DECODE("\x5a\x03\x1a\x05z", &d), ERR_PROTOCOL); /* longer than there is */
	assert_int_equal(DECODE("\x5a\xff\xff\xff\xff\x7f", &d),
	                 ERR_PROTOCOL); /* length beyond the end */
	assert_int_equal(DECODE("\x5a\x06\x28\x80\x80\x80\x80\x10", &d),
	                 ERR_INVALID); /* flow of 33 bits */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_size_is_written_as_protobuf_writes_it),
		cmocka_unit_test(every_combination_of_fields_is_written_as_protobuf_writes_it),
		cmocka_unit_test(a_message_cut_anywhere_is_malformed),
		cmocka_unit_test(other_messages_are_left_to_the_slow_way),
		cmocka_unit_test(an_empty_packet_is_an_empty_datagram),
		cmocka_unit_test(the_last_value_of_a_field_counts),
		cmocka_unit_test(unknown_fields_are_skipped_and_counted),
		cmocka_unit_test(as_many_unknown_fields_as_allowed_pass_and_no_more),
		cmocka_unit_test(varints_are_as_long_as_their_kind_allows),
		cmocka_unit_test(what_is_refused_leaves_the_output_alone),
		cmocka_unit_test(malformed_fields_are_refused),
	};
	for (size_t i = 0; i < sizeof payload; i++)
		payload[i] = (uint8_t)(i * 7 + i / 256);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
