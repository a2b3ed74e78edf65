/* The admin thread and accounts that take their time, asked over sockets. */
#include "tests/unit/net/certs.h"
#include "tests/unit/until.h"

#include <signal.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/base/crypto.h"
#include "common/base/log.h"
#include "common/net/listener.h"
#include "server/admin/admin.h"
#include "server/relay/native_policy.h"

enum { CLIENTS = 5, HEARD_MAX = 8192 };

static struct tls_ctx *tls;
static struct native_policy *policy;
static struct workers *workers; /* never started: nobody asks for them */
static struct admin *admin;
static struct addr bound;
static const struct opt_list no_names;
static int clients[CLIENTS];
static char heard[HEARD_MAX];

/* The accounts thread, as the admin thread sees it. */
static struct {
	atomic_uint n;
	struct mailbox *reply; /* of the last question, like the next two */
	unsigned kind;
	uint64_t number;
	char search[QUERY_VALUE_MAX + 1];
} asked;
static unsigned n_wanted;

static int on_asked(void *owner, const struct admin_question *q, struct mailbox *reply,
                    unsigned kind, uint64_t number)
{
	(void)owner;
	asked.reply = reply;
	asked.kind = kind;
	asked.number = number;
	snprintf(asked.search, sizeof asked.search, "%s", q->page.search);
	atomic_fetch_add(&asked.n, 1);
	return 0;
}

static bool was_asked(void) { return atomic_load(&asked.n) == n_wanted; }

static void answer(void)
{
	const struct mail m = { .kind = asked.kind,
		                .number = asked.number,
		                .ptr = json_new_object() };

	assert_int_equal(mailbox_post(asked.reply, &m), 0);
}

static void say(int *fd, const char *target)
{
	char text[200];
	int n = snprintf(text, sizeof text,
	                 "GET %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", target);

	*fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(connect(*fd, (struct sockaddr *)&bound.ss, bound.len), 0);
	assert_int_equal(send(*fd, text, (size_t)n, MSG_NOSIGNAL), n);
}

/* Up to its end. */
static void hear(int *fd)
{
	size_t n = 0;
	ssize_t got;

	while ((got = recv(*fd, heard + n, sizeof heard - 1 - n, 0)) > 0)
		n += (size_t)got;
	heard[n] = 0;
	close(*fd);
	*fd = -1;
}

static void assert_heard(const char *words)
{
	if (!strstr(heard, words))
		fail_msg("not heard: %s\nbut: %s", words, heard);
}

static int set_up(void **state)
{
	const struct worker_conf conf = {
		.node = "n1", .tls = tls, .policy = policy, .limits = limits_default
	};
	struct addr at;

	(void)state;
	loop_set_up();
	atomic_store(&asked.n, 0);
	assert_int_equal(workers_new(&conf, 1, &workers), 0);
	addr_of_ip("127.0.0.1", 0, &at);
	const struct admin_conf ac = { .fd = listener_bind(&at, false),
		                       .names = &no_names,
		                       .node = "n1",
		                       .workers = workers,
		                       .limits = limits_default };
	assert_int_equal(admin_new(&ac, &admin, &bound), 0);
	admin_set_accounts(admin, on_asked, NULL);
	assert_int_equal(admin_start(admin), 0);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	admin_stop(admin);
	workers_free(workers);
	admin_free(admin);
	loop_tear_down();
	return 0;
}

/* All have been heard when one that came behind them is answered. */
static void ask_all(void)
{
	char target[40];
	int last;

	for (unsigned i = 0; i < CLIENTS; i++) {
		snprintf(target, sizeof target, "/api/v1/accounts?q=client%u", i);
		say(&clients[i], target);
	}
	say(&last, "/healthz");
	hear(&last);
	assert_heard(" 200 ");
}

static void the_accounts_thread_has_one_question_at_a_time(void **state)
{
	char search[16];

	(void)state;
	ask_all();
	for (unsigned i = 0; i < CLIENTS; i++) {
		n_wanted = i + 1;
		until(was_asked);
		snprintf(search, sizeof search, "client%u", i);
		assert_string_equal(asked.search, search);
		answer();
		hear(&clients[i]);
		assert_heard(" 200 ");
	}
}

static void who_waits_too_long_is_told_and_what_comes_late_lets_the_next_ask(void **state)
{
	int next;

	(void)state;
	ask_all();
	for (unsigned i = 0; i < CLIENTS; i++) {
		hear(&clients[i]);
		assert_heard("the accounts thread does not answer");
	}
	say(&next, "/api/v1/usage?q=next");
	n_wanted = 1;
	until(was_asked);
	answer();
	n_wanted = 2;
	until(was_asked);
	assert_string_equal(asked.search, "next");
	answer();
	hear(&next);
	assert_heard(" 200 ");
}

static int make_shared(void **state)
{
	certs_make(state);
	tls = certs_server(certs_h2);
	policy = native_policy_new(&(struct native_policy_conf){ 0 });
	return tls && policy ? 0 : -1;
}

static int free_shared(void **state)
{
	(void)state;
	tls_ctx_unref(tls);
	native_policy_unref(policy);
	return 0;
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(the_accounts_thread_has_one_question_at_a_time),
		TEST(who_waits_too_long_is_told_and_what_comes_late_lets_the_next_ask),
	};

	if (crypto_start() < 0)
		return 1;
	json_start();
	log_set_level(LOG_ERROR);
	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, make_shared, free_shared);
}
