/*
 * The contract of transport.h, kept by every transport of the list: both sides back to back
 * in memory. What only one of them has is in its own test.
 */
#include "common/transport/transport.h"

static const struct transport_ops *each; /* of the list */
#define OPS each

#include <errno.h>

#include "common/base/json.h"
#include "common/base/metric.h"
#include "tests/unit/transport/exchange.h"

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
	OPS->freshen(p.server, p.now_ms, 10000);
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
	OPS->freshen(p.server, p.now_ms, 10000);
	OPS->flush(p.server, &lost, 0);
	buf_done(&lost);
	p.now_ms += 10000;
	exchange(&p, 100);
	pair_close(&p, OPS);
}

static void F04_who_is_stopped_again_and_again_is_not_taken_for_a_flood(void **state)
{
	struct pair p;

	(void)state;
	connect_pair(&p);
	for (int i = 0; i < 60; i++) { /* at first the other side is as slow */
		p.now_ms += 800;
		OPS->freshen(p.client, p.now_ms, 800);
		if (i > 10)
			pair_run(&p, OPS);
	}
	pair_run(&p, OPS);
	assert_int_equal(p.at_client.why, 0);
	exchange(&p, 100);
	pair_close(&p, OPS);
}

static void F05_a_silent_other_side_is_given_up_by_who_is_stopped_now_and_then(void **state)
{
	struct pair p;
	struct buf lost = { 0 };
	int rc = 0;

	(void)state;
	connect_pair(&p);
	OPS->probe(p.client, p.now_ms, 10000);
	OPS->flush(p.client, &lost, 0);
	buf_done(&lost);
	for (int i = 0; i < 30 && rc == 0; i++) { /* 30 s, of which it runs 21 */
		p.now_ms += 700;
		rc = OPS->tick(p.client, p.now_ms);
		p.now_ms += 300;
		OPS->freshen(p.client, p.now_ms, 300);
	}
	assert_int_equal(rc, -ETIMEDOUT);
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

/* Whoever asks, and however: in the stream, by PING, by a frame. */
static void each_heartbeat_of_both_sides_measures_the_round_trip(void **state)
{
	struct distribution_sums before, after;
	struct pair p;
	uint64_t n = 0;

	(void)state;
	connect_pair(&p);
	metric_distribution(DISTRIBUTION_RTT, &before);
	for (int s = 0; s < 300; s++) {
		p.now_ms += 1000;
		assert_int_equal(OPS->tick(p.client, p.now_ms), 0);
		assert_int_equal(OPS->tick(p.server, p.now_ms), 0);
		pair_run(&p, OPS);
	}
	metric_distribution(DISTRIBUTION_RTT, &after);
	for (unsigned i = 0; i <= DISTRIBUTION_BOUNDS; i++)
		n += after.n[i] - before.n[i];
	assert_in_range(n, 2 * (300 / 17), 2 * (300 / 13)); /* 15 s, a tenth more or less */
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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(registration_carries_everything),
		cmocka_unit_test(datagrams_of_every_size_arrive_whole_both_ways),
		cmocka_unit_test(bytes_may_be_cut_anywhere),
		cmocka_unit_test(many_datagrams_keep_their_order),
		cmocka_unit_test(
		                F04_after_a_stop_what_was_sent_before_is_dropped_and_what_comes_after_is_not),
		cmocka_unit_test(F04_an_end_that_does_not_answer_is_heard_again_in_time),
		cmocka_unit_test(F04_who_is_stopped_again_and_again_is_not_taken_for_a_flood),
		cmocka_unit_test(
		                F05_a_silent_other_side_is_given_up_by_who_is_stopped_now_and_then),
		cmocka_unit_test(refusal_reaches_the_client_with_its_words),
		cmocka_unit_test(admission_may_come_later),
		cmocka_unit_test(S23_peer_states_and_the_notice_of_a_drain_arrive),
		cmocka_unit_test(server_end_tells_why),
		cmocka_unit_test(heartbeat_keeps_an_idle_conversation_alive),
		cmocka_unit_test(each_heartbeat_of_both_sides_measures_the_round_trip),
		cmocka_unit_test(silence_is_noticed_within_the_bound_by_both_sides),
		cmocka_unit_test(G27_half_as_many_signs_of_life_where_that_was_asked_for),
		cmocka_unit_test(probe_shortens_the_wait),
		cmocka_unit_test(bad_identifiers_are_refused_before_the_owner_sees_them),
	};
	int rc = crypto_start();

	json_start();
	for (const struct transport_ops *const *t = transports; *t && rc == 0; t++) {
		each = *t;
		rc = cmocka_run_group_tests_name(each->name, tests, NULL, NULL);
	}
	return rc;
}
