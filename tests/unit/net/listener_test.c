#include "tests/unit/until.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include "common/base/clock.h"
#include "common/base/metric.h"
#include "common/net/listener.h"

static struct listener *listener;
static struct addr bound, last_peer;
static unsigned n_accepted, expected;
static int last_fd = -1;
static bool keep;

static void on_accepted(void *owner, int fd, const struct addr *peer)
{
	(void)owner;
	n_accepted++;
	last_peer = *peer;
	assert_true(fcntl(fd, F_GETFL) & O_NONBLOCK);
	assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
	if (keep)
		last_fd = fd;
	else
		close(fd);
}

static void open_at(const char *text)
{
	struct addr a;
	bool any;

	assert_int_equal(addr_of_listen(text, &a, &any), 0);
	int fd = listener_bind(&a, any);
	assert_true(fd >= 0);
	assert_int_equal(listener_open(loop, fd, on_accepted, NULL, &listener, &bound), 0);
	assert_true(addr_port(&bound) != 0);
}

static int set_up(void **state)
{
	(void)state;
	n_accepted = 0;
	keep = false;
	loop_set_up();
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	listener_close(listener);
	listener = NULL;
	loop_tear_down();
	return 0;
}

static int call(const char *ip)
{
	struct addr to;
	int fd;

	assert_int_equal(addr_of_ip(ip, addr_port(&bound), &to), 0);
	fd = socket(to.ss.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(connect(fd, (struct sockaddr *)&to.ss, to.len), 0);
	return fd;
}

static bool all_accepted(void) { return n_accepted == expected; }

static void connections_are_handed_over_with_their_peer(void **state)
{
	struct sockaddr_in own;
	socklen_t len = sizeof own;

	(void)state;
	open_at("127.0.0.1:0");
	int fd = call("127.0.0.1");
	getsockname(fd, (struct sockaddr *)&own, &len);
	expected = 1;
	until(all_accepted);
	assert_int_equal(addr_port(&last_peer), ntohs(own.sin_port));
	close(fd);
}

static struct task look;
static unsigned seen, most;

static void note_turn(struct task *t)
{
	most = n_accepted - seen > most ? n_accepted - seen : most;
	seen = n_accepted;
	loop_defer(loop, LOOP_PUMP, t);
}

static void more_connections_than_one_turn_takes_are_all_taken(void **state)
{
	int fds[150];

	(void)state;
	seen = most = 0;
	look = (struct task){ .cb = note_turn };
	loop_defer(loop, LOOP_PUMP, &look);
	open_at("127.0.0.1:0");
	for (unsigned i = 0; i < 150; i++)
		fds[i] = call("127.0.0.1");
	expected = 150;
	until(all_accepted);
	loop_undefer(loop, LOOP_PUMP, &look);
	assert_int_equal(most, 64); /* says the header */
	for (unsigned i = 0; i < 150; i++)
		close(fds[i]);
}

static void no_address_means_both_families(void **state)
{
	(void)state;
	open_at(":0");
	int v4 = call("127.0.0.1"),
	    v6 = bound.ss.ss_family == AF_INET6 ? call("::1") : call("127.0.0.1");
	expected = 2;
	until(all_accepted);
	close(v4);
	close(v6);
}

static void an_ipv6_address_is_that_family_alone(void **state)
{
	struct addr v4;

	(void)state;
	open_at("[::1]:0");
	addr_of_ip("127.0.0.1", addr_port(&bound), &v4); /* the same port is free there */
	int other = listener_bind(&v4, false);
	assert_true(other >= 0);
	close(other);
}

static void a_port_in_use_is_refused(void **state)
{
	(void)state;
	open_at("127.0.0.1:0");
	assert_int_equal(listener_bind(&bound, false), -EADDRINUSE);
}

static uint64_t errors_before;
static bool told_of_error(void) { return metric_sum(METRIC_ACCEPT_ERRORS) > errors_before; }

/* One connection is given up rather than spinning; later ones are served. */
static void running_out_of_descriptors_sheds_and_recovers(void **state)
{
	struct rlimit old, tight;

	(void)state;
	open_at("127.0.0.1:0");
	int first = call("127.0.0.1"), free_fd = dup(0);
	getrlimit(RLIMIT_NOFILE, &old);
	tight = old;
	tight.rlim_cur = (rlim_t)free_fd; /* every number below is taken */
	close(free_fd);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &tight), 0);
	until(told_of_error);
	setrlimit(RLIMIT_NOFILE, &old);
	assert_int_equal(n_accepted, 0);
	char byte;
	assert_true(recv(first, &byte, 1, 0) <= 0); /* it was let go, not left hanging */
	int second = call("127.0.0.1");
	expected = 1;
	until(all_accepted);
	close(first);
	close(second);
}

static void running_out_of_descriptors_is_followed_by_a_pause(void **state)
{
	struct rlimit old, tight;
	uint64_t full_ms;

	(void)state;
	open_at("127.0.0.1:0");
	int first = call("127.0.0.1"), second = call("127.0.0.1"), free_fd = dup(0);
	getrlimit(RLIMIT_NOFILE, &old);
	tight = old;
	tight.rlim_cur = (rlim_t)free_fd;
	close(free_fd);
	errors_before = metric_sum(METRIC_ACCEPT_ERRORS);
	full_ms = clock_now_ms();
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &tight), 0);
	until(told_of_error);
	setrlimit(RLIMIT_NOFILE, &old);
	assert_int_equal(n_accepted, 0);
	expected = 1;
	until(all_accepted); /* the second: one alone was let go */
	assert_true(clock_now_ms() >= full_ms + 99);
	close(first);
	close(second);
}

static void closing_nothing_is_harmless(void **state)
{
	(void)state;
	listener_close(NULL);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(connections_are_handed_over_with_their_peer),
		TEST(more_connections_than_one_turn_takes_are_all_taken),
		TEST(no_address_means_both_families),
		TEST(an_ipv6_address_is_that_family_alone),
		TEST(a_port_in_use_is_refused),
		TEST(running_out_of_descriptors_sheds_and_recovers),
		TEST(running_out_of_descriptors_is_followed_by_a_pause),
		TEST(closing_nothing_is_harmless),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
