#include "tests/unit/net/names.h"
#include "tests/unit/until.h"

#include <pthread.h>

#include "common/net/addr.h"
#include "common/net/resolve.h"

static struct addr addrs[RESOLVE_MAX];
static size_t n_addrs;
static unsigned n_done;
static char words[200];

static void on_done(void *owner, const struct addr *found, size_t n, const char *error)
{
	assert_ptr_equal(owner, words);
	n_done++;
	n_addrs = n;
	memcpy(addrs, found, n * sizeof *addrs);
	snprintf(words, sizeof words, "%s", error);
}

static int set_up(void **state)
{
	(void)state;
	n_done = 0;
	n_addrs = 0;
	names_set_up();
	loop_set_up();
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	loop_tear_down();
	return 0;
}

static bool done(void) { return n_done == 1; }

static void resolve(const char *host)
{
	struct resolve *r;

	assert_int_equal(resolve_start(loop, host, 443, on_done, words, &r), 0);
	assert_int_equal(n_done, 0); /* never from inside */
	until(done);
}

static void assert_first(const char *expected)
{
	char text[ADDR_TEXT_LEN];

	assert_true(n_addrs >= 1);
	assert_string_equal(addr_text(&addrs[0], text), expected);
}

static void numeric_hosts_are_themselves(void **state)
{
	(void)state;
	resolve("192.0.2.7");
	assert_int_equal(n_addrs, 1);
	assert_first("192.0.2.7:443");
	n_done = 0;
	resolve("2001:db8::1");
	assert_int_equal(n_addrs, 1);
	assert_first("[2001:db8::1]:443");
}

/* A process that may make no thread still reaches numeric hosts. */
static bool no_threads;

/* ThreadSanitizer's own, in its builds: it has to know of each thread. */
extern int __interceptor_pthread_create(pthread_t *, const pthread_attr_t *, void *(*)(void *),
                                        void *) __attribute__((weak));

int pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*run)(void *), void *arg)
{
	int (*real)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);

	if (no_threads)
		return EPERM;
	if (__interceptor_pthread_create)
		return __interceptor_pthread_create(thread, attr, run, arg);
	*(void **)&real = dlsym(RTLD_NEXT, "pthread_create");
	return real(thread, attr, run, arg);
}

static void a_numeric_host_needs_no_thread(void **state)
{
	struct resolve *r;

	(void)state;
	no_threads = true;
	resolve("192.0.2.7");
	assert_first("192.0.2.7:443");
	assert_int_equal(resolve_start(loop, "localhost", 1, on_done, words, &r), -EPERM);
	no_threads = false;
}

static void names_of_the_hosts_file_are_found_with_the_port(void **state)
{
	(void)state;
	resolve("localhost");
	assert_true(n_addrs >= 1);
	for (size_t i = 0; i < n_addrs; i++) {
		assert_true(addr_is_loopback(&addrs[i]));
		assert_int_equal(addr_port(&addrs[i]), 443);
	}
}

static void a_name_that_cannot_exist_is_an_error_in_words(void **state)
{
	(void)state;
	resolve("no such host.invalid");
	assert_int_equal(n_addrs, 0);
	assert_true(strlen(words) > 3);
}

static void a_name_too_long_is_refused_not_cut(void **state)
{
	char host[400];

	(void)state;
	memset(host, 'a', sizeof host);
	for (size_t i = 63; i < sizeof host; i += 64)
		host[i] = '.';
	host[sizeof host - 1] = 0;
	resolve(host);
	assert_int_equal(n_addrs, 0);
	assert_string_equal(words, "no host has a name that long");
	n_done = 0;
	names_are((const char *const[]){ "192.0.2.1", NULL }); /* every name has an address */
	resolve(host);
	assert_int_equal(n_addrs, 0);
}

static void assert_order(const char *const *ips, const char *const *expected)
{
	char text[ADDR_TEXT_LEN];
	size_t n = 0;

	names_are(ips);
	n_done = 0;
	resolve("relay.test");
	for (; expected[n]; n++) {
		assert_true(n < n_addrs);
		assert_string_equal(addr_text(&addrs[n], text), expected[n]);
	}
	assert_int_equal(n_addrs, n);
}

/* RFC 8305 section 4. */
static void families_take_turns_ipv6_first(void **state)
{
	(void)state;
	assert_order((const char *const[]){ "192.0.2.1", "192.0.2.2", "192.0.2.3", "2001:db8::1",
	                                    "2001:db8::2", NULL },
	             (const char *const[]){ "[2001:db8::1]:443", "192.0.2.1:443",
	                                    "[2001:db8::2]:443", "192.0.2.2:443", "192.0.2.3:443",
	                                    NULL });
	assert_order((const char *const[]){ "2001:db8::1", "2001:db8::2", NULL },
	             (const char *const[]){ "[2001:db8::1]:443", "[2001:db8::2]:443", NULL });
	assert_order((const char *const[]){ "192.0.2.1", NULL },
	             (const char *const[]){ "192.0.2.1:443", NULL });
}

static void of_many_addresses_the_first_are_taken(void **state)
{
	const char *ips[RESOLVE_MAX + 5];

	(void)state;
	for (unsigned i = 0; i < RESOLVE_MAX + 4; i++)
		ips[i] = "192.0.2.1";
	ips[RESOLVE_MAX + 4] = NULL;
	names_are(ips);
	resolve("relay.test");
	assert_int_equal(n_addrs, RESOLVE_MAX);
}

static void an_error_is_told_in_the_words_of_the_system(void **state)
{
	(void)state;
	names_rc = EAI_AGAIN;
	resolve("relay.test");
	assert_int_equal(n_addrs, 0);
	assert_string_equal(words, gai_strerror(EAI_AGAIN));
	n_done = 0;
	names_rc = EAI_SYSTEM;
	names_errno = EMFILE;
	resolve("relay.test");
	assert_string_equal(words, strerror(EMFILE));
}

/* on_done would not like its owner. */
static void a_lookup_taken_back_while_it_runs_is_not_told(void **state)
{
	struct resolve *r;

	(void)state;
	names_are((const char *const[]){ "192.0.2.1", NULL });
	names_hold = true;
	assert_int_equal(resolve_start(loop, "relay.test", 1, on_done, NULL, &r), 0);
	sem_wait(&names_asked);
	resolve_cancel(r);
	sem_post(&names_go);
	sem_wait(&names_answered);
	resolve("192.0.2.7");
	assert_first("192.0.2.7:443");
}

static void a_lookup_taken_back_after_its_answer_is_not_told(void **state)
{
	struct resolve *r;

	(void)state;
	names_are((const char *const[]){ "192.0.2.1", NULL });
	assert_int_equal(resolve_start(loop, "relay.test", 1, on_done, NULL, &r), 0);
	sem_wait(&names_answered);
	resolve_cancel(r);
	resolve_cancel(NULL);
	resolve("192.0.2.7");
	assert_first("192.0.2.7:443");
}

static int prepare(void **state)
{
	(void)state;
	resolve_prepare();
	return 0;
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(numeric_hosts_are_themselves),
		TEST(a_numeric_host_needs_no_thread),
		TEST(names_of_the_hosts_file_are_found_with_the_port),
		TEST(a_name_too_long_is_refused_not_cut),
		TEST(a_name_that_cannot_exist_is_an_error_in_words),
		TEST(families_take_turns_ipv6_first),
		TEST(of_many_addresses_the_first_are_taken),
		TEST(an_error_is_told_in_the_words_of_the_system),
		TEST(a_lookup_taken_back_while_it_runs_is_not_told),
		TEST(a_lookup_taken_back_after_its_answer_is_not_told),
	};
	return cmocka_run_group_tests(tests, prepare, NULL);
}
