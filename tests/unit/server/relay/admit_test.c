#include "tests/unit/said.h"

#include <netinet/in.h>

#include "server/relay/admit.h"

enum { WORKER = 3 };

static struct admit *admit;
static struct limits limits;
static uint64_t now_ms;

static int set_up(void **state)
{
	(void)state;
	limits = limits_default;
	limits.newcomers = 100;
	limits.newcomers_per_net = 4;
	now_ms = 1000;
	admit = admit_new(&limits);
	return admit ? 0 : -1;
}

static int tear_down(void **state)
{
	(void)state;
	admit_free(admit);
	return 0;
}

static uint64_t enter(const char *ip)
{
	struct addr a;
	struct newcomer_id evicted;

	assert_int_equal(addr_of_ip(ip, 1, &a), 0);
	uint64_t number = admit_enter(admit, &a, WORKER, now_ms, &evicted);
	assert_false(evicted.number);
	return number;
}

static uint64_t enter_net(unsigned i)
{
	char ip[32];

	snprintf(ip, sizeof ip, "10.%u.%u.1", i / 256, i % 256);
	return enter(ip);
}

static void one_network_has_only_its_share(void **state)
{
	(void)state;
	for (unsigned i = 0; i < limits.newcomers_per_net; i++)
		assert_true(enter("192.0.2.7"));
	assert_false(enter("192.0.2.200"));
	assert_true(enter("192.0.3.7"));
}

static void a_slash_64_is_one_network(void **state)
{
	(void)state;
	for (unsigned i = 0; i < limits.newcomers_per_net; i++)
		assert_true(enter("2001:db8::1"));
	assert_false(enter("2001:db8:0:0:ffff::9"));
	assert_true(enter("2001:db8:0:1::9"));
}

static void an_address_seen_through_a_socket_of_both_families_is_the_same(void **state)
{
	struct addr mapped = { .ss.ss_family = AF_INET6, .len = sizeof(struct sockaddr_in6) };
	static const uint8_t v4[16] = { 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 192, 0, 2, 9 };
	struct newcomer_id evicted;

	(void)state;
	memcpy(&((struct sockaddr_in6 *)(void *)&mapped.ss)->sin6_addr, v4, sizeof v4);
	for (unsigned i = 0; i < limits.newcomers_per_net; i++)
		assert_true(enter("192.0.2.7"));
	assert_false(admit_enter(admit, &mapped, WORKER, now_ms, &evicted));
}

static void who_leaves_makes_room(void **state)
{
	uint64_t first;

	(void)state;
	first = enter("192.0.2.7");
	for (unsigned i = 1; i < limits.newcomers_per_net; i++)
		enter("192.0.2.7");
	assert_false(enter("192.0.2.7"));
	admit_leave(admit, first);
	assert_true(enter("192.0.2.7"));
	admit_leave(admit, first); /* long gone */
}

static void all_networks_together_have_their_limit_and_drop_at_random_before_it(void **state)
{
	unsigned n = 0, before_half = 0;

	(void)state;
	for (unsigned i = 0; i < 10000; i++) {
		if (!enter_net(i))
			break;
		before_half++;
	}
	assert_true(before_half >= limits.newcomers / 2);
	for (unsigned i = 10000; i < 20000; i++)
		n += enter_net(i) != 0;
	assert_int_equal(admit_count(admit), limits.newcomers); /* that many tries reach it */
	assert_int_equal(n, limits.newcomers - before_half);
}

static void who_takes_too_long_makes_room_for_the_next_in_its_network(void **state)
{
	struct addr a;
	struct newcomer_id evicted;

	(void)state;
	uint64_t one = enter("192.0.2.7"), two = enter("192.0.2.7");
	assert_true(one && two);
	enter("192.0.2.7");
	enter("192.0.2.7");
	now_ms += ADMIT_PATIENCE_MS + 1;
	assert_int_equal(addr_of_ip("192.0.2.9", 1, &a), 0);
	assert_true(admit_enter(admit, &a, 0, now_ms, &evicted));
	assert_true(evicted.number == one && evicted.worker == WORKER);
	assert_true(admit_enter(admit, &a, 0, now_ms, &evicted));
	assert_true(evicted.number == two && evicted.worker == WORKER);
	assert_int_equal(admit_count(admit), limits.newcomers_per_net);
}

static void a_full_house_of_idlers_lets_everybody_in(void **state)
{
	struct addr a;
	struct newcomer_id evicted;

	(void)state;
	for (unsigned i = 0; admit_count(admit) < limits.newcomers && i < 20000; i++)
		enter_net(i);
	now_ms += ADMIT_PATIENCE_MS + 1;
	assert_int_equal(addr_of_ip("192.0.2.9", 1, &a), 0);
	for (unsigned i = 0; i < limits.newcomers_per_net; i++) {
		assert_true(admit_enter(admit, &a, 0, now_ms, &evicted));
		assert_true(evicted.number);
		assert_int_equal(admit_count(admit), limits.newcomers);
	}
}

static void a_limit_of_one_lets_one_in(void **state)
{
	(void)state;
	limits.newcomers = limits.newcomers_per_net = 1;
	admit_set_limits(admit, &limits);
	uint64_t nc = enter("192.0.2.7");
	assert_true(nc);
	assert_false(enter("192.0.2.7"));
	assert_false(enter("192.0.9.7"));
	admit_leave(admit, nc);
	assert_true(enter("192.0.9.7"));
}

static void who_come_faster_than_the_rate_are_turned_away(void **state)
{
	(void)state;
	limits.accepts_burst = 3;
	limits.accepts_per_s = 2;
	limits.newcomers_per_net = 100;
	admit_set_limits(admit, &limits);
	for (unsigned i = 0; i < 3; i++)
		assert_true(enter("192.0.2.1"));
	assert_false(enter("192.0.3.1")); /* wherever they come from */
	now_ms += 500;
	assert_true(enter("192.0.3.1"));
	assert_false(enter("192.0.3.1"));
	admit_set_limits(admit, &limits); /* a reload that changes nothing gives nothing */
	assert_false(enter("192.0.3.1"));
}

static void memory_is_short_and_the_newest_of_a_worker_go(void **state)
{
	uint64_t numbers[3], ours[3], gone[8];
	struct newcomer_id evicted;
	struct addr a;

	(void)state;
	assert_int_equal(addr_of_ip("192.0.2.9", 1, &a), 0);
	for (unsigned i = 0; i < 3; i++) {
		ours[i] = enter_net(i);
		if (i < 2)
			numbers[i] = admit_enter(admit, &a, WORKER + 1, now_ms, &evicted);
	}
	assert_int_equal(admit_newest(admit, WORKER, gone, 2), 2);
	assert_true(gone[0] == ours[2] && gone[1] == ours[1]);
	assert_int_equal(admit_newest(admit, WORKER, gone, 8), 1);
	assert_int_equal(admit_newest(admit, WORKER, gone, 8), 0);
	assert_int_equal(admit_count(admit), 2);
	admit_leave(admit, ours[0]); /* its worker says so too */
	assert_int_equal(admit_newest(admit, WORKER + 1, gone, 8), 2);
	assert_true(gone[0] == numbers[1] && gone[1] == numbers[0]);
	assert_int_equal(admit_count(admit), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define TEST(t) cmocka_unit_test_setup_teardown(t, set_up, tear_down)
		TEST(one_network_has_only_its_share),
		TEST(a_slash_64_is_one_network),
		TEST(an_address_seen_through_a_socket_of_both_families_is_the_same),
		TEST(who_leaves_makes_room),
		TEST(all_networks_together_have_their_limit_and_drop_at_random_before_it),
		TEST(who_takes_too_long_makes_room_for_the_next_in_its_network),
		TEST(a_full_house_of_idlers_lets_everybody_in),
		TEST(a_limit_of_one_lets_one_in),
		TEST(memory_is_short_and_the_newest_of_a_worker_go),
		TEST(who_come_faster_than_the_rate_are_turned_away),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
