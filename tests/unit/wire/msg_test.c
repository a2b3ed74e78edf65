#include "tests/unit/said.h"

#include "common/base/err.h"
#include "common/wire/grpc.h"
#include "common/wire/msg.h"

static struct arena arena;

static void assert_str(struct str a, struct str b)
{
	assert_int_equal(a.len, b.len);
	assert_memory_equal(a.p ? a.p : "", b.p ? b.p : "", a.len);
}

/* Through the wire and back; out is good until the next call. */
static struct msg carried(const struct msg *m)
{
	static struct buf b;
	struct msg out;

	buf_clear(&b);
	arena_clear(&arena);
	assert_int_equal(msg_encode(m, &b), 0);
	assert_int_equal(buf_data(&b)[0], 0);
	assert_int_equal(msg_decode(&arena, buf_data(&b) + GRPC_PREFIX_LEN,
	                            buf_len(&b) - GRPC_PREFIX_LEN, &out),
	                 0);
	assert_int_equal(out.kind, m->kind);
	return out;
}

static int tidy(void **state)
{
	(void)state;
	arena_clear(&arena);
	return 0;
}

static void a_registration_is_carried_whole(void **state)
{
	struct str peers[] = { STR("a"), STR("acme/b") };
	struct msg m = { .kind = MSG_REGISTER,
		         .tunnel_id = STR("home"),
		         .token = STR("tok"),
		         .instance = STR("0123456789abcdef"),
		         .version = 1,
		         .role = 2,
		         .bidirectional = false,
		         .n_peers = 2,
		         .peers = peers };
	struct msg out = carried(&m);

	(void)state;
	assert_str(out.tunnel_id, m.tunnel_id);
	assert_str(out.token, m.token);
	assert_str(out.instance, m.instance);
	assert_int_equal(out.version, 1);
	assert_int_equal(out.role, 2);
	assert_false(out.bidirectional);
	assert_int_equal(out.n_peers, 2);
	assert_str(out.peers[0], peers[0]);
	assert_str(out.peers[1], peers[1]);
	m.bidirectional = true;
	assert_true(carried(&m).bidirectional);
}

static void an_answer_is_carried_whole(void **state)
{
	struct msg m = { .kind = MSG_REGISTERED,
		         .account = STR("acme"),
		         .node = STR("n1"),
		         .tunnel_id = STR("home"),
		         .version = 1,
		         .max_payload = 65507 };
	struct msg out = carried(&m);

	(void)state;
	assert_str(out.account, m.account);
	assert_str(out.node, m.node);
	assert_str(out.tunnel_id, m.tunnel_id);
	assert_int_equal(out.version, 1);
	assert_int_equal(out.max_payload, 65507);
}

static void health_is_carried_with_its_times(void **state)
{
	struct msg check = { .kind = MSG_HEALTH_CHECK, .timestamp = 1234567890123 };
	struct msg answer = { .kind = MSG_HEALTH_ANSWER,
		              .timestamp = -1,
		              .response_timestamp = INT64_MAX };
	struct msg out;

	(void)state;
	assert_true(carried(&check).timestamp == check.timestamp);
	out = carried(&answer);
	assert_true(out.timestamp == -1 && out.response_timestamp == INT64_MAX);
}

static void what_the_relay_tells_is_carried(void **state)
{
	struct msg closed = { .kind = MSG_STREAM_CLOSED, .text = STR("why") };
	struct msg peer = { .kind = MSG_PEER_STATUS,
		            .peer_id = STR("b"),
		            .state = 3,
		            .role = 1,
		            .text = STR("x") };
	struct msg draining = { .kind = MSG_NOTICE,
		                .notice = MSG_NOTICE_DRAINING,
		                .within_ms = 2000,
		                .text = STR("n2") };
	struct msg quota = { .kind = MSG_NOTICE,
		             .notice = MSG_NOTICE_QUOTA,
		             .percent = 80,
		             .resets_unix_s = 1800000000 };
	struct msg superseded = { .kind = MSG_NOTICE,
		                  .notice = MSG_NOTICE_SUPERSEDED,
		                  .text = STR("gone") };
	struct msg out;

	(void)state;
	assert_str(carried(&closed).text, closed.text);
	out = carried(&peer);
	assert_str(out.peer_id, peer.peer_id);
	assert_int_equal(out.state, 3);
	assert_int_equal(out.role, 1);
	out = carried(&draining);
	assert_int_equal(out.notice, MSG_NOTICE_DRAINING);
	assert_int_equal(out.within_ms, 2000);
	assert_str(out.text, draining.text);
	out = carried(&quota);
	assert_int_equal(out.notice, MSG_NOTICE_QUOTA);
	assert_int_equal(out.percent, 80);
	assert_true(out.resets_unix_s == 1800000000);
	out = carried(&superseded);
	assert_int_equal(out.notice, MSG_NOTICE_SUPERSEDED);
	assert_str(out.text, superseded.text);
}

static int decode(const void *p, size_t len, struct msg *out)
{
	return msg_decode(&arena, p, len, out);
}

static void an_identifier_with_nul_keeps_its_length(void **state)
{
	struct msg out;

	(void)state;
	assert_int_equal(decode("\x0a\x07\x0a\x03"
	                        "a\0b\x1a\x00",
	                        9, &out),
	                 0);
	assert_int_equal(out.kind, MSG_REGISTER);
	assert_int_equal(out.tunnel_id.len, 3);
	assert_memory_equal(out.tunnel_id.p, "a\0b", 3);
}

static void peer_id_and_peer_ids_are_one_list(void **state)
{
	struct msg out;

	(void)state;
	assert_int_equal(decode("\x0a\x08\x4a\x06\x0a\x01x\x1a\x01y", 10, &out), 0);
	assert_int_equal(out.n_peers, 2);
	assert_str(out.peers[0], STR("x"));
	assert_str(out.peers[1], STR("y"));
	assert_true(out.bidirectional); /* absent means true */
}

/* Checked by whoever uses it: only bytes can say what was wrong. */
static void an_identifier_of_invalid_utf8_arrives_as_it_was_sent(void **state)
{
	struct msg out;

	(void)state;
	assert_int_equal(decode("\x0a\x06\x0a\x04\xff\xc0\x80\xfe", 8, &out), 0);
	assert_int_equal(out.tunnel_id.len, 4);
	assert_memory_equal(out.tunnel_id.p, "\xff\xc0\x80\xfe", 4);
}

static void a_registration_without_relay_says_so(void **state)
{
	struct msg out;

	(void)state;
	assert_int_equal(decode("\x0a\x03\x0a\x01x", 5, &out), 0);
	assert_false(out.has_relay);
	assert_true(out.bidirectional);
	assert_int_equal(out.n_peers, 0);
	assert_int_equal(decode("\x0a\x02\x4a\x00", 4, &out), 0);
	assert_true(out.has_relay);
}

/* P06 */
static void the_last_of_several_messages_in_one_envelope_counts(void **state)
{
	struct msg out;

	(void)state;
	assert_int_equal(decode("\x2a\x02\x08\x07\x4a\x03\x12\x01x", 9, &out), 0);
	assert_int_equal(out.kind, MSG_STREAM_CLOSED);
	assert_str(out.text, STR("x"));
	assert_int_equal(decode("\x4a\x03\x12\x01x\x2a\x02\x08\x07", 9, &out), 0);
	assert_int_equal(out.kind, MSG_HEALTH_CHECK);
	assert_int_equal(out.timestamp, 7);
}

static void what_a_later_relay_may_say_is_left_to_the_reader(void **state)
{
	struct msg out;

	(void)state;
	assert_int_equal(decode("\x62\x02\x10\x63", 4, &out), 0); /* state 99 */
	assert_int_equal(out.kind, MSG_PEER_STATUS);
	assert_int_equal(out.state, 99);
	assert_int_equal(decode("\x6a\x02\x72\x00", 4, &out), 0); /* notice 14 */
	assert_int_equal(out.kind, MSG_NOTICE);
	assert_int_equal(out.notice, MSG_NOTICE_NONE);
	assert_int_equal(decode("\x6a\x00", 2, &out), 0);
	assert_int_equal(out.notice, MSG_NOTICE_NONE);
}

static void a_negative_role_is_invalid(void **state)
{
	struct msg out = { .kind = MSG_UDP };

	(void)state;
	assert_int_equal(decode("\x0a\x0d\x4a\x0b\x20\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 15,
	                        &out),
	                 ERR_INVALID);
	assert_int_equal(out.kind, MSG_UDP); /* untouched */
}

static void a_datagram_is_carried_the_slow_way_too(void **state)
{
	struct msg m = { .kind = MSG_UDP,
		         .tunnel_id = STR("t"),
		         .peer_id = STR("p"),
		         .data = STR("d\0d"),
		         .flow = UINT32_MAX };
	struct msg out = carried(&m);

	(void)state;
	assert_str(out.tunnel_id, m.tunnel_id);
	assert_str(out.peer_id, m.peer_id);
	assert_str(out.data, m.data);
	assert_true(out.flow == UINT32_MAX);
}

static void messages_are_appended_and_nothing_is_nothing(void **state)
{
	struct msg check = { .kind = MSG_HEALTH_CHECK, .timestamp = 1 };
	struct msg none = { .kind = MSG_NONE };
	struct buf b = { 0 };

	(void)state;
	assert_int_equal(msg_encode(&check, &b), 0);
	size_t one = buf_len(&b);
	assert_int_equal(msg_encode(&check, &b), 0);
	assert_int_equal(buf_len(&b), 2 * one);
	assert_memory_equal(buf_data(&b), buf_data(&b) + one, one);
	assert_true(msg_encode(&none, &b) < 0);
	assert_int_equal(buf_len(&b), 2 * one);
	buf_done(&b);
}

/* register_client with n peers of one letter each, n large enough for lengths of two bytes */
static size_t with_peers(uint8_t *out, unsigned n)
{
	size_t relay = 3 * (size_t)n, whole = relay + 3;
	const uint8_t head[] = { 0x0a, (uint8_t)(whole | 0x80), (uint8_t)(whole >> 7),
		                 0x4a, (uint8_t)(relay | 0x80), (uint8_t)(relay >> 7) };

	memcpy(out, head, sizeof head);
	for (unsigned i = 0; i < n; i++)
		memcpy(out + sizeof head + 3 * (size_t)i, "\x1a\x01p", 3);
	return sizeof head + relay;
}

static void more_peers_than_allowed_are_too_big(void **state)
{
	static uint8_t bytes[4096];
	struct msg out;

	(void)state;
	assert_int_equal(decode(bytes, with_peers(bytes, PEERS_MAX), &out), 0);
	assert_int_equal(out.n_peers, PEERS_MAX);
	arena_clear(&arena);
	assert_int_equal(decode(bytes, with_peers(bytes, PEERS_MAX + 1), &out), ERR_TOO_BIG);
}

static void a_role_outside_its_enum_is_invalid(void **state)
{
	struct msg out;

	(void)state;
	assert_int_equal(decode("\x0a\x04\x4a\x02\x20\x02", 6, &out), 0);
	assert_int_equal(decode("\x0a\x04\x4a\x02\x20\x03", 6, &out), ERR_INVALID);
}

/* protobuf-c spends 56 bytes on each unknown field of two. */
static void a_flood_of_unknown_fields_ends_at_the_arena(void **state)
{
	static uint8_t flood[60000];
	struct msg out;

	(void)state;
	for (size_t i = 0; i < sizeof flood; i += 2)
		flood[i] = 0x70; /* field 14, varint 0 */
	assert_int_equal(decode(flood, sizeof flood, &out), ERR_TOO_BIG);
	assert_true(arena.used <= ARENA_MAX);
}

static void messages_beyond_the_cap_are_not_unpacked(void **state)
{
	static uint8_t big[GRPC_MESSAGE_MAX + 1];
	struct msg out;

	(void)state;
	assert_int_equal(decode(big, sizeof big, &out), ERR_TOO_BIG);
	assert_int_equal(arena.used, 0);
}

static void bytes_that_are_no_protobuf_are_a_protocol_error(void **state)
{
	struct msg out;

	(void)state;
	assert_int_equal(decode("\xff", 1, &out), ERR_PROTOCOL);
	assert_int_equal(decode("\x0a\x05x", 3, &out), ERR_PROTOCOL);
	assert_int_equal(decode("GET / HTTP/1.1\r\n", 16, &out), ERR_PROTOCOL);
}

static void an_empty_or_unknown_envelope_is_nothing(void **state)
{
	struct msg out;

	(void)state;
	assert_int_equal(decode("", 0, &out), 0);
	assert_int_equal(out.kind, MSG_NONE);
	assert_int_equal(decode("\x7a\x01x", 3, &out), 0); /* field 15 of a later version */
	assert_int_equal(out.kind, MSG_NONE);
}

static void a_message_cut_anywhere_is_refused_or_shorter_never_overread(void **state)
{
	struct str peers[] = { STR("a"), STR("acme/b") };
	struct msg m = { .kind = MSG_REGISTER,
		         .tunnel_id = STR("home"),
		         .token = STR("tok"),
		         .bidirectional = true,
		         .n_peers = 2,
		         .peers = peers },
	           out;
	struct buf b = { 0 };

	(void)state;
	assert_int_equal(msg_encode(&m, &b), 0);
	size_t n = buf_len(&b) - GRPC_PREFIX_LEN;
	for (size_t len = 1; len < n; len++) {
		uint8_t *copy = malloc(len);
		assert_non_null(copy);
		memcpy(copy, buf_data(&b) + GRPC_PREFIX_LEN, len);
		assert_int_equal(decode(copy, len, &out), ERR_PROTOCOL);
		arena_clear(&arena);
		free(copy);
	}
	buf_done(&b);
}

static void health_requests_name_their_service(void **state)
{
	struct str service;

	(void)state;
	assert_int_equal(health_request_decode(&arena,
	                                       (const uint8_t *)"\x0a\x03"
	                                                        "abc",
	                                       5, &service),
	                 0);
	assert_str(service, STR("abc"));
	assert_int_equal(health_request_decode(&arena, NULL, 0, &service), 0);
	assert_int_equal(service.len, 0);
	assert_int_equal(health_request_decode(&arena,
	                                       (const uint8_t *)"\x0a\x09"
	                                                        "abc",
	                                       5, &service),
	                 ERR_PROTOCOL);
}

static void health_answers_are_the_enum_of_grpc_health_v1(void **state)
{
	struct buf b = { 0 };

	(void)state;
	assert_int_equal(health_answer_encode(HEALTH_SERVING, &b), 0);
	assert_int_equal(health_answer_encode(HEALTH_SERVICE_UNKNOWN, &b), 0);
	assert_int_equal(buf_len(&b), 14);
	assert_memory_equal(buf_data(&b), "\0\0\0\0\2\x08\x01\0\0\0\0\2\x08\x03", 14);
	buf_done(&b);
}

#define TEST(name) cmocka_unit_test_teardown(name, tidy)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_registration_is_carried_whole),
		TEST(an_answer_is_carried_whole),
		TEST(health_is_carried_with_its_times),
		TEST(what_the_relay_tells_is_carried),
		TEST(an_identifier_with_nul_keeps_its_length),
		TEST(peer_id_and_peer_ids_are_one_list),
		TEST(an_identifier_of_invalid_utf8_arrives_as_it_was_sent),
		TEST(a_registration_without_relay_says_so),
		TEST(the_last_of_several_messages_in_one_envelope_counts),
		TEST(what_a_later_relay_may_say_is_left_to_the_reader),
		TEST(a_negative_role_is_invalid),
		TEST(a_datagram_is_carried_the_slow_way_too),
		TEST(messages_are_appended_and_nothing_is_nothing),
		TEST(more_peers_than_allowed_are_too_big),
		TEST(a_role_outside_its_enum_is_invalid),
		TEST(a_flood_of_unknown_fields_ends_at_the_arena),
		TEST(messages_beyond_the_cap_are_not_unpacked),
		TEST(bytes_that_are_no_protobuf_are_a_protocol_error),
		TEST(an_empty_or_unknown_envelope_is_nothing),
		TEST(a_message_cut_anywhere_is_refused_or_shorter_never_overread),
		TEST(health_requests_name_their_service),
		TEST(health_answers_are_the_enum_of_grpc_health_v1),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
