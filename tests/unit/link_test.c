#include "tests/unit/net/certs.h"
#include "tests/unit/net/tcp.h"
#include "tests/unit/until.h"

#include <errno.h>
#include <linux/socket.h>
#include <linux/sockios.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <sys/ioctl.h>

#include "common/base/clock.h"
#include "common/base/crypto.h"
#include "common/base/metric.h"
#include "common/link_impl.h"

enum { LANES = 4, SEEN = 1024 };

/* What one side of the link was told. */
struct told {
	struct link *link;
	struct lane *lanes[LANES];
	unsigned n_up, n_hello, n_ready, n_ended, n_closed, n_packets, n_notices;
	enum close_why why;
	char text[300];
	unsigned seen[SEEN]; /* first four bytes of each packet, in order of arrival */
	size_t bytes;
};

static struct links *links;
static struct tls_ctx *server_tls, *client_tls, *stranger_tls;
static struct told server, client;
static enum { ADMIT, KEEP_WAITING, REFUSE } on_arrival;
static void (*in_packet)(struct told *), (*in_ready)(void), (*in_up)(void);

/* ---- events ---- */

static void admit(struct lane *lane, const struct hello *h)
{
	struct key keys[4];
	struct welcome w = { .account = STR("acme"),
		             .id = h->id,
		             .node = STR("n"),
		             .max_payload = PAYLOAD_MAX,
		             .version = 1,
		             .n_peers = h->n_peers,
		             .peer_keys = keys };

	for (unsigned i = 0; i < h->n_peers; i++)
		key_of_peer(STR("acme"), h->peers[i], &keys[i]);
	assert_int_equal(lane_admit(lane, &w), 0);
}

static int on_hello(void *owner, struct lane *lane, const struct hello *h)
{
	struct told *s = owner;

	if (on_arrival == REFUSE) {
		s->n_hello++;
		lane_refuse(lane, CLOSE_DENIED, "not you");
		return ERR_CLOSED;
	}
	s->lanes[s->n_hello++] = lane;
	if (on_arrival == KEEP_WAITING)
		return ERR_AGAIN;
	admit(lane, h);
	return 0;
}

static void on_up(void *owner, struct link *l)
{
	struct told *s = owner;

	s->link = l;
	s->n_up++;
	if (in_up)
		in_up();
}

static void on_ready(void *owner, struct lane *lane, const struct welcome *w)
{
	struct told *s = owner;

	(void)lane, (void)w;
	s->n_ready++;
	if (in_ready)
		in_ready();
}

static void on_packet(void *owner, struct lane *lane, struct pkt *p)
{
	struct told *s = owner;

	(void)lane;
	if (p->len >= sizeof *s->seen && s->n_packets < SEEN)
		memcpy(&s->seen[s->n_packets], p->data, sizeof *s->seen);
	s->n_packets++;
	s->bytes += p->len;
	pkt_free(p);
	if (in_packet)
		in_packet(s);
}

static void on_peer(void *owner, struct lane *lane, const struct peer_status *p)
{
	(void)owner, (void)lane, (void)p;
}

static void on_notice(void *owner, struct lane *lane, const struct notice *n)
{
	struct told *s = owner;

	(void)lane, (void)n;
	s->n_notices++;
}

static void on_ended(void *owner, struct lane *lane, enum close_why why, const char *text)
{
	struct told *s = owner;

	(void)lane;
	s->n_ended++;
	s->why = why;
	snprintf(s->text, sizeof s->text, "%s", text);
}

static void on_closed(void *owner, struct link *l, enum close_why why, const char *text)
{
	struct told *s = owner;

	(void)l;
	s->n_closed++;
	s->link = NULL;
	if (!s->n_ended) {
		s->why = why;
		snprintf(s->text, sizeof s->text, "%s", text);
	}
}

static const struct link_events events = {
	.up = on_up,
	.hello = on_hello,
	.ready = on_ready,
	.packet = on_packet,
	.peer = on_peer,
	.notice = on_notice,
	.ended = on_ended,
	.closed = on_closed,
};

/* ---- two sides on one loop, over a real connection ---- */

static struct link_conf conf_of(enum side which, int fd)
{
	struct link_conf conf = { .side = which,
		                  .fd = fd,
		                  .tls = which == SIDE_SERVER ? server_tls : client_tls };

	if (which == SIDE_CLIENT) {
		conf.server_name = "localhost";
		conf.ops = transport_named(STR("grpc"));
		conf.transport = (struct transport_conf){ .authority = "localhost",
			                                  .user_agent = "test" };
	} else {
		conf.transport = (struct transport_conf){ .node = "n", .serving = true };
	}
	return conf;
}

static int set_up(void **state)
{
	int fds[2];

	(void)state;
	server = client = (struct told){ 0 };
	on_arrival = ADMIT;
	in_packet = NULL;
	in_ready = in_up = NULL;
	loop_set_up();
	links = links_new(loop);
	tcp_pair(fds);
	struct link_conf c = conf_of(SIDE_CLIENT, fds[0]), s = conf_of(SIDE_SERVER, fds[1]);
	assert_int_equal(link_open(links, &c, &events, &client, &client.link), 0);
	assert_int_equal(link_open(links, &s, &events, &server, &server.link), 0);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	links_free(links);
	loop_tear_down();
	pkt_pool_drain();
	return 0;
}

static bool up(void) { return client.n_up == 1; }
static bool ready(void) { return client.n_ready >= 1; }
static bool both_ready(void) { return client.n_ready == 2; }
static bool asked(void) { return server.n_hello == 1; }
static bool client_closed(void) { return client.n_closed == 1; }
static bool server_closed(void) { return server.n_closed == 1; }
static bool both_closed(void) { return client_closed() && server_closed(); }
static bool server_ended(void) { return server.n_ended == 1; }
static bool client_ended(void) { return client.n_ended >= 1; }

static void dial(unsigned n)
{
	const struct str peers[] = { STR("b") };
	static const char *const ids[LANES] = { "a0", "a1", "a2", "a3" };
	struct hello h = { .id = str_of(ids[n]),
		           .token = STR("t"),
		           .version = 1,
		           .bidirectional = true,
		           .n_peers = 1,
		           .peers = peers };

	assert_int_equal(link_dial(client.link, &h, &client.lanes[n]), 0);
}

static void connect_ends(void)
{
	until(up);
	dial(0);
	until(ready);
}

static struct pkt *packet(const char *to_or_from, bool is_to, size_t len, unsigned number)
{
	struct pkt *p = pkt_new(len);

	memset(p->data, 0xaa, len);
	if (len >= sizeof number)
		memcpy(p->data, &number, sizeof number);
	p->born_ms = loop_now_ms(loop);
	key_of_peer(STR("acme"), str_of(to_or_from), is_to ? &p->dst : &p->src);
	return p;
}

static void say(unsigned lane, unsigned number)
{
	link_send(client.lanes[lane], packet("b", true, 100, number));
}

/* ---- tests ---- */

static void stop_at_once(void) { loop_stop(loop, 0); }

/* The client's last words of TLS are there when the relay has already let it go. */
static void a_link_closed_before_its_handshake_ends_hears_no_more(void **state)
{
	(void)state;
	in_up = stop_at_once;
	loop_run(loop);
	assert_int_equal(client.n_up, 1);
	assert_int_equal(link_state(server.link), LINK_SECURING);
	link_close(server.link, CLOSE_CROWDED);
	until(server_closed);
	assert_int_equal(server.why, CLOSE_CROWDED);
}

static bool two_arrived(void) { return server.n_packets == 2 && client.n_packets == 2; }

static void packets_of_every_size_pass_both_ways(void **state)
{
	(void)state;
	connect_ends();
	assert_int_equal(link_state(client.link), LINK_READY);
	link_send(client.lanes[0], packet("b", true, 0, 0));
	link_send(client.lanes[0], packet("b", true, PAYLOAD_MAX, 0));
	link_send(server.lanes[0], packet("b", false, 0, 0));
	link_send(server.lanes[0], packet("b", false, PAYLOAD_MAX, 0));
	until(two_arrived);
	assert_int_equal(server.bytes, PAYLOAD_MAX);
	assert_int_equal(client.bytes, PAYLOAD_MAX);
}

static void an_end_refused_at_once_hears_why(void **state)
{
	(void)state;
	on_arrival = REFUSE;
	until(up);
	dial(0);
	until(client_closed);
	assert_int_equal(client.why, CLOSE_DENIED);
	assert_string_equal(client.text, "not you");
	assert_int_equal(server.n_ended, 0); /* it did it itself */
}

static struct transport_ops counting;
static int (*tick)(struct transport *, uint64_t now_ms);
static unsigned n_ticks;

static int count_tick(struct transport *t, uint64_t now_ms)
{
	n_ticks++;
	return tick(t, now_ms);
}

static void what_waited_for_an_admission_goes_on_in_the_same_turn(void **state)
{
	const struct str peer = STR("b");

	(void)state;
	on_arrival = KEEP_WAITING;
	until(up);
	dial(0);
	until(asked);
	counting = *server.link->ops;
	tick = counting.tick;
	counting.tick = count_tick;
	server.link->ops = &counting;
	n_ticks = 0;
	admit(server.lanes[0], &(struct hello){ .id = STR("a"), .n_peers = 1, .peers = &peer });
	assert_int_equal(n_ticks, 0); /* not from inside: who admits has more to do */
	until(ready);
	assert_in_range(n_ticks, 1, 2); /* one may have been due */
}

/* The lane touched its freed channel once. */
static void an_end_refused_later_hears_why(void **state)
{
	(void)state;
	on_arrival = KEEP_WAITING;
	until(up);
	dial(0);
	until(asked);
	lane_refuse(server.lanes[0], CLOSE_UNAUTHENTICATED, "no such token");
	until(client_closed);
	assert_int_equal(client.why, CLOSE_UNAUTHENTICATED);
	assert_string_equal(client.text, "no such token");
}

static void an_end_that_is_ended_hears_why(void **state)
{
	(void)state;
	connect_ends();
	lane_end(server.lanes[0], CLOSE_SUPERSEDED, "superseded by another instance");
	until(client_closed);
	assert_int_equal(client.n_ended, 1);
	assert_int_equal(client.why, CLOSE_SUPERSEDED);
	assert_string_equal(client.text, "superseded by another instance");
}

static void an_end_that_leaves_is_told_as_done(void **state)
{
	(void)state;
	connect_ends();
	lane_end(client.lanes[0], CLOSE_LOCAL, "");
	until(server_ended);
	assert_int_equal(server.why, CLOSE_DONE);
	assert_int_equal(client.n_ended, 0);
}

static void a_closed_link_tells_its_lanes_then_itself(void **state)
{
	(void)state;
	connect_ends();
	link_close(client.link, CLOSE_LOCAL);
	link_close(client.link, CLOSE_TIMEOUT); /* the first reason stands */
	until(both_closed);
	assert_int_equal(client.n_ended, 1);
	assert_int_equal(client.why, CLOSE_LOCAL);
	assert_int_equal(server.n_ended, 1);
	assert_int_equal(links_count(links), 0);
}

static void close_client(void) { link_close(client.link, CLOSE_LOCAL); }
static void close_on_packet(struct told *s) { link_close(s->link, CLOSE_LOCAL); }
static void end_on_packet(struct told *s)
{
	if (s->n_packets == 1)
		lane_end(s->lanes[0], CLOSE_DENIED, "enough");
}

static void a_link_may_be_closed_from_inside_up(void **state)
{
	(void)state;
	in_up = close_client;
	until(both_closed);
	assert_int_equal(client.n_ready, 0);
}

static void a_link_may_be_closed_from_inside_ready(void **state)
{
	(void)state;
	in_ready = close_client;
	until(up);
	dial(0);
	until(both_closed);
	assert_int_equal(client.n_ready, 1);
}

static void a_link_may_be_closed_from_inside_a_packet(void **state)
{
	(void)state;
	in_packet = close_on_packet;
	connect_ends();
	for (unsigned i = 0; i < 30; i++)
		say(0, i);
	until(both_closed);
	assert_int_equal(server.n_packets, 1); /* none after it */
}

static void a_lane_may_be_ended_from_inside_a_packet(void **state)
{
	(void)state;
	in_packet = end_on_packet;
	connect_ends();
	for (unsigned i = 0; i < 30; i++)
		say(0, i);
	until(client_ended);
	assert_int_equal(client.why, CLOSE_DENIED);
	assert_int_equal(server.n_packets, 1);
}

static void a_link_may_be_closed_before_tls_is_done(void **state)
{
	(void)state;
	assert_int_equal(link_state(client.link), LINK_SECURING);
	link_close(client.link, CLOSE_LOCAL);
	until(both_closed);
	assert_int_equal(client.n_up, 0);
}

static void wait_to_be_admitted(void)
{
	on_arrival = KEEP_WAITING;
	until(up);
	dial(0);
	until(asked);
}

static void admit_now(void)
{
	const struct str peers[] = { STR("b") };
	const struct hello h = { .id = STR("a0"), .n_peers = 1, .peers = peers };

	admit(server.lanes[0], &h);
}

static bool last_arrived(void)
{
	return client.n_packets && client.seen[client.n_packets - 1] == 599;
}

static void oldest_packet_goes_when_queue_is_full(void **state)
{
	uint64_t full = metric_drop_sum(DROP_QUEUE_FULL);

	(void)state;
	wait_to_be_admitted();
	for (unsigned i = 0; i < 600; i++)
		link_send(server.lanes[0], packet("b", false, 100, i));
	assert_int_equal(metric_drop_sum(DROP_QUEUE_FULL) - full, 88);
	admit_now();
	until(last_arrived);
	assert_int_equal(client.n_packets, 512);
	for (unsigned i = 0; i < 512; i++)
		assert_int_equal(client.seen[i], 88 + i);
}

static void a_queue_of_large_packets_is_bounded_by_bytes(void **state)
{
	uint64_t full = metric_drop_sum(DROP_QUEUE_FULL);

	(void)state;
	wait_to_be_admitted();
	for (unsigned i = 0; i < 40; i++)
		link_send(server.lanes[0], packet("b", false, 60000, i));
	assert_int_equal(metric_drop_sum(DROP_QUEUE_FULL) - full, 40 - (1 << 20) / 60000);
}

static bool one_arrived(void) { return client.n_packets == 1; }

static void a_packet_that_waited_too_long_is_not_sent(void **state)
{
	uint64_t stale = metric_drop_sum(DROP_STALE);
	struct pkt *old;

	(void)state;
	connect_ends();
	old = packet("b", false, 100, 1);
	old->born_ms -= 101;
	link_send(server.lanes[0], old);
	link_send(server.lanes[0], packet("b", false, 100, 2));
	until(one_arrived);
	assert_int_equal(client.seen[0], 2);
	assert_int_equal(metric_drop_sum(DROP_STALE), stale + 1);
}

static bool six_arrived(void) { return client.n_packets == 6; }

static void handshakes_go_first(void **state)
{
	struct pkt *initiation;

	(void)state;
	connect_ends();
	for (unsigned i = 100; i < 105; i++)
		link_send(server.lanes[0], packet("b", false, 100, i));
	initiation = packet("b", false, 148, 1); /* type 1, three zero bytes */
	link_send(server.lanes[0], initiation);
	until(six_arrived);
	assert_int_equal(client.seen[0], 1);
	assert_int_equal(client.seen[1], 100);
}

static bool forty_arrived(void) { return server.n_packets == 40; }

static void lanes_of_one_link_are_served_in_turn(void **state)
{
	(void)state;
	connect_ends();
	dial(1);
	until(both_ready);
	for (unsigned i = 0; i < 20; i++)
		link_send(client.lanes[0], packet("b", true, 1400, i));
	for (unsigned i = 0; i < 20; i++)
		link_send(client.lanes[1], packet("b", true, 1400, 1000 + i));
	until(forty_arrived);
	/* both lanes' packets lie in the first record of eleven, none waits for the other's queue
	 */
	unsigned n_first = 0;
	for (unsigned i = 0; i < 11; i++)
		n_first += server.seen[i] < 1000;
	assert_in_range(n_first, 5, 6);
	for (unsigned i = 0, a = 0, b = 1000; i < 40; i++) /* and each in its order */
		assert_int_equal(server.seen[i], server.seen[i] < 1000 ? a++ : b++);
}

static bool all_arrived(void) { return server.n_packets == 44; }

/* It is as long as four records, as are the others together, and comes behind them. */
static void a_large_packet_has_its_turn_beside_many_small_ones(void **state)
{
	(void)state;
	connect_ends();
	dial(1);
	until(both_ready);
	for (unsigned i = 0; i < 43; i++)
		link_send(client.lanes[0], packet("b", true, 1400, i));
	link_send(client.lanes[1], packet("b", true, 60000, 9999));
	until(all_arrived);
	unsigned before_it = 0;
	while (server.seen[before_it] != 9999)
		assert_true(++before_it < SEEN);
	assert_true(before_it < 30);
}

static void rest(struct told *s) { conn_rest(s->link->conn, 10); }

static int server_fd;

/* Another connection, with buffers of that size; 0: as the kernel likes. */
static void connect_over(int to_client, int from_server)
{
	struct link_conf s, c;
	int fds[2];

	link_close(client.link, CLOSE_LOCAL);
	until(both_closed);
	server = client = (struct told){ 0 };
	tcp_pair(fds);
	if (from_server)
		setsockopt(fds[1], SOL_SOCKET, SO_SNDBUF, &from_server, sizeof from_server);
	setsockopt(fds[0], SOL_SOCKET, SO_RCVBUF, &to_client, sizeof to_client);
	c = conf_of(SIDE_CLIENT, fds[0]);
	s = conf_of(SIDE_SERVER, fds[1]);
	server_fd = fds[1];
	assert_int_equal(link_open(links, &c, &events, &client, &client.link), 0);
	assert_int_equal(link_open(links, &s, &events, &server, &server.link), 0);
	connect_ends();
}

/* A receiver that takes less than comes. */
static void connect_slow_receiver(void)
{
	connect_over(32768, 32768);
	in_packet = rest;
}

static unsigned wanted;
static bool next_arrived(void) { return client.n_packets >= wanted; }

/* What the transport has cannot be dropped any more and waits for everything in front of it. */
static void large_packets_wait_where_they_can_be_dropped(void **state)
{
	(void)state;
	connect_slow_receiver();
	for (unsigned turn = 0; turn < 50; turn++) {
		for (unsigned i = 0; i < 8; i++)
			link_send(server.lanes[0], packet("b", false, 60000, i));
		wanted = client.n_packets + 1;
		until(next_arrived);
		assert_in_range(server.link->ops->waiting(server.link->transport), 0, 60100);
	}
}

static void stop_reading(struct told *s)
{
	conn_rest(s->link->conn, 60000);
	in_packet = NULL;
}
static unsigned n_turns;
static bool turned(void) { return n_turns-- == 0; }
static bool nothing_waits(void)
{
	return !link_has_packets(server.link) && conn_unsent(server.link->conn) == 0 &&
	       client.n_packets + lane_n_unsent(server.lanes[0]) == wanted;
}

static int sealed_after_a_turn(void)
{
	int unsent = 0;

	n_turns = 1;
	until(turned);
	assert_int_equal(ioctl(server_fd, SIOCOUTQNSD, &unsent), 0);
	return unsent + (int)conn_unsent(server.link->conn);
}

/* What the kernel of a stalled socket takes, it takes whole, whatever TCP_NOTSENT_LOWAT says:
 * only who asks it (SIOCOUTQNSD) and seals no more keeps the rest where it can be dropped. */
static void no_more_than_64_kib_are_sealed_for_a_stalled_socket(void **state)
{
	const int size = 32768, limit = 65536 + TLS_RECORD_MAX;
	unsigned n = 0;

	(void)state;
	connect_over(size, 0);
	in_packet = stop_reading;
	for (unsigned turn = 0; turn < 60; turn++) {
		for (unsigned i = 0; i < 44; i++)
			link_send(server.lanes[0], packet("b", false, 1420, n++));
		assert_in_range(sealed_after_a_turn(), 0, limit);
	}
	/* what both kernels hold and what is sealed; the rest can be dropped, and was but for 512
	 */
	assert_in_range(lane_n_unsent(server.lanes[0]), n - (limit + 4 * size) / 1420, n);
	assert_int_equal(server.lanes[0]->queue.n, LINK_QUEUE_PACKETS_MAX);
	wanted = n;
	conn_rest(client.link->conn, 1);
	until(nothing_waits); /* and every packet is delivered or counted */
}

/* Not every packet is worth a question, but what was sent since the last is known. */
static void no_more_is_sealed_when_packets_come_one_by_one(void **state)
{
	const int limit = 16384 + TLS_RECORD_MAX;

	(void)state;
	connect_over(32768, 0);
	in_packet = stop_reading;
	for (unsigned n = 0; n < 300; n++) {
		link_send(server.lanes[0], packet("b", false, 1420, n));
		assert_in_range(sealed_after_a_turn(), 0, limit);
	}
	assert_true(link_has_packets(server.link));
}

/* Its receive buffer has the size it was given, and does not grow by itself. */
static bool server_is_narrow(void)
{
	int lock = 0;
	socklen_t len = sizeof lock;

	assert_int_equal(getsockopt(server_fd, SOL_SOCKET, SO_BUF_LOCK, &lock, &len), 0);
	return lock & SOCK_RCVBUF_LOCK;
}

/* Nobody pays for what another on the same connection does, or did. */
static void a_lane_is_narrow_only_while_it_is_alone(void **state)
{
	(void)state;
	connect_over(65536, 65536);
	lane_narrow(server.lanes[0], 100000);
	assert_true(server_is_narrow());
	lane_narrow(server.lanes[0], UINT64_MAX);
	assert_false(server_is_narrow());
	lane_narrow(server.lanes[0], 100000);
	dial(1);
	until(both_ready);
	assert_false(server_is_narrow());
	lane_narrow(server.lanes[0], 100000);
	assert_false(server_is_narrow());
	lane_end(client.lanes[1], CLOSE_LOCAL, "");
	until(server_ended);
	lane_narrow(server.lanes[0], 100000);
	assert_true(server_is_narrow());
	lane_end(server.lanes[0], CLOSE_LOCAL, "");
	assert_false(server_is_narrow());
}

static void a_rest_is_not_cut_short_by_another(void **state)
{
	(void)state;
	connect_ends();
	lane_rest(server.lanes[0], 60000);
	uint64_t until_ms = server.link->rests_until_ms;
	lane_rest(server.lanes[0], 5);
	assert_int_equal(server.link->rests_until_ms, until_ms);
	lane_rest(server.lanes[0], 70000);
	assert_true(server.link->rests_until_ms > until_ms);
}

static bool server_heard(void) { return server.n_packets == 1; }
static bool server_heard_again(void) { return server.n_packets == 2; }

/* The loop comes back late, and the thread has been running for all of that time. */
static void work_long(struct told *s)
{
	uint64_t end_ms = clock_now_ms() + 900;

	(void)s;
	in_packet = NULL;
	while (clock_now_ms() < end_ms)
		usleep(10000);
	links->ticked_thread_ms -= 60000;
}

/* Who makes us work for long has not stopped us: nothing is dropped for it. */
static void a_long_turn_is_no_stop(void **state)
{
	(void)state;
	connect_ends();
	in_packet = work_long;
	say(0, 1);
	until(server_heard);
	say(0, 2);
	until(server_heard_again);
}

static void a_draining_link_takes_no_new_end_and_closes_after_the_last(void **state)
{
	(void)state;
	connect_ends();
	link_drain(server.link);
	assert_int_equal(link_state(server.link), LINK_DRAINING);
	link_drain(server.link); /* again is harmless */
	dial(1);
	until(client_ended);
	assert_int_equal(client.why, CLOSE_UNAVAILABLE);
	assert_int_equal(server.n_hello, 1);
	say(0, 1);
	until(server_heard);
	assert_int_equal(server.n_closed, 0);
	lane_end(client.lanes[0], CLOSE_LOCAL, "");
	until(server_closed);
	assert_int_equal(server.n_ended, 1);
}

static void packets_left_in_a_closed_link_are_counted(void **state)
{
	uint64_t dropped = metric_drop_sum(DROP_LINK_CLOSED);

	(void)state;
	wait_to_be_admitted();
	for (unsigned i = 0; i < 5; i++)
		link_send(server.lanes[0], packet("b", false, 100, i));
	link_close(server.link, CLOSE_LOCAL);
	link_send(server.lanes[0], packet("b", false, 100, 5));
	until(server_closed);
	assert_int_equal(metric_drop_sum(DROP_LINK_CLOSED), dropped + 6);
}

static void links_that_are_left_open_are_freed_without_events(void **state)
{
	(void)state;
	connect_ends();
	link_send(server.lanes[0], packet("b", false, 100, 1));
	links_free(links);
	assert_int_equal(client.n_closed + server.n_closed + client.n_ended, 0);
	links = links_new(loop);
}

static void what_is_no_tls_is_told_so(void **state)
{
	int fds[2];

	(void)state;
	tcp_pair(fds);
	struct link_conf s = conf_of(SIDE_SERVER, fds[1]);
	struct told other = { 0 };
	link_close(client.link, CLOSE_LOCAL);
	until(both_closed);
	server = other;
	assert_int_equal(link_open(links, &s, &events, &server, &server.link), 0);
	assert_int_equal(send(fds[0], "GET / HTTP/1.1\r\n\r\n", 18, 0), 18);
	until(server_closed);
	assert_int_equal(server.why, CLOSE_TLS);
	close(fds[0]);
}

static void a_client_that_offers_another_protocol_is_let_go(void **state)
{
	int fds[2];

	(void)state;
	link_close(client.link, CLOSE_LOCAL);
	until(both_closed);
	server = client = (struct told){ 0 };
	tcp_pair(fds);
	struct link_conf c = conf_of(SIDE_CLIENT, fds[0]), s = conf_of(SIDE_SERVER, fds[1]);
	c.tls = stranger_tls;
	assert_int_equal(link_open(links, &c, &events, &client, &client.link), 0);
	assert_int_equal(link_open(links, &s, &events, &server, &server.link), 0);
	until(both_closed);
	assert_int_equal(client.n_up, 0);
	assert_int_equal(server.n_hello, 0);
}

/* ---- contexts for all ---- */

static int make_tls(void **state)
{
	static const char *const other[] = { "spdy/3", NULL };

	certs_make(state);
	server_tls = certs_server(certs_h2);
	client_tls = certs_client(NULL, certs_pin, certs_h2);
	stranger_tls = certs_client(NULL, certs_pin, other);
	return 0;
}

static int free_tls(void **state)
{
	(void)state;
	tls_ctx_unref(server_tls);
	tls_ctx_unref(client_tls);
	tls_ctx_unref(stranger_tls);
	return 0;
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_link_closed_before_its_handshake_ends_hears_no_more),
		TEST(packets_of_every_size_pass_both_ways),
		TEST(an_end_refused_at_once_hears_why),
		TEST(what_waited_for_an_admission_goes_on_in_the_same_turn),
		TEST(an_end_refused_later_hears_why),
		TEST(an_end_that_is_ended_hears_why),
		TEST(an_end_that_leaves_is_told_as_done),
		TEST(a_closed_link_tells_its_lanes_then_itself),
		TEST(a_link_may_be_closed_from_inside_up),
		TEST(a_link_may_be_closed_from_inside_ready),
		TEST(a_link_may_be_closed_from_inside_a_packet),
		TEST(a_lane_may_be_ended_from_inside_a_packet),
		TEST(a_link_may_be_closed_before_tls_is_done),
		TEST(oldest_packet_goes_when_queue_is_full),
		TEST(a_queue_of_large_packets_is_bounded_by_bytes),
		TEST(a_packet_that_waited_too_long_is_not_sent),
		TEST(handshakes_go_first),
		TEST(lanes_of_one_link_are_served_in_turn),
		TEST(a_large_packet_has_its_turn_beside_many_small_ones),
		TEST(large_packets_wait_where_they_can_be_dropped),
		TEST(no_more_than_64_kib_are_sealed_for_a_stalled_socket),
		TEST(no_more_is_sealed_when_packets_come_one_by_one),
		TEST(a_lane_is_narrow_only_while_it_is_alone),
		TEST(a_rest_is_not_cut_short_by_another),
		TEST(a_long_turn_is_no_stop),
		TEST(a_draining_link_takes_no_new_end_and_closes_after_the_last),
		TEST(packets_left_in_a_closed_link_are_counted),
		TEST(links_that_are_left_open_are_freed_without_events),
		TEST(what_is_no_tls_is_told_so),
		TEST(a_client_that_offers_another_protocol_is_let_go),
	};
	if (crypto_start() < 0)
		return 1;
	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, make_tls, free_tls);
}
