#include "tests/unit/until.h"

#include <errno.h>

#include "common/base/metric.h"
#include "common/net/udp.h"

enum { MANY = 100, A_TURN = 256 /* datagrams, says the header */ };

struct end {
	struct udp *udp;
	unsigned n;
	size_t bytes, last_len;
	struct addr last_from;
	uint8_t last_byte;
	unsigned n_out_of_order;
	bool close_on_packet;
};

static struct end a, b;

static void on_packet(void *owner, const struct addr *from, struct pkt *p)
{
	struct end *e = owner;

	if (p->len && p->data[0] != (uint8_t)e->n)
		e->n_out_of_order++;
	e->n++;
	e->bytes += p->len;
	e->last_len = p->len;
	e->last_byte = p->len ? p->data[p->len - 1] : 0;
	e->last_from = *from;
	assert_true(p->born_ms > 0);
	pkt_free(p);
	if (e->close_on_packet)
		udp_close(e->udp);
}

static void open_at(struct end *e, const char *ip)
{
	struct addr local;

	*e = (struct end){ 0 };
	assert_int_equal(addr_of_ip(ip, 0, &local), 0);
	assert_int_equal(udp_open(loop, &local, on_packet, e, &e->udp), 0);
}

static int set_up(void **state)
{
	(void)state;
	loop_set_up();
	open_at(&a, "127.0.0.1");
	open_at(&b, "127.0.0.1");
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	udp_close(a.udp);
	udp_close(b.udp);
	loop_tear_down();
	pkt_pool_drain();
	return 0;
}

static void send_to(struct end *from, const struct addr *to, size_t len, uint8_t byte)
{
	struct pkt *p = pkt_new(len);

	memset(p->data, byte, len);
	udp_queue(from->udp, to, p);
}

static size_t awaited_len;
static bool len_arrived(void) { return b.n && b.last_len == awaited_len; }

static void datagrams_of_every_size_keep_their_boundaries(void **state)
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

static struct task look;
static unsigned seen, most;

static void note_turn(struct task *t)
{
	most = b.n - seen > most ? b.n - seen : most;
	seen = b.n;
	loop_defer(loop, LOOP_PUMP, t);
}

static bool more_than_a_turn_arrived(void) { return b.n == A_TURN + 20; }

static void a_turn_takes_no_more_than_its_share(void **state)
{
	(void)state;
	seen = most = 0;
	look = (struct task){ .cb = note_turn };
	for (unsigned i = 0; i < A_TURN + 20; i++)
		send_to(&a, udp_local(b.udp), 1, (uint8_t)i);
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
static void a_refused_datagram_does_not_disturb_the_next(void **state)
{
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
	assert_int_equal(udp_connect(a.udp, udp_local(b.udp)), 0);
	b.n = 0;
	send_to(&a, NULL, 10, 0);
	until(one_arrived);
	assert_true(addr_eq(&b.last_from, udp_local(a.udp)));
}

static void a_connected_socket_hears_only_its_peer(void **state)
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
	for (unsigned i = 0; i < 10; i++)
		send_to(&a, udp_local(b.udp), 10, (uint8_t)i);
	until(one_arrived);
	b.udp = NULL;
	assert_int_equal(b.n, 1);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(datagrams_of_every_size_keep_their_boundaries),
		TEST(what_is_queued_in_one_turn_goes_out_in_order),
		TEST(a_turn_takes_no_more_than_its_share),
		TEST(ipv6_carries_datagrams_too),
		TEST(a_port_in_use_is_refused),
		TEST(an_address_not_ours_is_refused),
		TEST(a_refused_datagram_does_not_disturb_the_next),
		TEST(a_connected_socket_hears_only_its_peer),
		TEST(a_datagram_the_kernel_refuses_is_counted),
		TEST(closing_sends_what_is_queued),
		TEST(a_socket_may_be_closed_from_inside_a_packet),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
