/* The local port with real sockets on loopback. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <cmocka.h>

#include "client/local.h"
#include "common/base/crypto.h"
#include "common/base/metric.h"

enum { LIMIT_MS = 5000, SETTLE_MS = 50 };

static struct loop *loop;
static struct timer *limit;
static struct local *local;
static struct local_conf conf;
static char error[LOCAL_ERROR_LEN];
static struct pkt *heard;
static unsigned heard_peer;
static bool has_v6;

/* -- plain sockets, as the user's program has them */

static int bound(int family, const char *ip, uint16_t port)
{
	struct sockaddr_storage ss = { .ss_family = (sa_family_t)family };
	socklen_t len = sizeof(struct sockaddr_in);
	int fd = socket(family, SOCK_DGRAM | SOCK_CLOEXEC, 0), on = 1;
	struct timeval wait = { .tv_sec = LIMIT_MS / 1000 };

	if (fd < 0)
		return -1;
	if (family == AF_INET6) {
		((struct sockaddr_in6 *)&ss)->sin6_port = htons(port);
		inet_pton(family, ip, &((struct sockaddr_in6 *)&ss)->sin6_addr);
		setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on);
		len = sizeof(struct sockaddr_in6);
	} else {
		((struct sockaddr_in *)&ss)->sin_port = htons(port);
		inet_pton(family, ip, &((struct sockaddr_in *)&ss)->sin_addr);
	}
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof wait);
	if (bind(fd, (struct sockaddr *)&ss, len)) {
		close(fd);
		return -1;
	}
	return fd;
}

static uint16_t port_of(int fd)
{
	struct addr a = { .len = sizeof a.ss };

	assert_int_equal(getsockname(fd, (struct sockaddr *)&a.ss, &a.len), 0);
	return addr_port(&a);
}

/* A port that is free where the tests bind it. */
static uint16_t free_port(void)
{
	for (int i = 0; i < 100; i++) {
		int fd = bound(AF_INET, "127.0.0.1", 0);
		assert_true(fd >= 0);
		uint16_t port = port_of(fd);
		int v6 = bound(AF_INET6, "::1", port), second = bound(AF_INET, "127.0.0.2", port);
		bool free = second >= 0 && (v6 >= 0 || !has_v6);
		close(fd);
		close(v6);
		close(second);
		if (free)
			return port;
	}
	fail_msg("no free port");
	return 0;
}

static void send_to(int fd, const struct addr *to, const char *text)
{
	ssize_t n = sendto(fd, text, strlen(text), 0, (const struct sockaddr *)&to->ss, to->len);

	assert_int_equal(n, strlen(text));
}

static void assert_receives(int fd, const char *text, struct addr *from_out)
{
	char data[64];

	from_out->len = sizeof from_out->ss;
	ssize_t n = recvfrom(fd, data, sizeof data, 0, (struct sockaddr *)&from_out->ss,
	                     &from_out->len);
	assert_int_equal(n, strlen(text));
	assert_memory_equal(data, text, strlen(text));
}

/* -- the loop */

static void on_limit(void *arg)
{
	(void)arg;
	loop_stop(loop, 1);
}

static void on_packet(void *owner, unsigned peer, struct pkt *p)
{
	(void)owner;
	pkt_free(heard);
	heard = p;
	heard_peer = peer;
	loop_stop(loop, 0);
}

static void run_until_heard(const char *text)
{
	timer_set(limit, LIMIT_MS);
	assert_int_equal(loop_run(loop), 0);
	timer_clear(limit);
	assert_int_equal(heard->len, strlen(text));
	assert_memory_equal(heard->data, text, heard->len);
}

/* The end of a turn sends what is queued. */
static void run_a_moment(void)
{
	timer_set(limit, SETTLE_MS);
	loop_run(loop);
}

static struct pkt *packet(const char *text, uint32_t flow)
{
	struct pkt *p = pkt_new(strlen(text));

	memcpy(p->data, text, strlen(text));
	p->flow = flow;
	p->born_ms = loop_now_ms(loop);
	return p;
}

static int setup(void **state)
{
	(void)state;
	loop = loop_new();
	limit = timer_new(loop, on_limit, NULL);
	int v6 = bound(AF_INET6, "::1", 0);
	has_v6 = v6 >= 0;
	close(v6);
	conf = (struct local_conf){ .port = free_port(), .n_peers = 1 };
	error[0] = 0;
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	local_close(local);
	local = NULL;
	pkt_free(heard);
	heard = NULL;
	run_a_moment();
	timer_free(limit);
	loop_free(loop);
	return 0;
}

static int open_local(void) { return local_open(loop, &conf, on_packet, NULL, &local, error); }

/* -- roles */

static void a_free_port_is_listened_on(void **state)
{
	char text[ADDR_TEXT_LEN];

	(void)state;
	assert_int_equal(open_local(), 0);
	assert_int_equal(local_role(local), ROLE_LISTEN);
	assert_true(local_is_chosen(local));
	assert_int_equal(addr_port(local_where(local, 0)), conf.port);
	assert_true(strncmp(addr_text(local_where(local, 0), text), "127.0.0.1:", 10) == 0);
	assert_int_equal(local_where_too(local) != NULL, has_v6);
}

static void a_port_taken_on_ipv4_is_forwarded_to(void **state)
{
	int program = bound(AF_INET, "0.0.0.0", conf.port);

	(void)state;
	assert_int_equal(open_local(), 0);
	assert_int_equal(local_role(local), ROLE_FORWARD);
	assert_int_equal(addr_port(local_where(local, 0)), conf.port);
	close(program);
}

static void a_port_taken_on_ipv6_alone_is_forwarded_to(void **state)
{
	(void)state;
	if (!has_v6)
		skip();
	int program = bound(AF_INET6, "::", conf.port);
	assert_int_equal(open_local(), 0);
	assert_int_equal(local_role(local), ROLE_FORWARD);
	run_a_moment(); /* closed sockets go in the sweep */
	int v4 = bound(AF_INET, "127.0.0.1", conf.port);
	assert_true(v4 >= 0); /* nothing is left of the attempt to listen */
	close(v4);
	close(program);
}

static void listening_on_a_taken_port_is_an_error_in_words(void **state)
{
	int program = bound(AF_INET, "127.0.0.1", conf.port);

	(void)state;
	conf.listen = true;
	assert_int_equal(open_local(), -EADDRINUSE);
	assert_non_null(strstr(error, "in use"));
	assert_non_null(strstr(error, "--forward"));
	close(program);
}

static void two_peers_listen_on_two_addresses(void **state)
{
	char text[ADDR_TEXT_LEN];

	(void)state;
	conf.n_peers = 2;
	assert_int_equal(open_local(), 0);
	assert_true(strncmp(addr_text(local_where(local, 0), text), "127.0.0.1:", 10) == 0);
	assert_true(strncmp(addr_text(local_where(local, 1), text), "127.0.0.2:", 10) == 0);
	int program = bound(AF_INET, "127.0.0.1", 0);
	send_to(program, local_where(local, 1), "two");
	run_until_heard("two");
	assert_int_equal(heard_peer, 1);
	assert_int_equal(heard->flow, 0);
	send_to(program, local_where(local, 0), "one");
	run_until_heard("one");
	assert_int_equal(heard_peer, 0);
	close(program);
}

static void a_second_peers_taken_address_is_an_error(void **state)
{
	int program = bound(AF_INET, "127.0.0.2", conf.port);

	(void)state;
	conf.n_peers = 2;
	assert_int_equal(open_local(), -EADDRINUSE);
	assert_non_null(strstr(error, "127.0.0.2"));
	close(program);
}

static void a_chosen_address_is_the_only_one(void **state)
{
	(void)state;
	conf.listen = true;
	conf.listen_addr = "127.0.0.2";
	assert_int_equal(open_local(), 0);
	assert_null(local_where_too(local));
	int first = bound(AF_INET, "127.0.0.1", conf.port);
	assert_true(first >= 0);
	close(first);
}

static void several_peers_need_an_address_each(void **state)
{
	(void)state;
	conf.listen = true;
	conf.n_peers = 2;
	conf.listen_addr = "0.0.0.0";
	assert_int_equal(open_local(), ERR_CONFIG);
	assert_non_null(strstr(error, "127.0.0.0/8"));
}

static void U10_nothing_is_forwarded_to_many_machines(void **state)
{
	static const char *const hosts[] = {
		"224.0.0.1",        "255.255.255.255",        "0.0.0.0", "::", "ff02::1",
		"::ffff:224.0.0.1", "::ffff:255.255.255.255", /* and one only the kernel knows */
		"127.255.255.255"
	};

	(void)state;
	conf.forward = true;
	for (unsigned i = 0; i < sizeof hosts / sizeof *hosts; i++) {
		conf.forward_host = hosts[i];
		assert_int_equal(open_local(), ERR_CONFIG);
		assert_non_null(strstr(error, hosts[i]));
	}
}

static void U10_a_mapped_or_scoped_address_is_one_machine(void **state)
{
	char text[ADDR_TEXT_LEN];

	(void)state;
	conf.forward = true;
	conf.forward_host = "::ffff:127.0.0.1";
	assert_int_equal(open_local(), 0);
	assert_int_equal(local_where(local, 0)->ss.ss_family, AF_INET);
	local_close(local);
	local = NULL;
	if (!has_v6)
		return;
	conf.forward_host = "fe80::1%lo";
	assert_int_equal(open_local(), 0);
	assert_non_null(strstr(addr_text(local_where(local, 0), text), "fe80::1"));
	assert_true(((const struct sockaddr_in6 *)&local_where(local, 0)->ss)->sin6_scope_id > 0);
	local_close(local);
	local = NULL;
	conf.forward_host = "fe80::1%nodevice";
	assert_true(open_local() < 0);
	assert_non_null(strstr(error, "fe80::1%nodevice"));
}

/* Two ends on one machine must not feed each other. */
static void U09_where_another_tunn_listens_is_not_forwarded_to(void **state)
{
	static const char *const hosts[] = { "127.0.0.1", "localhost", "::ffff:127.0.0.1", NULL };
	struct local *other;
	struct local_conf first = conf;

	(void)state;
	assert_int_equal(local_open(loop, &first, on_packet, NULL, &other, error), 0);
	conf.forward = true;
	for (unsigned i = 0; i < sizeof hosts / sizeof *hosts; i++) {
		conf.forward_host = hosts[i];
		assert_int_equal(open_local(), ERR_CONFIG);
		assert_non_null(strstr(error, "another tunn listens on 127.0.0.1:"));
	}
	conf.forward = false; /* nor when it finds the port taken */
	conf.forward_host = NULL;
	assert_int_equal(open_local(), ERR_CONFIG);
	local_close(other);
	conf.forward = true;
	assert_int_equal(open_local(), 0); /* the claim went with it */
}

static void U09_a_listener_on_all_addresses_is_found_too(void **state)
{
	struct local *other;
	struct local_conf first = conf;

	(void)state;
	first.listen = true;
	first.listen_addr = "0.0.0.0";
	assert_int_equal(local_open(loop, &first, on_packet, NULL, &other, error), 0);
	conf.forward = true;
	assert_int_equal(open_local(), ERR_CONFIG);
	local_close(other);
	assert_int_equal(open_local(), 0);
}

static void an_unknown_host_is_an_error_in_words(void **state)
{
	(void)state;
	conf.forward = true;
	conf.forward_host = "nobody.invalid";
	assert_true(open_local() < 0);
	assert_non_null(strstr(error, "nobody.invalid"));
}

/* -- datagrams */

static void U03_each_program_gets_its_own_answers(void **state)
{
	struct addr from;

	(void)state;
	conf.listen = true;
	assert_int_equal(open_local(), 0);
	local_peer_role(local, 0, ROLE_FORWARD);
	int a = bound(AF_INET, "127.0.0.1", 0), b = bound(AF_INET, "127.0.0.1", 0);
	send_to(a, local_where(local, 0), "from a");
	run_until_heard("from a");
	assert_int_equal(heard->flow, 0);
	send_to(b, local_where(local, 0), "from b");
	run_until_heard("from b");
	assert_int_equal(heard->flow, 1);
	local_deliver(local, 0, packet("to a", 0));
	local_deliver(local, 0, packet("to b", 1));
	run_a_moment();
	assert_receives(a, "to a", &from);
	assert_true(addr_eq(&from, local_where(local, 0)));
	assert_receives(b, "to b", &from);
	close(a);
	close(b);
}

static void a_program_on_ipv6_is_answered_on_ipv6(void **state)
{
	struct addr from;

	(void)state;
	if (!has_v6)
		skip();
	assert_int_equal(open_local(), 0);
	int fd = bound(AF_INET6, "::1", 0);
	send_to(fd, local_where_too(local), "six");
	run_until_heard("six");
	local_deliver(local, 0, packet("back", 0));
	run_a_moment();
	assert_receives(fd, "back", &from);
	assert_true(addr_eq(&from, local_where_too(local)));
	close(fd);
}

static void an_answer_before_any_question_is_dropped_and_counted(void **state)
{
	uint64_t before = metric_drop_sum(DROP_NO_ROUTE);

	(void)state;
	assert_int_equal(open_local(), 0);
	local_deliver(local, 0, packet("?", 0));
	assert_int_equal(metric_drop_sum(DROP_NO_ROUTE), before + 1);
}

static void each_flow_forwards_from_a_port_of_its_own_that_stays(void **state)
{
	int program = bound(AF_INET, "127.0.0.1", conf.port);
	struct addr first, second, again, other_peer;

	(void)state;
	conf.forward = true;
	conf.n_peers = 2;
	assert_int_equal(open_local(), 0);
	local_deliver(local, 0, packet("one", 0));
	run_a_moment();
	assert_receives(program, "one", &first);
	local_deliver(local, 0, packet("two", 7));
	run_a_moment();
	assert_receives(program, "two", &second);
	local_deliver(local, 1, packet("three", 0));
	run_a_moment();
	assert_receives(program, "three", &other_peer);
	local_deliver(local, 0, packet("", 0));
	run_a_moment();
	assert_receives(program, "", &again);
	assert_true(addr_eq(&first, &again));
	assert_false(addr_eq(&first, &second));
	assert_false(addr_eq(&first, &other_peer));

	send_to(program, &second, "answer");
	run_until_heard("answer");
	assert_int_equal(heard_peer, 0);
	assert_int_equal(heard->flow, 7);
	send_to(program, &other_peer, "other");
	run_until_heard("other");
	assert_int_equal(heard_peer, 1);
	assert_int_equal(heard->flow, 0);
	close(program);
}

static void U03_only_the_target_is_heard(void **state)
{
	int program = bound(AF_INET, "127.0.0.1", conf.port),
	    stranger = bound(AF_INET, "127.0.0.1", 0);
	struct addr ours;

	(void)state;
	conf.forward = true;
	assert_int_equal(open_local(), 0);
	local_deliver(local, 0, packet("x", 0));
	run_a_moment();
	assert_receives(program, "x", &ours);
	send_to(stranger, &ours, "intruder");
	send_to(program, &ours, "right");
	run_until_heard("right");
	close(program);
	close(stranger);
}

static void U05_a_target_that_is_not_there_yet_is_no_end(void **state)
{
	struct addr ours;

	(void)state;
	conf.forward = true;
	assert_int_equal(open_local(), 0);
	for (int i = 0; i < 3; i++) {
		local_deliver(local, 0, packet("lost", 0));
		run_a_moment();
	}
	int program = bound(AF_INET, "127.0.0.1", conf.port);
	local_deliver(local, 0, packet("now", 0));
	run_a_moment();
	assert_receives(program, "now", &ours);
	close(program);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
int main(void)
{
	const struct CMUnitTest tests[] = {
		T(a_free_port_is_listened_on),
		T(a_port_taken_on_ipv4_is_forwarded_to),
		T(a_port_taken_on_ipv6_alone_is_forwarded_to),
		T(listening_on_a_taken_port_is_an_error_in_words),
		T(two_peers_listen_on_two_addresses),
		T(a_second_peers_taken_address_is_an_error),
		T(a_chosen_address_is_the_only_one),
		T(several_peers_need_an_address_each),
		T(U10_nothing_is_forwarded_to_many_machines),
		T(U10_a_mapped_or_scoped_address_is_one_machine),
		T(U09_where_another_tunn_listens_is_not_forwarded_to),
		T(U09_a_listener_on_all_addresses_is_found_too),
		T(an_unknown_host_is_an_error_in_words),
		T(U03_each_program_gets_its_own_answers),
		T(a_program_on_ipv6_is_answered_on_ipv6),
		T(an_answer_before_any_question_is_dropped_and_counted),
		T(each_flow_forwards_from_a_port_of_its_own_that_stays),
		T(U03_only_the_target_is_heard),
		T(U05_a_target_that_is_not_there_yet_is_no_end),
	};
	if (crypto_start())
		return 1;
	int rc = cmocka_run_group_tests(tests, NULL, NULL);
	pkt_pool_drain();
	return rc;
}
