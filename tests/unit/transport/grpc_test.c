/* The grpc transport, both sides back to back in memory. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "common/base/metric.h"
#include "tests/unit/transport/back_to_back.h"

extern const struct transport_ops transport_grpc;
#define OPS (&transport_grpc)

static const struct str peers[] = { { "home-wg", 7 }, { "other/box", 9 } };

static void connect_pair(struct pair *p)
{
	assert_true(pair_open(p, OPS));
	assert_int_equal(pair_dial(p, OPS, "laptop", peers, 2), 0);
	pair_run(p, OPS);
	assert_int_equal(p->at_client.n_ready, 1);
}

static struct pkt *packet(const struct key *src, const struct key *dst, const char *text,
                          size_t len)
{
	struct pkt *pkt = pkt_new(len);

	assert_non_null(pkt);
	for (size_t i = 0; i < len; i++)
		pkt->data[i] = (uint8_t)text[i % strlen(text)];
	memset(&pkt->src, 0, sizeof pkt->src);
	memset(&pkt->dst, 0, sizeof pkt->dst);
	if (src)
		pkt->src = *src;
	if (dst)
		pkt->dst = *dst;
	return pkt;
}

static void registration_carries_everything(void **state)
{
	struct pair p;
	struct key expected;

	(void)state;
	connect_pair(&p);
	assert_int_equal(p.at_server.n_hello, 1);
	assert_string_equal(p.at_server.id, "laptop");
	assert_string_equal(p.at_server.token, "tok");
	assert_string_equal(p.at_server.peer_name, "home-wg");
	assert_int_equal(p.at_server.hello.n_peers, 2);
	assert_int_equal(p.at_server.hello.role, ROLE_LISTEN);
	assert_true(p.at_server.hello.bidirectional);
	assert_true(p.at_server.hello.has_instance);
	assert_string_equal(p.at_client.account, "acme");
	assert_string_equal(p.at_client.id, "laptop");
	key_of_tunnel(STR("acme"), STR("home-wg"), &expected);
	assert_true(key_eq(&expected, &p.at_client.peer_keys[0]));
	key_of_tunnel(STR("other"), STR("box"), &expected);
	assert_true(key_eq(&expected, &p.at_client.peer_keys[1]));
	pair_close(&p, OPS);
}

static void exchange(struct pair *p, size_t len)
{
	const struct key *key = &p->at_client.peer_keys[len % 2];
	struct pkt *got;

	struct pkt *up = packet(NULL, key, "upward", len);
	up->flow = (uint32_t)len;
	OPS->send(p->at_client.chan, up);
	OPS->send(p->at_server.chan, packet(key, NULL, "downward", len));
	pair_run(p, OPS);
	got = pktq_pop(&p->at_server.packets);
	assert_non_null(got);
	assert_int_equal(got->len, len);
	assert_int_equal(got->flow, len);
	assert_true(key_eq(&got->dst, key));
	for (size_t i = 0; i < len; i++)
		assert_int_equal(got->data[i], "upward"[i % 6]);
	pkt_free(got);
	got = pktq_pop(&p->at_client.packets);
	assert_non_null(got);
	assert_int_equal(got->len, len);
	assert_true(key_eq(&got->src, key));
	pkt_free(got);
	assert_null(pktq_pop(&p->at_client.packets));
	assert_null(pktq_pop(&p->at_server.packets));
}

static void datagrams_of_every_size_arrive_whole_both_ways(void **state)
{
	static const size_t sizes[] = { 0, 1, 127, 128, 1420, 16384, 65506, 65507 };
	struct pair p;

	(void)state;
	connect_pair(&p);
	for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
		exchange(&p, sizes[i]);
	pair_close(&p, OPS);
}

static void bytes_may_be_cut_anywhere(void **state)
{
	struct pair p;

	(void)state;
	for (size_t chunk = 1; chunk < 40; chunk += chunk < 8 ? 1 : 7) {
		assert_true(pair_open(&p, OPS));
		p.chunk = chunk;
		assert_int_equal(pair_dial(&p, OPS, "laptop", peers, 2), 0);
		pair_run(&p, OPS);
		assert_int_equal(p.at_client.n_ready, 1);
		exchange(&p, 300);
		exchange(&p, 0);
		pair_close(&p, OPS);
	}
}

static void many_datagrams_keep_their_order(void **state)
{
	struct pair p;

	(void)state;
	connect_pair(&p);
	for (uint32_t i = 0; i < 500; i++) {
		struct pkt *pkt = packet(NULL, &p.at_client.peer_keys[i % 3 == 0], "x", 1000);
		memcpy(pkt->data, &i, sizeof i);
		OPS->send(p.at_client.chan, pkt);
	}
	pair_run(&p, OPS);
	for (uint32_t i = 0; i < 500; i++) {
		struct pkt *got = pktq_pop(&p.at_server.packets);
		assert_non_null(got);
		assert_memory_equal(got->data, &i, sizeof i);
		assert_true(key_eq(&got->dst, &p.at_client.peer_keys[i % 3 == 0]));
		pkt_free(got);
	}
	pair_close(&p, OPS);
}

static void F04_after_a_stop_what_was_sent_before_is_dropped_and_what_comes_after_is_not(
                void **state)
{
	struct pair p;

	(void)state;
	connect_pair(&p);
	uint64_t stale = metric_drop_sum(DROP_STALE);
	OPS->send(p.at_client.chan, packet(NULL, &p.at_client.peer_keys[0], "old", 100));
	p.now_ms += 10000; /* the relay stood still */
	OPS->freshen(p.server, p.now_ms);
	pair_run(&p, OPS);
	assert_null(pktq_pop(&p.at_server.packets));
	assert_int_equal(metric_drop_sum(DROP_STALE), stale + 1);
	exchange(&p, 100);
	pair_close(&p, OPS);
}

static void F04_an_end_that_does_not_answer_is_heard_again_in_time(void **state)
{
	struct pair p;
	struct buf lost = { 0 };

	(void)state;
	connect_pair(&p);
	OPS->freshen(p.server, p.now_ms);
	OPS->flush(p.server, &lost, 0);
	buf_done(&lost);
	p.now_ms += 10000;
	exchange(&p, 100);
	pair_close(&p, OPS);
}

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

static bool refuse_token(struct pair *p, struct chan *c, const struct hello *h)
{
	(void)h;
	c->ops->refuse(c, CLOSE_UNAUTHENTICATED, "no such token, 100 % sure\n");
	p->at_server.chan = NULL;
	return false;
}

static void refusal_reaches_the_client_with_its_words(void **state)
{
	struct pair p;

	(void)state;
	assert_true(pair_open(&p, OPS));
	p.admit = refuse_token;
	assert_int_equal(pair_dial(&p, OPS, "laptop", peers, 2), 0);
	pair_run(&p, OPS);
	assert_int_equal(p.at_client.n_ready, 0);
	assert_int_equal(p.at_client.n_ended, 1);
	assert_int_equal(p.at_client.why, CLOSE_UNAUTHENTICATED);
	assert_string_equal(p.at_client.text, "no such token, 100 % sure\n");
	assert_int_equal(p.at_server.n_ended, 0);
	pair_close(&p, OPS);
}

static bool later(struct pair *p, struct chan *c, const struct hello *h)
{
	(void)p, (void)c, (void)h;
	return false;
}

static void admission_may_come_later(void **state)
{
	struct pair p;
	struct hello h = { .id = STR("laptop"), .n_peers = 2, .peers = peers };

	(void)state;
	assert_true(pair_open(&p, OPS));
	p.admit = later;
	assert_int_equal(pair_dial(&p, OPS, "laptop", peers, 2), 0);
	pair_run(&p, OPS);
	assert_int_equal(p.at_client.n_ready, 0);
	assert_non_null(p.at_server.chan);
	welcome_all(p.at_server.chan, &h, "acme");
	pair_run(&p, OPS);
	assert_int_equal(p.at_client.n_ready, 1);
	exchange(&p, 10);
	pair_close(&p, OPS);
}

static void S23_peer_states_and_the_notice_of_a_drain_arrive(void **state)
{
	struct pair p;
	struct peer_status s = { .state = PEER_NOT_MUTUAL,
		                 .role = ROLE_FORWARD,
		                 .text = STR("declare me") };
	struct notice n = { .kind = NOTICE_DRAINING, .within_ms = 1234, .target = STR("") };

	(void)state;
	connect_pair(&p);
	s.key = p.at_client.peer_keys[1];
	OPS->tell_peer(p.at_server.chan, &s);
	OPS->tell_notice(p.at_server.chan, &n);
	pair_run(&p, OPS);
	assert_int_equal(p.at_client.n_peer, 1);
	assert_true(key_eq(&p.at_client.peer.key, &s.key));
	assert_int_equal(p.at_client.peer.state, PEER_NOT_MUTUAL);
	assert_int_equal(p.at_client.peer.role, ROLE_FORWARD);
	assert_int_equal(p.at_client.n_notice, 1);
	assert_int_equal(p.at_client.notice.within_ms, 1234);
	pair_close(&p, OPS);
}

static void server_end_tells_why(void **state)
{
	struct pair p;

	(void)state;
	connect_pair(&p);
	OPS->end(p.at_server.chan, CLOSE_SUPERSEDED, "superseded by another instance");
	pair_run(&p, OPS);
	assert_int_equal(p.at_client.n_ended, 1);
	assert_int_equal(p.at_client.why, CLOSE_SUPERSEDED);
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

static void heartbeat_keeps_an_idle_conversation_alive(void **state)
{
	struct pair p;

	(void)state;
	connect_pair(&p);
	for (int s = 0; s < 300; s++) {
		p.now_ms += 1000;
		assert_int_equal(OPS->tick(p.client, p.now_ms), 0);
		assert_int_equal(OPS->tick(p.server, p.now_ms), 0);
		pair_run(&p, OPS);
	}
	struct transport_stats stats;
	OPS->stats(p.client, &stats);
	assert_true(stats.rtt_us >= 0);
	pair_close(&p, OPS);
}

static int ticks_until_dead(struct pair *p, struct transport *t)
{
	struct buf sink = { 0 };
	int s = 0, rc = 0;

	for (; s < 120 && rc == 0; s++) {
		p->now_ms += 1000;
		rc = OPS->tick(t, p->now_ms);
		OPS->flush(t, &sink, 1 << 20);
	}
	buf_done(&sink);
	assert_int_equal(rc, -110); /* ETIMEDOUT */
	return s;
}

static void silence_is_noticed_within_the_bound_by_both_sides(void **state)
{
	struct pair p;

	(void)state;
	connect_pair(&p);
	assert_in_range(ticks_until_dead(&p, p.client), 20, 28);
	pair_close(&p, OPS);
	connect_pair(&p);
	assert_in_range(ticks_until_dead(&p, p.server), 20, 28);
	pair_close(&p, OPS);
}

static void G27_half_as_many_signs_of_life_where_that_was_asked_for(void **state)
{
	struct pair p;

	(void)state;
	connect_pair(&p);
	p.client_conf.beat_ms = 30000;
	for (int s = 0; s < 20; s++) { /* the beat that was set before */
		p.now_ms += 1000;
		OPS->tick(p.client, p.now_ms);
		pair_run(&p, OPS);
	}
	assert_in_range(ticks_until_dead(&p, p.client), 25, 45);
	pair_close(&p, OPS);
}

static void probe_shortens_the_wait(void **state)
{
	struct pair p;

	(void)state;
	connect_pair(&p);
	OPS->probe(p.client, p.now_ms, 2000);
	assert_in_range(ticks_until_dead(&p, p.client), 2, 3);
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

static void bad_identifiers_are_refused_before_the_owner_sees_them(void **state)
{
	static const char *const bad[] = { "Upper", "-a", "a_b", "a/b", "\xc3\xa9", "a b" };
	struct pair p;

	(void)state;
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		assert_true(pair_open(&p, OPS));
		assert_int_equal(pair_dial(&p, OPS, bad[i], peers, 2), 0);
		pair_run(&p, OPS);
		assert_int_equal(p.at_server.n_hello, 0);
		assert_int_equal(p.at_client.why, CLOSE_INVALID);
		pair_close(&p, OPS);
	}
	const struct str bad_peers[] = { STR("a/b/c"),      STR("/a"),   STR("a/"),
		                         STR("nodekey:12"), STR("x\0y"), STR("") };
	for (size_t i = 0; i < sizeof bad_peers / sizeof *bad_peers; i++) {
		assert_true(pair_open(&p, OPS));
		assert_int_equal(pair_dial(&p, OPS, "good", &bad_peers[i], 1), 0);
		pair_run(&p, OPS);
		assert_int_equal(p.at_server.n_hello, 0);
		assert_int_equal(p.at_client.why, CLOSE_INVALID);
		pair_close(&p, OPS);
	}
}

static int start(void **state)
{
	(void)state;
	return crypto_start();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(registration_carries_everything),
		cmocka_unit_test(datagrams_of_every_size_arrive_whole_both_ways),
		cmocka_unit_test(bytes_may_be_cut_anywhere),
		cmocka_unit_test(many_datagrams_keep_their_order),
		cmocka_unit_test(window_shrinks_with_what_is_underway_and_comes_back),
		cmocka_unit_test(refusal_reaches_the_client_with_its_words),
		cmocka_unit_test(admission_may_come_later),
		cmocka_unit_test(S23_peer_states_and_the_notice_of_a_drain_arrive),
		cmocka_unit_test(server_end_tells_why),
		cmocka_unit_test(client_end_is_an_orderly_leave),
		cmocka_unit_test(several_ends_share_one_connection),
		cmocka_unit_test(heartbeat_keeps_an_idle_conversation_alive),
		cmocka_unit_test(silence_is_noticed_within_the_bound_by_both_sides),
		cmocka_unit_test(probe_shortens_the_wait),
		cmocka_unit_test(G27_half_as_many_signs_of_life_where_that_was_asked_for),
		cmocka_unit_test(an_error_of_http2_is_told_when_its_goaway_is_said),
		cmocka_unit_test(
		                F04_after_a_stop_what_was_sent_before_is_dropped_and_what_comes_after_is_not),
		cmocka_unit_test(F04_an_end_that_does_not_answer_is_heard_again_in_time),
		cmocka_unit_test(S22_a_drain_is_announced_and_ends_with_the_last_stream),
		cmocka_unit_test(an_end_that_never_registers_is_ended),
		cmocka_unit_test(bad_identifiers_are_refused_before_the_owner_sees_them),
	};
	return cmocka_run_group_tests(tests, start, NULL);
}
