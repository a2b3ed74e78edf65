#include "tests/unit/said.h"

#include <arpa/inet.h>
#include <netinet/in.h>

#include "common/base/err.h"
#include "common/net/addr.h"

#define LABEL63 "a23456789012345678901234567890123456789012345678901234567890123"

static void assert_listen(const char *text, const char *expected, bool expected_any)
{
	struct addr a;
	char out[ADDR_TEXT_LEN];
	bool any;

	assert_int_equal(addr_of_listen(text, &a, &any), 0);
	assert_string_equal(addr_text(&a, out), expected);
	assert_int_equal(any, expected_any);
}

static void listen_addresses_are_read(void **state)
{
	(void)state;
	assert_listen("127.0.0.1:443", "127.0.0.1:443", false);
	assert_listen("[::1]:443", "[::1]:443", false);
	assert_listen(":443", "[::]:443", true);
	assert_listen("443", "[::]:443", true);
	assert_listen("0", "[::]:0", true);
	assert_listen("0.0.0.0:65535", "0.0.0.0:65535", false);
	assert_listen("[::ffff:192.0.2.1]:1", "192.0.2.1:1", false); /* mapped becomes IPv4 */
}

/* Rows C03, C07. */
static void bad_listen_addresses_are_refused(void **state)
{
	static const char *const bad[] = { "",
		                           ":",
		                           "::1:443",
		                           "[::1]",
		                           "[::1]443",
		                           "127.0.0.1",
		                           "127.0.0.1:",
		                           "127.0.0.1:65536",
		                           "127.0.0.1:-1",
		                           "127.0.0.1:44a",
		                           "0x1bb",
		                           "99999999999999999999",
		                           "host:443",
		                           "[127.0.0.1]:443",
		                           "[::1:443",
		                           "1.2.3:4",
		                           " 443" };
	struct addr a = { .len = 7 };

	(void)state;
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		bool any = true;
		assert_int_equal(addr_of_listen(bad[i], &a, &any), ERR_INVALID);
		assert_true(any);
	}
	assert_int_equal(a.len, 7);
}

static void assert_split(const char *text, const char *host, uint16_t port)
{
	char out[256];
	uint16_t p;

	assert_int_equal(addr_split_host(text, 443, out, sizeof out, &p), 0);
	assert_string_equal(out, host);
	assert_int_equal(p, port);
}

static void relay_urls_are_split(void **state)
{
	(void)state;
	assert_split("relay.example", "relay.example", 443);
	assert_split("relay.example:8443", "relay.example", 8443);
	assert_split("https://relay.example", "relay.example", 443);
	assert_split("https://relay.example:8443/", "relay.example", 8443);
	assert_split("[2001:db8::1]", "2001:db8::1", 443);
	assert_split("https://[::1]:1/", "::1", 1);
	assert_split("192.0.2.1", "192.0.2.1", 443);
	assert_split(LABEL63 ".example.", LABEL63 ".example.", 443);
}

/* Row C08. */
static void bad_hosts_are_refused(void **state)
{
	static const char *const bad[] = { "",
		                           "https://",
		                           "http://relay.example",
		                           "https://relay.example/path",
		                           "relay example",
		                           "under_score",
		                           "a..b",
		                           ".a",
		                           LABEL63 "4.example",
		                           "relay.example:0",
		                           "relay.example:65536",
		                           "relay.example:x",
		                           "::1",
		                           "[relay]",
		                           "[::1",
		                           "user@relay",
		                           "relay.example:1:2" };
	char host[256], long_host[300];
	uint16_t port;

	(void)state;
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
		assert_int_equal(addr_split_host(bad[i], 443, host, sizeof host, &port),
		                 ERR_INVALID);
	snprintf(long_host, sizeof long_host, "%s.%s.%s.%s", LABEL63, LABEL63, LABEL63,
	         LABEL63); /* 255 */
	assert_int_equal(addr_split_host(long_host, 443, host, sizeof host, &port), ERR_INVALID);
	assert_int_equal(addr_split_host("relay.example", 443, host, 5, &port), ERR_INVALID);
}

static struct addr ip(const char *text, uint16_t port)
{
	struct addr a;

	assert_int_equal(addr_of_ip(text, port, &a), 0);
	return a;
}

static void addresses_know_their_kind(void **state)
{
	struct addr a;

	(void)state;
	a = ip("127.8.9.1", 1);
	assert_true(addr_is_loopback(&a));
	a = ip("::1", 1);
	assert_true(addr_is_loopback(&a));
	a = ip("192.0.2.1", 1);
	assert_false(addr_is_loopback(&a) || addr_is_special(&a));
	static const char *const special[] = { "0.0.0.0",   "255.255.255.255",
		                               "224.0.0.1", "239.1.2.3",
		                               "::",        "ff02::1" };
	struct sockaddr_in6 mapped = { .sin6_family = AF_INET6 }; /* as a hosts file may have it */
	inet_pton(AF_INET6, "::ffff:224.0.0.1", &mapped.sin6_addr);
	memcpy(&a.ss, &mapped, sizeof mapped);
	assert_true(addr_is_special(&a));
	for (size_t i = 0; i < sizeof special / sizeof *special; i++) {
		a = ip(special[i], 1);
		assert_true(addr_is_special(&a));
	}
	assert_int_equal(addr_of_ip("relay.example", 1, &a), ERR_INVALID);
	assert_int_equal(addr_of_ip("127.0.0.1:1", 1, &a), ERR_INVALID);
}

static void addresses_are_equal_by_family_address_and_port(void **state)
{
	struct addr a = ip("192.0.2.1", 5), b = ip("192.0.2.1", 5), c = ip("192.0.2.2", 5),
	            v6 = ip("2001:db8::1", 5);

	(void)state;
	assert_true(addr_eq(&a, &b));
	assert_false(addr_eq(&a, &c));
	assert_false(addr_eq(&a, &v6));
	addr_set_port(&b, 6);
	assert_int_equal(addr_port(&b), 6);
	assert_false(addr_eq(&a, &b));
	addr_set_port(&v6, 7);
	assert_int_equal(addr_port(&v6), 7);
	assert_true(addr_eq(&v6, &v6));
}

/* As the kernel gives it on a socket of both families. */
static void an_ipv4_peer_of_an_ipv6_socket_reads_as_ipv4(void **state)
{
	struct addr a = { .len = sizeof(struct sockaddr_in6) };
	struct sockaddr_in6 *sin6 = (void *)&a.ss;
	char text[ADDR_TEXT_LEN];

	(void)state;
	sin6->sin6_family = AF_INET6;
	sin6->sin6_port = htons(443);
	sin6->sin6_addr.s6_addr[10] = sin6->sin6_addr.s6_addr[11] = 0xff;
	memcpy(sin6->sin6_addr.s6_addr + 12, "\xc0\x00\x02\x01", 4);
	assert_string_equal(addr_text(&a, text), "192.0.2.1:443");
	a = ip("::ffff:192.0.2.1", 443);
	assert_int_equal(a.ss.ss_family, AF_INET);
	assert_string_equal(addr_text(&a, text), "192.0.2.1:443");
}

static void an_address_nobody_set_has_a_text_too(void **state)
{
	struct addr none = { 0 };
	char text[ADDR_TEXT_LEN];

	(void)state;
	assert_string_equal(addr_text(&none, text), "-");
}

static void an_address_alone_is_written_without_port(void **state)
{
	char text[ADDR_TEXT_LEN];
	struct addr a = { 0 };

	(void)state;
	assert_string_equal(addr_ip_text(&a, text), "");
	assert_string_equal(addr_text(&a, text), "-");
	assert_int_equal(addr_of_ip("2001:db8::1", 1, &a), 0);
	assert_string_equal(addr_ip_text(&a, text), "2001:db8::1");
	assert_int_equal(addr_of_ip("192.0.2.1", 1, &a), 0);
	assert_string_equal(addr_ip_text(&a, text), "192.0.2.1");
	struct sockaddr_in6 mapped = { .sin6_family = AF_INET6 };
	inet_pton(AF_INET6, "::ffff:192.0.2.1", &mapped.sin6_addr);
	memcpy(&a.ss, &mapped, sizeof mapped);
	assert_string_equal(addr_ip_text(&a, text), "192.0.2.1");
	assert_string_equal(addr_text(&a, text), "192.0.2.1:0");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_address_alone_is_written_without_port),
		cmocka_unit_test(listen_addresses_are_read),
		cmocka_unit_test(bad_listen_addresses_are_refused),
		cmocka_unit_test(relay_urls_are_split),
		cmocka_unit_test(bad_hosts_are_refused),
		cmocka_unit_test(addresses_know_their_kind),
		cmocka_unit_test(addresses_are_equal_by_family_address_and_port),
		cmocka_unit_test(an_ipv4_peer_of_an_ipv6_socket_reads_as_ipv4),
		cmocka_unit_test(an_address_nobody_set_has_a_text_too),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
