#include "tests/unit/said.h"

#include "common/base/err.h"
#include "server/relay/mesh_with.h"

static void assert_is(const char *text, const char *host, unsigned port, const char *dial_host,
                      const char *authority)
{
	struct mesh_with w;

	assert_int_equal(mesh_with_of(text, &w), 0);
	assert_null(mesh_with_check(text));
	assert_string_equal(w.host, host);
	assert_int_equal(w.port, port);
	assert_string_equal(w.dial_host, dial_host);
	assert_string_equal(w.authority, authority);
}

static void host_port_and_whom_to_dial_are_read(void **state)
{
	(void)state;
	assert_is("derp1.example", "derp1.example", 443, "derp1.example", "derp1.example");
	assert_is("derp1.example:8443", "derp1.example", 8443, "derp1.example",
	          "derp1.example:8443");
	assert_is("derp1.example/inside.example", "derp1.example", 443, "inside.example",
	          "derp1.example");
	assert_is("derp1.example:8443/192.0.2.1", "derp1.example", 8443, "192.0.2.1",
	          "derp1.example:8443");
	assert_is("derp1.example/2001:db8::1", "derp1.example", 443, "2001:db8::1",
	          "derp1.example");
	assert_is("[2001:db8::1]", "2001:db8::1", 443, "2001:db8::1", "[2001:db8::1]");
	assert_is("[::1]:444/localhost", "::1", 444, "localhost", "[::1]:444");
}

static void what_is_none_is_refused(void **state)
{
	static const char *const bad[] = { "",         "/",       "/a",      "a/",  "a/b/c",
		                           "a:0",      "a:",      "a:65536", "a b", "a,b",
		                           "a/b:1",    "a/[::1]", "a/b,",    "::1", "a/b ",
		                           "a_b.test", "[a]",     "http://a" };
	char long_name[400];
	struct mesh_with w;

	(void)state;
	for (unsigned i = 0; i < sizeof bad / sizeof *bad; i++) {
		if (mesh_with_of(bad[i], &w) != ERR_INVALID)
			fail_msg("\"%s\" was taken", bad[i]);
		assert_non_null(mesh_with_check(bad[i]));
	}
	for (size_t n = 1; n < sizeof long_name; n++) {
		memset(long_name, 'a', n);
		long_name[n] = 0;
		assert_int_equal(mesh_with_of(long_name, &w), n < 64 ? 0 : ERR_INVALID);
		long_name[0] = '/';
		assert_int_equal(mesh_with_of(long_name, &w), ERR_INVALID);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(host_port_and_whom_to_dial_are_read),
		cmocka_unit_test(what_is_none_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
