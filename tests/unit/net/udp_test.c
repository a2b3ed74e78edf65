#include "tests/unit/net/udp_ends.h"

static size_t awaited_len;
static bool len_arrived(void) { return b.n && b.last_len == awaited_len; }

static void U01_U02_datagrams_of_every_size_keep_their_boundaries(void **state)
{
	static const size_t sizes[] = { 1, 0, 1420, 9000, PAYLOAD_MAX, 2 };

	(void)state;
	for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
		awaited_len = sizes[i];
		b.n = 0;
		send_to(&a, udp_local(b.udp), sizes[i], 7);
		until(len_arrived);
		assert_int_equal(b.n, 1);
		assert_int_equal(b.last_byte, sizes[i] ? 7 : 0);
		assert_true(addr_eq(&b.last_from, udp_local(a.udp)));
	}
}

static bool many_arrived(void) { return b.n == MANY; }

static void what_is_queued_in_one_turn_goes_out_in_order(void **state)
{
	(void)state;
	for (unsigned i = 0; i < MANY; i++)
		send_to(&a, udp_local(b.udp), 10, (uint8_t)i);
	until(many_arrived);
	assert_int_equal(b.n_out_of_order, 0);
	assert_int_equal(b.bytes, MANY * 10);
}

static bool more_than_a_turn_arrived(void) { return b.n == A_TURN + 20; }

static void a_turn_takes_no_more_than_its_share(void **state)
{
	(void)state;
	seen = most = 0;
	look = (struct task){ .cb = note_turn };
	for (unsigned i = 0; i < A_TURN + 20; i++) /* each longer, so that none go together */
		send_to(&a, udp_local(b.udp), 1 + i, (uint8_t)i);
	loop_defer(loop, LOOP_PUMP, &look);
	until(more_than_a_turn_arrived);
	assert_int_equal(b.n_out_of_order, 0);
	assert_int_equal(most, A_TURN);
	loop_undefer(loop, LOOP_PUMP, &look);
}

static void ipv6_carries_datagrams_too(void **state)
{
	struct addr local;
	struct udp *probe;
	struct end c;

	(void)state;
	addr_of_ip("::1", 0, &local);
	if (udp_open(loop, &local, on_packet, &c, &probe) < 0)
		skip(); /* a machine without IPv6 */
	udp_close(probe);
	udp_close(b.udp);
	open_at(&b, "::1");
	open_at(&c, "::1");
	awaited_len = 1420;
	send_to(&c, udp_local(b.udp), 1420, 9);
	until(len_arrived);
	assert_true(addr_eq(&b.last_from, udp_local(c.udp)));
	udp_close(c.udp);
}

static void a_port_in_use_is_refused(void **state)
{
	struct udp *second;

	(void)state;
	assert_int_equal(udp_open(loop, udp_local(a.udp), on_packet, &b, &second), -EADDRINUSE);
}

static void an_address_not_ours_is_refused(void **state)
{
	struct addr other;
	struct udp *u;

	(void)state;
	addr_of_ip("192.0.2.1", 0, &other);
	assert_int_equal(udp_open(loop, &other, on_packet, &b, &u), -EADDRNOTAVAIL);
}

static bool one_arrived(void) { return b.n == 1; }

/* The answer to a datagram nobody wanted does not end the socket, nor cost the next one. */
static void U05_a_refused_datagram_is_counted_and_does_not_disturb_the_next(void **state)
{
	uint64_t errors = metric_sum(METRIC_UDP_ERRORS);
	struct addr nobody;
	struct end c;

	(void)state;
	open_at(&c, "127.0.0.1");
	nobody = *udp_local(c.udp);
	udp_close(c.udp);
	assert_int_equal(udp_connect(a.udp, &nobody), 0);
	for (unsigned i = 0; i < 3; i++)
		send_to(&a, NULL, 10, 0);
	send_to(&b, udp_local(b.udp), 10, 0); /* a turn for the ICMP error to come back */
	until(one_arrived);
	assert_true(metric_sum(METRIC_UDP_ERRORS) > errors);
	assert_int_equal(udp_connect(a.udp, udp_local(b.udp)), 0);
	b.n = 0;
	send_to(&a, NULL, 10, 0);
	until(one_arrived);
	assert_true(addr_eq(&b.last_from, udp_local(a.udp)));
}

static void U03_a_connected_socket_hears_only_its_peer(void **state)
{
	struct end c;

	(void)state;
	open_at(&c, "127.0.0.1");
	assert_int_equal(udp_connect(b.udp, udp_local(a.udp)), 0);
	send_to(&c, udp_local(b.udp), 33, 0);
	awaited_len = 44;
	send_to(&a, udp_local(b.udp), 44, 0);
	until(len_arrived);
	assert_int_equal(b.n, 1);
	udp_close(c.udp);
}

static void a_datagram_the_kernel_refuses_is_counted(void **state)
{
	struct addr broadcast;
	uint64_t refused = metric_drop_sum(DROP_UDP_SEND);

	(void)state;
	addr_of_ip("255.255.255.255", 9, &broadcast); /* EACCES without SO_BROADCAST */
	send_to(&a, &broadcast, 10, 0);
	send_to(&a, udp_local(b.udp), 10, 0); /* the one behind it still goes */
	until(one_arrived);
	assert_int_equal(metric_drop_sum(DROP_UDP_SEND), refused + 1);
}

static bool was_sent(void) { return n_sends == 1; }
static bool five_arrived(void) { return b.n == 5; }

static void U11_a_full_kernel_queue_costs_the_newest_and_no_spin(void **state)
{
	static const int full[] = { EAGAIN, ENOBUFS };

	(void)state;
	for (unsigned i = 0; i < 2; i++) {
		uint64_t dropped = metric_drop_sum(DROP_UDP_SEND);
		n_sends = 0;
		b.n = b.n_out_of_order = 0;
		send_most = 5;
		send_errno = full[i];
		for (unsigned k = 0; k < MANY; k++) /* each longer, so that none go together */
			send_to(&a, udp_local(b.udp), 10 + k, (uint8_t)k);
		until(queue_was_full);
		assert_int_equal(n_sends, 2); /* five taken, then a refusal: not asked again */
		assert_int_equal(metric_drop_sum(DROP_UDP_SEND), dropped + MANY - 5);
		send_errno = 0;
		until(five_arrived);
		assert_int_equal(b.n_out_of_order, 0); /* the oldest five */
	}
}

static void U02_a_datagram_beyond_the_path_is_counted_and_the_next_goes(void **state)
{
	uint64_t too_big = metric_drop_sum(DROP_TOO_BIG);

	(void)state;
	send_errno = EMSGSIZE;
	send_to(&a, udp_local(b.udp), 10, 0);
	until(was_sent);
	send_errno = 0;
	assert_int_equal(metric_drop_sum(DROP_TOO_BIG), too_big + 1);
	send_to(&a, udp_local(b.udp), 10, 0);
	until(one_arrived);
}

static void U08_a_truncated_datagram_is_dropped_and_counted(void **state)
{
	uint64_t truncated = metric_drop_sum(DROP_UDP_TRUNC);

	(void)state;
	truncate_next = true;
	send_to(&a, udp_local(b.udp), 10, 0);
	send_to(&a, udp_local(b.udp), 11, 0);
	until(one_arrived);
	assert_int_equal(b.last_len, 11);
	assert_int_equal(metric_drop_sum(DROP_UDP_TRUNC), truncated + 1);
}

static bool all_accounted_for(void)
{
	return b.n + metric_sum(METRIC_UDP_OVERFLOWS) - overflows == BURST + 1;
}
static void U12_every_datagram_of_a_burst_arrives_or_is_counted(void **state)
{
	static char bytes[BURST_LEN];
	const struct addr *to = udp_local(b.udp);
	int fd = socket(AF_INET, SOCK_DGRAM, 0);

	(void)state;
	overflows = metric_sum(METRIC_UDP_OVERFLOWS);
	for (unsigned i = 0; i < BURST; i++) /* nobody reads meanwhile */
		assert_int_equal(sendto(fd, bytes, sizeof bytes, 0, (const void *)&to->ss, to->len),
		                 sizeof bytes);
	until(burst_was_taken);
	close(fd);
	send_to(&a, to, 1, 0);
	until(all_accounted_for);
	assert_true(metric_sum(METRIC_UDP_OVERFLOWS) > overflows);
	assert_true(b.n > A_TURN);
}

static void closing_sends_what_is_queued(void **state)
{
	(void)state;
	send_to(&a, udp_local(b.udp), 10, 0);
	udp_close(a.udp);
	a.udp = NULL;
	until(one_arrived);
}

static void a_socket_may_be_closed_from_inside_a_packet(void **state)
{
	(void)state;
	b.close_on_packet = true;
	for (unsigned i = 0; i < 10; i++) /* two together and eight alone are left over */
		send_to(&a, udp_local(b.udp), i < 3 ? 10 : 10 + i, (uint8_t)i);
	until(one_arrived);
	b.udp = NULL;
	assert_int_equal(b.n, 1);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(U01_U02_datagrams_of_every_size_keep_their_boundaries),
		TEST(what_is_queued_in_one_turn_goes_out_in_order),
		TEST(a_turn_takes_no_more_than_its_share),
		TEST(ipv6_carries_datagrams_too),
		TEST(a_port_in_use_is_refused),
		TEST(an_address_not_ours_is_refused),
		TEST(U05_a_refused_datagram_is_counted_and_does_not_disturb_the_next),
		TEST(U03_a_connected_socket_hears_only_its_peer),
		TEST(a_datagram_the_kernel_refuses_is_counted),
		TEST(U11_a_full_kernel_queue_costs_the_newest_and_no_spin),
		TEST(U02_a_datagram_beyond_the_path_is_counted_and_the_next_goes),
		TEST(U08_a_truncated_datagram_is_dropped_and_counted),
		TEST(U12_every_datagram_of_a_burst_arrives_or_is_counted),
		TEST(closing_sends_what_is_queued),
		TEST(a_socket_may_be_closed_from_inside_a_packet),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
