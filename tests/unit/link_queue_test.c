#include "tests/unit/said.h"

#include <stdlib.h>

#include "common/base/crypto.h"
#include "common/base/metric.h"
#include "common/link_queue.h"

enum { NOW = 1000000, FULL_SIZE = 1420 };

static struct link_queue q;

static struct key key_of(unsigned n)
{
	struct key k = { { 0 } };

	memcpy(k.b, &n, sizeof n);
	return k;
}

/* A packet that says who sent it and the how-manieth it is. */
static void push_at(unsigned source, unsigned number, size_t len, uint64_t born_ms)
{
	struct pkt *p = pkt_new(len);
	assert_non_null(p);
	memset(p->data, 0xee, len);
	p->src = key_of(source);
	p->flow = number;
	p->born_ms = born_ms;
	link_queue_push(&q, SHARED_BY_SENDERS, p);
}

static void push(unsigned source, unsigned number, size_t len)
{
	push_at(source, number, len, NOW);
}

static void push_handshake_at(unsigned source, unsigned number, uint64_t born_ms)
{
	struct pkt *p = pkt_new(148);
	assert_non_null(p);
	memset(p->data, 0, 148);
	p->data[0] = 1;
	p->src = key_of(source);
	p->flow = number;
	p->born_ms = born_ms;
	link_queue_push(&q, SHARED_BY_SENDERS, p);
}

static void push_handshake(unsigned source, unsigned number)
{
	push_handshake_at(source, number, NOW);
}

struct taken { /* the facts of a packet that was sent */
	unsigned source, number;
	size_t len;
	bool is_handshake;
};

static bool take(struct taken *t)
{
	struct pkt *p = link_queue_take(&q, SIZE_MAX, NOW);

	if (!p)
		return false;
	memcpy(&t->source, p->src.b, sizeof t->source);
	t->number = p->flow;
	t->len = p->len;
	t->is_handshake = pkt_is_handshake(p);
	pkt_free(p);
	return true;
}

/* Takes n packets and says how many were of that source. */
static unsigned share(unsigned source, unsigned n)
{
	struct taken t;
	unsigned k = 0;

	for (unsigned i = 0; i < n; i++) {
		assert_true(take(&t));
		k += t.source == source;
	}
	return k;
}

static uint64_t full_before, stale_before;
static uint64_t n_full(void) { return metric_drop_sum(DROP_QUEUE_FULL) - full_before; }
static uint64_t n_stale(void) { return metric_drop_sum(DROP_STALE) - stale_before; }

static int set_up(void **state)
{
	(void)state;
	q = (struct link_queue){ 0 };
	full_before = metric_drop_sum(DROP_QUEUE_FULL);
	stale_before = metric_drop_sum(DROP_STALE);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	link_queue_drop_all(&q, DROP_LINK_CLOSED);
	link_queue_thread_done();
	pkt_pool_drain();
	return 0;
}

/* ---- whose turn it is ---- */

static void one_source_is_served_in_the_order_it_sent(void **state)
{
	struct taken t;

	(void)state;
	for (unsigned i = 0; i < 100; i++)
		push(1, i, i % 7 ? FULL_SIZE : PAYLOAD_MAX);
	for (unsigned i = 0; i < 100; i++) {
		assert_true(take(&t));
		assert_int_equal(t.number, i);
	}
	assert_false(take(&t));
}

/* One takes two packets for each that the other puts in, and the fast one never runs dry. */
static void a_source_with_ten_times_the_rate_does_not_starve_another(void **state)
{
	unsigned slow = 0;

	(void)state;
	for (unsigned i = 0; i < 400; i++) {
		for (unsigned k = 0; k < 10; k++)
			push(1, i, FULL_SIZE);
		push(2, i, FULL_SIZE);
		slow += share(2, 2);
	}
	assert_in_range(slow, 398, 400); /* all of its own, within a turn */
}

static void sources_that_all_have_too_much_share_evenly(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 100; i++)
		for (unsigned source = 1; source <= 4; source++)
			push(source, i, FULL_SIZE);
	assert_in_range(share(3, 200), 48, 52);
}

/* The link is shared, not the number of datagrams. */
static void shares_are_of_bytes(void **state)
{
	struct taken t;
	size_t bytes[3] = { 0 };

	(void)state;
	for (unsigned i = 0; i < 400; i++)
		push(1, i, 200);
	for (unsigned i = 0; i < 70; i++)
		push(2, i, FULL_SIZE);
	while (bytes[1] < 200 * 300) {
		assert_true(take(&t));
		bytes[t.source] += t.len + LINK_QUEUE_PACKET_COST;
	}
	assert_in_range(bytes[2], bytes[1] - 3 * LINK_QUEUE_QUANTUM,
	                bytes[1] + 3 * LINK_QUEUE_QUANTUM);
}

static void who_sends_the_largest_datagrams_gets_no_more(void **state)
{
	struct taken t;
	size_t bytes[3] = { 0 };

	(void)state;
	for (unsigned i = 0; i < 8; i++)
		push(1, i, 60000);
	for (unsigned i = 0; i < 300; i++)
		push(2, i, FULL_SIZE);
	while (q.n > 100) {
		assert_true(take(&t));
		bytes[t.source] += t.len;
	}
	assert_in_range(bytes[1], bytes[2] - 66000, bytes[2] + 66000);
}

static void a_sparse_flow_overtakes(void **state)
{
	struct taken t;

	(void)state;
	for (unsigned i = 0; i < 200; i++)
		for (unsigned source = 1; source <= 2; source++)
			push(source, i, FULL_SIZE);
	share(1, 50);
	push(3, 0, 100);
	assert_true(take(&t));
	assert_int_equal(t.source, 3);
}

static void who_comes_to_one_that_has_much_goes_first(void **state)
{
	struct taken t;

	(void)state;
	for (unsigned i = 0; i < 10; i++)
		push(1, i, FULL_SIZE);
	push(2, 0, FULL_SIZE);
	assert_true(take(&t));
	assert_int_equal(t.source, 2);
}

/* Coming back as soon as it has run empty makes nobody new again. */
static void who_sends_one_at_a_time_gets_no_more_than_its_share(void **state)
{
	struct taken t;
	unsigned n[3] = { 0 };

	(void)state;
	for (unsigned i = 0; i < 500; i++)
		push(1, i, FULL_SIZE);
	push(2, 0, FULL_SIZE);
	for (unsigned i = 0; i < 300; i++) {
		assert_true(take(&t));
		n[t.source]++;
		if (t.source == 2)
			push(2, i, FULL_SIZE);
	}
	assert_in_range(n[2], 145, 155);
}

static void a_packet_that_is_too_long_for_the_window_waits_and_is_next(void **state)
{
	struct taken t;

	(void)state;
	push(1, 7, 1000);
	push(1, 8, 10);
	assert_null(link_queue_take(&q, 999, NOW));
	assert_int_equal(q.n, 2);
	assert_true(take(&t));
	assert_int_equal(t.number, 7);
}

static void so_does_one_of_several_sources(void **state)
{
	struct taken t;

	(void)state;
	push(1, 7, 1000);
	push(2, 8, 1000);
	assert_null(link_queue_take(&q, 999, NOW));
	assert_int_equal(q.n, 2);
	assert_true(take(&t));
	assert_int_equal(t.number, 7);
}

/* ---- handshakes ---- */

static void a_handshake_goes_ahead_of_all_data(void **state)
{
	struct taken t;

	(void)state;
	for (unsigned i = 0; i < 50; i++)
		for (unsigned source = 1; source <= 3; source++)
			push(source, i, FULL_SIZE);
	share(1, 10);
	push_handshake(2, 99);
	assert_true(take(&t));
	assert_int_equal(t.source, 2);
	assert_true(t.is_handshake);
	push(4, 0, 100); /* also of who is new */
	push_handshake(3, 99);
	assert_true(take(&t));
	assert_true(t.is_handshake);
}

static void a_handshake_of_who_is_in_debt_goes_ahead_as_soon_as_the_debt_is_paid(void **state)
{
	struct taken t;

	(void)state;
	push(1, 0, 2000);
	for (unsigned i = 0; i < 40; i++)
		for (unsigned source = 2; source <= 5; source++)
			push(source, i, 100);
	do
		assert_true(take(&t));
	while (t.source != 1);
	push_handshake(1, 1);
	assert_true(take(&t)); /* its turn has come and it is paid by that */
	assert_true(take(&t));
	assert_int_equal(t.source, 1);
}

static void handshakes_of_several_sources_take_turns(void **state)
{
	struct taken t;
	unsigned n[4] = { 0 };

	(void)state;
	for (unsigned i = 0; i < 100; i++)
		push_handshake(1, i);
	for (unsigned i = 0; i < 3; i++)
		push_handshake(2, i), push_handshake(3, i);
	for (unsigned i = 0; i < 9; i++) {
		assert_true(take(&t));
		n[t.source]++;
	}
	assert_in_range(n[2], 3, 3);
	assert_in_range(n[3], 3, 3);
}

/* 148 bytes that look like an initiation cost nothing to make. */
static void who_sends_only_handshakes_gains_nothing_over_data(void **state)
{
	struct taken t;
	size_t bytes[4] = { 0 };

	(void)state;
	for (unsigned i = 0; i < 2000; i++) {
		for (unsigned k = 0; k < 10; k++)
			push_handshake(1, i);
		push(2, i, FULL_SIZE);
		push(3, i, FULL_SIZE);
		for (unsigned k = 0; k < 2; k++) {
			assert_true(take(&t));
			bytes[t.source] += t.len + LINK_QUEUE_PACKET_COST;
		}
	}
	assert_in_range(bytes[1], bytes[2] / 100 * 95, bytes[2] / 100 * 105);
	assert_in_range(bytes[3], bytes[2] / 100 * 95, bytes[2] / 100 * 105);
}

/* An end whose port is open to the world cannot choose what others send it. */
static void data_goes_between_the_handshakes_of_its_own_source(void **state)
{
	struct taken t;
	unsigned n_data = 0;

	(void)state;
	for (unsigned i = 0; i < 200; i++)
		push_handshake(1, i);
	for (unsigned i = 0; i < 50; i++)
		push(1, i, FULL_SIZE);
	for (unsigned i = 0; i < 170; i++) {
		assert_true(take(&t));
		n_data += !t.is_handshake;
	}
	assert_in_range(n_data, 10, 10);
}

/* ---- what goes ---- */

static void the_oldest_of_the_fattest_source_goes(void **state)
{
	struct taken t;
	unsigned next[3] = { 0 };

	(void)state;
	for (unsigned i = 0; i < 100; i++)
		push(1, i, FULL_SIZE);
	for (unsigned i = 0; i < 1000; i++)
		push(2, i, FULL_SIZE);
	assert_int_equal(q.n, LINK_QUEUE_PACKETS_MAX);
	assert_int_equal(n_full(), 1100 - LINK_QUEUE_PACKETS_MAX);
	next[2] = 1100 - LINK_QUEUE_PACKETS_MAX; /* all of them of the second, none of the first */
	while (take(&t))
		assert_int_equal(t.number, next[t.source]++);
	assert_int_equal(next[1], 100);
	assert_int_equal(next[2], 1000);
}

/* By packets where packets are short: many small ones do not push out a few large. */
static void room_by_packets_is_made_by_who_has_most_packets(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 100; i++)
		push(1, i, FULL_SIZE);
	for (unsigned i = 0; i < 1000; i++)
		push(2, i, 20);
	assert_int_equal(share(1, LINK_QUEUE_PACKETS_MAX), 100);
}

static void room_by_bytes_is_made_by_who_has_most_bytes(void **state)
{
	struct taken t;

	(void)state;
	for (unsigned i = 0; i < 50; i++)
		push(1, i, 20);
	push(2, 0, 60000);
	push(2, 1, 60000);
	assert_true(link_queue_drop(&q, DROP_QUEUE_FULL));
	for (unsigned i = 0; i < 51; i++) {
		assert_true(take(&t));
		assert_true(t.source == 1 || t.number == 1);
	}
	assert_false(take(&t));
	assert_false(link_queue_drop(&q, DROP_QUEUE_FULL));
}

static void a_flood_of_handshakes_is_dropped_before_its_own_data(void **state)
{
	struct taken t;
	unsigned n_data = 0;

	(void)state;
	for (unsigned i = 0; i < 10; i++)
		push(1, i, FULL_SIZE);
	for (unsigned i = 0; i < 2000; i++)
		push_handshake(1, i);
	while (take(&t))
		n_data += !t.is_handshake;
	assert_int_equal(n_data, 10);
}

static void a_burst_may_wait(void **state)
{
	struct taken t;

	(void)state;
	for (unsigned source = 1; source <= 5; source++)
		for (unsigned i = 0; i < 20; i++)
			push_at(source, i, 100, NOW - LINK_QUEUE_AGE_MS);
	for (unsigned i = 0; i < 100; i++)
		assert_true(take(&t));
	assert_int_equal(n_stale(), 0);
}

/* The next packet at that time: of the source, and with the number, that were expected. */
static void expect_at(uint64_t now_ms, unsigned source, unsigned number)
{
	struct pkt *p = link_queue_take(&q, SIZE_MAX, now_ms);
	struct key key = key_of(source);

	assert_non_null(p);
	assert_true(key_eq(&p->src, &key));
	assert_int_equal(p->flow, number);
	pkt_free(p);
}

enum { LATER = NOW + LINK_QUEUE_AGE_MS + 1 };

static void of_a_queue_that_stands_only_the_newest_goes_out(void **state)
{
	(void)state;
	push(1, 0, 100);
	push(1, 1, 100);
	expect_at(NOW, 1, 0);
	push_at(1, 2, 100, LATER - LINK_QUEUE_STANDING_AGE_MS - 1);
	push_at(1, 3, 100, LATER - LINK_QUEUE_STANDING_AGE_MS);
	expect_at(LATER, 1, 3);
	assert_int_equal(n_stale(), 2);
}

static void who_stands_costs_no_other_its_burst(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 10; i++)
		push(1, i, 100);
	expect_at(NOW, 1, 0);
	push_at(2, 0, 100, LATER - LINK_QUEUE_AGE_MS); /* the one FIFO becomes two */
	push_at(1, 10, 100, LATER - LINK_QUEUE_STANDING_AGE_MS - 1);
	push_at(1, 11, 100, LATER);
	push_at(2, 1, 100, LATER - LINK_QUEUE_STANDING_AGE_MS - 1);
	expect_at(LATER, 1, 11);
	expect_at(LATER, 2, 0);
	expect_at(LATER, 2, 1);
	assert_int_equal(n_stale(), 10);
}

static void what_nobody_took_for_a_while_is_a_burst(void **state)
{
	(void)state;
	push(1, 0, 100); /* no room for it, then for all */
	push_at(1, 1, 100, LATER - LINK_QUEUE_AGE_MS);
	expect_at(LATER, 1, 1);
}

static void a_queue_that_ran_empty_may_hold_a_burst_again(void **state)
{
	(void)state;
	push(1, 0, 100);
	push(1, 1, 100);
	expect_at(NOW, 1, 0);
	expect_at(NOW, 1, 1);
	push_at(1, 2, 100, LATER - LINK_QUEUE_AGE_MS);
	expect_at(LATER, 1, 2);
	assert_int_equal(n_stale(), 0);
}

static void handshakes_may_wait_longer(void **state)
{
	struct taken t;

	(void)state;
	push_handshake_at(1, 0, NOW - LINK_QUEUE_HANDSHAKE_AGE_MS - 1);
	push_handshake_at(1, 1, NOW - LINK_QUEUE_HANDSHAKE_AGE_MS);
	assert_true(take(&t));
	assert_int_equal(t.number, 1);
	assert_int_equal(n_stale(), 1);
}

static void a_packet_from_the_near_future_is_not_old(void **state)
{
	struct taken t;

	(void)state;
	push_at(1, 0, 100, NOW + 3);
	assert_true(take(&t));
	assert_int_equal(n_stale(), 0);
}

static void as_many_sources_as_packets_cost_no_more_than_packets(void **state)
{
	struct taken t;

	(void)state;
	for (unsigned i = 0; i < 10000; i++)
		push(i, i, 100);
	assert_int_equal(q.n, LINK_QUEUE_PACKETS_MAX);
	assert_int_equal(n_full(), 10000 - LINK_QUEUE_PACKETS_MAX);
	while (take(&t))
		;
	assert_true(!q.fresh && !q.old && !q.urgent &&
	            !q.last); /* nothing is kept by an idle queue */
}

/* ---- against a reference ---- */

enum { SOURCES = 6, STEPS = 20000, NUMBERS = STEPS };

/* What is known of each packet of a source: FIFO of numbers, in arrays that only grow. */
struct reference {
	struct fifo {
		unsigned number[NUMBERS];
		uint64_t born_ms[NUMBERS];
		unsigned first, end;
	} fifo[SOURCES][2]; /* data, handshakes */
	unsigned n;
	size_t bytes;
};
static struct reference ref;

static unsigned random_below(unsigned *seed, unsigned bound)
{
	return (unsigned)rand_r(seed) % bound;
}

static void step_push(unsigned *seed, unsigned number, uint64_t now_ms)
{
	unsigned source = random_below(seed, SOURCES);
	bool handshake = random_below(seed, 8) == 0;
	size_t len = handshake ? 148 :
	                         200 + random_below(seed, random_below(seed, 20) ? 1300 : 60000);
	struct pkt *p = pkt_new(len);
	struct fifo *f = &ref.fifo[source][handshake];

	assert_non_null(p);
	memset(p->data, 0, len);
	p->data[0] = handshake;
	p->src = key_of(source);
	p->flow = number;
	p->born_ms = now_ms;
	f->born_ms[f->end] = now_ms;
	f->number[f->end++] = number;
	link_queue_push(&q, SHARED_BY_SENDERS, p);
}

/* Whatever is taken is in order within its source and class; what lies before it has been
 * dropped, and counted. Gives how many were. */
static unsigned check_taken(const struct pkt *p, uint64_t now_ms)
{
	unsigned source, skipped = 0;

	memcpy(&source, p->src.b, sizeof source);
	bool handshake = pkt_is_handshake(p);
	struct fifo *f = &ref.fifo[source][handshake];
	while (f->first < f->end && f->number[f->first] != p->flow)
		f->first++, skipped++;
	assert_true(f->first < f->end);
	assert_true(now_ms - f->born_ms[f->first] <=
	            (handshake ? LINK_QUEUE_HANDSHAKE_AGE_MS : LINK_QUEUE_AGE_MS));
	f->first++;
	return skipped;
}

static void run_random(unsigned seed)
{
	uint64_t now_ms = NOW, n_pushed = 0, n_taken = 0, n_closed = 0;
	struct pkt *p;

	memset(&ref, 0, sizeof ref);
	for (unsigned i = 0; i < STEPS; i++) {
		switch (random_below(&seed, 5)) {
		case 0:
		case 1: n_pushed++, step_push(&seed, i, now_ms); break;
		case 2: now_ms += random_below(&seed, 10) == 0 ? random_below(&seed, 60) : 0; break;
		case 3:
			if (random_below(&seed, 50) == 0)
				n_closed += link_queue_drop(&q, DROP_LINK_CLOSED);
			break;
		default:
			p = link_queue_take(&q, random_below(&seed, 4) ? SIZE_MAX : 700, now_ms);
			if (p) {
				check_taken(p, now_ms);
				n_taken++;
			}
			pkt_free(p);
		}
		assert_true(q.n <= LINK_QUEUE_PACKETS_MAX);
		assert_int_equal(n_pushed, n_taken + q.n_dropped + q.n);
	}
	while ((p = link_queue_take(&q, SIZE_MAX, now_ms)) != NULL) {
		check_taken(p, now_ms);
		n_taken++;
		pkt_free(p);
	}
	assert_int_equal(q.n + q.bytes, 0);
	assert_int_equal(n_pushed, n_taken + q.n_dropped);
	assert_int_equal(q.n_dropped, n_full() + n_stale() + n_closed);
	assert_true(n_taken > n_pushed / 10);
}

/* TUNN_SEED=N: that one again. */
static void every_packet_is_delivered_in_order_or_counted(void **state)
{
	const char *chosen = getenv("TUNN_SEED");

	(void)state;
	for (unsigned i = 0; i < (chosen ? 1 : 20); i++) {
		unsigned seed = chosen ? (unsigned)atoi(chosen) : 0;
		if (!chosen)
			crypto_random(&seed, 3);
		print_message("seed %u\n", seed);
		q = (struct link_queue){ 0 };
		full_before = metric_drop_sum(DROP_QUEUE_FULL);
		stale_before = metric_drop_sum(DROP_STALE);
		run_random(seed);
	}
}

static void packets_left_behind_are_counted(void **state)
{
	uint64_t before = metric_drop_sum(DROP_LINK_CLOSED);

	(void)state;
	for (unsigned i = 0; i < 30; i++) {
		push(i % 3, i, 100);
		push_handshake(i % 4, i);
	}
	link_queue_drop_all(&q, DROP_LINK_CLOSED);
	assert_int_equal(metric_drop_sum(DROP_LINK_CLOSED) - before, 60);
	assert_int_equal(q.n_dropped, 60);
	assert_int_equal(q.bytes, 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(one_source_is_served_in_the_order_it_sent),
		TEST(a_source_with_ten_times_the_rate_does_not_starve_another),
		TEST(sources_that_all_have_too_much_share_evenly),
		TEST(shares_are_of_bytes),
		TEST(who_sends_the_largest_datagrams_gets_no_more),
		TEST(a_sparse_flow_overtakes),
		TEST(who_comes_to_one_that_has_much_goes_first),
		TEST(who_sends_one_at_a_time_gets_no_more_than_its_share),
		TEST(a_packet_that_is_too_long_for_the_window_waits_and_is_next),
		TEST(so_does_one_of_several_sources),
		TEST(a_handshake_goes_ahead_of_all_data),
		TEST(a_handshake_of_who_is_in_debt_goes_ahead_as_soon_as_the_debt_is_paid),
		TEST(handshakes_of_several_sources_take_turns),
		TEST(who_sends_only_handshakes_gains_nothing_over_data),
		TEST(data_goes_between_the_handshakes_of_its_own_source),
		TEST(the_oldest_of_the_fattest_source_goes),
		TEST(room_by_packets_is_made_by_who_has_most_packets),
		TEST(room_by_bytes_is_made_by_who_has_most_bytes),
		TEST(a_flood_of_handshakes_is_dropped_before_its_own_data),
		TEST(a_burst_may_wait),
		TEST(of_a_queue_that_stands_only_the_newest_goes_out),
		TEST(who_stands_costs_no_other_its_burst),
		TEST(what_nobody_took_for_a_while_is_a_burst),
		TEST(a_queue_that_ran_empty_may_hold_a_burst_again),
		TEST(handshakes_may_wait_longer),
		TEST(a_packet_from_the_near_future_is_not_old),
		TEST(as_many_sources_as_packets_cost_no_more_than_packets),
		TEST(every_packet_is_delivered_in_order_or_counted),
		TEST(packets_left_behind_are_counted),
	};
	if (crypto_start() < 0)
		return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
