#include "tests/unit/until.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>

#include "common/base/err.h"
#include "common/base/metric.h"
#include "common/net/mailbox.h"

enum { POSTERS = 4, EACH = 20000 };

static struct mailbox *box;
static uint64_t got[POSTERS]; /* number of the last mail of each */
static atomic_uint n_failed;
static unsigned n_got, n_out_of_order, n_packets;

static void on_mail(void *owner, struct mail *m)
{
	unsigned who = m->kind;

	assert_ptr_equal(owner, &box);
	n_got++;
	if (m->number != got[who] + 1)
		n_out_of_order++;
	got[who] = m->number;
}

static uint32_t last_packet;
static struct timer *after_packets; /* NULL: nobody waits for it */

/* Numbered by their flow. */
static void on_packet(void *owner, struct pkt *p)
{
	assert_ptr_equal(owner, &box);
	n_packets++;
	n_out_of_order += p->flow != last_packet + 1;
	last_packet = p->flow;
	pkt_free(p);
	if (after_packets)
		timer_set(after_packets, 0);
}

static int set_up(void **state)
{
	(void)state;
	memset(got, 0, sizeof got);
	n_got = n_out_of_order = n_packets = last_packet = 0;
	n_failed = 0;
	loop_set_up();
	return mailbox_new(loop, on_mail, on_packet, &box, &box);
}

static int tear_down(void **state)
{
	(void)state;
	mailbox_free(box);
	loop_tear_down();
	return 0;
}

static int post(unsigned who, uint64_t number)
{
	return mailbox_post(box, &(struct mail){ .kind = who, .number = number });
}

static void post_packets(uint32_t first, unsigned n)
{
	struct pktq q = { 0 };

	for (unsigned i = 0; i < n; i++) {
		struct pkt *p = pkt_new(100);
		assert_non_null(p);
		p->flow = first + i;
		pktq_push(&q, p);
	}
	mailbox_post_packets(box, &q);
	assert_int_equal(q.n, 0);
}

static void *post_many(void *arg)
{
	unsigned who = (unsigned)(uintptr_t)arg;

	for (uint64_t i = 1; i <= EACH; i++)
		if (post(who, i) != 0)
			n_failed++;
	return NULL;
}

static bool all_got(void) { return n_got + n_failed == POSTERS * EACH; }

static void mail_of_many_threads_arrives_whole_and_in_order(void **state)
{
	pthread_t threads[POSTERS];

	(void)state;
	for (uintptr_t i = 0; i < POSTERS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, post_many, (void *)i), 0);
	until(all_got);
	for (unsigned i = 0; i < POSTERS; i++)
		pthread_join(threads[i], NULL);
	assert_int_equal(n_failed, 0);
	assert_int_equal(n_out_of_order, 0);
}

static bool one_got(void) { return n_got == 1; }
static bool two_got(void) { return n_got == 2; }

static void a_sleeping_owner_is_woken_each_time(void **state)
{
	(void)state;
	post(0, 1);
	until(one_got);
	post(0, 2);
	until(two_got);
}

static bool bound_reached(void) { return n_packets == MAILBOX_PACKETS_MAX; }
static bool one_more(void) { return n_packets == MAILBOX_PACKETS_MAX + 1; }
static bool all_mail(void) { return n_got == MAILBOX_PACKETS_MAX; }

static void packets_are_bounded_and_control_is_not(void **state)
{
	uint64_t drops = metric_drop_sum(DROP_QUEUE_FULL);

	(void)state;
	post_packets(1, MAILBOX_PACKETS_MAX - 1);
	post_packets(MAILBOX_PACKETS_MAX, 3); /* the first of them fits */
	for (unsigned i = 0; i < MAILBOX_PACKETS_MAX; i++)
		assert_int_equal(post(0, i + 1), 0);
	post_packets(9999, 1);
	assert_int_equal(metric_drop_sum(DROP_QUEUE_FULL), drops + 3);
	until(bound_reached);
	until(all_mail);
	assert_int_equal(n_out_of_order, 0);
	post_packets(MAILBOX_PACKETS_MAX + 1, 1); /* room again */
	until(one_more);
	assert_int_equal(n_out_of_order, 0);
}

enum { ROUNDS = 2000, BATCH = 50 };
static atomic_uint round_done;
static uint64_t allocs_at_half;

/* A thread that only sends: without the empty ones it would ask the heap for all. */
static void *send_rounds(void *arg)
{
	(void)arg;
	for (unsigned i = 0; i < ROUNDS; i++) {
		if (i == ROUNDS / 2)
			allocs_at_half = metric_sum(METRIC_PKT_ALLOCS);
		post_packets(i * BATCH + 1, BATCH);
		while (atomic_load(&round_done) <= i)
			sched_yield();
	}
	pkt_pool_drain();
	return NULL;
}

/* The empty ones of what has come are on their way home. */
static void on_after_packets(void *arg)
{
	(void)arg;
	atomic_store(&round_done, n_packets / BATCH);
}

static bool rounds_over(void) { return atomic_load(&round_done) == ROUNDS; }

static void where_all_goes_one_way_empty_packets_go_home(void **state)
{
	pthread_t thread;

	(void)state;
	atomic_store(&round_done, 0);
	after_packets = timer_new(loop, on_after_packets, NULL);
	assert_non_null(after_packets);
	assert_int_equal(pthread_create(&thread, NULL, send_rounds, NULL), 0);
	until(rounds_over);
	pthread_join(thread, NULL);
	timer_free(after_packets);
	after_packets = NULL;
	assert_int_equal(n_out_of_order, 0);
	assert_true(metric_sum(METRIC_PKT_ALLOCS) == allocs_at_half);
}

static void what_was_not_delivered_is_handed_over_at_the_end(void **state)
{
	(void)state;
	for (uint64_t i = 1; i <= 10; i++)
		post(0, i);
	post_packets(1, 1000);
	mailbox_free(box);
	box = NULL;
	assert_int_equal(n_got, 10);
	assert_int_equal(n_packets, 1000);
	assert_int_equal(n_out_of_order, 0);
}

static void on_mail_post_more(void *owner, struct mail *m)
{
	on_mail(owner, m);
	if (m->number < 5)
		post(0, m->number + 1);
}

static bool five_got(void) { return n_got == 5; }

static void a_handler_may_post_to_its_own_box(void **state)
{
	(void)state;
	mailbox_free(box);
	assert_int_equal(mailbox_new(loop, on_mail_post_more, NULL, &box, &box), 0);
	post(0, 1);
	until(five_got);
	assert_int_equal(n_out_of_order, 0);
}

static struct mail last;

static void keep_mail(void *owner, struct mail *m)
{
	(void)owner;
	n_got++;
	last = *m;
}

static void mail_arrives_as_it_was_posted(void **state)
{
	struct mail m = { .kind = 7, .ptr = &m, .number = UINT64_MAX };

	(void)state;
	mailbox_free(box);
	assert_int_equal(mailbox_new(loop, keep_mail, NULL, &box, &box), 0);
	assert_int_equal(mailbox_post(box, &m), 0);
	until(one_got);
	assert_int_equal(last.kind, 7);
	assert_ptr_equal(last.ptr, &m);
	assert_true(last.number == UINT64_MAX);
}

static unsigned got_at_timer;
static bool timer_came;

static void on_timer(void *arg)
{
	(void)arg;
	got_at_timer = n_got;
	timer_came = true;
}

static bool timer_has_come(void) { return timer_came; }

static void mail_comes_before_the_timers_of_a_turn(void **state)
{
	struct timer *t = timer_new(loop, on_timer, NULL);

	(void)state;
	assert_non_null(t);
	timer_came = false;
	timer_set(t, 0);
	post(0, 1);
	until(timer_has_come);
	assert_int_equal(got_at_timer, 1);
	timer_free(t);
}

enum { ENDLESS = 200000 }; /* mails, where nothing else has its turn */

static bool others_had_their_turn;

static void on_mail_post_for_ever(void *owner, struct mail *m)
{
	(void)owner;
	n_got++;
	if (!others_had_their_turn && m->number < ENDLESS)
		post(0, m->number + 1);
}

static void on_other(void *arg)
{
	(void)arg;
	others_had_their_turn = true;
}

static bool posting_ended(void) { return others_had_their_turn || n_got == ENDLESS; }

static void a_box_that_is_never_empty_leaves_a_turn_to_others(void **state)
{
	struct timer *other = timer_new(loop, on_other, NULL);

	(void)state;
	assert_non_null(other);
	others_had_their_turn = false;
	mailbox_free(box);
	assert_int_equal(mailbox_new(loop, on_mail_post_for_ever, NULL, &box, &box), 0);
	post(0, 1);
	timer_set(other, 0);
	until(posting_ended);
	assert_true(n_got < ENDLESS);
	timer_free(other);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(mail_of_many_threads_arrives_whole_and_in_order),
		TEST(a_sleeping_owner_is_woken_each_time),
		TEST(packets_are_bounded_and_control_is_not),
		TEST(where_all_goes_one_way_empty_packets_go_home),
		TEST(what_was_not_delivered_is_handed_over_at_the_end),
		TEST(mail_arrives_as_it_was_posted),
		TEST(mail_comes_before_the_timers_of_a_turn),
		TEST(a_handler_may_post_to_its_own_box),
		TEST(a_box_that_is_never_empty_leaves_a_turn_to_others),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
