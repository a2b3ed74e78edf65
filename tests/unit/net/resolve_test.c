#include "tests/unit/until.h"

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

static bool other_done(void) { return n_done == 1; }

static void a_lookup_taken_back_is_not_told(void **state)
{
	struct resolve *r;

	(void)state;
	assert_int_equal(resolve_start(loop, "localhost", 1, on_done, NULL, &r), 0);
	resolve_cancel(r);
	resolve_cancel(NULL);
	assert_int_equal(resolve_start(loop, "192.0.2.7", 443, on_done, words, &r), 0);
	until(other_done);
	assert_first("192.0.2.7:443");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(numeric_hosts_are_themselves),
		TEST(names_of_the_hosts_file_are_found_with_the_port),
		TEST(a_name_that_cannot_exist_is_an_error_in_words),
		TEST(a_lookup_taken_back_is_not_told),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
