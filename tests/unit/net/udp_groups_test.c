/* Many datagrams in one message, out and in. */
#include "tests/unit/net/udp_ends.h"

static void send_many(unsigned n, size_t len)
{
	b.n = b.n_out_of_order = 0;
	b.bytes = 0;
	n_messages = n_groups = n_reads = 0;
	for (unsigned i = 0; i < n; i++)
		send_to(&a, udp_local(b.udp), len, (uint8_t)i);
	awaited = n;
}

static void expect_all(unsigned n, size_t len)
{
	until(all_arrived);
	assert_int_equal(b.n, n);
	assert_int_equal(b.bytes, n * len);
	assert_int_equal(b.n_out_of_order, 0);
}

static void datagrams_of_one_size_travel_together(void **state)
{
	static const struct {
		unsigned n, messages;
		size_t len;
	} cases[] = {
		{ 1, 1, FULL },      { 2, 1, FULL },
		{ GROUP, 1, FULL },  { 2 * GROUP + 1, 3, FULL },
		{ GROUP_MAX, 1, 1 }, { 2 * GROUP_MAX + 1, 3, 1 },
		{ 12 + 1, 2, 5040 }, { 10, 5, 30000 },
		{ 3, 3, 40000 },     { 3, 3, 0 },
	};

	(void)state;
	for (unsigned i = 0; i < sizeof cases / sizeof *cases; i++) {
		send_many(cases[i].n, cases[i].len);
		expect_all(cases[i].n, cases[i].len);
		assert_int_equal(n_messages, cases[i].messages);
		assert_int_equal(n_reads, cases[i].messages); /* loopback leaves them together */
	}
}

enum { BURSTS = 50, BURST_MAX = 150 };
static struct {
	uint32_t n, len[BURST_MAX];
	bool differs;
} expected;

static uint8_t byte_of(unsigned i, size_t at) { return (uint8_t)(i * 31 + at * 7); }

static void on_expected(void *owner, const struct addr *from, struct pkt *p)
{
	struct end *e = owner;
	unsigned i = e->n++;

	(void)from;
	expected.differs |= i >= expected.n || p->len != expected.len[i];
	for (size_t at = 0; at < p->len; at++)
		expected.differs |= p->data[at] != byte_of(i, at);
	pkt_free(p);
}

static size_t some_size(void)
{
	static const uint32_t usual[] = { FULL, FULL, FULL, 1280, 100, 1, 0, 9000 };
	unsigned r = (unsigned)rand();

	return r % 9 < 8 ? usual[r % 9] : r % 20000;
}

static void bursts_of_any_sizes_arrive_in_order_and_whole(void **state)
{
	struct addr local;

	(void)state;
	udp_close(b.udp);
	addr_of_ip("127.0.0.1", 0, &local);
	assert_int_equal(udp_open(loop, &local, on_expected, &b, &b.udp), 0);
	srand(1);
	for (unsigned k = 0; k < BURSTS; k++) {
		size_t len = FULL;
		b.n = 0;
		expected.n = awaited = 1 + (unsigned)rand() % BURST_MAX;
		for (unsigned i = 0; i < expected.n; i++) {
			len = rand() % 3 ? len : some_size();
			expected.len[i] = (uint32_t)len;
			struct pkt *p = pkt_new(len);
			for (size_t at = 0; at < len; at++)
				p->data[at] = byte_of(i, at);
			udp_queue(a.udp, udp_local(b.udp), p);
		}
		until(all_arrived);
		assert_int_equal(b.n, expected.n);
		assert_false(expected.differs);
	}
	assert_true(n_groups > BURSTS);
}

static struct end many[20]; /* more than a turn's destinations are searched for */
static unsigned n_in_many(void)
{
	unsigned n = 0;

	for (unsigned i = 0; i < 20; i++)
		n += many[i].n;
	return n;
}
static bool many_have_all(void) { return n_in_many() == awaited; }

static void each_destination_has_groups_of_its_own_and_its_order(void **state)
{
	(void)state;
	for (unsigned n = 2; n <= 20; n += 18) {
		n_messages = 0;
		for (unsigned i = 0; i < n; i++)
			open_at(&many[i], "127.0.0.1");
		for (unsigned k = 0; k < 10; k++)
			for (unsigned i = 0; i < n; i++)
				send_to(&a, udp_local(many[i].udp), FULL, (uint8_t)k);
		awaited = 10 * n;
		until(many_have_all);
		if (n == 2)
			assert_int_equal(n_messages, 2);
		for (unsigned i = 0; i < n; i++) {
			assert_int_equal(many[i].n, 10);
			assert_int_equal(many[i].n_out_of_order, 0);
			udp_close(many[i].udp);
			many[i].n = 0;
		}
	}
}

static void a_group_the_kernel_refuses_goes_one_by_one(void **state)
{
	static const int errors[] = { EIO, EINVAL, EMSGSIZE, ENOPROTOOPT, EOPNOTSUPP, EPERM };

	(void)state;
	for (unsigned i = 0; i < sizeof errors / sizeof *errors; i++) {
		uint64_t dropped = metric_drop_sum(DROP_UDP_SEND) + metric_drop_sum(DROP_TOO_BIG);
		udp_close(a.udp);
		open_at(&a, "127.0.0.1");
		group_errno = errors[i];
		group_most = FULL - 1;
		send_many(MANY, FULL);
		for (unsigned k = 0; k < GROUP; k++) /* these pass, in the same turn */
			send_to(&a, udp_local(b.udp), 100, (uint8_t)(MANY + k));
		awaited = MANY + GROUP;
		until(all_arrived);
		assert_int_equal(b.bytes, MANY * FULL + GROUP * 100);
		assert_int_equal(b.n_out_of_order, 0);
		assert_int_equal(n_messages, MANY + 1);
		send_many(MANY, FULL);
		expect_all(MANY, FULL);
		assert_int_equal(n_groups, 0); /* not asked in vain again */
		send_many(MANY, FULL - 1);     /* may fit the path where the other does not */
		expect_all(MANY, FULL - 1);
		assert_int_equal(n_groups, n_messages);
		assert_int_equal(metric_drop_sum(DROP_UDP_SEND) + metric_drop_sum(DROP_TOO_BIG),
		                 dropped);
	}
}

/* udp(7): no UDP_SEGMENT without checksums. */
static void a_socket_that_may_not_send_groups_sends_all_the_same(void **state)
{
	int on = 1;

	(void)state;
	send_many(1, FULL);
	expect_all(1, FULL);
	assert_int_equal(setsockopt(sender_fd, SOL_SOCKET, SO_NO_CHECK, &on, sizeof on), 0);
	for (size_t len = FULL; len > FULL / 2; len /= 2) {
		send_many(MANY, len);
		expect_all(MANY, len);
		assert_int_equal(n_messages, MANY);
	}
}

static void a_kernel_without_offload_is_asked_for_none(void **state)
{
	(void)state;
	udp_close(a.udp);
	udp_close(b.udp);
	no_offload = true;
	open_at(&a, "127.0.0.1");
	open_at(&b, "127.0.0.1");
	send_many(MANY, FULL);
	expect_all(MANY, FULL);
	assert_int_equal(n_groups, 0);
	assert_int_equal(n_messages, MANY);
	assert_int_equal(n_reads, MANY);
	no_offload = false;
	udp_close(a.udp); /* groups to one who takes them one by one */
	open_at(&a, "127.0.0.1");
	send_many(MANY, FULL);
	expect_all(MANY, FULL);
	assert_int_equal(n_messages, 3);
	assert_int_equal(n_reads, MANY);
}

/* The destination is bad, not the group: others go on having theirs. */
static void a_destination_refused_costs_its_datagrams_and_no_group(void **state)
{
	uint64_t refused = metric_drop_sum(DROP_UDP_SEND);
	struct addr broadcast;

	(void)state;
	addr_of_ip("255.255.255.255", 9, &broadcast); /* EACCES without SO_BROADCAST */
	for (unsigned i = 0; i < 10; i++)
		send_to(&a, &broadcast, FULL, 0);
	send_many(GROUP, FULL);
	expect_all(GROUP, FULL);
	assert_int_equal(n_messages, 1);
	assert_int_equal(n_sends, 1 + 10 + 1);
	assert_int_equal(metric_drop_sum(DROP_UDP_SEND), refused + 10);
}

static void a_full_kernel_queue_takes_whole_groups_or_drops_them(void **state)
{
	uint64_t dropped = metric_drop_sum(DROP_UDP_SEND);

	(void)state;
	send_most = 2;
	send_errno = ENOBUFS;
	send_many(4 * GROUP, FULL);
	awaited = 2 * GROUP;
	until(queue_was_full);
	send_errno = 0;
	expect_all(2 * GROUP, FULL);
	assert_int_equal(metric_drop_sum(DROP_UDP_SEND), dropped + 2 * GROUP);
}

/* Nothing passed alone, so nothing is known of groups. */
static void a_queue_that_is_full_is_no_refusal_of_groups(void **state)
{
	(void)state;
	group_errno = EIO;
	send_errno = ENOBUFS;
	n_sends_well = 1;
	send_many(GROUP, FULL);
	until(queue_was_full);
	send_errno = group_errno = 0;
	send_many(GROUP, FULL);
	expect_all(GROUP, FULL);
	assert_int_equal(n_messages, 1);
}

static void ipv6_has_groups_too(void **state)
{
	struct addr local;
	struct udp *probe;

	(void)state;
	addr_of_ip("::1", 0, &local);
	if (udp_open(loop, &local, on_packet, &b, &probe) < 0)
		skip(); /* a machine without IPv6 */
	udp_close(probe);
	udp_close(a.udp);
	udp_close(b.udp);
	open_at(&a, "::1");
	open_at(&b, "::1");
	send_many(2 * GROUP, FULL);
	expect_all(2 * GROUP, FULL);
	assert_int_equal(n_messages, 2);
	assert_int_equal(n_reads, 2);
}

static void a_connected_socket_has_groups_too(void **state)
{
	(void)state;
	assert_int_equal(udp_connect(a.udp, udp_local(b.udp)), 0);
	b.n = 0;
	for (unsigned i = 0; i < GROUP; i++)
		send_to(&a, NULL, FULL, (uint8_t)i);
	awaited = GROUP;
	expect_all(GROUP, FULL);
	assert_int_equal(n_messages, 1);
}

static void of_a_truncated_group_the_whole_ones_are_taken(void **state)
{
	uint64_t truncated = metric_drop_sum(DROP_UDP_TRUNC);

	(void)state;
	room_next = 3 * FULL + 700;
	send_many(10, FULL);
	awaited = 3;
	expect_all(3, FULL);
	assert_int_equal(metric_drop_sum(DROP_UDP_TRUNC), truncated + 1);
	send_many(10, FULL); /* and the next has room again */
	expect_all(10, FULL);
}

/* A turn ends with the read that fills it. */
static void groups_count_against_a_turn_by_their_datagrams(void **state)
{
	(void)state;
	send_many(2, 1); /* the first read tells that there are groups */
	expect_all(2, 1);
	seen = most = 0;
	look = (struct task){ .cb = note_turn };
	send_many(4 * A_TURN, 1);
	loop_defer(loop, LOOP_PUMP, &look);
	expect_all(4 * A_TURN, 1);
	loop_undefer(loop, LOOP_PUMP, &look);
	assert_in_range(most, A_TURN, A_TURN + 2 * GROUP_MAX - 1);
}

static void every_datagram_of_a_burst_of_groups_arrives_or_is_counted(void **state)
{
	static char bytes[GROUP * FULL];
	const struct addr *to = udp_local(b.udp);
	int fd = socket(AF_INET, SOCK_DGRAM, 0), segment = FULL;
	unsigned n = 1 << 20 >> 9; /* 130 MB */

	(void)state;
	overflows = metric_sum(METRIC_UDP_OVERFLOWS);
	assert_int_equal(setsockopt(fd, SOL_UDP, UDP_SEGMENT, &segment, sizeof segment), 0);
	for (unsigned i = 0; i < n; i++) /* nobody reads meanwhile */
		assert_int_equal(sendto(fd, bytes, sizeof bytes, 0, (const void *)&to->ss, to->len),
		                 sizeof bytes);
	until(burst_was_taken);
	close(fd);
	assert_true(b.n < n * GROUP && b.n % GROUP == 0);
	unsigned before = b.n;
	awaited = before + 1;
	send_to(&a, to, 1, 0);
	until(all_arrived);
	assert_int_equal(metric_sum(METRIC_UDP_OVERFLOWS) - overflows, n * GROUP - before);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(datagrams_of_one_size_travel_together),
		TEST(bursts_of_any_sizes_arrive_in_order_and_whole),
		TEST(each_destination_has_groups_of_its_own_and_its_order),
		TEST(a_group_the_kernel_refuses_goes_one_by_one),
		TEST(a_socket_that_may_not_send_groups_sends_all_the_same),
		TEST(a_kernel_without_offload_is_asked_for_none),
		TEST(a_destination_refused_costs_its_datagrams_and_no_group),
		TEST(a_full_kernel_queue_takes_whole_groups_or_drops_them),
		TEST(a_queue_that_is_full_is_no_refusal_of_groups),
		TEST(ipv6_has_groups_too),
		TEST(a_connected_socket_has_groups_too),
		TEST(of_a_truncated_group_the_whole_ones_are_taken),
		TEST(groups_count_against_a_turn_by_their_datagrams),
		TEST(every_datagram_of_a_burst_of_groups_arrives_or_is_counted),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
