/* What the grpc transport has beyond the contract (contract_test.c), both sides back to back. */
#include "common/transport/transport.h"

extern const struct transport_ops transport_grpc;
#define OPS (&transport_grpc)

#include "tests/unit/transport/exchange.h"

static void window_shrinks_with_what_is_underway_and_comes_back(void **state)
{
	struct pair p;

	(void)state;
	connect_pair(&p);
	size_t whole = OPS->window(p.at_client.chan);
	assert_true(whole >= 1000000);
	OPS->send(p.at_client.chan, packet(NULL, &p.at_client.peer_keys[0], "x", 60000));
	assert_true(OPS->window(p.at_client.chan) <= whole - 60000);
	for (int i = 0; i < 40; i++) {
		assert_non_null(p.at_client.chan);
		OPS->send(p.at_client.chan, packet(NULL, &p.at_client.peer_keys[0], "x", 60000));
		pair_run(&p, OPS);
	}
	assert_non_null(p.at_client.chan);
	assert_true(OPS->window(p.at_client.chan) >= 400000);
	pair_close(&p, OPS);
}

static void client_end_is_an_orderly_leave(void **state)
{
	struct pair p;

	(void)state;
	connect_pair(&p);
	OPS->end(p.at_client.chan, CLOSE_LOCAL, "");
	pair_run(&p, OPS);
	assert_int_equal(p.at_server.n_ended, 1);
	assert_int_equal(p.at_server.why, CLOSE_DONE);
	pair_close(&p, OPS);
}

static void several_ends_share_one_connection(void **state)
{
	struct pair p;
	struct str one = STR("x");
	struct hello h = { .version = 1, .bidirectional = true, .n_peers = 1, .peers = &one };

	(void)state;
	assert_true(pair_open(&p, OPS));
	for (int i = 0; i < 50; i++) {
		char id[16];
		struct chan *c;
		snprintf(id, sizeof id, "end-%d", i);
		h.id = str_of(id);
		assert_int_equal(OPS->dial(p.client, &h, &c), 0);
		c->up = &p.at_client;
		pair_run(&p, OPS);
		assert_string_equal(p.at_server.id, id);
	}
	assert_int_equal(p.at_server.n_hello, 50);
	assert_int_equal(p.at_client.n_ready, 50);
	pair_close(&p, OPS);
}

static void an_error_of_http2_is_told_when_its_goaway_is_said(void **state)
{
	static const uint8_t data_on_stream_0[] = { 0, 0, 1, 0, 0, 0, 0, 0, 0, 'x' };
	struct buf out = { 0 };
	struct pair p;

	(void)state;
	connect_pair(&p);
	OPS->input(p.client, data_on_stream_0, sizeof data_on_stream_0, p.now_ms);
	OPS->flush(p.client, &out, 1 << 16);
	assert_true(buf_len(&out) > 9 && buf_data(&out)[3] == 7); /* GOAWAY */
	assert_int_equal(OPS->tick(p.client, p.now_ms), ERR_PROTOCOL);
	assert_non_null(strstr(OPS->error_text(p.client), "stream_id"));
	buf_done(&out);
	pair_close(&p, OPS);
}

/* The last stream id of the GOAWAY a side has to say. */
static uint32_t last_stream_said(struct transport *t)
{
	struct buf out = { 0 };
	uint32_t id = 0;

	OPS->flush(t, &out, 1 << 20);
	while (buf_len(&out)) {
		const uint8_t *p = buf_data(&out);
		if (p[3] == 7)
			id = (uint32_t)p[9] << 24 | (uint32_t)p[10] << 16 | (uint32_t)p[11] << 8 |
			     p[12];
		buf_eat(&out, 9 + ((size_t)p[0] << 16 | (size_t)p[1] << 8 | p[2]));
	}
	buf_done(&out);
	return id;
}

static void S22_a_drain_is_announced_and_ends_with_the_last_stream(void **state)
{
	struct pair p;

	(void)state;
	assert_true(pair_open(&p, OPS));
	assert_int_equal(pair_dial(&p, OPS, "laptop", peers, 2), 0);
	pair_run(&p, OPS);
	OPS->goodbye(p.server, CLOSE_DRAINING);
	assert_int_equal(last_stream_said(p.server), INT32_MAX);
	OPS->goodbye(p.server, CLOSE_DRAINING);
	assert_int_equal(last_stream_said(p.server), 1);
	pair_close(&p, OPS);
}

/* What a client says that withholds its DATA. */
static void move_without_data(struct pair *p)
{
	struct buf out = { 0 };

	assert_int_equal(OPS->flush(p->client, &out, 0), 0);
	assert_int_equal(OPS->input(p->server, buf_data(&out), buf_len(&out), p->now_ms), 0);
	buf_done(&out);
}

static void an_end_that_never_registers_is_ended(void **state)
{
	struct pair p;

	(void)state;
	assert_true(pair_open(&p, OPS));
	assert_int_equal(pair_dial(&p, OPS, "laptop", peers, 2), 0);
	move_without_data(&p);
	pair_move(&p, OPS, p.server, p.client, &p.rc_client);
	move_without_data(&p); /* acknowledges SETTINGS */
	p.now_ms += 10000;
	assert_int_equal(OPS->tick(p.server, p.now_ms), 0);
	pair_move(&p, OPS, p.server, p.client, &p.rc_client);
	assert_int_equal(p.at_client.n_ended, 0);
	p.now_ms += 1;
	assert_int_equal(OPS->tick(p.server, p.now_ms), 0);
	pair_move(&p, OPS, p.server, p.client, &p.rc_client);
	assert_int_equal(p.at_server.n_hello, 0);
	assert_int_equal(p.at_client.n_ended, 1);
	assert_int_equal(p.at_client.why, CLOSE_DEADLINE);
	assert_string_equal(p.at_client.text, "the message did not arrive in time");
	pair_close(&p, OPS);
}

static int start(void **state)
{
	(void)state;
	return crypto_start();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(window_shrinks_with_what_is_underway_and_comes_back),
		cmocka_unit_test(client_end_is_an_orderly_leave),
		cmocka_unit_test(several_ends_share_one_connection),
		cmocka_unit_test(an_error_of_http2_is_told_when_its_goaway_is_said),
		cmocka_unit_test(S22_a_drain_is_announced_and_ends_with_the_last_stream),
		cmocka_unit_test(an_end_that_never_registers_is_ended),
	};
	return cmocka_run_group_tests(tests, start, NULL);
}
