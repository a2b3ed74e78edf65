#include <arpa/inet.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "client/flow.h"
#include "common/base/crypto.h"

static unsigned n_gone;
static void *last_gone;

static void gone(void *owner, void *socket)
{
	assert_ptr_equal(owner, &n_gone);
	n_gone++;
	last_gone = socket;
}

static struct flow_table *table(unsigned n_peers)
{
	struct flow_table *t = flow_table_new(n_peers, gone, &n_gone);

	assert_non_null(t);
	n_gone = 0;
	return t;
}

static struct addr v4(uint16_t port)
{
	struct addr a;
	struct sockaddr_in sin = { .sin_family = AF_INET, .sin_port = htons(port) };

	sin.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	memset(&a, 0, sizeof a);
	memcpy(&a.ss, &sin, sizeof sin);
	a.len = sizeof sin;
	return a;
}

static struct addr v6(uint16_t port)
{
	struct addr a;
	struct sockaddr_in6 sin = { .sin6_family = AF_INET6, .sin6_port = htons(port) };

	sin.sin6_addr = in6addr_loopback;
	memset(&a, 0, sizeof a);
	memcpy(&a.ss, &sin, sizeof sin);
	a.len = sizeof sin;
	return a;
}

static uint32_t number(struct flow_table *t, unsigned peer, struct addr from, uint64_t now_ms)
{
	uint32_t n = UINT32_MAX;

	assert_int_equal(flow_from_addr(t, peer, &from, now_ms, &n), 0);
	return n;
}

static uint16_t port_of(const struct addr *a) { return a ? addr_port(a) : 0; }

/* -- the listening end */

static void numbers_count_up_from_zero_per_peer(void **state)
{
	struct flow_table *t = table(2);

	(void)state;
	assert_int_equal(number(t, 0, v4(5000), 0), 0);
	assert_int_equal(number(t, 0, v4(5001), 0), 1);
	assert_int_equal(number(t, 1, v4(5001), 0), 0);
	assert_int_equal(number(t, 0, v4(5000), 0), 0);
	assert_int_equal(number(t, 0, v6(5000), 0), 2);
	assert_int_equal(flow_count(t, 0), 3);
	assert_int_equal(flow_count(t, 1), 1);
	flow_table_free(t);
}

static void an_echoed_number_finds_its_address(void **state)
{
	struct flow_table *t = table(1);

	(void)state;
	number(t, 0, v4(5000), 0);
	number(t, 0, v6(5001), 0);
	flow_peer_echoes(t, 0, true);
	assert_int_equal(port_of(flow_to_addr(t, 0, 0, 0)), 5000);
	assert_int_equal(port_of(flow_to_addr(t, 0, 1, 0)), 5001);
	assert_int_equal(flow_to_addr(t, 0, 1, 0)->ss.ss_family, AF_INET6);
	flow_table_free(t);
}

static void before_anyone_spoke_there_is_no_address(void **state)
{
	struct flow_table *t = table(2);

	(void)state;
	number(t, 1, v4(5000), 0);
	assert_null(flow_to_addr(t, 0, 0, 0));
	assert_null(flow_to_addr(t, 0, 7, 0));
	flow_table_free(t);
}

static void U04_a_peer_without_flows_answers_the_last_that_spoke(void **state)
{
	struct flow_table *t = table(1);

	(void)state;
	number(t, 0, v4(5000), 0);
	number(t, 0, v4(5001), 1);
	assert_int_equal(port_of(flow_to_addr(t, 0, 0, 2)), 5001);
	number(t, 0, v4(5000), 3);
	assert_int_equal(port_of(flow_to_addr(t, 0, 0, 4)), 5000);
	assert_int_equal(port_of(flow_to_addr(t, 0, 99, 4)), 5000);
	flow_table_free(t);
}

static void a_number_in_use_shows_that_the_peer_echoes(void **state)
{
	struct flow_table *t = table(1);

	(void)state;
	number(t, 0, v4(5000), 0);
	number(t, 0, v4(5001), 0);
	assert_int_equal(port_of(flow_to_addr(t, 0, 1, 0)), 5001);
	assert_int_equal(port_of(flow_to_addr(t, 0, 0, 0)), 5000);
	flow_table_free(t);
}

static void U06_idle_flows_end_after_180_s_and_not_before(void **state)
{
	struct flow_table *t = table(1);

	(void)state;
	number(t, 0, v4(5000), 1000);
	number(t, 0, v4(5001), 2000);
	flow_expire(t, 1000 + FLOW_IDLE_MS - 1);
	assert_int_equal(flow_count(t, 0), 2);
	flow_expire(t, 1000 + FLOW_IDLE_MS);
	assert_int_equal(flow_count(t, 0), 1);
	assert_int_equal(number(t, 0, v4(6000), 1000 + FLOW_IDLE_MS), 0); /* lowest free */
	assert_int_equal(number(t, 0, v4(5001), 1000 + FLOW_IDLE_MS), 1);
	flow_table_free(t);
}

static void traffic_in_either_direction_keeps_a_flow(void **state)
{
	struct flow_table *t = table(1);

	(void)state;
	number(t, 0, v4(5000), 0);
	number(t, 0, v4(5001), 0);
	flow_peer_echoes(t, 0, true);
	number(t, 0, v4(5000), FLOW_IDLE_MS - 1);
	flow_to_addr(t, 0, 1, FLOW_IDLE_MS - 1);
	flow_expire(t, 2 * FLOW_IDLE_MS - 2);
	assert_int_equal(flow_count(t, 0), 2);
	flow_expire(t, 2 * FLOW_IDLE_MS - 1);
	assert_int_equal(flow_count(t, 0), 0);
	flow_table_free(t);
}

static void the_last_speaker_is_remembered_beyond_its_flow(void **state)
{
	struct flow_table *t = table(1);

	(void)state;
	number(t, 0, v4(5000), 0);
	flow_expire(t, 10 * FLOW_IDLE_MS);
	assert_int_equal(flow_count(t, 0), 0);
	assert_int_equal(port_of(flow_to_addr(t, 0, 0, 10 * FLOW_IDLE_MS)), 5000);
	flow_table_free(t);
}

static void U06_a_full_peer_gives_up_the_longest_idle(void **state)
{
	struct flow_table *t = table(2);

	(void)state;
	number(t, 1, v4(4000), 0);
	for (unsigned i = 0; i < FLOWS_MAX; i++)
		assert_int_equal(number(t, 0, v4((uint16_t)(5000 + i)), i), i);
	number(t, 0, v4(5000), FLOWS_MAX); /* now 5001 is the longest idle */
	assert_int_equal(number(t, 0, v4(20000), FLOWS_MAX), 1);
	assert_int_equal(flow_count(t, 0), FLOWS_MAX);
	assert_int_equal(flow_count(t, 1), 1);
	assert_int_equal(number(t, 0, v4(5000), FLOWS_MAX), 0);
	assert_int_equal(number(t, 0, v4(5001), FLOWS_MAX), 2); /* a new one */
	flow_table_free(t);
}

static void U06_a_storm_of_sources_stays_bounded(void **state)
{
	struct flow_table *t = table(1);

	(void)state;
	for (unsigned i = 0; i < 100000; i++) { /* both ends of 127.0.0.0/8 have ports */
		struct addr from;
		addr_of_ip(i % 2 ? "127.0.0.1" : "127.255.255.254", (uint16_t)(1 + i / 2), &from);
		assert_in_range(number(t, 0, from, i), 0, FLOWS_MAX - 1);
	}
	assert_int_equal(flow_count(t, 0), FLOWS_MAX);
	flow_table_free(t);
}

/* -- the forwarding end */

static char sockets[FLOWS_MAX + 2];

static void a_socket_is_found_by_peer_and_number(void **state)
{
	struct flow_table *t = table(2);

	(void)state;
	assert_null(flow_to_socket(t, 0, 0, 0));
	assert_int_equal(flow_set_socket(t, 0, 0, &sockets[0], 0), 0);
	assert_int_equal(flow_set_socket(t, 1, 0, &sockets[1], 0), 0);
	assert_int_equal(flow_set_socket(t, 0, UINT32_MAX, &sockets[2], 0), 0);
	assert_ptr_equal(flow_to_socket(t, 0, 0, 0), &sockets[0]);
	assert_ptr_equal(flow_to_socket(t, 1, 0, 0), &sockets[1]);
	assert_ptr_equal(flow_to_socket(t, 0, UINT32_MAX, 0), &sockets[2]);
	flow_table_free(t);
	assert_int_equal(n_gone, 3);
}

static void idle_sockets_close_but_the_first_stays(void **state)
{
	struct flow_table *t = table(1);

	(void)state;
	flow_set_socket(t, 0, 0, &sockets[0], 0);
	flow_set_socket(t, 0, 1, &sockets[1], 0);
	flow_set_socket(t, 0, 2, &sockets[2], 0);
	flow_to_socket(t, 0, 2, 10);
	flow_expire(t, FLOW_IDLE_MS);
	assert_int_equal(n_gone, 1);
	assert_ptr_equal(last_gone, &sockets[1]);
	flow_expire(t, FLOW_IDLE_MS + 10);
	assert_int_equal(n_gone, 2);
	assert_ptr_equal(flow_to_socket(t, 0, 0, FLOW_IDLE_MS + 10), &sockets[0]);
	assert_null(flow_to_socket(t, 0, 1, FLOW_IDLE_MS + 10));
	flow_table_free(t);
}

static void U06_a_peer_cannot_open_sockets_without_end(void **state)
{
	struct flow_table *t = table(1);

	(void)state;
	for (uint32_t i = 0; i < FLOWS_MAX; i++)
		flow_set_socket(t, 0, i, &sockets[i], i);
	flow_set_socket(t, 0, FLOWS_MAX, &sockets[FLOWS_MAX], FLOWS_MAX);
	assert_int_equal(flow_count(t, 0), FLOWS_MAX);
	assert_int_equal(n_gone, 1);
	assert_ptr_equal(last_gone, &sockets[1]); /* number 0 stays */
	flow_set_socket(t, 0, FLOWS_MAX + 1, &sockets[FLOWS_MAX + 1], FLOWS_MAX);
	assert_ptr_equal(last_gone, &sockets[2]);
	flow_table_free(t);
}

static void U06_sockets_are_shared_evenly_and_the_rest_is_kept(void **state)
{
	struct flow_table *t = table(3);

	(void)state;
	flow_limit_sockets(t, 30);
	for (uint32_t i = 0; i < 100; i++) {
		assert_true(flow_make_room(t, 0));
		flow_set_socket(t, 0, i, &sockets[i], i);
		assert_in_range(flow_count(t, 0), 1, 10);
	}
	assert_int_equal(n_gone, 90);
	assert_ptr_equal(flow_to_socket(t, 0, 0, 200), &sockets[0]);
	assert_ptr_equal(flow_to_socket(t, 0, 99, 200), &sockets[99]);
	flow_table_free(t);
}

static void U06_where_there_are_fewer_sockets_than_peers_some_get_none(void **state)
{
	struct flow_table *t = table(4);

	(void)state;
	flow_limit_sockets(t, 3);
	for (unsigned peer = 0; peer < 3; peer++) {
		assert_true(flow_make_room(t, peer));
		flow_set_socket(t, peer, 0, &sockets[peer], 0);
	}
	assert_false(flow_make_room(t, 3));
	assert_false(flow_make_room(t, 0)); /* number 0 stays */
	flow_table_free(t);
	t = table(2);
	flow_limit_sockets(t, 2);
	flow_set_socket(t, 0, 5, &sockets[5], 0);
	flow_set_socket(t, 1, 0, &sockets[0], 0);
	assert_true(flow_make_room(t, 0)); /* instead of its own */
	assert_ptr_equal(last_gone, &sockets[5]);
	flow_table_free(t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(numbers_count_up_from_zero_per_peer),
		cmocka_unit_test(an_echoed_number_finds_its_address),
		cmocka_unit_test(before_anyone_spoke_there_is_no_address),
		cmocka_unit_test(U04_a_peer_without_flows_answers_the_last_that_spoke),
		cmocka_unit_test(a_number_in_use_shows_that_the_peer_echoes),
		cmocka_unit_test(U06_idle_flows_end_after_180_s_and_not_before),
		cmocka_unit_test(traffic_in_either_direction_keeps_a_flow),
		cmocka_unit_test(the_last_speaker_is_remembered_beyond_its_flow),
		cmocka_unit_test(U06_a_full_peer_gives_up_the_longest_idle),
		cmocka_unit_test(U06_a_storm_of_sources_stays_bounded),
		cmocka_unit_test(a_socket_is_found_by_peer_and_number),
		cmocka_unit_test(idle_sockets_close_but_the_first_stays),
		cmocka_unit_test(U06_a_peer_cannot_open_sockets_without_end),
		cmocka_unit_test(U06_sockets_are_shared_evenly_and_the_rest_is_kept),
		cmocka_unit_test(U06_where_there_are_fewer_sockets_than_peers_some_get_none),
	};
	if (crypto_start())
		return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
