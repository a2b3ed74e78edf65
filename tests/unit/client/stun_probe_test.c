#include "tests/unit/until.h"

#include "client/stun_probe.h"
#include "common/base/crypto.h"
#include "common/net/udp.h"
#include "common/wire/stun.h"

enum { SERVERS = 5, LONG_MS = 600000 };

static struct server { /* answers, but for the first so many */
	struct udp *udp;
	unsigned n_asked, n_ignored;
	bool is_wrong;
} servers[SERVERS];
static struct addr targets[SERVERS];
static struct stun_probe *probe;
static unsigned n_done, n_told;
static uint32_t told[SERVERS];
static uint64_t start_ms;
static bool frees;

static void reply(struct server *s, const struct addr *to, const void *bytes, size_t len)
{
	struct pkt *p = pkt_new(len);

	if (!p)
		return;
	memcpy(p->data, bytes, len);
	udp_queue(s->udp, to, p);
}

static void on_asked(void *owner, const struct addr *from, struct pkt *p)
{
	const struct stun_addr seen = { .ip = { [10] = 0xff, 0xff, 127, 0, 0, 1 } };
	uint8_t txid[STUN_TXID_LEN], answer[STUN_ANSWER_MAX];
	struct server *s = owner;

	int rc = stun_read_request(p->data, p->len, txid);
	pkt_free(p);
	assert_int_equal(rc, 0);
	if (s->n_asked++ < s->n_ignored)
		return;
	size_t len = stun_write_answer(txid, &seen, answer);
	if (!s->is_wrong) {
		reply(s, from, answer, len);
		reply(s, from, answer, len); /* a second counts for nothing */
		return;
	}
	reply(s, from, answer, len - 1);
	answer[8] ^= 1; /* of another transaction */
	reply(s, from, answer, len);
	reply(s, from, "", 0);
}

static void serve(unsigned i, const char *ip)
{
	struct addr local;

	addr_of_ip(ip, 0, &local);
	assert_int_equal(udp_open(loop, &local, on_asked, &servers[i], &servers[i].udp), 0);
	targets[i] = *udp_local(servers[i].udp);
}

static void on_done(void *arg, const uint32_t *latencies_ms, unsigned n)
{
	assert_ptr_equal(arg, &n_done);
	n_done++;
	n_told = n;
	memcpy(told, latencies_ms, n * sizeof *told);
	if (frees) {
		stun_probe_free(probe);
		probe = NULL;
	}
}

static bool is_done(void) { return n_done > 0; }

static const void *const *places;

static void start(unsigned n, unsigned timeout_ms)
{
	struct stun_probe_conf conf = {
		.targets = targets, .places = places, .n = n, .timeout_ms = timeout_ms
	};

	start_ms = loop_now_ms(loop);
	assert_int_equal(stun_probe_start(loop, &conf, on_done, &n_done, &probe), 0);
	assert_int_equal(n_done, 0); /* always from the loop */
}

static int set_up(void **state)
{
	(void)state;
	memset(servers, 0, sizeof servers);
	n_done = n_told = 0;
	frees = false;
	places = NULL;
	loop_set_up();
	return crypto_start();
}

static int tear_down(void **state)
{
	(void)state;
	stun_probe_free(probe);
	probe = NULL;
	for (unsigned i = 0; i < SERVERS; i++)
		udp_close(servers[i].udp);
	loop_tear_down();
	return 0;
}

static void who_answers_is_asked_once_and_told_with_its_time(void **state)
{
	(void)state;
	serve(0, "127.0.0.1");
	serve(1, "127.0.0.2");
	start(2, LONG_MS);
	until(is_done);
	assert_int_equal(n_told, 2);
	for (unsigned i = 0; i < 2; i++) {
		assert_true(told[i] <= loop_now_ms(loop) - start_ms);
		assert_int_equal(servers[i].n_asked, 1);
	}
}

static void both_families_are_asked(void **state)
{
	struct addr local;
	struct udp *ipv6;

	(void)state;
	addr_of_ip("::1", 0, &local);
	if (udp_open(loop, &local, on_asked, NULL, &ipv6) < 0)
		skip(); /* a machine without IPv6 */
	udp_close(ipv6);
	serve(0, "127.0.0.1");
	serve(1, "::1");
	start(2, LONG_MS);
	until(is_done);
	assert_true(told[0] != STUN_PROBE_SILENT && told[1] != STUN_PROBE_SILENT);
}

/* The third went 200 ms after the first. */
static void the_time_is_that_of_the_try_that_was_answered(void **state)
{
	(void)state;
	serve(0, "127.0.0.1");
	servers[0].n_ignored = 2;
	start(1, LONG_MS);
	until(is_done);
	assert_int_equal(servers[0].n_asked, 3);
	assert_true(loop_now_ms(loop) - start_ms >= 200);
	assert_true(told[0] <= loop_now_ms(loop) - start_ms - 200);
}

static void the_deadline_ends_it_without_an_answer(void **state)
{
	(void)state;
	serve(0, "127.0.0.1");
	servers[0].n_ignored = 100;
	start(1, 300);
	until(is_done);
	assert_true(loop_now_ms(loop) - start_ms >= 300);
	assert_int_equal(told[0], STUN_PROBE_SILENT);
	assert_int_equal(servers[0].n_asked, 3);
}

static void a_short_deadline_leaves_tries_out(void **state)
{
	(void)state;
	serve(0, "127.0.0.1");
	servers[0].n_ignored = 100;
	start(1, 150);
	until(is_done);
	assert_in_range(servers[0].n_asked, 1, 2);
}

static void three_that_answered_do_not_wait_long_for_the_silent(void **state)
{
	(void)state;
	for (unsigned i = 0; i < SERVERS; i++)
		serve(i, "127.0.0.1");
	servers[1].n_ignored = 100;
	servers[4].n_ignored = 100; /* no more than it */
	start(SERVERS, LONG_MS);
	until(is_done); /* long before the deadline */
	assert_int_equal(told[1], STUN_PROBE_SILENT);
	assert_true(told[0] != STUN_PROBE_SILENT && told[2] != STUN_PROBE_SILENT);
	assert_int_equal(servers[1].n_asked, 3);
	assert_int_equal(servers[4].n_asked, 3);
}

static void two_that_answered_wait_for_the_third(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 3; i++)
		serve(i, "127.0.0.1");
	servers[1].n_ignored = 100;
	start(3, 400);
	until(is_done);
	assert_true(loop_now_ms(loop) - start_ms >= 400);
	assert_int_equal(told[1], STUN_PROBE_SILENT);
	assert_true(told[0] != STUN_PROBE_SILENT && told[2] != STUN_PROBE_SILENT);
}

static void when_each_place_has_answered_the_rest_of_it_is_not_waited_for(void **state)
{
	static const void *const two[] = { &targets[0], &targets[0], &targets[2], &targets[2] };

	(void)state;
	for (unsigned i = 0; i < 4; i++)
		serve(i, "127.0.0.1");
	servers[1].n_ignored = servers[2].n_ignored = 100;
	places = two;
	start(4, LONG_MS);
	until(is_done); /* long before the deadline */
	assert_int_equal(told[1], STUN_PROBE_SILENT);
	assert_int_equal(told[2], STUN_PROBE_SILENT);
	assert_int_equal(servers[1].n_asked, 3);
}

static void a_place_that_is_silent_is_waited_for(void **state)
{
	static const void *const two[] = { &targets[0], &targets[0], &targets[2] };

	(void)state;
	for (unsigned i = 0; i < 3; i++)
		serve(i, "127.0.0.1");
	servers[2].n_ignored = 100;
	places = two;
	start(3, 400);
	until(is_done);
	assert_true(loop_now_ms(loop) - start_ms >= 400);
}

static void answers_of_others_count_for_nothing(void **state)
{
	(void)state;
	serve(0, "127.0.0.1");
	servers[0].is_wrong = true;
	start(1, 300);
	until(is_done);
	assert_int_equal(servers[0].n_asked, 3);
	assert_int_equal(told[0], STUN_PROBE_SILENT);
}

static void nobody_to_ask_is_done_at_once(void **state)
{
	(void)state;
	start(0, LONG_MS);
	until(is_done);
	assert_int_equal(n_told, 0);
}

static void it_may_be_freed_in_done(void **state)
{
	(void)state;
	serve(0, "127.0.0.1");
	frees = true;
	start(1, LONG_MS);
	until(is_done);
	assert_null(probe);
}

static bool was_asked(void) { return servers[0].n_asked == 2; }

static void it_may_be_freed_before(void **state)
{
	(void)state;
	serve(0, "127.0.0.1");
	start(1, LONG_MS);
	stun_probe_free(probe);
	servers[0].n_ignored = 100;
	start(1, LONG_MS);
	until(was_asked);
	stun_probe_free(probe);
	probe = NULL;
	assert_int_equal(n_done, 0);
	servers[0].n_ignored = 0;
	start(1, LONG_MS);
	until(is_done);
	assert_int_equal(n_done, 1);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		TEST(who_answers_is_asked_once_and_told_with_its_time),
		TEST(both_families_are_asked),
		TEST(the_time_is_that_of_the_try_that_was_answered),
		TEST(the_deadline_ends_it_without_an_answer),
		TEST(a_short_deadline_leaves_tries_out),
		TEST(three_that_answered_do_not_wait_long_for_the_silent),
		TEST(two_that_answered_wait_for_the_third),
		TEST(when_each_place_has_answered_the_rest_of_it_is_not_waited_for),
		TEST(a_place_that_is_silent_is_waited_for),
		TEST(answers_of_others_count_for_nothing),
		TEST(nobody_to_ask_is_done_at_once),
		TEST(it_may_be_freed_in_done),
		TEST(it_may_be_freed_before),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
