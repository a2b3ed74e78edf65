#include "tests/unit/said.h"

#include <stdio.h>

#include "server/relay/penalty.h"

enum { DAY_S = 86400 };

static struct penalty *box;
static uint64_t now_ms;

static int set_up(void **state)
{
	(void)state;
	now_ms = 5000;
	box = penalty_new(true);
	return box ? 0 : -1;
}

static int tear_down(void **state)
{
	(void)state;
	penalty_free(box);
	return 0;
}

static struct addr at(const char *ip)
{
	struct addr a;

	assert_int_equal(addr_of_ip(ip, 443, &a), 0);
	return a;
}

static uint32_t offend(const char *ip, enum offence offence)
{
	struct addr a = at(ip);

	return penalty_offend(box, &a, offence, now_ms);
}

static bool is_refused(const char *ip)
{
	struct addr a = at(ip);

	return penalty_refuses(box, &a, now_ms);
}

/* As many wrong tokens as it takes; for how long it is refused then. */
static uint32_t guess(const char *ip)
{
	for (unsigned i = 1; i < PENALTY_FAILURES; i++)
		assert_int_equal(offend(ip, OFFENCE_TOKEN), 0);
	assert_false(is_refused(ip));
	return offend(ip, OFFENCE_TOKEN);
}

static void A13_ten_wrong_tokens_of_a_slash_64_close_the_box(void **state)
{
	char ip[64];

	(void)state;
	for (unsigned i = 1; i <= PENALTY_FAILURES; i++) {
		assert_false(is_refused("2001:db8::1"));
		snprintf(ip, sizeof ip, "2001:db8::%x:1", i);
		assert_int_equal(offend(ip, OFFENCE_TOKEN),
		                 i == PENALTY_FAILURES ? PENALTY_FIRST_MS : 0);
	}
	assert_true(is_refused("2001:db8::ffff:9"));
	assert_false(is_refused("2001:db8:0:1::1"));
	now_ms += PENALTY_FIRST_MS - 1;
	assert_true(is_refused("2001:db8::1"));
	now_ms++;
	assert_false(is_refused("2001:db8::1"));
}

static void a_slash_24_is_one_network(void **state)
{
	(void)state;
	assert_int_equal(guess("192.0.2.7"), PENALTY_FIRST_MS);
	assert_true(is_refused("192.0.2.200"));
	assert_false(is_refused("192.0.3.7"));
}

static void three_floods_close_it_and_two_do_not(void **state)
{
	(void)state;
	assert_int_equal(offend("192.0.2.7", OFFENCE_FLOOD), 0);
	assert_int_equal(offend("192.0.2.7", OFFENCE_FLOOD), 0);
	assert_false(is_refused("192.0.2.7"));
	assert_int_equal(offend("192.0.2.7", OFFENCE_FLOOD), PENALTY_FIRST_MS);
}

static void floods_and_wrong_tokens_do_not_add_up(void **state)
{
	(void)state;
	for (unsigned i = 1; i < PENALTY_FAILURES; i++)
		assert_int_equal(offend("192.0.2.7", OFFENCE_TOKEN), 0);
	for (unsigned i = 1; i < PENALTY_FLOODS; i++)
		assert_int_equal(offend("192.0.2.7", OFFENCE_FLOOD), 0);
	assert_false(is_refused("192.0.2.7"));
}

static void what_is_spread_over_more_than_a_minute_is_not_punished(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 1000; i++) {
		assert_int_equal(offend("192.0.2.7", OFFENCE_TOKEN), 0);
		now_ms += 1000 * PENALTY_WINDOW_S / (PENALTY_FAILURES - 1) + 1;
	}
	assert_false(is_refused("192.0.2.7"));
}

static void the_window_slides(void **state)
{
	(void)state;
	offend("192.0.2.7", OFFENCE_TOKEN);
	now_ms += 59000;
	for (unsigned i = 2; i < PENALTY_FAILURES; i++)
		assert_int_equal(offend("192.0.2.7", OFFENCE_TOKEN), 0);
	now_ms += 2000; /* the first is out of it, the others are not */
	assert_int_equal(offend("192.0.2.7", OFFENCE_TOKEN), 0);
	assert_int_equal(offend("192.0.2.7", OFFENCE_TOKEN), PENALTY_FIRST_MS);
}

static void each_penalty_is_twice_as_long_up_to_ten_minutes(void **state)
{
	static const unsigned s[] = { 5, 10, 20, 40, 80, 160, 320, 600, 600 };

	(void)state;
	for (unsigned i = 0; i < sizeof s / sizeof *s; i++) {
		assert_int_equal(guess("192.0.2.7"), 1000 * s[i]);
		now_ms += 1000 * s[i];
	}
}

static void an_hour_without_is_forgiven(void **state)
{
	(void)state;
	now_ms += guess("192.0.2.7");
	now_ms += guess("192.0.2.7") + PENALTY_FORGIVEN_MS - 1;
	assert_int_equal(guess("192.0.2.7"), 4 * PENALTY_FIRST_MS);
	now_ms += 4 * PENALTY_FIRST_MS + PENALTY_FORGIVEN_MS;
	assert_int_equal(guess("192.0.2.7"), PENALTY_FIRST_MS);
}

static void what_comes_while_it_is_refused_makes_it_no_longer(void **state)
{
	(void)state;
	uint32_t ms = guess("192.0.2.7");
	for (unsigned i = 0; i < 100; i++)
		assert_int_equal(offend("192.0.2.7", OFFENCE_TOKEN), 0);
	now_ms += ms;
	assert_false(is_refused("192.0.2.7"));
}

static void a_network_with_an_authenticated_end_is_exempt(void **state)
{
	struct addr office = at("192.0.2.7");

	(void)state;
	struct vouched *one = penalty_vouch(box, &office), *other = penalty_vouch(box, &office);
	assert_true(one && other);
	penalty_unvouch(box, one);
	for (unsigned i = 0; i < 10 * PENALTY_FAILURES; i++)
		assert_int_equal(offend("192.0.2.9", i % 2 ? OFFENCE_TOKEN : OFFENCE_FLOOD), 0);
	assert_false(is_refused("192.0.2.9"));
	penalty_unvouch(box, other);
	assert_int_equal(guess("192.0.2.9"), PENALTY_FIRST_MS);
}

static void an_end_that_gets_in_lets_its_network_in(void **state)
{
	struct addr office = at("192.0.2.7");

	(void)state;
	now_ms += guess("192.0.2.9");
	guess("192.0.2.9");
	struct vouched *v = penalty_vouch(box, &office);
	assert_non_null(v);
	assert_false(is_refused("192.0.2.9"));
	penalty_unvouch(box, v);
	assert_int_equal(guess("192.0.2.9"), PENALTY_FIRST_MS); /* forgiven */
}

static void off_refuses_nobody_and_forgets(void **state)
{
	struct addr office = at("198.51.100.1");
	struct vouched *v = penalty_vouch(box, &office);

	(void)state;
	guess("192.0.2.7");
	penalty_turn(box, false);
	assert_false(is_refused("192.0.2.7"));
	for (unsigned i = 0; i < 2 * PENALTY_FAILURES; i++)
		assert_int_equal(offend("192.0.2.7", OFFENCE_TOKEN), 0);
	penalty_turn(box, true);
	assert_int_equal(guess("192.0.2.7"), PENALTY_FIRST_MS);
	for (unsigned i = 0; v && i < 2 * PENALTY_FAILURES; i++) /* which was never off */
		assert_int_equal(offend("198.51.100.2", OFFENCE_TOKEN), 0);
	penalty_unvouch(box, v);
}

static void of_too_many_networks_those_that_offended_longest_ago_are_forgotten(void **state)
{
	char ip[64];

	(void)state;
	guess("2001:db8:1::1"); /* refused, and the oldest but one soon */
	now_ms += PENALTY_FIRST_MS;
	offend("2001:db8:2::1", OFFENCE_TOKEN);
	guess("2001:db8:1::1");
	for (unsigned i = 0; i < PENALTY_NETWORKS_MAX - 1; i++) {
		snprintf(ip, sizeof ip, "2001:db9:%x::1", i);
		offend(ip, OFFENCE_TOKEN);
	}
	assert_true(is_refused("2001:db8:1::1")); /* the other went */
	offend("2001:dba::1", OFFENCE_TOKEN);
	assert_false(is_refused("2001:db8:1::1"));
}

/* What one network may try in a day: as fast as it can, or just below what is punished. */
static unsigned tries_a_day(unsigned pause_ms)
{
	uint64_t end_ms = now_ms + 1000ULL * DAY_S;
	unsigned n = 0;

	while (now_ms < end_ms) {
		if (is_refused("192.0.2.7")) {
			now_ms += 1000;
			continue;
		}
		offend("192.0.2.7", OFFENCE_TOKEN);
		n++;
		now_ms += pause_ms;
	}
	return n;
}

static void T15_a_network_has_less_than_13000_guesses_a_day(void **state)
{
	(void)state;
	unsigned greedy = tries_a_day(1);
	now_ms += PENALTY_MOST_MS + PENALTY_FORGIVEN_MS;
	unsigned careful = tries_a_day(1000 * PENALTY_WINDOW_S / (PENALTY_FAILURES - 1) + 1);
	print_message("guesses a day: %u as fast as they pass, %u just below the penalty\n", greedy,
	              careful);
	assert_in_range(greedy, 1000, 1600);
	assert_in_range(careful, 12000, 12960);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		TEST(A13_ten_wrong_tokens_of_a_slash_64_close_the_box),
		TEST(a_slash_24_is_one_network),
		TEST(three_floods_close_it_and_two_do_not),
		TEST(floods_and_wrong_tokens_do_not_add_up),
		TEST(what_is_spread_over_more_than_a_minute_is_not_punished),
		TEST(the_window_slides),
		TEST(each_penalty_is_twice_as_long_up_to_ten_minutes),
		TEST(an_hour_without_is_forgiven),
		TEST(what_comes_while_it_is_refused_makes_it_no_longer),
		TEST(a_network_with_an_authenticated_end_is_exempt),
		TEST(an_end_that_gets_in_lets_its_network_in),
		TEST(off_refuses_nobody_and_forgets),
		TEST(of_too_many_networks_those_that_offended_longest_ago_are_forgotten),
		TEST(T15_a_network_has_less_than_13000_guesses_a_day),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
